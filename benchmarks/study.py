"""The study of config/study.yaml as docs/study.md tells it: its design, and what came of it.

    python benchmarks/study.py design           # before it is run
    python benchmarks/study.py results/study    # after: numbers and figures to docs/study

Both write to benchmarks/results, from which `benchmarks/render.py` writes the page. Who is compared
with whom, and what is said of it, is the report's own (`mstkd.report`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import pandas as pd
from _machine import describe

from mstkd.artifacts.atomic import write_json, write_text
from mstkd.artifacts.records import Metrics, Subject, file_sha256, read_record
from mstkd.config import ClaimsSettings, Config, read_config
from mstkd.config.models import every_model
from mstkd.report.answer import answer, whom
from mstkd.report.claims import Claims, compute_claims
from mstkd.report.intervals import std_frame
from mstkd.report.judgements import JudgedClaim
from mstkd.report.paper import DEGREE, TOPIC, paper_claims

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config/study.yaml"
RESULTS = ROOT / "benchmarks/results"
FOLDER = ROOT / "docs/study"
# By their name in docs/study, where they lie in the results.
FIGURES = {"degrees.png": "figures/grid-teachers-foreign_share.png"}
NUMBERS = {"degrees.csv": "figures/grid-teachers-foreign_share.csv"}
ASKED = (TOPIC, DEGREE)  # the question itself; the other claims stand beside it


def design_of(config: Config) -> dict[str, Any]:
    """What is drawn, trained and compared, and how many of each."""
    drawn, heldout = config.data.synthetic, config.data.heldout
    assert drawn is not None and heldout is not None, "the study's faces are drawn"
    models = every_model(config)
    sets = Counter((model.kind, model.set) for model in models)
    kept_out = round(heldout.share * drawn.identities)
    return {
        "groups": len(config.groups),
        "seeds": list(config.seeds),
        "shares of other groups": list(config.teachers.values("foreign_share")),
        "specialized teachers a seed": sets["teachers", "specialized"],
        "baseline teachers a seed": sets["teachers", "baseline"],
        "students a seed, controls among them": sum(
            count for (kind, _), count in sets.items() if kind == "students"
        ),
        "models in all, without adaptors": len(models) * len(config.seeds),
        "identities trained on, a group": drawn.identities - kept_out,
        "identities kept out for choosing epochs, a group": kept_out,
        "images of each": drawn.images_per_identity,
        "people tested, a group": drawn.verification_identities,
        "pairs tested, a group": 2 * drawn.pairs_per_fold * drawn.folds,
        "epochs are chosen on": config.teachers.selection.rule,
    }


def comparisons(config: Config) -> list[dict[str, Any]]:
    """Every claim that will be judged, in the report's words; the question's own first."""
    subjects = [
        Subject(
            kind="teacher" if model.kind == "teachers" else "student",
            backbone=model.backbone,
            set=model.set,
            name=model.name,
            loss=model.loss or None,
            seed=seed,
        )
        for model, seed in itertools.product(every_model(config), config.seeds)
    ]
    claims = paper_claims(subjects, config.groups)
    claims.sort(key=lambda claim: claim.topic not in ASKED)
    return [
        {"claim": one.text, "comparisons": len(one.cells), "question": one.topic in ASKED}
        for one in claims
    ]


def job_hours(results: Path, seeds: Container[int]) -> float:
    """What the jobs of these seeds, and those of no seed, took together by Snakemake's measure."""
    total = 0.0
    for file in (results / "benchmarks").rglob("*.tsv"):
        seed = re.search(r"seed(\d+)\.tsv$", file.name)
        if seed is None or int(seed[1]) in seeds:
            total += float(pd.read_csv(file, sep="\t")["s"].iloc[0])
    return total / 3600


def claims_frame(claims: Claims) -> pd.DataFrame:
    """A row a claim, measure and threshold."""
    columns = ["topic", "claim", "threshold", "measure", "group", "seeds", "value", "corrected"]
    columns += ["low", "high", "p", "p_adjusted", "verdict"]
    return pd.DataFrame([one.model_dump(include=set(columns)) for one in claims.claims])[columns]


def asked(claims: Claims) -> list[JudgedClaim]:
    """What the question is answered by."""
    return [
        one
        for one in claims.claims
        if one.topic in ASKED
        and one.threshold == "own"
        and one.measure in ("global_accuracy", "every_group", "std")
    ]


def judged_alone(claims: Claims, results: Path) -> list[Counter[str]]:
    """Of what the question is answered by, how often each verdict is that of one seed alone.

    Each seed is judged as if it were all that was trained.
    """
    assert claims.provenance is not None
    of_seed: dict[int, list[Path]] = {}
    for source in claims.provenance.sources:
        path = results / source.path
        if path.suffix == ".json":
            of_seed.setdefault(read_record(Metrics, path).subject.seed, []).append(path)
    verdicts: list[Counter[str]] = [Counter() for _ in asked(claims)]
    with tempfile.TemporaryDirectory() as folder:
        for metrics in of_seed.values():
            alone = compute_claims(
                ClaimsSettings(draws=claims.draws),
                metrics=metrics,
                output=Path(folder, "claims.json"),
            )
            for found, one in zip(verdicts, asked(alone), strict=True):
                found[one.verdict] += 1
    return verdicts


def result_of(results: Path) -> dict[str, Any]:
    """What a finished run says to the question."""
    claims = read_record(Claims, results / "claims.json")
    others = [
        one.sentence
        for one in claims.claims
        if one.topic not in ASKED and (one.threshold, one.measure) == ("own", "global_accuracy")
    ]
    return {
        "what": "the answer of the study",
        "answer": answer(claims),
        "whom": whom(claims),
        "claims": [
            one.model_dump(include={"claim", "measure", "value", "low", "high", "verdict"})
            | {"smallest": one.power.smallest, "alone": alone}
            for one, alone in zip(asked(claims), judged_alone(claims, results), strict=True)
        ],
        "seeds": claims.seeds,
        "designed": len(read_config(CONFIG).seeds),
        "job_hours": round(job_hours(results, claims.seeds), 2),
        "beside": others,
        "config": file_sha256(results / "config.yaml"),
        "figures": {name: file_sha256(results / path) for name, path in FIGURES.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", help="`design`, or the folder of the finished run")
    arguments = parser.parse_args()
    if arguments.results == "design":
        config = read_config(CONFIG)
        told = {
            "what": "the design of the study, as its config has it",
            "config": file_sha256(CONFIG),
            "design": design_of(config),
            "claims": comparisons(config),
        }
        write_json(RESULTS / "study_design.json", told | describe("numpy"))
        return
    results = Path(arguments.results)
    if not (results / "report.html").exists():
        sys.exit(f"{results}: no finished run of config/study.yaml")
    claims = read_record(Claims, results / "claims.json")
    FOLDER.mkdir(exist_ok=True)
    for name, path in (FIGURES | NUMBERS).items():
        shutil.copyfile(results / path, FOLDER / name)
    for name, frame in (("claims.csv", claims_frame(claims)), ("models.csv", std_frame(claims))):
        write_text(FOLDER / name, frame.to_csv(index=False, lineterminator="\n"))
    told = result_of(results) | describe("torch", "numpy")
    write_text(RESULTS / "study.json", json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
