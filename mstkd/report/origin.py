"""Where the numbers of a report come from, in words; `mstkd provenance` tells it file by file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mstkd.artifacts.records import Subject
from mstkd.config import read_config
from mstkd.config.results import GivenTeachers
from mstkd.report.answer import listed
from mstkd.report.claims import Claims

RULES = {
    "test": "best on the verification pairs that the tables are made of, as in the paper",
    "heldout": "best on pairs of training identities that were kept out of training",
    "last": "the last; no pair was looked at",
}


def origin(
    claims: Claims, config: Path | None, given: GivenTeachers | None = None
) -> list[tuple[str, str]]:
    """What a person asks of numbers, and the answers.

    Args:
        claims: what the page tells.
        config: the file of the whole config, where it is known.
        given: the teachers that were not trained here.

    Raises:
        InputError: the file is no config.
    """
    subjects = [model.subject for model in claims.models if model.threshold == "own"]
    kinds = Counter(
        f"{'given' if _is_given(one, given or {}) else 'trained'} {one.kind}" for one in subjects
    )
    models = listed(
        [
            f"{kinds[kind]:,} {kind}{'' if kinds[kind] == 1 else 's'}"
            for kind in sorted(kinds, key=lambda kind: kind.split()[::-1])
        ]
    )
    told = [
        ("Models", f"{models}, {_seeds(claims)}."),
        (
            "Scored on",
            f"{claims.pairs:,} pairs of {claims.identities:,} identities in {claims.folds} folds; "
            f"groups {', '.join(claims.groups)}.",
        ),
    ]
    if config is not None:
        told += _of_config(config)
    told += [
        ("Noise of STD and SER", f"{claims.draws:,} draws, whose seed is fixed."),
        (
            "File by file",
            "“mstkd provenance report.html” names the version, settings and content hash behind "
            "each file, back to the packs of images; provenance.html beside this page holds the "
            "same. The same config and data give this page again, byte for byte.",
        ),
    ]
    return told


def _is_given(subject: Subject, given: GivenTeachers) -> bool:
    return subject.kind == "teacher" and subject.name in given.get(subject.set, ())


def _seeds(claims: Claims) -> str:
    return f"seed{'' if len(claims.seeds) == 1 else 's'} {', '.join(map(str, claims.seeds))}"


def _of_config(path: Path) -> list[tuple[str, str]]:
    config = read_config(path)
    drawn = config.data.synthetic
    data = (
        "Images that config.yaml beside this page names; the data report says what was found."
        if drawn is None
        else f"Faces drawn by this program, {drawn.identities} identities a group with "
        f"{drawn.images_per_identity} images each, seed {drawn.seed}."
    )
    shares = [f"{100 * one.share:g} % of {name}" for name, one in config.data.sources().items()]
    if len(shares) > 1:
        data += f" Of the identities trained on, {listed(shares)}."
    students = ", ".join(map(str, config.students.values("backbone")))
    networks = (
        f"Teachers {', '.join(config.teachers.backbones)}, students {students}, of "
        f"{config.embedding_dim} dimensions; "
        f"adaptors {', '.join(config.adaptors.architectures)}; losses "
        f"{', '.join(config.students.losses)}."
    )
    epochs = "; ".join(
        f"of {name}, {RULES[section.selection.rule]}"
        for name, section in (("teachers", config.teachers), ("students", config.students))
    )
    tested = config.evaluation.pairs == "verification"
    return [
        ("Data", data),
        ("Networks", networks),
        ("Which epoch was kept", f"{epochs[0].upper()}{epochs[1:]}."),
        *([] if tested else [("Tested on", "Pairs of training identities that were kept out.")]),
    ]
