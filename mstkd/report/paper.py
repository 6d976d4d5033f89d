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
from mstkd.config.grids import names_of, split_variant, without_value
from mstkd.config.models import FOREIGN_SHARE, FUSED, SETS, TeacherSet, taught_by
from mstkd.evaluation.claims import Cell, Claim
from mstkd.evaluation.uncertainty import GroupRates, binomial_rates

Floats = NDArray[np.float64]

# What claims are about: the paper's question, and the same at a further share of other groups;
# and what subsets of the teachers ask.
TOPIC, DEGREE = "specialized or baseline", "degree of specialization"
OWN_TEACHER, TEACHERS = "own teacher", "number of teachers"
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

    @property
    def fused(self) -> tuple[str, ...] | None:
        """The groups whose teachers are fused, where the config has lists of them."""
        return fused_of(self.subject)

    @property
    def adaptor(self) -> str:
        """Its adaptor; the groups whose teachers are fused left out."""
        return without_value(self.subject.name, FUSED)

    def agrees(self, other: _Model, *keys: str) -> bool:
        if "backbone" in keys and self.backbone != other.backbone:
            return False
        others = [key for key in keys if key != "backbone"]
        return all(getattr(self.subject, key) == getattr(other.subject, key) for key in others)


def paper_claims(subjects: Sequence[Subject], groups: Sequence[str]) -> list[Claim]:
    """The paper's claims, as far as there are models to judge them by.

    Where the config has lists, like is compared with like: the values of both are the same. Of
    several shares of other groups (`teachers.foreign_share`) the paper's claims are judged by the
    least, and students of each further one are compared with the baseline's. Of several subsets of
    the teachers (`adaptors.fused`) they are judged by those of the most; then students of all
    subsets are compared with each other.

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
    most = max((len(m.fused) for m in models.values() if m.fused is not None), default=0)

    def experiment(share: float | None, *, subsets: bool = False) -> _Experiment:
        chosen = [
            m
            for m in models.values()
            if m.share in (None, share) and (subsets or len(m.fused or ()) in (0, most))
        ]
        return _Experiment(chosen, tuple(groups), len(subjects), share or 0.0)

    claims = list(experiment(shares[0]).claims())
    for further in shares[1:]:
        claims += experiment(further).specialized_or_baseline(DEGREE)
    claims += experiment(shares[0], subsets=True).of_subsets()
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
        for set_ in SETS:
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

    def of_subsets(self) -> Iterator[Claim]:
        """What a group loses without its own teacher, and all without some."""
        students = [m for m in self._of("student") if m.fused is not None]
        alike: dict[tuple[str, ...], list[_Model]] = {}
        for one in students:
            key = (one.subject.set, one.adaptor, one.subject.loss or "", one.backbone)
            alike.setdefault(key, []).append(one)
        added: list[Cell] = []
        among: list[Cell] = []
        for own in alike.values():
            if own[0].subject.set == "specialized":
                added += self._own_teacher_added(own)
                among += self._own_teacher_among(own)
        yield Claim(
            OWN_TEACHER,
            "On a group, students of its own teacher and others are ahead of those of these others",
            (tuple(added),),
            of_own_groups=True,
        )
        yield Claim(
            OWN_TEACHER,
            "On a group, students of its own teacher and others are ahead of those of as many "
            "others",
            (tuple(among),),
            of_own_groups=True,
        )
        counts = sorted({len(one.fused or ()) for one in students}, reverse=True)
        for more, fewer in itertools.pairwise(counts):
            cells = []
            for own in alike.values():
                of_more, of_fewer = (
                    [one for one in own if len(one.fused or ()) == count] for count in (more, fewer)
                )
                if of_more and of_fewer:
                    label = f"{self._label_of_all(own[0])}, {more} and {fewer}"
                    cells.append(Cell(label, self._difference(of_more, of_fewer)))
            noun = "teacher" if fewer == 1 else "teachers"
            yield Claim(
                TEACHERS,
                f"Students of {more} teachers are ahead of those of {fewer} {noun}",
                (tuple(cells),),
            )

    def _own_teacher_added(self, students: Sequence[_Model]) -> Iterator[Cell]:
        """A subset with a group's teacher less the same without, on that group."""
        by_subset = {frozenset(one.fused or ()): one for one in students}
        for subset, one in by_subset.items():
            for group in self._groups:
                rest = by_subset.get(subset - {group})
                if group in subset and rest is not None:
                    label = f"{self._label(one)} and without {group}, on {group}"
                    yield self._on(group, label, [one], [rest])

    def _own_teacher_among(self, students: Sequence[_Model]) -> Iterator[Cell]:
        """Subsets with a group's teacher less those of as many without, on that group."""
        for count in dict.fromkeys(len(one.fused or ()) for one in students):
            of_count = [one for one in students if len(one.fused or ()) == count]
            for group in self._groups:
                there = [one for one in of_count if group in (one.fused or ())]
                others = [one for one in of_count if group not in (one.fused or ())]
                if there and others:
                    label = f"{self._label_of_all(students[0])}, of {count} with {group} or without"
                    yield self._on(group, f"{label}, on {group}", there, others)

    def _on(
        self, group: str, label: str, first: Sequence[_Model], second: Sequence[_Model]
    ) -> Cell:
        """A difference on one group alone."""
        only = np.array([name == group for name in self._groups], float)
        weights = self._difference(first, second)
        return Cell(label, {seed: row[:, None] * only for seed, row in weights.items()})

    def _teachers(self) -> Iterator[Claim]:
        specialized, baseline = self._of("teacher", "specialized"), self._of("teacher", "baseline")
        own = {
            teacher.name: teacher.groups[0] for teacher in teachers_of("specialized", self._groups)
        }
        leads = []
        for one, other in itertools.permutations(specialized, 2):
            group = own.get(one.subject.name)
            if group is not None and one.agrees(other, "backbone"):
                label = f"{one.subject.name} and {other.subject.name} on {group}"
                leads.append((self._on(group, label, [one], [other]),))
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
        simplest = [m for m in students if split_variant(m.subject.name).base == SIMPLEST]
        names = _distinct(split_variant(m.subject.name).base for m in students)
        others = [name for name in names if name != SIMPLEST]
        yield Claim(
            "adaptors",
            f"Students of the adaptor {SIMPLEST} are ahead of those of every other",
            tuple(
                self._pairs(
                    simplest,
                    [m for m in students if split_variant(m.subject.name).base == name],
                    lambda one, other: (
                        one.agrees(other, "backbone", "set", "loss")
                        and split_variant(one.subject.name).values
                        == split_variant(other.subject.name).values
                    ),
                )
                for name in others
            ),
        )

    def _students_and_teachers(self, set_: TeacherSet) -> tuple[Cell, ...]:
        teachers = self._of("teacher", set_)

        def taught(student: _Model, teacher: _Model) -> bool:
            names = [one.name for one in taught_by(set_, self._groups, student.fused)]
            fused = student.fused is None or teacher.subject.name in names
            return student.agrees(teacher, "backbone") and fused

        return tuple(
            Cell(self._label(student), self._difference([student], own))
            for student in self._of("student", set_)
            if (own := [one for one in teachers if taught(student, one)])
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

    def _label_of_all(self, model: _Model) -> str:
        """Of the students that differ from one in their teachers alone."""
        every = model.subject.model_copy(update={"name": model.adaptor})
        return called(every, with_backbone=self._several_backbones)


def fused_of(subject: Subject) -> tuple[str, ...] | None:
    """The groups whose teachers a student's adaptor fuses, where the config has lists of them."""
    value = split_variant(subject.name).values.get(FUSED)
    return None if value is None else names_of(value)


def called(subject: Subject, *, with_backbone: bool) -> str:
    """What claims and their cells call a model, whatever its seed."""
    loss = str(split_variant(subject.loss or ""))
    if subject.set == "none":
        return "no distillation" + loss.removeprefix("none")
    single = subject.set == "single" and subject.kind == "student"
    name = "single teacher" if single else f"{subject.set} {split_variant(subject.name)}"
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
