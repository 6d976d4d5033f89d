"""What the paper claims (section 5 and its supplement), as contrasts of an experiment's models.

The same list is made of any experiment of this workflow, and of the paper's own 40 published rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mstkd.artifacts.records import Subject
from mstkd.config import RFW, teachers_of
from mstkd.config.grids import split_variant, without_value
from mstkd.config.models import FOREIGN_SHARE
from mstkd.evaluation.claims import Cell, Claim
from mstkd.evaluation.uncertainty import GroupRates, binomial_rates

Floats = NDArray[np.float64]

# What claims are about: the paper's question, and the same at a further share of other groups.
TOPIC, DEGREE = "specialized or baseline", "degree of specialization"
SIMPLEST = "SL"  # of the adaptors (sections 5.2 and 5.3)
# RFW has 3,000 genuine and as many impostor pairs a group.
PUBLISHED_PAIRS = 6000
PUBLISHED_GROUPS = RFW
ASSUMPTION = (
    "The paper prints accuracies alone. Intervals take them for binomial proportions of "
    f"{PUBLISHED_PAIRS:,} independent pairs a group, and models for independent of each other. "
    "Pairs that share identities would widen intervals; that all models saw the same pairs would "
    "narrow those of differences."
)


@dataclass(frozen=True)
class _Model:
    """A model of the experiment, trained once for each seed."""

    subject: Subject  # of the first seed
    rows: dict[int, int]  # by seed, its place among all

    @property
    def share(self) -> float | None:
        """Of its teachers' identities, those of other groups, where the config has a list."""
        value = split_variant(self.subject.backbone).values.get(FOREIGN_SHARE)
        return None if value is None else float(value)

    @property
    def backbone(self) -> str:
        """Its teachers', or their variant; the share of other groups left out."""
        return without_value(self.subject.backbone, FOREIGN_SHARE)

    def agrees(self, other: _Model, *keys: str) -> bool:
        if "backbone" in keys and self.backbone != other.backbone:
            return False
        others = [key for key in keys if key != "backbone"]
        return all(getattr(self.subject, key) == getattr(other.subject, key) for key in others)


def paper_claims(subjects: Sequence[Subject], groups: Sequence[str]) -> list[Claim]:
    """The paper's claims, as far as there are models to judge them by.

    Where the config has lists, like is compared with like: the values of both are the same. Of
    several shares of other groups (`teachers.foreign_share`) the paper's claims are judged by the
    least, and students of each further one are compared with the baseline's.

    Args:
        subjects: of the models, in the order of their rates; adaptors have none and are left out.
        groups: names, in order.
    """
    models: dict[tuple[str | None, ...], _Model] = {}
    for row, subject in enumerate(subjects):
        key = (subject.kind, subject.backbone, subject.set, subject.name, subject.loss)
        models.setdefault(key, _Model(subject, {})).rows[subject.seed] = row
    listed = sorted({m.share for m in models.values() if m.share is not None})
    shares: list[float | None] = [*listed] or [None]
    experiments = [
        _Experiment(
            [m for m in models.values() if m.share in (None, share)],
            tuple(groups),
            len(subjects),
            share or 0.0,
        )
        for share in shares
    ]
    claims = list(experiments[0].claims())
    for further in experiments[1:]:
        claims += further.specialized_or_baseline(DEGREE)
    return [claim for claim in claims if claim.cells]


class _Experiment:
    """Models whose specialized teachers have one share of other groups."""

    def __init__(
        self, models: list[_Model], groups: tuple[str, ...], rows: int, share: float
    ) -> None:
        self._models, self._groups, self._rows, self._share = models, groups, rows, share
        students = self._of("student")
        backbones = {m.backbone for m in students if m.subject.set != "none"}
        self._several_backbones = len(backbones) > 1

    def claims(self) -> Iterator[Claim]:
        """In the order of the paper, then what its controls ask."""
        yield from self._teachers()
        yield from self.specialized_or_baseline(TOPIC)
        yield from self._simplest_adaptor()
        for set_ in ("specialized", "baseline"):
            yield Claim(
                "student or teachers",
                f"Students of {set_} teachers are ahead of the mean of their teachers",
                (self._students_and_teachers(set_),),
            )
        for set_ in ("specialized", "baseline", "single"):
            whose = "the single teacher" if set_ == "single" else f"{set_} teachers"
            yield Claim(
                "distillation",
                f"Students of {whose} are ahead of the student without distillation",
                (
                    self._pairs(
                        self._of("student", set_), self._of("student", "none"), _same_values
                    ),
                ),
            )
        for set_ in ("specialized", "baseline"):
            yield Claim(
                "single teacher",
                f"Students of several {set_} teachers are ahead of that of the single teacher",
                (
                    self._pairs(
                        self._of("student", set_),
                        self._of("student", "single"),
                        lambda one, other: one.agrees(other, "backbone", "loss"),
                    ),
                ),
            )
        yield from self._backbones()

    def specialized_or_baseline(self, topic: str) -> Iterator[Claim]:
        """The paper's question, of each loss."""
        of = f" with {100 * self._share:g} % of other groups' identities" if self._share else ""
        for loss in self._losses():
            yield Claim(
                topic,
                f"Students of specialized teachers{of} are ahead of those of baseline teachers, "
                f"{loss}",
                (
                    self._pairs(
                        self._of("student", "specialized", loss),
                        self._of("student", "baseline", loss),
                        lambda one, other: one.agrees(other, "backbone", "name", "loss"),
                    ),
                ),
            )

    def _teachers(self) -> Iterator[Claim]:
        specialized, baseline = self._of("teacher", "specialized"), self._of("teacher", "baseline")
        own = {
            teacher.name: teacher.groups[0] for teacher in teachers_of("specialized", self._groups)
        }
        leads = []
        for one, other in itertools.permutations(specialized, 2):
            group = own.get(one.subject.name)
            if group is not None and one.agrees(other, "backbone"):
                only = np.array([name == group for name in self._groups], float)
                label = f"{one.subject.name} and {other.subject.name} on {group}"
                weights = self._difference([one], [other])
                leads.append(
                    (Cell(label, {seed: row[:, None] * only for seed, row in weights.items()}),)
                )
        yield Claim(
            "teachers",
            "On its own group a specialized teacher is ahead of every other specialized teacher",
            tuple(leads),
            of_own_groups=True,
        )
        yield Claim(
            "teachers",
            "Baseline teachers are ahead of specialized teachers",
            (
                tuple(
                    Cell(backbone, self._difference(good, bad))
                    for backbone in _distinct(m.backbone for m in baseline)
                    if (good := [m for m in baseline if m.backbone == backbone])
                    and (bad := [m for m in specialized if m.backbone == backbone])
                ),
            ),
        )

    def _simplest_adaptor(self) -> Iterator[Claim]:
        students = [*self._of("student", "specialized"), *self._of("student", "baseline")]
        simplest = [m for m in students if m.subject.name == SIMPLEST]
        others = _distinct(m.subject.name for m in students if m.subject.name != SIMPLEST)
        yield Claim(
            "adaptors",
            f"Students of the adaptor {SIMPLEST} are ahead of those of every other",
            tuple(
                self._pairs(
                    simplest,
                    [m for m in students if m.subject.name == name],
                    lambda one, other: one.agrees(other, "backbone", "set", "loss"),
                )
                for name in others
            ),
        )

    def _students_and_teachers(self, set_: str) -> tuple[Cell, ...]:
        teachers = self._of("teacher", set_)
        return tuple(
            Cell(self._label(student), self._difference([student], own))
            for student in self._of("student", set_)
            if (own := [t for t in teachers if student.agrees(t, "backbone")])
        )

    def _backbones(self) -> Iterator[Claim]:
        students = [m for m in self._of("student") if m.subject.set in ("specialized", "baseline")]
        first, *rest = _distinct(m.backbone for m in students) or ("",)
        for backbone in rest:
            yield Claim(
                "teachers' backbone",
                f"Students of teachers {backbone} are not ahead of those of teachers {first}",
                (
                    self._pairs(
                        [m for m in students if m.backbone == backbone],
                        [m for m in students if m.backbone == first],
                        lambda one, other: one.agrees(other, "set", "name", "loss"),
                    ),
                ),
                better=False,
            )

    def _of(self, kind: str, set_: str | None = None, loss: str | None = None) -> list[_Model]:
        return [
            m
            for m in self._models
            if m.subject.kind == kind
            and set_ in (None, m.subject.set)
            and loss in (None, split_variant(m.subject.loss or "").base)
        ]

    def _losses(self) -> tuple[str, ...]:
        distilled = self._of("student", "specialized")
        return _distinct(split_variant(m.subject.loss or "").base for m in distilled)

    def _pairs(
        self,
        firsts: Sequence[_Model],
        seconds: Sequence[_Model],
        alike: Callable[[_Model, _Model], bool],
    ) -> tuple[Cell, ...]:
        return tuple(
            Cell(f"{self._label(one)} and {self._label(other)}", self._difference([one], [other]))
            for one, other in itertools.product(firsts, seconds)
            if alike(one, other)
        )

    def _difference(self, first: Sequence[_Model], second: Sequence[_Model]) -> dict[int, Floats]:
        """By seed, the weights (M,) of a mean less another; of each model's first without one."""
        every = (*first, *second)
        seeds = [seed for seed in first[0].rows if all(seed in m.rows for m in every)]
        weights = {}
        for seed in seeds or [first[0].subject.seed]:
            row = np.zeros(self._rows)
            for models, sign in ((first, 1), (second, -1)):
                for model in models:
                    place = model.rows[seed if seeds else model.subject.seed]
                    row[place] += sign / len(models)
            weights[seed] = row
        return weights

    def _label(self, model: _Model) -> str:
        return called(model.subject, with_backbone=self._several_backbones)


def called(subject: Subject, *, with_backbone: bool) -> str:
    """What claims and their cells call a model, whatever its seed."""
    loss = str(split_variant(subject.loss or ""))
    if subject.set == "none":
        return "no distillation" + loss.removeprefix("none")
    single = subject.set == "single" and subject.kind == "student"
    name = "single teacher" if single else f"{subject.set} {subject.name}"
    backbone = str(split_variant(subject.backbone)) if with_backbone else ""
    return ", ".join(part for part in (name, loss, backbone) if part)


def labels_of(subjects: Sequence[Subject]) -> list[str]:
    """What each of some models is called; with its backbone where teachers have several."""
    of_teachers = {subject.backbone for subject in subjects if subject.set != "none"}
    return [called(subject, with_backbone=len(of_teachers) > 1) for subject in subjects]


def _same_values(one: _Model, other: _Model) -> bool:
    """Of the values of lists, a control without distillation has the student's alone."""
    first, second = (split_variant(m.subject.loss or "").values for m in (one, other))
    return all(first[key] == second[key] for key in first.keys() & second.keys())


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


# ---------------------------------------------------------------- the published rows


def published_rows() -> pd.DataFrame:
    """The paper's Tables 1 to 6 as they are printed: a row a model, percent, two decimals."""
    with resources.files("mstkd.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def published_models() -> tuple[list[Subject], GroupRates]:
    """The models of the published rows, and their rates under `ASSUMPTION`."""
    rows = published_rows()
    subjects = _subjects(rows)
    accuracies = rows[list(PUBLISHED_GROUPS)].to_numpy(float)
    return subjects, binomial_rates(1 - accuracies / 100, np.full(4, PUBLISHED_PAIRS))


def published_scores(subject: Subject) -> dict[str, float] | None:
    """What the paper prints of a model: each group's accuracy, global accuracy, STD and SER.

    None of what it has not, a variant among others: it prints no values of lists.
    """
    rows = published_rows()
    wanted = subject.model_copy(update={"seed": 0})
    for place, published in enumerate(_subjects(rows)):
        if published == wanted:
            row = rows.iloc[place].rename({"global_acc": "global_accuracy"})
            measures = (*PUBLISHED_GROUPS, "global_accuracy", "std", "ser")
            return {name: float(row[name]) for name in measures}
    return None


def _subjects(rows: pd.DataFrame) -> list[Subject]:
    # T-Af is the teacher of African faces.
    teachers = {f"T-{group[:2]}": f"T-{group}" for group in PUBLISHED_GROUPS}
    return [
        Subject(
            kind="teacher" if row["kind"] == "teacher" else "student",
            backbone=row["teacher_backbone"],
            set=row["teacher_set"],
            name=teachers.get(row["name"], row["name"]),
            loss=None if row["kind"] == "teacher" else row["kind"],
            seed=0,
        )
        for row in rows.to_dict("records")
    ]


def published_effects() -> dict[str, float]:
    """What section 5.3 names: the linear adaptor's students of IResNet-34 teachers, EAF-KD.

    Specialized less baseline, percentage points of accuracy and STD: 1.36 against 1.54.
    """
    rows = published_rows()
    named = (rows["name"] == SIMPLEST) & (rows["kind"] == "EAF-KD")
    named &= rows["teacher_backbone"] == "iresnet34"
    values = rows[named].set_index("teacher_set")[["global_acc", "std", "ser"]].to_dict("index")
    ours, theirs = values["specialized"], values["baseline"]
    columns = {"global_accuracy": "global_acc", "std": "std", "ser": "ser"}
    return {name: float(ours[column] - theirs[column]) for name, column in columns.items()}
