"""What a verification set of RFW's design can tell of two methods like those of the paper.

OMP_NUM_THREADS=1 python benchmarks/power.py [--sets 9]

The students of specialized and of baseline teachers (table 3, EAF-KD, SL) are simulated with the
paper's accuracies, on sets of RFW's design (`_verification_sets`): once each, and three times each
with a spread of training. Of each measure it is told which difference is shown with a probability
of 80 %, and what the paper's own difference would need.
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
    RFW,
    Floats,
    Models,
    draw_pairs,
    draw_similarities,
    models_of,
    rates_of,
)

from mstkd.artifacts.atomic import write_json
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast, spread_contrast
from mstkd.evaluation.power import needed, smallest_difference
from mstkd.evaluation.spread import SER, STD, Spread

RESULT = Path(__file__).parent / "results" / "power.json"
SPECIALIZED = (92.12, 93.07, 95.33, 93.93)  # table 3, IResNet-34, EAF-KD, SL
BASELINE = (91.43, 92.68, 95.10, 93.53)
SEEDS, TRAINING = 3, 0.2  # percentage points of a global accuracy, between seeds


def contrasts(similarity: Floats, pairs: object, seeds: int) -> dict[str, Contrast]:
    """Specialized less baseline, of models (2 * seeds, P), at own thresholds."""
    found = rates_of(similarity, pairs, "own")
    rows = np.concatenate([np.eye(seeds), -np.eye(seeds)], axis=1)
    return {
        "accuracy of a group": accuracy_contrast(found, rows[:, :, None] * np.eye(4)[0]),
        "global accuracy": accuracy_contrast(found, rows[:, :, None] * np.full(4, 0.25)),
        "STD": spread_contrast(Spread(found, STD), rows),
        "SER": spread_contrast(Spread(found, SER), rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy", "scipy")
    random = np.random.default_rng(0)
    errors = 1 - np.array([SPECIALIZED, BASELINE]) / 100
    effects = {
        "accuracy of a group": 100 * float(errors[1, 0] - errors[0, 0]),
        "global accuracy": 100 * float(errors[1].mean() - errors[0].mean()),
        "STD": float(np.subtract(*STD.of(errors))),
        "SER": float(np.subtract(*SER.of(errors))),
    }
    methods = models_of([SPECIALIZED, BASELINE], APART)
    of_one: dict[str, list[Contrast]] = {name: [] for name in effects}
    of_several: dict[str, list[Contrast]] = {name: [] for name in effects}
    for _ in range(arguments.sets):
        pairs = draw_pairs(RFW, random)
        trained = Models(
            methods.genuine.repeat(SEEDS, axis=0), methods.impostor.repeat(SEEDS, axis=0)
        )
        common, own = random.standard_normal((2 * SEEDS, 1)), random.standard_normal((2 * SEEDS, 4))
        moved = trained.moved(TRAINING * (common / np.sqrt(2) + np.sqrt(2) * own))
        for models, seeds, kept in ((methods, 1, of_one), (moved, SEEDS, of_several)):
            found = contrasts(draw_similarities(models, pairs, random), pairs, seeds)
            for name, contrast in found.items():
                kept[name].append(contrast)

    def median(values: list[float]) -> float | None:
        middle = statistics.median(values)
        return float(f"{middle:.3g}") if np.isfinite(middle) else None

    def whole(values: list[float]) -> int | None:
        middle = median(values)
        return None if middle is None else round(middle)

    rows = []
    for name, effect in effects.items():
        asked = [needed(one, effect) for one in of_one[name]]
        seeds = [needed(one, effect).seeds for one in of_several[name]]
        rows.append(
            {
                "measure": name,
                "smallest_difference": median([smallest_difference(one) for one in of_one[name]]),
                "smallest_with_seeds": median(
                    [smallest_difference(one) for one in of_several[name]]
                ),
                "effect": round(effect, 3),
                "times_the_identities": median([one.identities for one in asked]),
                "times_the_pairs": median([one.pairs for one in asked]),
                "seeds": whole([np.inf if one is None else one for one in seeds]),
            }
        )
    result = {
        "what": "the smallest difference shown with 80 % power, of one training each and of three "
        "each; and what the paper's difference would need, one thing changed (null: no number "
        "would do); medians over sets",
        "sets": arguments.sets,
        "seeds": SEEDS,
        "training_spread": TRAINING,
        "measures": rows,
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
