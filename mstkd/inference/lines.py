"""Models, thresholds and guesses as lines on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mstkd.inference.calibration import Calibration, GroupErrors, Rate
from mstkd.inference.guesses import Guess, doubt, spelt
from mstkd.inference.model import Card, Verification

UNDECIDED = "no threshold is known: mstkd calibrate sets one, or --threshold"


def card_lines(card: Card) -> list[str]:
    """What a model is, a line each."""
    told = {
        "name": f"{card.name}, {card.kind}",
        "network": card.architecture,
        "parameters": None if card.parameters is None else f"{card.parameters:,}",
        "images": f"{card.image_size} x {card.image_size} pixels, shown {spelt(card.seen)}",
        "embedding": f"{card.embedding_dim} dimensions",
        "weights": f"SHA-256 {card.sha256}",
    }
    made = {f"made from {name}": sha256 for name, sha256 in card.trained_on.items()}
    lines = {key: text for key, text in (told | made).items() if text is not None}
    width = max(map(len, lines))
    return [f"{key:<{width}}  {text}" for key, text in lines.items()]


def calibration_lines(found: Calibration) -> list[str]:
    """A threshold, and the error rates at it."""
    low, high = (f"{one:.4f}" for one in (found.threshold_low, found.threshold_high))
    lines = [
        f"threshold {found.threshold:.4f} ({low} to {high}) for an FMR of {found.target_fmr:g}, "
        f"{'with' if found.mirror else 'without'} the mirror image",
        "",
    ]
    return [*lines, *error_lines({"all": found.together, **found.groups})]


def error_lines(groups: dict[str, GroupErrors]) -> list[str]:
    """FMR and FNMR of groups at a threshold."""
    rows = [("", "FMR", "FNMR")]
    rows += [(name, _rate(one.fmr), _rate(one.fnmr)) for name, one in groups.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{name:<{widths[0]}}  {fmr:<{widths[1]}}  {fnmr}".rstrip() for name, fmr, fnmr in rows]


def verified_lines(found: Verification) -> list[str]:
    """A decision, and how often it is wrong of each group."""
    told = f"similarity {found.similarity:.4f}"
    if found.threshold is None:
        return [f"{told}; {UNDECIDED}"]
    decision = "one person" if found.same else "two people"
    than = "at least" if found.same else "below"
    lines = [f"{decision}: {told}, {than} the threshold {found.threshold:.4f}"]
    return [*lines, "", *error_lines(found.errors)] if found.errors else lines


def guess_lines(guesses: Sequence[Guess]) -> list[str]:
    """Every way of showing images to a model, and whether another than the said one is better."""
    lines = ["shown               similarity  AUC"]
    for place, one in enumerate(guesses):
        auc = "" if math.isnan(one.auc) else f"{one.auc:.4f} ({one.low:.4f} to {one.high:.4f})"
        said = "  as is said" if place == 0 else ""
        lines.append(f"{spelt(one.seen):<18}  {one.similarity:10.4f}  {auc}{said}".rstrip())
    told = doubt(guesses)
    return lines if told is None else [*lines, "", f"warning: {told}"]


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return f"– ({rate.note})"
    return f"{rate.value:#.3g} ({rate.low:#.3g} to {rate.high:#.3g})"
