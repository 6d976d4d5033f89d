"""Which epoch of a network is kept, and the sentence of model.json that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mstkd.config import StudentSettings, TeacherSettings, last_epoch
from mstkd.data.loader import one_image_size
from mstkd.data.pack import open_pack
from mstkd.embeddings.embed import Extractor
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import check_pairs, group_accuracy
from mstkd.models.backbone import Backbone


class Choice(NamedTuple):
    """The epoch of the highest score is kept."""

    score: Callable[[int, Mapping[str, float]], float | None]  # as a `Learner` has it
    column: str | None  # the score's in the history, if it has one
    told: Callable[[float], str]  # the sentence for the score that was the highest
    hashes: Sequence[str] = ()  # of the content of the pairs that are looked at


LOWEST_LOSS = Choice(
    lambda epoch, parts: -parts["loss"], None, lambda score: f"lowest training loss: {-score:.4f}"
)


def best_accuracy(
    settings: TeacherSettings | StudentSettings,
    backbone: Backbone,
    selection: Sequence[Path],
    device: torch.device,
) -> Choice:
    """By the mean accuracy, percent, on the given packs every so many epochs.

    With rule "last" only the last epoch gets a score, and no pair is looked at.

    Raises:
        InputError: a path that is no pack of pairs, packs of several sizes, pairs that no
            accuracy can be had on, or none: at once, and not after an epoch.
    """
    rule, epochs = settings.selection.rule, last_epoch(settings)
    compiled = settings.engine.compile == "auto"
    packs = [open_pack(path, "verification") for path in selection]
    if not packs and rule != "last":
        expected = f"packs of pairs, for selection.rule is {rule}"
        raise InputError("--selection", found="no packs", expected=expected)
    if packs:
        one_image_size(packs)
    for pack in packs:
        check_pairs(pack, settings.selection.folds)

    def score(epoch: int, parts: Mapping[str, float]) -> float | None:
        last = epoch + 1 == epochs
        if rule == "last":
            return 0.0 if last else None
        if not last and (epoch + 1) % settings.selection.every_epochs:
            return None
        folds = settings.selection.folds
        network = Extractor(backbone, device, settings.engine.precision, compiled=compiled)
        accuracies = [group_accuracy(network, pack, folds, device) for pack in packs]
        return sum(accuracies) / len(accuracies)

    def told(score: float) -> str:
        if rule == "last":
            return "the last epoch"
        groups = ", ".join(pack.group for pack in packs)
        pairs = "held-out pairs" if rule == "heldout" else "verification pairs"
        return f"best accuracy on the {pairs} of {groups}: {score:.2f} %"

    return Choice(score, "accuracy", told, [pack.sha256 for pack in packs])
