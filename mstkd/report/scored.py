"""The models of an experiment with their scores: what metrics.json and scores.h5 beside it hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mstkd.artifacts.records import Metrics, Subject
from mstkd.config import Threshold
from mstkd.errors import InputError, anew
from mstkd.evaluation.protocol import rates_of_tables
from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.scores import ScoreTable, on_pairs_of
from mstkd.evaluation.uncertainty import GroupRates
from mstkd.report.paper import labels_of
from mstkd.report.rows import Row, read_rows

ROUNDING = 1e-6  # percentage points, of one sum taken in two orders


@dataclass(frozen=True, eq=False)
class Scored:
    """Models, each trained with one seed, on the same pairs; seeds of one stand together."""

    paths: tuple[Path, ...]  # of metrics.json
    runs: tuple[Metrics, ...]
    tables: tuple[ScoreTable, ...]  # whose columns are one another's but for the similarities

    @property
    def subjects(self) -> list[Subject]:
        return [run.subject for run in self.runs]

    @property
    def groups(self) -> tuple[str, ...]:
        return self.tables[0].groups

    @property
    def first_seeds(self) -> list[tuple[str, ScoreTable]]:
        """Of each model what it is called, and the scores of its first seed."""
        subjects = self.subjects
        return [
            (label, table)
            for label, subject, table in zip(
                labels_of(subjects), subjects, self.tables, strict=True
            )
            if subject.seed == subjects[0].seed
        ]

    @property
    def group_pairs(self) -> dict[str, int]:
        """How many pairs within each group are scored."""
        groups = self.tables[0].group1[self.tables[0].within]
        counts = np.bincount(groups, minlength=len(self.groups))
        return dict(zip(self.groups, counts.tolist(), strict=True))

    def rates(
        self, thresholds: Sequence[Threshold] = ("own", "shared")
    ) -> dict[Threshold, GroupRates]:
        """Error rates of all models with their joint covariance, at each threshold.

        Raises:
            InputError: one group or one fold only, or scores that are not those of the metrics.
        """
        if len(self.groups) < 2:
            raise InputError(self.paths[0], found="one group", expected="two groups or more")
        found: dict[Threshold, GroupRates] = {}
        for threshold in thresholds:
            try:
                found[threshold] = rates_of_tables(self.tables, threshold)
            except ValueError as error:
                scores = scores_path(self.paths[0])
                raise InputError(scores, found=str(error), expected="pairs in folds") from None
            self._check(found[threshold], threshold)
        return found

    def _check(self, rates: GroupRates, threshold: Threshold) -> None:
        """That metrics.json and scores.h5 are of one evaluation."""
        for path, run, row in zip(self.paths, self.runs, rates.rates, strict=True):
            told = run.own_threshold if threshold == "own" else run.shared_threshold
            accuracies = np.array([told.groups[group].accuracy for group in self.groups])
            if np.abs(100 * (1 - row) - accuracies).max() > ROUNDING:
                found, scores = "other accuracies than its scores have", scores_path(path)
                raise InputError(path, found=found, expected=anew(f"those of {scores}", path))


def scores_path(metrics: Path) -> Path:
    """scores.h5 beside a metrics.json."""
    return metrics.with_name("scores.h5")


def read_scored(metrics: Sequence[Path]) -> Scored:
    """Read metrics files and the scores beside them.

    Raises:
        InputError: as `read_rows` and `with_scores`.
    """
    return with_scores(read_rows(metrics))


def with_scores(rows: Sequence[Row]) -> Scored:
    """Read the scores beside rows' metrics files; of each but the first, similarities are kept.

    Raises:
        InputError: a file is missing or is not what it must be, or models were not scored on the
            same pairs.
    """
    paths = tuple(path for row in rows for path in row.paths)
    first = read_scores(scores_path(paths[0]), ours=True)
    tables = [first]
    for path in paths[1:]:
        scores = scores_path(path)
        tables.append(on_pairs_of(first, read_scores(scores, ours=True), str(scores)))
    runs = tuple(run for row in rows for run in row.runs)
    for path, run in zip(paths, runs, strict=True):
        if set(run.own_threshold.groups) != set(first.groups):
            found = f"groups {', '.join(run.own_threshold.groups)}"
            raise InputError(path, found=found, expected=", ".join(first.groups))
    return Scored(paths, runs, tuple(tables))
