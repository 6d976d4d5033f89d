"""The study's page says what its config asks for; power, cost and answer are what they say."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from reporting import errors, verification_pairs, write_scored
from runs import ROOT

from mstkd.artifacts.records import file_sha256
from mstkd.config import ClaimsSettings, read_config
from mstkd.report.claims import Claims, compute_claims

CONFIG = ROOT / "config/study.yaml"
GROUPS = ("A", "B")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts, as they are run from their folder."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import render
    import study
    import study_cost
    import study_power

    return {"study": study, "cost": study_cost, "power": study_power, "render": render}


def test_the_committed_design_is_that_of_the_committed_config(
    scripts: dict[str, ModuleType],
) -> None:
    told = json.loads((ROOT / "benchmarks/results/study_design.json").read_text())
    assert told["config"] == file_sha256(CONFIG), "run benchmarks/study.py design, and render.py"
    config = read_config(CONFIG)
    assert told["design"] == scripts["study"].design_of(config)
    assert told["claims"] == scripts["study"].comparisons(config)


def test_the_design_is_what_the_issue_asked_for(scripts: dict[str, ModuleType]) -> None:
    """Ten seeds, three degrees and the baseline, all adaptors, both losses, controls."""
    design = scripts["study"].design_of(read_config(CONFIG))
    assert len(design["seeds"]) == 10
    shares = design["shares of other groups"]
    assert len(shares) == 3 and shares[0] == 0 and shares[-1] == 1 - 1 / design["groups"]
    students = (3 + 1) * 3 * 2 + 2 + 1  # of each set, adaptor and loss; of one teacher; of none
    assert design["students a seed, controls among them"] == students
    assert design["models in all, without adaptors"] == 10 * (3 * 4 + 4 + 1 + students)
    assert design["epochs are chosen on"] == "heldout"
    claims = scripts["study"].comparisons(read_config(CONFIG))
    asked = [one for one in claims if one["question"]]
    assert claims[: len(asked)] == asked
    assert [one["comparisons"] for one in asked] == [3] * 3 * 2


def test_power_goes_with_the_square_root_of_the_people(scripts: dict[str, ModuleType]) -> None:
    """Four times the people and pairs, half the difference; and seeds far apart hide more."""
    power = scripts["power"]
    design = power.design_of(read_config(CONFIG))
    assert design.identities * design.folds == 400
    assert 2 * design.genuine * design.folds == 4800
    few, many = (
        power.rows_of(one, 2, 1, 0.0, 5)["global accuracy"] for one in (power.DEMO, design)
    )
    assert few / many == pytest.approx(math.sqrt(4), rel=0.3)
    near, far = (power.rows_of(power.DEMO, 2, 6, spread, 5) for spread in (0.5, 4.0))
    assert far["global accuracy"] > 2 * near["global accuracy"]


def test_power_with_many_seeds_is_students_of_their_spread(
    scripts: dict[str, ModuleType],
) -> None:
    """Where training outweighs all else, by hand: what t-tests of so many pairs of seeds see."""
    power = scripts["power"]
    spread, seeds = 8.0, 10
    found = power.rows_of(power.DEMO, 3, seeds, spread, 9)["global accuracy"]
    # Half the variance is the teachers', half each adaptor's own; two sides, a mean of three.
    error = spread * math.sqrt(2 * (0.5 + 0.5 / 3)) / math.sqrt(seeds)
    assert found == pytest.approx((2.262 + 0.883) * error, rel=0.35)


def benchmark(folder: Path, name: str, *seconds: float) -> None:
    path = folder / "benchmarks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"1\t{one}\n" for one in seconds)
    path.write_text(f"s\tcpu_time\n{rows}")


@pytest.mark.parametrize("split", ["split_baseline.tsv", "split_baseline_by_seed/seed0.tsv"])
def test_cost_is_of_the_longest_job_of_each_rule(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    benchmark(tmp_path, "train_teacher/small-baseline-BT-1-seed0.tsv", 10.0)
    benchmark(tmp_path, "train_teacher/small-baseline-BT-2-seed0.tsv", 30.0)
    benchmark(tmp_path, "train_teacher/small-single-T-all-seed0.tsv", 100.0)
    benchmark(tmp_path, "evaluate/teachers/small/single/T-all/seed0.tsv", 4.0)
    benchmark(tmp_path, split, 1.0)
    counts = {"train_teacher": 160, "train_single_teacher": 10, "evaluate": 440}
    rule = Path(split).parts[0].removesuffix(".tsv")
    counts |= {rule: 1, "split_specialized": 12, "render_page": 1}
    monkeypatch.setattr(scripts["cost"], "jobs", lambda: counts)
    output = tmp_path / "cost.json"
    monkeypatch.setattr("sys.argv", ["study_cost.py", str(tmp_path), "--output", str(output)])
    scripts["cost"].main()
    told = json.loads(output.read_text())
    total = 160 * 30 + 10 * 100 + 440 * 4 + 13 * 1
    assert told["processor_hours"] == pytest.approx(total / 3600, abs=0.01)
    assert told["hours"] == pytest.approx(total / 7200, abs=0.01)
    assert told["not_measured"] == ["render_page"]
    assert "render_page" in scripts["render"].study_cost(told)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Claims]:
    """Results of two degrees and a baseline, as far as the page needs them."""
    pairs = verification_pairs(GROUPS)
    scores = tmp_path / "scores"
    scores.mkdir()
    metrics = []
    backbones = [("specialized", f"small+foreign_share={share}") for share in ("0", "0.5")]
    for place, ((set_, backbone), seed) in enumerate(
        itertools.product([*backbones, ("baseline", "small")], (1, 2, 3))
    ):
        wrong = errors(pairs, dict.fromkeys(GROUPS, 95 - place), seed=place)
        metrics.append(write_scored(scores, pairs, wrong, set=set_, backbone=backbone, seed=seed))
    claims = compute_claims(
        ClaimsSettings(draws=200), metrics=metrics, output=tmp_path / "claims.json"
    )
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/grid-teachers-foreign_share.png").write_bytes(b"a curve")
    (tmp_path / "figures/grid-teachers-foreign_share.csv").write_text("value\n0\n")
    (tmp_path / "config.yaml").write_text("groups: [A, B]\n")
    (tmp_path / "report.html").write_text("")
    (tmp_path / "benchmarks/train_teacher").mkdir(parents=True)
    # The second is of a seed that is not told of.
    jobs = [f"train_teacher/small-baseline-BT-1-seed{seed}.tsv" for seed in (1, 11)]
    for job in (*jobs, "compute_claims.tsv"):
        (tmp_path / "benchmarks" / job).write_text("s\tcpu_time\n900\t7\n")
    return tmp_path, claims


def test_the_answer_is_that_of_the_claims(
    scripts: dict[str, ModuleType],
    finished: tuple[Path, Claims],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results, claims = finished
    study = scripts["study"]
    written = tmp_path / "written"
    monkeypatch.setattr(study, "FOLDER", written / "study")
    monkeypatch.setattr(study, "RESULTS", written)
    (written / "study").mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["study.py", str(results)])
    study.main()
    told = json.loads((written / "study.json").read_text())
    whole = [one for one in told["claims"] if one["measure"] == "global_accuracy"]
    start = "Students of specialized teachers{} are ahead of those of baseline teachers, a-KD"
    assert [one["claim"] for one in whole] == [
        start.format(""),
        start.format(" with 50 % of other groups' identities"),
    ]
    # Each accuracy falls by a point a model, three seeds a side.
    assert [one["value"] for one in whole] == pytest.approx([6, 3], abs=0.5)
    # As if each of the seeds, every third of the files, were all that there is.
    alone = [
        compute_claims(
            ClaimsSettings(draws=200),
            metrics=sorted((results / "scores").glob(f"**/*seed{seed}*/metrics.json")),
            output=tmp_path / "alone.json",
        )
        for seed in (1, 2, 3)
    ]
    for found in whole:
        verdicts = Counter(
            one.verdict
            for claims_alone in alone
            for one in claims_alone.claims
            if (one.claim, one.measure, one.threshold) == (found["claim"], "global_accuracy", "own")
        )
        assert found["alone"] == verdicts
        assert verdicts.total() == 3
    assert (told["seeds"], told["job_hours"]) == ([1, 2, 3], 0.5)
    rows = {(one.claim, one.measure, one.group, one.threshold): one for one in claims.claims}
    frame = study.claims_frame(claims)
    assert len(frame) == len(rows)
    for line in frame.replace({np.nan: None}).to_dict("records"):
        one = rows[line["claim"], line["measure"], line["group"], line["threshold"]]
        assert (line["value"], line["verdict"]) == (pytest.approx(one.value), one.verdict)
    assert {path.name for path in (written / "study").iterdir()} == {
        *("degrees.png", "degrees.csv", "claims.csv", "models.csv")
    }
    shown = scripts["render"].study(told)
    assert told["answer"] in shown
    assert "| +6" in shown or "| +5" in shown
    assert "| 2 / 0 / 1 |" in shown
    assert "not finished: 3 of 10 seeds" in shown
    assert "not finished" not in scripts["render"].study(told | {"designed": 3})


def test_without_a_finished_run_there_is_one_line(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["study.py", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        scripts["study"].main()
    told: Any = stopped.value.code
    assert told == f"{tmp_path}: no finished run of config/study.yaml"
