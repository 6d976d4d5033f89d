"""Measures of scored pairs under many weightings, and all impostor pairs, against plain loops.

python benchmarks/measures.py [--pairs 6000] [--draws 2000] [--images 12000] [--output FILE]

A plain loop takes one draw after another with NumPy and scikit-learn, every draw as one would write
it for a single set of weights; what does not depend on the draw it computes once. It is run on some
draws and told a draw. Both must give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _machine import describe
from _memory import rise_in_mib
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mstkd.artifacts.atomic import write_json
from mstkd.evaluation.auditing.all_impostors import EmbeddedImages, all_impostors
from mstkd.evaluation.impostors import count_impostors
from mstkd.evaluation.measures import error_rates, fold_accuracies, rates_at_fmr, separation
from mstkd.evaluation.scorefiles import read_scores, write_scores
from mstkd.evaluation.scores import ScoreTable

RESULT = Path(__file__).parent / "results" / "measures.json"
GROUPS, FOLDS, DIM = 4, 10, 512
FMRS = (1e-2, 1e-3, 1e-4)
PLAIN_DRAWS = 20
TARGETS = {"measures of one model, seconds": 5, "impostors, seconds": 60, "impostors, MiB": 1000}

Array = NDArray[Any]


def rfw_like(pairs: int) -> ScoreTable:
    """Pairs in RFW's layout: folds end to end, genuine pairs first in each."""
    random, count = np.random.default_rng(0), GROUPS * pairs
    group = np.repeat(np.arange(GROUPS), pairs)
    fold = np.tile(np.arange(pairs) * FOLDS // pairs, GROUPS)
    same = np.tile(np.arange(pairs) * FOLDS * 2 // pairs % 2 == 0, GROUPS)
    person = np.arange(count) * 2 // 3
    similarity = np.clip(random.normal(np.where(same, 0.5, 0.0), 0.15), -1, 1)
    return ScoreTable(
        similarity=similarity,
        same=same,
        fold=fold.astype(np.int16),
        group1=group.astype(np.int16),
        group2=group.astype(np.int16),
        groups=tuple("ABCD"),
        identity1=person.astype(np.int32),
        identity2=np.where(same, person, count + person).astype(np.int32),
        identities=tuple(f"m.{number:06}" for number in range(2 * count)),
        image1=(2 * np.arange(count)).astype(np.int32),
        image2=(2 * np.arange(count) + 1).astype(np.int32),
        images=tuple(f"{number:06}.jpg" for number in range(2 * count)),
    )


# ---------------------------------------------------------------- a draw after another


def plain_accuracies(table: ScoreTable) -> Callable[[Array], Array]:
    """Both protocols (2, G): every threshold's right pairs as one product a group and fold."""
    accepted = (2 - 2 * table.similarity)[:, None] < np.arange(0, 4, 0.01)
    right = (accepted == table.same[:, None]).astype(float)  # (P, 400)
    cells = [
        [np.flatnonzero((table.group1 == g) & (table.fold == k)) for k in range(FOLDS)]
        for g in range(GROUPS)
    ]

    def of_draw(weights: Array) -> Array:
        sums = np.array([[weights[rows] @ right[rows] for rows in of] for of in cells])  # (G, K, T)
        totals = np.array([[weights[rows].sum() for rows in of] for of in cells])
        sizes = np.array([[len(rows) for rows in of] for of in cells])
        found = []
        for shared in (False, True):
            chosen = np.empty((GROUPS, FOLDS))
            for g, k in np.ndindex(GROUPS, FOLDS):
                others = sums.sum(axis=0) if shared else sums[g]
                best = np.argmax(np.delete(others, k, axis=0).sum(axis=0))
                chosen[g, k] = sums[g, k, best]
            found.append((chosen / sizes).sum(axis=1) / (totals / sizes).sum(axis=1))
        return np.array(found)

    return of_draw


def plain_rates(table: ScoreTable) -> Callable[[Array], Array]:
    """FMR and FNMR of each group at three FMRs (2, T, G), thresholds from the other folds."""
    similarity, same, fold, group = table.similarity, table.same, table.fold, table.group1
    falling = np.argsort(-similarity, kind="stable")
    impostors = [falling[(~same & (fold != k))[falling]] for k in range(FOLDS)]

    def of_draw(weights: Array) -> Array:
        found = np.empty((2, len(FMRS), GROUPS))
        running = [np.cumsum(weights[rows]) for rows in impostors]
        for t, target in enumerate(FMRS):
            accepted = np.empty(len(same), bool)
            for k, (rows, sums) in enumerate(zip(impostors, running, strict=True)):
                count = np.searchsorted(sums / sums[-1], target, side="right")
                here = fold == k
                accepted[here] = similarity[here] > similarity[rows[count]]
            for g in range(GROUPS):
                impostor, genuine = (group == g) & ~same, (group == g) & same
                found[0, t, g] = np.average(accepted[impostor], weights=weights[impostor])
                found[1, t, g] = np.average(~accepted[genuine], weights=weights[genuine])
        return found

    return of_draw


def plain_areas(table: ScoreTable) -> Callable[[Array], Array]:
    """AUC of each group (G,), by scikit-learn."""
    rows = [table.group1 == g for g in range(GROUPS)]

    def of_draw(weights: Array) -> Array:
        return np.array(
            [
                roc_auc_score(table.same[of], table.similarity[of], sample_weight=weights[of])
                for of in rows
            ]
        )

    return of_draw


def plain_error_rates(table: ScoreTable) -> Callable[[Array], Array]:
    """FMR and FNMR of each group at 0.25 (2, G)."""
    accepted = table.similarity >= 0.25

    def of_draw(weights: Array) -> Array:
        found = np.empty((2, GROUPS))
        for g in range(GROUPS):
            for c, wrong in ((False, accepted), (True, ~accepted)):
                rows = (table.group1 == g) & (table.same == c)
                found[int(c), g] = np.average(wrong[rows], weights=weights[rows])
        return found

    return of_draw


# ---------------------------------------------------------------- measuring


def measures(table: ScoreTable, draws: int) -> dict[str, dict[str, float]]:
    scored = (table.similarity, table.same)
    folded = (*scored, table.fold, table.group1)
    cases: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
        "fold accuracy, own and shared thresholds": (
            lambda w: np.stack(
                [fold_accuracies(*folded, w, threshold=t).groups for t in ("own", "shared")], axis=1
            ),
            plain_accuracies(table),
        ),
        "FMR and FNMR at three global FMRs": (
            lambda w: np.stack(rates_at_fmr(*folded, FMRS, w)[:2], axis=1),
            plain_rates(table),
        ),
        "AUC and EER (plain: AUC alone)": (
            lambda w: separation(*scored, table.group1, w).auc,
            plain_areas(table),
        ),
        "FMR and FNMR at a threshold": (
            lambda w: np.stack(error_rates(*scored, table.group1, 0.25, w), axis=1),
            plain_error_rates(table),
        ),
    }
    # Poisson weights: whole numbers, of which sums are exact in whatever order.
    weights = np.random.default_rng(1).poisson(1, (draws, len(table))).astype(np.float32)
    few = weights[:PLAIN_DRAWS].astype(float)
    found = {}
    for name, (ours, plain) in cases.items():
        begin = time.perf_counter()
        values = ours(weights)
        middle = time.perf_counter()
        expected = np.array([plain(each) for each in few])
        end = time.perf_counter()
        np.testing.assert_allclose(values[: len(few)], expected, rtol=1e-9, err_msg=name)
        seconds, each = middle - begin, (end - middle) / len(few)
        found[name] = {
            "seconds": round(seconds, 3),
            "plain_seconds": round(each * draws, 2),
            "times_as_fast": round(each * draws / seconds, 1),
        }
    return found


def impostors(images: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((images, DIM), np.float32)
    identity, group = np.arange(images) // 4, np.arange(images) * GROUPS // images
    kept: list[Any] = []
    seconds = []

    def ours() -> object:
        begin = time.perf_counter()
        kept.append(count_impostors(embeddings, identity, group, thresholds=[0.1, 0.15]))
        seconds.append(time.perf_counter() - begin)
        return kept[-1]

    def plain() -> object:
        """The whole matrix, and a mask for every two groups."""
        begin = time.perf_counter()
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = unit @ unit.T
        pair = np.triu(np.ones(cosines.shape, bool), 1) & (identity[:, None] != identity)
        matches = np.zeros((2, GROUPS, GROUPS), np.int64)
        for a, b in np.ndindex(GROUPS, GROUPS):
            rows, columns = group == a, group == b
            chosen = cosines[np.ix_(rows, columns)][pair[np.ix_(rows, columns)]]
            if a <= b:
                matches[:, a, b] += [np.count_nonzero(chosen >= limit) for limit in (0.1, 0.15)]
            np.histogram(chosen, bins=1000, range=(-1, 1))
        seconds.append(time.perf_counter() - begin)
        return kept.append(matches)

    def rows() -> object:
        """All of impostors.csv, which takes the counts and a second look."""
        begin = time.perf_counter()
        people = identity.astype(np.int32)
        table = genuine_pairs(embeddings, people, group.astype(np.int16))
        found = all_impostors(
            {"random": (table, EmbeddedImages(embeddings, identity, group))},
            thresholds=[0.15],
            fmrs=FMRS,
        )
        seconds.append(time.perf_counter() - begin)
        return found

    mib = [rise_in_mib(ours), rise_in_mib(plain), rise_in_mib(rows)]
    upper = np.triu(kept[0].matches[0])
    off = np.abs(upper - kept[1][0]).sum() / upper.sum()
    if off > 1e-5:  # cosines of single precision at the threshold
        raise SystemExit(f"matches differ by {off:.2g}")
    return {
        "images": images,
        "impostor_pairs": int(np.triu(kept[0].pairs).sum()),
        "seconds": round(seconds[0], 2),
        "plain_seconds": round(seconds[1], 2),
        "mib": round(mib[0], 1),
        "plain_mib": round(mib[1], 1),
        "rates_seconds": round(seconds[2], 2),
        "rates_mib": round(mib[2], 1),
    }


def genuine_pairs(embeddings: Array, person: Array, group: Array) -> ScoreTable:
    """Every two images of a person that stand side by side."""
    first = np.flatnonzero(person[:-1] == person[1:])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return ScoreTable(
        similarity=np.einsum("pd,pd->p", unit[first], unit[first + 1], dtype=np.float64),
        same=np.ones(len(first), bool),
        fold=np.zeros(len(first), np.int16),
        group1=group[first],
        group2=group[first],
        groups=tuple("ABCD"),
        identity1=person[first],
        identity2=person[first],
        identities=tuple(f"m.{number:06}" for number in range(int(person.max()) + 1)),
    )


def reading(table: ScoreTable) -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("csv", "csv.gz", "h5"):
            path = Path(folder) / f"scores.{ending}"
            write_scores(table, path)
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                read_scores(path)
                times.append(time.perf_counter() - begin)
            found[ending] = round(min(times), 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6000, help="of each of four groups")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    machine = describe("numpy", "pandas", "scikit-learn")
    of_pairs = impostors(arguments.images)  # first, while the process is small
    table = rfw_like(arguments.pairs)
    cases = measures(table, arguments.draws)
    total = round(sum(case["seconds"] for case in cases.values()), 2)
    result = {
        "what": "seconds for all draws of one model's pairs, beside a loop over draws (timed on "
        f"{PLAIN_DRAWS} of them); and for all impostor pairs of embedded images",
        "pairs": len(table),
        "draws": arguments.draws,
        "measures": cases,
        "seconds_of_all_measures": total,
        "impostors": of_pairs,
        "seconds_to_read_the_table": reading(table),
        "targets": TARGETS,
        "target_met": bool(
            total <= 5
            and max(of_pairs["seconds"], of_pairs["rates_seconds"]) <= 60
            and max(of_pairs["mib"], of_pairs["rates_mib"]) <= 1000
        ),
        **machine,
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
