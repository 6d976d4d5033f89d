"""The ready ablations: each goes over the embedded default, and changes what it says it does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import ROOT, SNAKEMAKE
from snakemake.utils import update_config

from mstkd.config import Config, validate

FILES = sorted((ROOT / "config/ablations").glob("*.yaml"))
# What each edits, beside its name and the folder of the packs.
EDITED = {
    "adaptor-width": {"adaptors.width"},
    "degrees": {"teachers.foreign_share"},
    "lambda": {"students.losses.EAF-KD.kd_weight"},
    "linear-adaptor": {"adaptors.architectures"},
    "margin-std": {"teachers.head.margin_std"},
    "mixed-sources": {"data.train", "data.train_identities"},
    "own-teacher": {"adaptors.fused"},
    "stop-after": {"teachers.stop_after"},
    "student-width": {"backbones", "students.backbone"},
    "target-view": {"students.target_view"},
    "teachers": {"adaptors.architectures", "adaptors.fused"},
}
OWN_PACKS = {"mixed-sources"}  # of other images than the config's


def merged(path: Path) -> dict[str, Any]:
    """The embedded default with a file over it, as Snakemake merges them."""
    config: dict[str, Any] = {}
    for one in (ROOT / "config/config.yaml", path):
        update_config(config, yaml.safe_load(one.read_text()))
    return config


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Settings by their keys; mappings that hold names of the user's own are one."""
    if not isinstance(value, dict) or key in ("backbones", "adaptors.architectures", "data.train"):
        return {key: value}
    found: dict[str, Any] = {}
    for name, one in value.items():
        found |= leaves(one, f"{key}.{name}".lstrip("."))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_ablation_edits_what_it_asks_about_and_nothing_else(path: Path) -> None:
    plain = validate(
        Config, yaml.safe_load((ROOT / "config/config.yaml").read_text()), "config.yaml"
    )
    made = validate(Config, merged(path), path.name)
    before, after = (leaves(json.loads(one.dump())) for one in (plain, made))
    assert {key for key in before | after if before.get(key) != after.get(key)} == {
        "experiment",
        *(() if path.stem in OWN_PACKS else ("data.shared",)),
        *EDITED[path.stem],
    }
    assert made.experiment == f"ablation-{path.stem}"
    assert (str(made.inputs()) == str(plain.inputs())) == (path.stem not in OWN_PACKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_ablation_says_how_it_is_run_and_the_document_knows_it(path: Path) -> None:
    head = path.read_text().partition("experiment:")[0]
    assert f"--configfile config/config.yaml config/ablations/{path.name}" in head
    assert "?" in head, "what it asks"
    readme = (ROOT / "config/README.md").read_text()
    assert f"[`{path.name}`](ablations/{path.name})" in readme


def test_every_ablation_is_held_to_what_it_edits() -> None:
    assert {path.stem for path in FILES} == set(EDITED)


@pytest.mark.workflow
def test_snakemake_merges_an_ablation_over_a_config(tmp_path: Path) -> None:
    command = [SNAKEMAKE, "-s", ROOT / "Snakefile", "-d", tmp_path, "-n", "--configfile"]
    command += [ROOT / "config/config.yaml", ROOT / "config/ablations/lambda.yaml"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = dict(re.findall(r"^(train_\w+) +(\d+)$", told, re.MULTILINE))
    # Two sets of three adaptors and the single teacher: one a-KD student, four of EAF-KD; and one.
    assert counts["train_student"] == str(7 * (1 + 4) + 1)
