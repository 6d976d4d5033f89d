"""What stands beside the code for those who cite, report, change or release it."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

import mstkd

ROOT = Path(__file__).parent.parent


def test_the_citation_is_of_this_version_and_of_the_papers_authors():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["version"] == mstkd.__version__
    paper = told["preferred-citation"]
    assert paper["doi"] == "10.1007/978-3-031-91581-9_15"
    names = ", ".join(
        f"{''.join(f'{one[0]}. ' for one in author['given-names'].split())}{author['family-names']}"
        for author in paper["authors"]
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"> {names}. *" in readme
    assert paper["title"] in " ".join(readme.replace("\n>", "").split())


def test_the_changes_of_this_version_are_told():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.findall(r"^## ([\d.]+)", text, re.M)[0]
    assert first == mstkd.__version__


def test_ci_and_forms_are_yaml_and_run_what_is_there():
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    [job] = ci["jobs"].values()
    [command] = [step["run"] for step in job["steps"] if "run" in step]
    assert (ROOT / command).stat().st_mode & 0o100
    for form in (ROOT / ".github/ISSUE_TEMPLATE").iterdir():
        told = yaml.safe_load(form.read_text())
        assert {"name", "description", "body"} <= set(told)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        tool = hook["entry"].removeprefix(".venv/bin/").split(" --")[0]
        assert f"$(BIN)/{tool}" in makefile


def test_the_nightly_workflow_runs_every_python_that_is_allowed():
    nightly = yaml.safe_load((ROOT / ".github/workflows/nightly.yaml").read_text())
    job = nightly["jobs"]["versions"]
    assert nightly["permissions"] == {"contents": "read"}
    [command] = [step["run"] for step in job["steps"] if "run" in step]
    assert (ROOT / command.split()[0]).stat().st_mode & 0o100
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    lowest, beyond = (int(minor) for minor in re.findall(r"3\.(\d+)", allowed))
    asked = job["strategy"]["matrix"]["include"]
    assert [one["python"] for one in asked] == [f"3.{minor}" for minor in range(lowest, beyond)]
    assert asked[0]["resolution"] == "lowest-direct"


def test_actions_are_pinned_to_a_commit():
    text = "".join(path.read_text() for path in (ROOT / ".github/workflows").iterdir())
    uses = re.findall(r"uses: (.*)", text)
    assert len(uses) > 5
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one) for one in uses)


def test_a_release_is_of_a_tag_that_says_the_version():
    release = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())
    assert release["permissions"] == {"contents": "read"}
    jobs = release["jobs"]
    commands = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert commands == ['.ci/release "$GITHUB_REF_NAME"']
    # Whoever may publish runs nothing of the repository.
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert not [step for step in jobs["publish"]["steps"] if "run" in step]
    wrong = subprocess.run(
        [ROOT / ".ci/release", "v9.9"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(f"tag v9.9: expected v{mstkd.__version__}, ")


def test_what_the_documents_link_to_is_there():
    for page in ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs/models.md"):
        path = ROOT / page
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{page}: {link}"
