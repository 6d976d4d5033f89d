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
from mstkd.evaluation.spread import SER, STD, Spread, SpreadInterval, SpreadMeasure
from mstkd.evaluation.uncertainty import GroupRates, wilson
from mstkd.report.judgements import Interval, ModelTold, RowTold, SpreadTold, finite
from mstkd.report.paper import labels_of
from mstkd.report.scored import Scored


def models_told(
    scored: Scored, rates: Mapping[Threshold, GroupRates], draws: int
) -> list[ModelTold]:
    """Every model at every threshold; no model's limits depend on the others."""
    labels = labels_of(scored.subjects)
    models = []
    for threshold, found in rates.items():
        for place, (subject, label) in enumerate(zip(scored.subjects, labels, strict=True)):
            alone = found.chosen([place])
            std, ser = (Spread(alone, of, draws=draws).intervals() for of in (STD, SER))
            models.append(
                ModelTold(
                    subject=subject,
                    label=label,
                    threshold=threshold,
                    groups=dict(zip(scored.groups, _accuracies(alone), strict=True)),
                    global_accuracy=_accuracies(alone.together())[0],
                    std=_spread(std),
                    ser=_spread(ser),
                )
            )
    return models


def rows_told(scored: Scored, rates: Mapping[Threshold, GroupRates], draws: int) -> list[RowTold]:
    """The mean over the seeds of each row at every threshold; none depends on the other rows."""
    models = models_told(scored, rates, draws)
    rows = []
    for threshold, found in rates.items():
        told = [model for model in models if model.threshold == threshold]
        for seeds in _rows(scored.subjects):
            if len(seeds) == 1:
                rows.append(_of_one(told[seeds[0]]))
            else:
                rows.append(_of_several([told[one] for one in seeds], found.chosen(seeds), draws))
    return rows


def _accuracies(rates: GroupRates) -> list[Interval]:
    """Accuracies of one model in each group, percent."""
    low, high = wilson(rates.rates, rates.effective_sizes())
    percent = 100 * (1 - np.stack([rates.rates, high, low], axis=-1)[0])
    return [Interval(value=value, low=least, high=most) for value, least, most in percent.tolist()]


def _spread(of_one: SpreadInterval) -> SpreadTold:
    one = {name: float(values[0]) for name, values in of_one._asdict().items()}
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


def _of_several(models: Sequence[ModelTold], rates: GroupRates, draws: int) -> RowTold:
    """The mean over seeds, which are the trainings done; how they differ is in the interval."""
    groups, seeds = list(models[0].groups), len(models)
    each = np.eye(seeds)[:, :, None]  # (S, S, 1): a row a seed, which weighs its own model

    def accuracy(weights: np.ndarray) -> Interval:
        found = _interval(accuracy_contrast(rates, each * weights))
        return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 100.0)})

    def spread(name: str, measure: SpreadMeasure) -> Interval | None:
        if any(getattr(model, name).value is None for model in models):
            return None
        return _interval(spread_contrast(Spread(rates, measure, draws=draws), np.eye(seeds)))

    return RowTold(
        subject=models[0].subject,
        seeds=seeds,
        threshold=models[0].threshold,
        groups={
            group: accuracy(np.arange(len(groups)) == place) for place, group in enumerate(groups)
        },
        global_accuracy=accuracy(np.full(len(groups), 1 / len(groups))),
        std=spread("std", STD),
        ser=spread("ser", SER),
    )


def _interval(found: Contrast) -> Interval:
    return Interval(value=found.value, low=found.low, high=found.high)
