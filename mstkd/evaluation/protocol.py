"""Systems on the same pairs under RFW's protocol: error rates over folds, and how sure they are.

What `measures.fold_accuracies` says of one system is said here of many at once, with the one joint
covariance of all from which every interval and comparison follows. The numbers are the same.

Shapes: M systems, P pairs, G groups, K folds, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mstkd.artifacts.records import Fairness, GroupScore
from mstkd.evaluation.fairness import summarize
from mstkd.evaluation.measures import accepting, fold_accuracies
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.uncertainty import (
    GroupRates,
    fold_weights,
    group_rates,
    kept_folds,
    threshold_covariance,
)

Floats = NDArray[np.float64]


def fairness_of(table: ScoreTable, threshold: Literal["own", "shared"]) -> Fairness:
    """Accuracies of one system's groups and the paper's summaries: what metrics.json says.

    Args:
        table: its pairs within groups count.
        threshold: each group's own, the paper's protocol, or one shared by all.

    Raises:
        ValueError: as `measures.fold_accuracies`.
    """
    inside = table.rows(table.within)
    fractions = fold_accuracies(
        inside.similarity, inside.same, inside.fold, inside.group1, threshold=threshold
    ).folds
    percent = dict(zip(table.groups, 100 * fractions, strict=True))
    means = [float(np.nanmean(values)) for values in percent.values()]
    summary = summarize(means) if len(means) > 1 else None
    return Fairness(
        groups={
            group: GroupScore(
                accuracy=mean,
                fold_accuracies=values[~np.isnan(values)].tolist(),
                pairs=int((inside.group1 == number).sum()),
            )
            for number, ((group, values), mean) in enumerate(
                zip(percent.items(), means, strict=True)
            )
        },
        global_accuracy=means[0] if summary is None else float(summary.global_accuracy),
        std=None if summary is None else float(summary.std),
        ser=float(summary.ser) if summary is not None and np.isfinite(summary.ser) else None,
    )


def rates_of_tables(
    tables: Sequence[ScoreTable], threshold: Literal["own", "shared"]
) -> GroupRates:
    """`protocol_rates` of tables of the same pairs, of those that lie within one group.

    Args:
        tables: one a system, in the same order of pairs (`scores.on_pairs_of` sees to it).
        threshold: each group's own, the paper's protocol, or one shared by all.

    Raises:
        ValueError: as `protocol_rates`.
    """
    first, inside = tables[0], tables[0].within
    return protocol_rates(
        np.stack([table.similarity[inside] for table in tables]),
        first.same[inside],
        first.fold[inside],
        first.group1[inside],
        first.identity1[inside],
        first.identity2[inside],
        threshold=threshold,
    )


def protocol_rates(
    similarity: ArrayLike,
    same: ArrayLike,
    fold: ArrayLike,
    group: ArrayLike,
    identity1: ArrayLike,
    identity2: ArrayLike,
    *,
    threshold: Literal["own", "shared"],
) -> GroupRates:
    """Error rates over folds of all systems, with the noise of people and of chosen thresholds.

    With fewer than three folds no threshold can be chosen without one, and its noise is left out.

    Args:
        similarity: (M, P).
        same: (P,), True for genuine pairs.
        fold: (P,), whole numbers 0 to K - 1.
        group: (P,), whole numbers 0 to G - 1.
        identity1: (P,), whole numbers; those of a genuine pair are equal.
        identity2: (P,).
        threshold: each group's own, the paper's protocol, or one shared by all.

    Raises:
        ValueError: fewer than two folds, or a group without pairs.
    """
    genuine, folds, groups = (np.asarray(one) for one in (same, fold, group))
    first, correct, sizes = _counts(np.asarray(similarity, np.float64), genuine, folds, groups)
    if sizes.shape[1] < 2:
        raise ValueError("one fold only, at least two are needed")
    chosen_on = correct.sum(axis=1, keepdims=True) if threshold == "shared" else correct
    total = chosen_on.sum(axis=2, keepdims=True)

    def wrong(best: NDArray[np.int64]) -> Floats:
        """The rates (M, G, K) of folds at these thresholds; nan where a group has no pairs."""
        places = np.broadcast_to(best, correct.shape[:3])[..., None]
        right = np.take_along_axis(correct, places, axis=-1)[..., 0]
        with np.errstate(invalid="ignore"):
            return 1 - right / sizes

    # The first of equals, as everywhere.
    best = (total - chosen_on).argmax(axis=-1)  # (M, G or 1, K)
    places = np.broadcast_to(best, correct.shape[:3])[:, groups, folds]
    found = group_rates(
        (first <= places) != genuine, groups, identity1, identity2, fold_weights(folds, groups)
    )
    if sizes.shape[1] < 3:
        return found
    kept, refitted = kept_folds(sizes.shape[1]), []
    as_chosen = wrong(best)
    for keep in kept:
        left_out = chosen_on[:, :, ~keep].sum(axis=2, keepdims=True)
        again = wrong((total - left_out - chosen_on).argmax(axis=-1))[..., keep]
        known = (sizes[:, keep] > 0).sum(axis=1)
        refitted.append(np.nansum(again, axis=-1) / np.maximum(known, 1))
    return found.with_noise(
        threshold_covariance(
            as_chosen, np.stack(refitted, axis=1), kept, shared=threshold == "shared"
        )
    )


def _counts(
    similarity: Floats, same: NDArray[np.bool_], fold: NDArray[np.int_], group: NDArray[np.int_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which threshold first accepts each pair (M, P); how many pairs each decides rightly
    (M, G, K, T); and how many there are (G, K)."""
    judged = [accepting(row) for row in similarity]
    thresholds = max(len(values) for _, values in judged)
    # A system of fewer thresholds repeats its last, which none prefers.
    first = np.stack(
        [np.where(row < len(values), row, thresholds) for row, values in judged]
    )  # (M, P)
    shape = (int(group.max()) + 1, int(fold.max()) + 1, 2, thresholds + 1)
    cells = np.ravel_multi_index((group, fold, same.astype(np.int64)), shape[:3])
    counts = np.stack(
        [
            np.bincount(cells * shape[3] + row, minlength=int(np.prod(shape))).reshape(shape)
            for row in first
        ]
    )
    accepted = counts[..., :-1].cumsum(axis=-1)
    impostors = counts[..., 0, :].sum(axis=-1, keepdims=True)
    correct = impostors - accepted[..., 0, :] + accepted[..., 1, :]
    return first, correct, counts[0].sum(axis=(-2, -1))
