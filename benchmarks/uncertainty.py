"""What every interval and comparison of 24 models takes, beside a bootstrap as a plain loop.

OMP_NUM_THREADS=1 python benchmarks/uncertainty.py [--models 24] [--draws 1]

Both start from similarities of 24,000 pairs of RFW's design. The loop draws identities with
replacement, weighs each pair by how often its identities were drawn, chooses thresholds anew and
keeps the groups' accuracies, STD and SER; a few of its draws are timed, and 2,000 of them reckoned
from that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from pathlib import Path

import numpy as np
from _machine import describe
from _verification_sets import (
    APART,
    RFW,
    Floats,
    Pairs,
    draw_pairs,
    draw_similarities,
    models_of,
    rates_of,
    tables_of,
)

from mstkd.artifacts.atomic import write_json
from mstkd.evaluation.contrasts import accuracy_contrast, mcnemar, spread_contrast
from mstkd.evaluation.fairness import summarize
from mstkd.evaluation.intervals import (
    area_interval,
    areas_above,
    equal_error_rates,
    fairness_intervals,
    rate_interval,
    rates_at,
)
from mstkd.evaluation.spread import SER, STD, Spread

RESULT = Path(__file__).parent / "results" / "uncertainty.json"
DRAWS = 2000
THRESHOLDS = np.arange(0, 4, 0.01)


def everything(similarity: Floats, pairs: Pairs) -> dict[str, int]:
    """Every interval and comparison; how many there were of each."""
    models, groups = len(similarity), 4
    told = {"intervals": 0, "comparisons": 0, "mcnemar": 0}
    for threshold in ("own", "shared"):
        found = rates_of(similarity, pairs, threshold)
        for rates in (found, found.together()):
            told["intervals"] += rate_interval(rates).value.size
        spreads = [Spread(found, measure) for measure in (STD, SER)]
        told["intervals"] += sum(len(spread.intervals().low) for spread in spreads)
        each = [*np.eye(groups), np.full(groups, 1 / groups)]
        for first, second in itertools.combinations(range(models), 2):
            weights = np.zeros((1, models))
            weights[0, [first, second]] = 1, -1
            for over in each:
                accuracy_contrast(found, weights[:, :, None] * over)
            for spread in spreads:
                spread_contrast(spread, weights)
            told["comparisons"] += len(each) + len(spreads)
    tables = tables_of(similarity, pairs)
    for found in (rates_at(tables, threshold=0.3), rates_at(tables, fmr=0.01)):
        for rates in (found.fmr, found.fnmr, found.together):
            told["intervals"] += rate_interval(rates).value.size
        told["intervals"] += sum(len(one.low) for one in fairness_intervals(found).values())
    told["intervals"] += rate_interval(equal_error_rates(tables)).value.size
    told["intervals"] += area_interval(areas_above(tables)).value.size
    at = np.median(similarity, axis=1, keepdims=True)
    wrong = (similarity >= at) != pairs.same
    for first, second in itertools.combinations(range(models), 2):
        mcnemar(wrong[first], wrong[second])
        told["mcnemar"] += 1
    return told


def loop(similarity: Floats, pairs: Pairs, draws: int) -> None:
    """Draws of an identity bootstrap, one after another, model by model, fold by fold."""
    random = np.random.default_rng(0)
    people = int(max(pairs.identity1.max(), pairs.identity2.max())) + 1
    for _ in range(draws):
        drawn = np.bincount(random.integers(people, size=people), minlength=people)
        weights = drawn[pairs.identity1] * np.where(pairs.same, 1, drawn[pairs.identity2])
        for values in 2 - 2 * similarity:
            accuracies = np.zeros((4, 10))
            for group, fold in itertools.product(range(4), range(10)):
                inside = pairs.group == group
                here, others = inside & (pairs.fold == fold), inside & (pairs.fold != fold)
                right = [
                    weights[others] @ ((values[others] < t) == pairs.same[others])
                    for t in THRESHOLDS
                ]
                best = THRESHOLDS[int(np.argmax(right))]
                decided = (values[here] < best) == pairs.same[here]
                accuracies[group, fold] = np.average(decided, weights=weights[here])
            summarize(100 * accuracies.mean(axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=24)
    parser.add_argument("--draws", type=int, default=1, help="of the loop, timed for one model")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy", "scipy")
    random = np.random.default_rng(0)
    accuracies = random.uniform(89, 96, (arguments.models, 4))
    pairs = draw_pairs(RFW, random)
    similarity = draw_similarities(models_of(accuracies, APART), pairs, random)

    begin = time.perf_counter()
    everything(similarity[:1], pairs)
    one_model = time.perf_counter() - begin
    begin, used = time.perf_counter(), time.process_time()
    told = everything(similarity, pairs)
    all_models, used = time.perf_counter() - begin, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.perf_counter()
    loop(similarity[:1], pairs, arguments.draws)
    of_one = (time.perf_counter() - begin) / arguments.draws
    result = {
        "what": "seconds for every interval of each model (accuracies, STD and SER at own and "
        "shared thresholds; FMR, FNMR and the fairness measures at a similarity and at a global "
        "FMR; AUC, EER) and every comparison of two; and what 2,000 draws of an identity bootstrap "
        "would take as a loop, at own thresholds alone, reckoned from those timed",
        "models": arguments.models,
        "pairs": len(pairs.same),
        **told,
        "seconds": round(all_models, 1),
        "processor_seconds": round(used, 1),
        "seconds_of_one_model": round(one_model, 2),
        "peak_memory_mb": round(memory),
        "loop_draws_timed": arguments.draws,
        "loop_seconds_a_draw_and_model": round(of_one, 2),
        "loop_seconds_reckoned": round(of_one * DRAWS * arguments.models),
        "times_as_fast": round(of_one * DRAWS * arguments.models / all_models),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
