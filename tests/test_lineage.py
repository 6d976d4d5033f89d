"""`mstkd provenance`: from any result back to the data, and what has become of the files."""

import json
import shutil

import h5py
import pytest
from networks import BACKBONE, DIM, subject
from PIL import Image
from typer.testing import CliRunner

from mstkd import __version__
from mstkd.artifacts.lineage import lineage, lineage_lines
from mstkd.artifacts.provenance import sidecar
from mstkd.artifacts.records import file_sha256
from mstkd.cli.app import app
from mstkd.config import (
    CacheSettings,
    CheckSettings,
    ClaimsSettings,
    EvaluationSettings,
    PageSettings,
    SplitSettings,
    TableSettings,
    TeacherSettings,
)
from mstkd.data.checks.check_data import check_data
from mstkd.data.pack import open_pack
from mstkd.data.splits import split
from mstkd.embeddings.cache import cache_embeddings
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import evaluate
from mstkd.report.claims import compute_claims
from mstkd.report.data_report import render_data_report
from mstkd.report.figures import render_accuracies, render_curves, render_samples
from mstkd.report.page import render_page
from mstkd.report.tables import render_table
from mstkd.training.teacher import train_teacher

CAPTION = 'Two --> "teachers" & <b>more</b> --'
SEED = 3
TABLE_STEPS = [
    "render-table",
    "evaluate",
    "train-teacher",
    "pack-verification",
    "pack-train",
    "split",
]


def render(folder):
    """Tables, figures, claims and the page of the one model of a folder."""
    metrics = [folder / "teacher/metrics.json"]
    settings = TableSettings(caption=CAPTION, groups=("A", "B"))
    tables = [folder / f"tables/t.{suffix}" for suffix in ("csv", "md", "tex", "html")]
    render_table(settings, metrics=metrics, outputs=tables)
    for suffix in ("png", "svg", "pdf"):
        render_accuracies(settings, metrics=metrics, outputs=[folder / f"figures/t.{suffix}"])
    curves = [folder / f"figures/curves.{suffix}" for suffix in ("png", "html")]
    render_curves(models=[folder / "teacher/model.json"], outputs=curves)
    render_samples(packs=[folder / "packs/train-A.h5"], output=folder / "figures/samples.png")
    settings = ClaimsSettings(draws=100)
    compute_claims(settings, metrics=metrics, output=folder / "claims.json")
    render_page(
        PageSettings(title=CAPTION, procedural=True),
        tables=[folder / "tables/t.html"],
        figures=[folder / "figures/t.png"],
        claims=folder / "claims.json",
        output=folder / "report.html",
    )
    reports = [folder / "data.html", folder / "data.md"]
    render_data_report(folder / "findings.json", reports)


@pytest.fixture(scope="module")
def made(tmp_path_factory, packs, verification_packs):
    """One result of every kind, made by the steps themselves."""
    folder = tmp_path_factory.mktemp("chain") / "results"
    (folder / "packs").mkdir(parents=True)
    for pack in packs:
        shutil.copy2(pack, folder / f"packs/train-{pack.stem}.h5")
    for pack in verification_packs:
        shutil.copy2(pack, folder / f"packs/verification-{pack.stem}.h5")
    train = [folder / f"packs/train-{group}.h5" for group in "AB"]
    verification = [folder / f"packs/verification-{group}.h5" for group in "AB"]
    split(SplitSettings(seed=5), packs=train[:1], outputs=[folder / "split.csv"])
    weights = folder / "teacher/model.safetensors"
    train_teacher(
        TeacherSettings.model_validate(
            {
                "embedding_dim": DIM,
                "backbone": BACKBONE,
                "optimiser": {"epochs": 1, "batch_size": 8},
                "head": {},
                "selection": {"folds": 2},
            }
        ),
        subject=subject("T-A", seed=SEED),
        packs=train[:1],
        selection=verification[:1],
        split=folder / "split.csv",
        output=weights,
        device="cpu",
    )
    cache_embeddings(
        CacheSettings(), teachers=[weights], packs=train[:1], output=folder / "c.h5", device="cpu"
    )
    evaluate(
        EvaluationSettings(folds=2),
        model=weights,
        packs=verification,
        scores=folder / "teacher/scores.h5",
        metrics=folder / "teacher/metrics.json",
        device="cpu",
    )
    loose = {"overlap": "warn", "folds": 2}
    check_data(
        CheckSettings.model_validate(loose),
        train=train,
        verification=verification,
        output=folder / "findings.json",
    )
    render(folder)
    return folder


@pytest.fixture
def chain(made, tmp_path):
    """A copy to change, somewhere else: sources are named from the folder of the result."""
    shutil.copytree(made, tmp_path / "moved")
    return tmp_path / "moved"


@pytest.mark.parametrize("suffix", ["csv", "md", "tex", "html"])
def test_a_table_is_followed_up_to_the_packs(chain, suffix):
    results = lineage(chain / f"tables/t.{suffix}").results
    by_step = {result.step: result for result in results}
    assert set(by_step) == set(TABLE_STEPS)
    assert results[0].unchanged
    assert results[0].settings["caption"] == CAPTION
    assert by_step["evaluate"].settings == {"recipe": 3, "folds": 2}
    teacher = by_step["train-teacher"]
    assert teacher.subject.seed == SEED
    assert teacher.sha256 == file_sha256(chain / "teacher/model.safetensors")
    assert teacher.unchanged
    assert by_step["split"].settings["seed"] == 5
    hashes = {
        source.path: source.sha256
        for source in by_step["evaluate"].sources
        if source.path.endswith(".h5")
    }
    packs = [chain / f"packs/verification-{group}.h5" for group in "AB"]
    assert hashes == {str(pack): open_pack(pack).sha256 for pack in packs}
    assert {result.package_version for result in results} == {__version__}
    assert {source.state for result in results for source in result.sources} == {"as it was"}


@pytest.mark.parametrize(
    ("name", "step", "first"),
    [
        ("figures/t.png", "render-accuracies", "teacher/metrics.json"),
        ("figures/t.svg", "render-accuracies", "teacher/metrics.json"),
        ("figures/t.pdf", "render-accuracies", "teacher/metrics.json"),
        ("figures/curves.png", "render-curves", "teacher/model.json"),
        ("figures/curves.html", "render-curves", "teacher/model.json"),
        ("figures/samples.png", "render-samples", "packs/train-A.h5"),
        ("claims.json", "compute-claims", "teacher/metrics.json"),
        ("report.html", "render-page", "tables/t.html"),
        ("data.html", "render-data-report", "findings.json"),
        ("data.md", "render-data-report", "findings.json"),
        ("findings.json", "check-data", "packs/train-A.h5"),
        ("teacher/metrics.json", "evaluate", "teacher/model.safetensors"),
        ("teacher/scores.h5", "evaluate", "teacher/model.safetensors"),
        ("teacher/model.json", "train-teacher", "packs/train-A.h5"),
        ("teacher/history.csv", "train-teacher", "packs/train-A.h5"),
        ("teacher/model.safetensors", "train-teacher", "packs/train-A.h5"),
        ("c.h5", "cache-embeddings", "teacher/model.safetensors"),
        ("split.csv", "split", "packs/train-A.h5"),
        ("split.csv.provenance.json", "split", "packs/train-A.h5"),
    ],
)
def test_every_kind_of_result_says_what_made_it(chain, name, step, first):
    own = lineage(chain / name).results[0]
    assert own.step == step
    assert own.sources[0].path == str(chain / first)
    assert own.sources[0].state == "as it was"
    assert lineage(chain / name).results[-1].step.startswith(("pack-", "split"))


def test_a_pack_names_the_folder_of_the_images(chain):
    own = lineage(chain / "packs/train-A.h5").results[0]
    assert own.step == "pack-train"
    assert own.settings["group"] == "A"
    assert own.settings["root"].endswith("train")
    assert own.sha256 == open_pack(chain / "packs/train-A.h5").sha256


@pytest.mark.parametrize("name", ["t.csv", "t.md", "t.tex", "t.html"])
def test_an_edited_table_is_told(chain, name):
    path = chain / "tables" / name
    path.write_text(path.read_text().replace("T-A", "T-B", 1))
    told = lineage(path)
    assert told.results[0].unchanged is False
    assert any("NO, it was edited" in line for line in lineage_lines(told))


def test_an_edited_page_is_told(chain):
    path = chain / "report.html"
    assert lineage(path).results[0].unchanged is True
    path.write_text(path.read_text().replace("percent", "points"))
    assert lineage(path).results[0].unchanged is False


def test_above_a_changed_file_nothing_is_told(chain):
    metrics = chain / "teacher/metrics.json"
    metrics.write_text(metrics.read_text().replace('"pairs": 12', '"pairs": 13'))
    told = lineage(chain / "tables/t.csv")
    assert [result.step for result in told.results] == ["render-table"]
    assert told.results[0].sources[0].state == "changed"
    lines = lineage_lines(told)
    assert (
        f"  {metrics}"
        in lines[lines.index("CHANGED since it was read, so nothing above it is told:") :]
    )


def test_other_weights_under_the_same_name_are_told(chain):
    weights = chain / "teacher/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert lineage(weights).results[0].unchanged is False
    assert lineage(chain / "teacher/metrics.json").results[0].sources[0].state == "changed"


def test_a_file_that_is_gone_is_told(chain):
    (chain / "packs/train-A.h5").unlink()
    lines = lineage_lines(lineage(chain / "figures/t.png"))
    gone = lines[lines.index("GONE, with all that is known above it:") :]
    assert gone[1:] == [f"  {chain / 'packs/train-A.h5'}"]
    assert not any("pack-train" in line for line in lines)


def test_the_same_inputs_give_the_same_bytes(made, chain):
    rendered = [
        path
        for path in chain.rglob("*")
        if path.parent.name in ("tables", "figures") or path.name in ("report.html", "claims.json")
    ]
    assert len(rendered) == 6 + 6 + 2
    for path in rendered:
        path.unlink()
    render(chain)
    for path in rendered:
        assert path.read_bytes() == (made / path.relative_to(chain)).read_bytes(), path


def test_no_setting_ends_the_comment_that_holds_it(chain):
    text = (chain / "tables/t.md").read_text()
    comment = text[text.index("<!--") :]
    assert comment.count("-->") == 1
    assert comment.endswith(" -->\n")
    assert "--" not in comment.removeprefix("<!--").removesuffix("-->\n")


def test_no_setting_ends_the_element_that_holds_it(chain):
    text = (chain / "report.html").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith('<meta name="mstkd-prov')]
    assert line.count("<") == line.count(">") == 1
    assert line.count('"') == 4


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nowhere.csv", "no such file"),
        ("notes.txt", "a file of another kind"),
        ("other.json", "JSON of another kind"),
        ("broken.json", "Expecting value"),
        ("plain.csv", "no record"),
        ("plain.png", "no record"),
        ("text.png", "other data"),
        ("plain.md", "no record"),
        ("plain.h5", "no record"),
    ],
)
def test_files_that_are_no_results_are_refused(tmp_path, name, found):
    for plain in ("notes.txt", "plain.csv", "text.png", "plain.md", "broken.json"):
        (tmp_path / plain).write_text("a,b\n")
    (tmp_path / "other.json").write_text('{"format": "other"}')
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    h5py.File(tmp_path / "plain.h5", "w").close()
    with pytest.raises(InputError, match=found) as error:
        lineage(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_damaged_record_is_refused(chain):
    record = sidecar(chain / "split.csv")
    record.write_text(record.read_text().replace('"step"', '"stop"'))
    with pytest.raises(InputError, match=r"split\.csv\.provenance\.json"):
        lineage(chain / "split.csv")


def test_a_result_of_an_older_version_says_what_it_can(chain):
    path = chain / "teacher/model.json"
    record = json.loads(path.read_text())
    del record["sources"]
    path.write_text(json.dumps(record | {"package_version": "0.0.1"}))
    lines = lineage_lines(lineage(path))
    assert "  made by   train-teacher of mstkd 0.0.1" in lines
    assert "  made from files that are not recorded" in lines


def test_the_command_prints_lines_or_json(chain):
    run = CliRunner().invoke(app, ["provenance", str(chain / "tables/t.csv")])
    assert run.exit_code == 0, run.output
    assert f"  made by   render-table of mstkd {__version__}" in run.stdout
    assert f"train-teacher of mstkd {__version__}: 1 result, seed {SEED}" in run.stdout
    run = CliRunner().invoke(app, ["provenance", "--json", str(chain / "tables/t.csv")])
    told = json.loads(run.stdout)
    assert told["results"][0]["step"] == "render-table"
    (chain / "x.txt").write_text("")
    assert CliRunner().invoke(app, ["provenance", str(chain / "x.txt")]).exit_code == 2


@pytest.mark.slow
@pytest.mark.workflow
def test_every_result_of_a_whole_run_leads_back_to_the_packs(finished, monkeypatch):
    monkeypatch.chdir(finished)
    kinds = {".h5", ".safetensors", ".json", ".csv", ".md", ".tex", ".html", ".png", ".pdf"}
    results = finished / "results"
    told = [
        path
        for path in results.rglob("*")
        if path.suffix in kinds
        and not path.is_relative_to(results / "data")
        # What `mstkd provenance` itself said of the page.
        and path.stem != "provenance"
        and not path.name.endswith(".csv-metadata.json")  # of the file that it lies beside
        # Second names of the same files, and notes of what lies outside.
        and not any(part.startswith(".") for part in path.relative_to(results).parts)
    ]
    assert len(told) > 100
    for path in told:
        chain = lineage(path.relative_to(finished)).results
        assert {source.state for one in chain for source in one.sources} <= {"as it was"}, path
        assert any(one.step.startswith("pack-") for one in chain), path
    assert len(lineage(results / "report.html").results) > 60
