"""What the study of config/study.yaml can see, worked out before it is run.

OMP_NUM_THREADS=1 python benchmarks/study_power.py [--sets 9] [--demo results]

Students of two sets of teachers, three adaptors each, are simulated on verification sets of the
config's size (`_verification_sets`), at about the accuracy of the demo's students, with seeds that
differ by some points of global accuracy: how many nobody knows before, so several are tried. Half
of that variance is the teachers', which the adaptors share. Of each measure it is told which
difference of the sets, the mean over adaptors, is shown with a probability of 80 %. `--demo` adds
what a finished run of the demo could see, by its own scores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from _machine import describe
from _verification_sets import (
    APART,
    DEMO,
    Design,
    Floats,
    Models,
    Pairs,
    draw_pairs,
    draw_similarities,
    models_of,
    rates_of,
)

from mstkd.artifacts.atomic import write_json
from mstkd.artifacts.records import read_record
from mstkd.config import Config, read_config
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast, spread_contrast
from mstkd.evaluation.power import smallest_difference
from mstkd.evaluation.spread import STD, Spread
from mstkd.report.claims import Claims
from mstkd.report.paper import TOPIC

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks/results/study_power.json"
CONFIG = ROOT / "config/study.yaml"
ACCURACIES = (78.0, 82.0, 84.0, 80.0)  # percent, of either set: about what the demo's students have
SPREADS = (0.5, 1.0, 2.0)  # points of a model's global accuracy, between seeds
SEEDS = (1, 10)


def design_of(config: Config) -> Design:
    """The verification set that a config of drawn faces asks for."""
    drawn = config.data.synthetic
    assert drawn is not None, "the study's faces are drawn"
    return Design(
        identities=drawn.verification_identities // drawn.folds,
        genuine=drawn.pairs_per_fold,
        impostor=drawn.pairs_per_fold,
        images=drawn.verification_images,
        folds=drawn.folds,
        groups=len(config.groups),
    )


def trained(adaptors: int, seeds: int, spread: float, random: np.random.Generator) -> Models:
    """Two sets of teachers, their adaptors and seeds, as models (2 * adaptors * seeds)."""
    count = 2 * adaptors * seeds
    of_teachers = random.standard_normal((2, 1, seeds)).repeat(adaptors, axis=1).reshape(count, 1)
    own = random.standard_normal((count, 1))
    of_group = random.standard_normal((count, 4))
    moved = spread * ((of_teachers + own) / np.sqrt(2) + of_group - of_group.mean(1, keepdims=True))
    means = models_of([ACCURACIES], APART)
    return Models(means.genuine.repeat(count, axis=0), means.impostor.repeat(count, axis=0)).moved(
        moved
    )


def contrasts(similarity: Floats, pairs: Pairs, adaptors: int, seeds: int) -> dict[str, Contrast]:
    """The first set's mean over adaptors less the second's, paired by seed."""
    found = rates_of(similarity, pairs, "own")
    sides = np.repeat([1.0, -1.0], adaptors) / adaptors
    rows = np.stack([np.kron(sides, np.eye(seeds)[seed]) for seed in range(seeds)])
    return {
        "global accuracy": accuracy_contrast(found, rows[:, :, None] * np.full(4, 0.25)),
        "accuracy of a group": accuracy_contrast(found, rows[:, :, None] * np.eye(4)[0]),
        "STD": spread_contrast(Spread(found, STD, draws=500), rows),
    }


def rows_of(
    design: Design, adaptors: int, seeds: int, spread: float, sets: int
) -> dict[str, float]:
    """By measure, the median over simulated sets of the smallest difference that is shown."""
    random = np.random.default_rng([seeds, round(10 * spread), design.genuine])
    shown: dict[str, list[float]] = {}
    for _ in range(sets):
        pairs = draw_pairs(design, random)
        models = trained(adaptors, seeds, spread, random)
        similarity = draw_similarities(models, pairs, random)
        for name, one in contrasts(similarity, pairs, adaptors, seeds).items():
            shown.setdefault(name, []).append(smallest_difference(one))
    return {name: float(f"{statistics.median(values):.3g}") for name, values in shown.items()}


def of_demo(results: Path) -> dict[str, dict[str, float]]:
    """By loss, what a finished run could see of the paper's question, one seed each."""
    claims = read_record(Claims, results / "claims.json")
    shown: dict[str, dict[str, float]] = {}
    for one in claims.claims:
        if (one.topic, one.threshold) == (TOPIC, "own") and one.measure in (
            "global_accuracy",
            "std",
        ):
            of_loss = shown.setdefault(one.claim.rpartition(", ")[2], {})
            of_loss[one.measure] = float(f"{one.power.smallest:.3g}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", type=int, default=9)
    parser.add_argument("--demo", type=Path, help="the folder of a finished run of the demo")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy", "scipy")
    config = read_config(CONFIG)
    adaptors = len(config.adaptors.architectures)
    designs = {"the demo's": DEMO, "the study's": design_of(config)}
    rows = []
    for name, design in designs.items():
        for seeds in SEEDS:
            for spread in SPREADS if seeds > 1 else (0.0,):
                found = rows_of(design, adaptors, seeds, spread, arguments.sets)
                rows.append({"pairs": name, "seeds": seeds, "spread": spread, **found})
    result = {
        "what": "the smallest difference of two sets of teachers' students, the mean over "
        "adaptors, that is shown with 80 % power, percentage points; medians over simulated sets",
        "sets": arguments.sets,
        "identities": {name: design.identities * design.folds for name, design in designs.items()},
        "pairs": {
            name: (design.genuine + design.impostor) * design.folds
            for name, design in designs.items()
        },
        "smallest_difference": rows,
        "demo": None if arguments.demo is None else of_demo(arguments.demo),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
