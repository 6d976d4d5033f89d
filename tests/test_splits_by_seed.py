"""Splits of each training seed: which are drawn anew, where they lie, and what hangs on them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from imagecounts import a_hundred_of_each
from law import held
from PIL import Image
from quickjobs import handed_to
from refusals import refused_in_one_line
from runs import ROOT, TINY, edited, planned, snakemake

from mstkd.artifacts.lineage import lineage
from mstkd.bench.work import experiment
from mstkd.config import Config, PackSettings, SplitSettings, files, validate
from mstkd.data.packing import pack_train
from mstkd.data.splits import deal, mix, read_split, split

BY_SEED = {"splits.by_seed": True}
SHARES = {"teachers.foreign_share": [0, 0.5]}


def config(edits: dict[str, Any]) -> Config:
    return validate(Config, edited(TINY, edits), "config")


# ---------------------------------------------------------------- settings and folders


def test_without_it_every_text_is_what_it_was() -> None:
    """Snakemake compares these texts: with another one a finished experiment would run anew."""
    plain, off = config({}), config({"splits.by_seed": False})
    for one in (plain, off):
        assert one.split_settings("baseline").dump() == '{"recipe":1,"seed":0}'
        assert one.split_settings("single").dump() == '{"recipe":1,"seed":0}'
        assert one.split_settings("specialized", "A").dump() == '{"recipe":1,"seed":0}'
        assert one.splits.dump() == '{"recipe":1,"seed":0}'
        assert "splits_by_seed" not in one.claims_settings().dump()
        assert one.split_folders("baseline") == ("baseline",)
    assert off == plain
    assert off.as_yaml() == plain.as_yaml()
    share = config({"teachers.foreign_share": 0.5, "splits.seed": 3})
    assert share.split_settings("specialized", "B").dump() == (
        '{"recipe":1,"seed":3,"foreign_share":0.5,"group":"B"}'
    )


def test_what_is_drawn_has_a_folder_of_each_seed_and_the_rest_none() -> None:
    made = config({**BY_SEED, **SHARES, "splits.seed": 5})
    assert made.split_folders("specialized") == (
        "specialized+foreign_share=0",
        "specialized+foreign_share=0.5/seed{seed}",
    )
    assert made.split_folders("baseline") == ("baseline/seed{seed}",)
    assert made.split_folders("single") == ("single",)
    assert files.teacher_split(made, "tiny", "baseline", "BT-1") == [
        "results/splits/baseline/seed{seed}/BT-1.csv"
    ]
    assert files.teacher_split(made, "tiny", "single", "T-all") == [
        "results/splits/single/T-all.csv"
    ]
    for share, folder in (("0", ""), ("0.5", "/seed{seed}")):
        assert files.teacher_split(made, f"tiny+foreign_share={share}", "specialized", "T-B") == [
            f"results/splits/specialized+foreign_share={share}{folder}/T-B.csv"
        ]
    mixed = "specialized+foreign_share=0.5"
    assert made.split_settings("baseline/seed-3") == SplitSettings(seed=5, training_seed=-3)
    assert made.split_settings(f"{mixed}/seed7", "B") == (
        SplitSettings(seed=5, foreign_share=0.5, group="B", training_seed=7)
    )
    assert made.split_settings("specialized+foreign_share=0", "A") == SplitSettings()
    assert made.split_settings("single") == SplitSettings()
    assert files.split_packs(made, f"{mixed}/seed7", "B") == files.packs(made, "train")
    for folder in (
        *("baseline", "single/seed0", mixed, "specialized+foreign_share=0/seed0"),
        *("specialized", "baseline/seed", "baseline/seedx", "baseline/seed0/seed0", "else/seed0"),
    ):
        assert made.settings_of("split", split=folder, group="A") is None, folder
    assert config({}).settings_of("split", split="baseline/seed0") is None


def test_it_is_written_out_and_read_again() -> None:
    made = config(BY_SEED)
    assert made.as_yaml().count("by_seed: true") == 1
    assert made.claims_settings().splits_by_seed is True


@pytest.mark.parametrize("value", [1, "each", [0, 1]])
def test_what_is_no_truth_is_refused(value: Any) -> None:
    with refused_in_one_line("config: splits.by_seed: found"):
        config({"splits.by_seed": value})


def test_what_several_sources_give_stays_one_draw() -> None:
    sources = {"a": {"share": 0.5, "path": "a"}, "b": {"share": 0.5, "path": "b"}}
    data = {"image_size": 16, "train": sources, "verification": "verification"}
    one, by_seed = (config({"data": data, "splits.seed": 5, **edit}) for edit in ({}, BY_SEED))
    for group in TINY["groups"]:
        assert by_seed.train_pack_settings(group).dump() == one.train_pack_settings(group).dump()
    assert '"seed":5' in by_seed.train_pack_settings("A").dump()


def test_what_an_experiment_costs_is_the_same() -> None:
    """Splits take no time that is counted; there are as many models."""
    counts = a_hundred_of_each("AB")
    edits = {**SHARES, "seeds": [0, 1]}
    assert list(experiment(config({**edits, **BY_SEED}), counts)) == list(
        experiment(config(edits), counts)
    )


# ---------------------------------------------------------------- the step


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("faces")
    for group, count in (("A", 11), ("B", 14)):
        for number in range(count):
            folder = root / group / f"{number:02}"
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(folder / "1.png")
        settings = PackSettings(root=root, group=group, image_size=16, on_bad_image="error")
        pack_train(settings, output=root / f"{group}.h5")
    return [root / "A.h5", root / "B.h5"]


NAMES = {"A": [f"{n:02}" for n in range(11)], "B": [f"{n:02}" for n in range(14)]}


def dealt(folder: Path, packs: list[Path], **settings: int) -> list[dict[str, list[str]]]:
    outputs = [folder / f"BT-{n}.csv" for n in (1, 2, 3)]
    split(SplitSettings(**settings), packs=packs, outputs=outputs)
    return [read_split(path) for path in outputs]


def test_each_seed_deals_anew_and_evenly(tmp_path: Path, packs: list[Path]) -> None:
    found = [
        dealt(tmp_path, packs, seed=seed, training_seed=training_seed)
        for seed in (0, 1)
        for training_seed in (-1, 0, 1)
    ]
    for splits in found:
        for group, names in NAMES.items():
            shares = [own[group] for own in splits]
            assert sorted(chain.from_iterable(shares)) == names  # each once
            assert {len(share) for share in shares} <= {len(names) // 3, len(names) // 3 + 1}
        totals = [sum(map(len, own.values())) for own in splits]
        assert max(totals) - min(totals) <= 1
    # Not the draw of the other seed either, nor that without seeds of training.
    every = [*found, *(deal(NAMES, 3, seed) for seed in (-1, 0, 1, 2))]
    assert len({json.dumps(splits) for splits in every}) == len(every)


def test_a_share_of_other_groups_is_drawn_anew_too(tmp_path: Path, packs: list[Path]) -> None:
    found = {}
    for training_seed in (0, 1):
        for group in "AB":
            settings = SplitSettings(foreign_share=0.5, group=group, training_seed=training_seed)
            split(settings, packs=packs, outputs=[tmp_path / "T.csv"])
            found[training_seed, group] = read_split(tmp_path / "T.csv")
        for group, names in NAMES.items():
            both = [found[training_seed, owner][group] for owner in "AB"]
            assert sorted(chain(*both)) == names
    assert found[0, "A"] != found[1, "A"]
    assert found[0, "A"] != mix(NAMES, 0.5, 0)["A"]


def test_the_draw_of_a_training_seed_stays_what_it_was(tmp_path: Path, packs: list[Path]) -> None:
    """Another one would be another data set: raise the recipe of SplitSettings then."""
    # The first 63 bits of the SHA-256 of "splits of a training seed/5/2".
    expected = deal(NAMES, 3, 8_147_078_068_496_033_383)
    assert dealt(tmp_path, packs, seed=5, training_seed=2) == expected


# ---------------------------------------------------------------- runs

# Two degrees, of which one is drawn, and a control that is not; few students.
RUN = edited(
    TINY,
    {
        "seeds": [0, 1],
        **BY_SEED,
        **SHARES,
        "adaptors.architectures": {"SL": {}},
        "students.losses": {"a-KD": {}},
    },
)
MIXED, OWN = "specialized+foreign_share=0.5", "specialized+foreign_share=0"
DRAWN = ("baseline", MIXED)


@pytest.fixture(scope="module")
def finished(job_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds. To be copied, not written."""
    folder = tmp_path_factory.mktemp("by-seed")
    with handed_to(job_server):
        snakemake(folder, RUN)
    return folder


def results_of(folder: Path, *patterns: str) -> dict[str, str]:
    """Hashes of the results that match, records among them, but of what tells of times."""
    results = folder / "results"
    found = {path for pattern in patterns for path in results.glob(pattern) if path.is_file()}
    return {
        name: hashlib.sha256(held(results / name)).hexdigest()
        for name in sorted(str(path.relative_to(results)) for path in found)
        if not re.search(r"^logs/|^benchmarks/|/events|(^|/)\.", name)
    }


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.usefixtures("quick_jobs")
def test_a_whole_run_has_splits_of_each_seed(finished: Path) -> None:
    splits = finished / "results/splits"
    found = sorted(str(path.relative_to(splits)) for path in splits.rglob("*.csv"))
    teachers = {"baseline": ["BT-1", "BT-2"], MIXED: ["T-A", "T-B"]}
    assert found == sorted(
        [
            *(f"{OWN}/T-{group}.csv" for group in "AB"),
            "single/T-all.csv",
            *(
                f"{set_}/seed{seed}/{name}.csv"
                for set_ in DRAWN
                for seed in (0, 1)
                for name in teachers[set_]
            ),
        ]
    )
    everyone = read_split(splits / "single/T-all.csv")
    for set_, names in teachers.items():
        of_seeds = []
        for seed in (0, 1):
            both = [read_split(splits / f"{set_}/seed{seed}/{name}.csv") for name in names]
            for group, identities in everyone.items():
                assert sorted(chain(*(own[group] for own in both))) == identities
                assert {len(own[group]) for own in both} == {len(identities) // 2}
            of_seeds.append(both)
        assert of_seeds[0] != of_seeds[1], set_


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.usefixtures("quick_jobs")
def test_each_teacher_learns_from_the_splits_of_its_seed(finished: Path) -> None:
    teachers = finished / "results/teachers"
    for seed in (0, 1):
        for teacher, expected in (
            ("tiny/baseline/BT-2", f"baseline/seed{seed}/BT-2.csv"),
            ("tiny+foreign_share=0.5/specialized/T-A", f"{MIXED}/seed{seed}/T-A.csv"),
            ("tiny+foreign_share=0/specialized/T-A", f"{OWN}/T-A.csv"),
            ("tiny/single/T-all", "single/T-all.csv"),
        ):
            told = lineage(teachers / teacher / f"seed{seed}/model.safetensors").results
            (made,) = (one for one in told if one.step == "split")
            assert made.path.endswith(f"splits/{expected}")
            assert made.unchanged


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.usefixtures("quick_jobs")
def test_what_a_run_says_of_itself(finished: Path) -> None:
    results = finished / "results"
    note = json.loads((results / "claims.json").read_text())["note"]
    assert "with identities dealt to the teachers anew for each seed." in note
    page = " ".join((results / "report.html").read_text().split())
    assert "had been made by the config beside it" in page
    assert "dealt to the teachers anew for each seed" in page
    whole = finished / "Snakefile"
    snakefile = str(ROOT / "workflow/Snakefile")
    whole.write_text(f"include: {snakefile!r}\nworkflow.default_target = 'all'\n")
    command = [Path(sys.executable).with_name("mstkd"), "check", "--json", "--deep"]
    command += ["--configfile", "edited.yaml"]
    done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
    whole.unlink()
    told = json.loads(done.stdout)
    assert (done.returncode, told["orphans"]) == (0, [])
    assert {job["state"] for job in told["jobs"]} == {"current"}


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.usefixtures("quick_jobs")
def test_a_seed_does_not_hang_on_the_others(finished: Path, tmp_path: Path) -> None:
    """Files of a run of one seed are, to the byte, those that it has in a run of two."""
    snakemake(tmp_path, edited(RUN, {"seeds": [1]}))
    patterns = ("splits/**/*", "**/seed1*", "**/seed1/*")
    alone, both = (results_of(folder, *patterns) for folder in (tmp_path, finished))
    rooms = {name.partition("/")[0] for name in alone}
    assert rooms == {"splits", "teachers", "embeddings", "adaptors", "students", "tracing"}
    assert "splits/baseline/seed1/BT-1.csv" in alone
    assert not [name for name in alone if "seed0" in name]
    assert alone == {name: one for name, one in both.items() if "seed0" not in name}
    # One seed more, and one less: nothing of those that stay is made anew.
    more = planned(finished, edited(RUN, {"seeds": [0, 1, 7]}))
    assert (more["split_baseline_by_seed"], more["split_specialized"]) == (1, 2)
    assert not more.keys() & {"split_single", "pack_train"}
    assert more["train_teacher"] == 2 + 2 + 2  # of one seed: both degrees and the baseline
    assert more["train_student"] == 2 + 1 + 1 + 1  # those and the controls
    less = planned(finished, edited(RUN, {"seeds": [1]}))
    trains = (
        "split_baseline_by_seed",
        "split_specialized",
        "train_teacher",
        "train_student",
        "evaluate",
    )
    assert not less.keys() & set(trains)


# Of two seeds: the teachers whose splits are drawn, all that is made of them, and what tells of all
# models together, in tables of the teachers and of the students, each with either threshold.
ANEW = {
    "train_teacher": 2 * (2 + 2),
    "cache_embeddings": 2 * 2,
    "train_adaptor": 2 * 2,
    "trace_adaptors": 2 * 2,
    "train_student": 2 * 2,
    "render_model_card": 2 * 2,
    "evaluate": 2 * (2 + 2) + 2 * 2,
    "render_table": 4,
    **dict.fromkeys(("render_error_rates", "render_accuracies", "render_distributions"), 2),
    **dict.fromkeys(("score_impostors", "render_impostors"), 2),
    **dict.fromkeys(("render_stages", "render_tracing"), 2),  # of each degree, baseline beside it
    **dict.fromkeys(("render_curves", "render_det", "render_grid", "render_intervals"), 1),
    **dict.fromkeys(("compute_claims", "write_config", "render_page", "render_provenance"), 1),
}


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.usefixtures("quick_jobs")
def test_off_and_on_again_plans_what_is_drawn_alone(finished: Path, tmp_path: Path) -> None:
    """And what is made of it; splits of the seeds lie where they were, and are used again.

    That the results are a fresh run's then, tests/test_law.py tells.
    """
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)  # keeps the times of the files
    assert planned(folder, RUN) == {}
    off = edited(RUN, {"splits.by_seed": False})
    assert planned(folder, off) == {**ANEW, "split_baseline": 1, "split_specialized": 2}
    snakemake(folder, off)
    assert planned(folder, off) == {}
    assert (folder / "results/splits/baseline/BT-1.csv").exists()
    note = json.loads((folder / "results/claims.json").read_text())["note"]
    assert "with identities dealt to the teachers as they were here." in note
    assert planned(folder, RUN) == ANEW
    for path in (folder / "results/splits/baseline/seed1").iterdir():
        path.unlink()
    assert planned(folder, RUN) == {**ANEW, "split_baseline_by_seed": 1}
