"""Metrics files as the rows of a table: one row a model, its seeds together.

Legend of shapes: S seeds, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from mstkd.artifacts.records import Metrics, Subject, read_record
from mstkd.config import Threshold, teachers_of
from mstkd.config.grids import split_variant, told
from mstkd.errors import InputError

Array = npt.NDArray[np.float64]

Measure = Literal["global_accuracy", "std", "ser"]
SUMMARIES: tuple[Measure, ...] = ("global_accuracy", "std", "ser")  # after the groups
SECTIONS = {
    "specialized": "Specialized",  # the paper's "Ours"
    "baseline": "Baseline",
    "single": "Controls",
    "none": "Controls",
}


def row_label(set_: str, name: str) -> str:
    """What a row is called: the model's name but for values, and words for the controls."""
    if set_ == "none":
        return "no distillation"
    return "single teacher" if (set_, name) == ("single", "direct") else split_variant(name).base


@dataclass(frozen=True)
class Row:
    """One model of the experiment, trained once for each seed."""

    subject: Subject  # of the first seed
    runs: tuple[Metrics, ...]  # one a seed
    paths: tuple[Path, ...]  # of the runs

    @property
    def section(self) -> str:
        return SECTIONS[self.subject.set]

    @property
    def label(self) -> str:
        return row_label(self.subject.set, self.subject.name)

    @property
    def variant(self) -> str:
        """The values that set the row apart where the config has lists, the teachers' first."""
        values = told(split_variant(self.subject.loss or "").values)
        if self.subject.set == "none":
            return values
        of_teachers = told(split_variant(self.subject.backbone).values)
        if self.subject.kind != "teacher" and of_teachers:
            of_teachers = f"teachers {of_teachers}"
        of_adaptor = told(split_variant(self.subject.name).values)
        parts = (of_teachers, of_adaptor and f"adaptor {of_adaptor}", values)
        return "; ".join(part for part in parts if part)

    @property
    def title(self) -> str:
        """Label and variant."""
        return f"{self.label} ({self.variant})" if self.variant else self.label

    def own_group(self, groups: Sequence[str]) -> str | None:
        """The group that a specialized teacher is of; None for any other model."""
        if (self.subject.kind, self.subject.set) != ("teacher", "specialized"):
            return None
        teachers = teachers_of("specialized", groups)
        return next((t.groups[0] for t in teachers if t.name == self.subject.name), None)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.subject.seed for run in self.runs)

    def scores(self, groups: Sequence[str], threshold: Threshold = "own") -> Array:
        """Accuracies of `groups` (percent), global accuracy, STD, SER of every seed: (S, G + 3).

        Each group at its own threshold (the paper's protocol), or all at a shared one. SER is
        NaN where it is undefined: where the best group has no error.
        """
        scores = []
        for run in self.runs:
            fairness = run.own_threshold if threshold == "own" else run.shared_threshold
            ser = np.nan if fairness.ser is None or np.isinf(fairness.ser) else fairness.ser
            std = np.nan if fairness.std is None else fairness.std
            accuracies = [fairness.groups[group].accuracy for group in groups]
            scores.append([*accuracies, fairness.global_accuracy, std, ser])
        return np.array(scores)


def read_rows(metrics: Sequence[Path], groups: Sequence[str] | None = None) -> list[Row]:
    """Read metrics files in the order of the rows; the seeds of one model make one row.

    Args:
        metrics: paths of metrics.json files.
        groups: the groups every file must have; those of the first file unless given.

    Raises:
        InputError: no file, a file is not a record of metrics, has other groups, or repeats a
            model and seed of an earlier file; files are of different evaluations.
    """
    if not metrics:
        raise InputError("metrics", found="no file", expected="one metrics.json or more")
    runs: dict[tuple[str | None, ...], dict[int, tuple[Metrics, Path]]] = {}
    first: tuple[Path, Metrics] | None = None
    for path in metrics:
        run = read_record(Metrics, path)
        found = tuple(run.own_threshold.groups)
        groups = found if groups is None else groups
        if set(found) != set(groups):
            raise InputError(path, found=f"groups {', '.join(found)}", expected=", ".join(groups))
        if first is not None:
            _check_evaluated_alike(path, run, *first)
        elif run.provenance is not None:
            first = path, run
        subject = run.subject
        key = (subject.kind, subject.backbone, subject.set, subject.name, subject.loss)
        seeds = runs.setdefault(key, {})
        if subject.seed in seeds:
            twin = seeds[subject.seed][1]
            named = "/".join(part for part in key if part is not None)
            raise InputError(
                path,
                found=f"{named} with seed {subject.seed}, as in {twin}",
                expected="a model and seed once",
            )
        seeds[subject.seed] = (run, path)
    return [
        Row(
            subject=next(iter(seeds.values()))[0].subject,
            runs=tuple(run for run, _ in seeds.values()),
            paths=tuple(path for _, path in seeds.values()),
        )
        for seeds in runs.values()
    ]


def _check_evaluated_alike(path: Path, run: Metrics, other: Path, first: Metrics) -> None:
    """Refuse numbers of two configs: evaluated by other settings, or on other pairs.

    Records of older versions do not say. Of two steps, what both of them read counts.
    """
    expected, found = _evaluation(first), _evaluation(run)
    if not expected or not found:
        return
    assert first.provenance is not None and run.provenance is not None, "or they would say nothing"
    if first.provenance.step != run.provenance.step:
        expected = {key: value for key, value in expected.items() if key in found}
        found = {key: value for key, value in found.items() if key in expected}
    for key in dict.fromkeys((*expected, *found)):
        was, now = (one.get(key, "nothing") for one in (expected, found))
        if was != now:
            raise InputError(
                path,
                found=f"{key}: {now}",
                expected=f"{was}, as in {other}: rows of one config (mstkd check tells them apart)",
            )


def _evaluation(run: Metrics) -> dict[str, str]:
    """What numbers of two models must share to be compared; empty where it is not known."""
    made = run.provenance
    if made is None:
        return {}
    settings = {f"evaluated by {key}": str(value) for key, value in made.settings.items()}
    # What scores fused spaces reads weights of teachers and a cache too; its packs bear their
    # groups' names.
    fused = made.step == "trace-adaptors"
    packs = {
        f"evaluated on {Path(source.path).name}": f"content {source.sha256[:12]}"
        for source in made.sources
        if (Path(source.path).stem in run.own_threshold.groups if fused else True)
        and source.sha256 != run.weights_sha256
    }
    return settings | packs


def check_comparable(rows: Sequence[Row]) -> None:
    """Refuse rows that do not belong in one table.

    The variants that a list in the config makes do. The control without distillation has no
    teachers, so its loss and backbone are its own.

    Raises:
        InputError: the rows mix kinds of models, backbones of teachers, or losses.
    """
    for key, exempt in (("kind", ()), ("backbone", ("none",)), ("loss", ("none",))):
        first = None
        for row in rows:
            if row.subject.set in exempt:
                continue
            value = getattr(row.subject, key)
            if value is not None:
                value = split_variant(value).base
            first = value if first is None else first
            if value != first:
                raise InputError(
                    row.paths[0],
                    found=f"{key} {value}",
                    expected=f"{first}, as in the other rows of the table",
                )


def by_section(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows under the label of their section; sections in order of appearance."""
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row.section, []).append(row)
    return list(sections.items())
