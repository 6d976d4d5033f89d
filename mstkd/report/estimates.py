"""Every trained model, and every row of the tables, with intervals: identities are the unit.

Shapes: M models, each trained with one seed; S seeds of one row; G groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mstkd.artifacts.records import Subject
from mstkd.config import Threshold
from mstkd.evaluation.contrasts import Contrast, accuracy_contrast, spread_contrast
from mstkd.evaluation.spread import SER, STD, Spread, SpreadInterval
from mstkd.evaluation.uncertainty import GroupRates, wilson
from mstkd.report.judgements import Interval, ModelTold, RowTold, SpreadTold, finite
from mstkd.report.paper import called
from mstkd.report.scored import Scored


def estimates(
    scored: Scored, rates: Mapping[Threshold, GroupRates], draws: int
) -> tuple[list[ModelTold], list[RowTold]]:
    """Every model, and the mean over the seeds of each row, at every threshold."""
    models: list[ModelTold] = []
    rows: list[RowTold] = []
    for threshold, found in rates.items():
        spreads = {
            "std": Spread(found, STD, draws=draws),
            "ser": Spread(found, SER, draws=draws),
        }
        told = _models(scored, found, threshold, spreads)
        models += told
        for seeds in _rows(scored.subjects):
            if len(seeds) == 1:
                rows.append(_of_one(told[seeds[0]]))
            else:
                rows.append(_of_several([told[place] for place in seeds], found, seeds, spreads))
    return models, rows


def _models(
    scored: Scored, found: GroupRates, threshold: Threshold, spreads: Mapping[str, Spread]
) -> list[ModelTold]:
    of_teachers = {subject.backbone for subject in scored.subjects if subject.set != "none"}
    std, ser = (spreads[name].intervals() for name in ("std", "ser"))
    of_groups, of_all = _accuracies(found), _accuracies(found.together())
    return [
        ModelTold(
            subject=subject,
            label=called(subject, with_backbone=len(of_teachers) > 1),
            threshold=threshold,
            groups=dict(zip(scored.groups, of_groups[place], strict=True)),
            global_accuracy=of_all[place][0],
            std=_spread(std, place),
            ser=_spread(ser, place),
        )
        for place, subject in enumerate(scored.subjects)
    ]


def _accuracies(rates: GroupRates) -> list[list[Interval]]:
    """Accuracies of each model and group, percent."""
    low, high = wilson(rates.rates, rates.effective_sizes())
    percent = 100 * (1 - np.stack([rates.rates, high, low], axis=-1))
    return [
        [Interval(value=value, low=least, high=most) for value, least, most in model]
        for model in percent.tolist()
    ]


def _spread(of_all: SpreadInterval, place: int) -> SpreadTold:
    one = {name: float(values[place]) for name, values in of_all._asdict().items()}
    return SpreadTold(
        value=finite(one["value"]),
        low=one["low"],
        high=finite(one["high"]),
        corrected=one["corrected"],
        floor=one["floor"],
        floor_high=one["floor_high"],
    )


# ---------------------------------------------------------------- rows


def _rows(subjects: Sequence[Subject]) -> Iterator[list[int]]:
    """Places of the seeds of each row, which stand together."""

    def row(place: int) -> Subject:
        return subjects[place].model_copy(update={"seed": 0})

    for _, places in itertools.groupby(range(len(subjects)), row):
        yield list(places)


def _of_one(model: ModelTold) -> RowTold:
    def limits(of: SpreadTold) -> Interval | None:
        if of.value is None or of.high is None:
            return None
        return Interval(value=of.value, low=of.low, high=of.high)

    return RowTold(
        subject=model.subject,
        seeds=1,
        threshold=model.threshold,
        groups=model.groups,
        global_accuracy=model.global_accuracy,
        std=limits(model.std),
        ser=limits(model.ser),
    )


def _of_several(
    models: Sequence[ModelTold], rates: GroupRates, seeds: list[int], spreads: Mapping[str, Spread]
) -> RowTold:
    """The mean over seeds, which are the trainings done; how they differ is in the interval."""
    groups = list(models[0].groups)
    own = rates.chosen(seeds)
    each = np.eye(len(seeds))[:, :, None]  # (S, S, 1): a row a seed, which weighs its own model

    def accuracy(weights: np.ndarray) -> Interval:
        found = _interval(accuracy_contrast(own, each * weights))
        return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 100.0)})

    def spread(name: str) -> Interval | None:
        if any(getattr(model, name).value is None for model in models):
            return None
        weights = np.zeros((len(seeds), len(rates.rates)))
        weights[np.arange(len(seeds)), seeds] = 1
        return _interval(spread_contrast(spreads[name], weights))

    return RowTold(
        subject=models[0].subject,
        seeds=len(seeds),
        threshold=models[0].threshold,
        groups={
            group: accuracy(np.arange(len(groups)) == place) for place, group in enumerate(groups)
        },
        global_accuracy=accuracy(np.full(len(groups), 1 / len(groups))),
        std=spread("std"),
        ser=spread("ser"),
    )


def _interval(found: Contrast) -> Interval:
    return Interval(value=found.value, low=found.low, high=found.high)
