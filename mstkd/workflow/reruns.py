"""What Snakemake is told when it asks whether a finished job must run again.

Snakemake remembers the parameters, inputs and commands of finished jobs in `.snakemake`, beside the
results and not in them: the memory is lost when results are copied, and wrong when jobs outlive
the Snakemake that started them. So for jobs of `mstkd` the question is passed on to the results,
each of which holds what made it (`artifacts.standing`). Times of files are still Snakemake's own.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake.common import __version__ as snakemake_version
from snakemake.persistence import ParamsChange, PersistenceBase

from mstkd.artifacts.records import Record, read_record
from mstkd.artifacts.sources import IMPORTING, PACKING, compared, descent
from mstkd.artifacts.standing import (
    CURRENT,
    Asked,
    Contents,
    Standing,
    State,
    standing,
    weights_of,
)
from mstkd.config import PackSettings, PackUnlabelledSettings
from mstkd.data.watched import Listing, Noted, drawn_folders, listing, listing_path, watched
from mstkd.errors import InputError

COMMAND = re.compile(r"mstkd --log \{log:q\} ([a-z-]+)")
# Inputs that a step waits for and does not read, or reads as a part of another.
WAITED_FOR = ("index", "record")
# Wildcards that say which model an output is of, and what its record calls them.
SUBJECT = {
    "backbone": "backbone",
    "set": "set",
    "teacher": "name",
    "adaptor": "name",
    "loss": "loss",
    "seed": "seed",
}
STANDINGS = "MSTKD_STANDINGS"
# Methods of Snakemake's inner interface that are replaced, as 9.17 to 9.27 have them: of other
# versions nobody has promised that they are there, or asked.
REPLACED = (
    "has_metadata",
    "has_outdated_metadata",
    "params_changed",
    "code_changed",
    "input_changed",
    "software_stack_changed",
    "incomplete",
)


class Difference(ParamsChange):  # type: ignore[misc]  # snakemake is not typed
    """Why a job must run again, where Snakemake expects changed parameters."""

    def __init__(self, found: Standing, output: str) -> None:
        super().__init__(only_old={found.why}, only_new={found.why}, files={output})

    def __str__(self) -> str:
        return ", ".join(sorted(self.only_old))


@functools.cache
def _step(command: str) -> str | None:
    """The step that a rule's command calls; None for commands that are not ours."""
    found = COMMAND.search(command)
    return None if found is None else found[1]


def is_ours(job: Any) -> bool:
    """Whether a job is one of `mstkd`, whose outputs say themselves what made them."""
    return _step(job.rule.shellcmd or "") is not None


def asked(
    job: Any, descent_of: Callable[[str], str | None] | None = None
) -> Iterator[tuple[str, Asked]]:
    """Each output of a job that is ours, and what its record should say."""
    step = _step(job.rule.shellcmd)
    assert step is not None, "one of ours"
    settings = _settings(job)
    read = {
        name: [paths] if isinstance(paths, str) else list(paths)
        for name, paths in job.input._allitems()
        if name not in WAITED_FOR
    }
    if step.startswith(IMPORTING):
        checkpoint = weights_of(Path(_param(job, "checkpoint")))
        read["checkpoint"] = [os.path.relpath(checkpoint)]  # as records have it, from the results
    subject = _subject(job.wildcards)
    if step == "train-students":
        yield from _of_each_student(job, settings["students"], read, subject, descent_of)
        return
    what = Asked(step, settings, list(read.values()), subject, descent_of)
    for output in job.output:
        yield output, what


_parsed = functools.cache(json.loads)  # few texts, of thousands of jobs


def _settings(job: Any) -> Any:
    return _parsed(_param(job, "settings") or "{}")


def _param(job: Any, name: str) -> str:
    """One param alone: for all of them, Snakemake works out the job's resources too."""
    text = getattr(job.rule.params, name, "")
    return text(job.wildcards) if callable(text) else text


def _of_each_student(
    job: Any,
    students: Sequence[Mapping[str, Any]],
    read: dict[str, Any],
    subject: dict[str, str],
    descent_of: Callable[[str], str | None] | None,
) -> Iterator[tuple[str, Asked]]:
    """Each of them says that it was trained alone: what it is does not hang on the others."""
    adaptors = dict.fromkeys(student["adaptor"] for student in students)
    file_of = dict(zip(adaptors, read.pop("adaptors"), strict=True))
    for student, output in zip(students, job.output.models, strict=True):
        who = {**subject, "name": student["adaptor"], "loss": student["loss"]}
        files = [*read.values(), [file_of[student["adaptor"]]]]
        yield output, Asked("train-student", student["settings"], files, who, descent_of)


def _subject(wildcards: Any) -> dict[str, str]:
    return {SUBJECT[name]: value for name, value in wildcards.items() if name in SUBJECT}


def _places(output: str, what: Asked) -> tuple[Path, ...] | None:
    """The files outside that a result is made from; None where it is made from results."""
    if what.step == "synthesize":
        return tuple(drawn_folders(Path(output)))
    if not what.step.startswith(PACKING):
        return None
    kind = PackUnlabelledSettings if what.step == "pack-unlabelled" else PackSettings
    return tuple(watched(kind.model_validate(what.settings)))


class JobStanding(Record):
    """One job of the workflow, for `mstkd check`."""

    rule: str
    outputs: list[str]
    state: State
    why: str
    runs: bool  # whether the plain command would run it now


class JobStandings(Record):
    """All jobs that the config asks for."""

    jobs: list[JobStanding]


class Reruns:
    """Answers, each worked out once: Snakemake asks for a job several times."""

    def __init__(self) -> None:
        self._contents = Contents()
        self._known: dict[Any, Standing] = {}
        self._descents: dict[str, str | None] = {}
        self._listings: dict[tuple[Path, ...], Listing] = {}

    def of(self, job: Any) -> Standing | None:
        """How a job's outputs stand; None for jobs that are not of `mstkd`."""
        if not is_ours(job):
            return None
        if job not in self._known:
            # What is missing may not be needed; beside it, what is there may be of another config.
            descent_of = functools.partial(self._descent_below, job)
            found = [self._standing(output, what) for output, what in asked(job, descent_of)]
            found.sort(key=lambda one: ("damaged", "stale", "missing", "current").index(one.state))
            self._known[job] = found[0]
        return self._known[job]

    def _descent_below(self, job: Any, path: str) -> str | None:
        """What the config asks of a file that a job reads, and of all that that is made from."""
        if path not in self._descents:
            self._descents[path] = self._descent(job, path)
        return self._descents[path]

    def _descent(self, job: Any, path: str) -> str | None:
        makers = (
            maker
            for maker, made in job.dag.dependencies[job].items()
            if path in map(os.path.normpath, made)
        )
        maker = next(makers, None)
        if maker is None:  # a model that somebody has
            return next(iter(self._contents.descents_of(path)), self._contents.of_given(path))
        if not is_ours(maker):
            return None
        what = next((what for out, what in asked(maker) if os.path.normpath(out) == path), None)
        if what is None:
            return None
        places = _places(path, what)
        if places is not None:
            return self._contents.of(path) or self._content_of_gone(path, what, places)
        read = [os.path.normpath(one) for kind in what.read for one in kind]
        folder = Path(path).parent
        sources = {Path(os.path.relpath(one, folder)).as_posix(): one for one in read}
        above = {name: self._descent_below(maker, one) for name, one in sources.items()}
        known = {name: one for name, one in above.items() if one is not None}
        return descent(what.step, compared(what.settings), known) if known == above else None

    def _content_of_gone(self, path: str, what: Asked, places: tuple[Path, ...]) -> str | None:
        """The content of a pack that was deleted, if it would be made of the same as it was."""
        try:
            before = read_record(Noted, listing_path(Path(path)))
        except InputError:
            return None
        same = before.asked == descent(what.step, compared(what.settings), {})
        return before.content if same and before.is_of(self._listing(places)) else None

    def _standing(self, output: str, what: Asked) -> Standing:
        found = standing(output, what, self._contents)
        places = _places(output, what)
        if found.state != "current" or places is None:
            return found
        noted = listing_path(Path(output))
        try:
            before = read_record(Noted, noted)
        except InputError:
            return Standing("stale", f"{noted} does not say what it was made from")
        now = self._listing(places)
        if before.is_of(now):
            return CURRENT
        told = f"{before.files:,} files then, {now.files:,} now"
        return Standing("stale", f"files of {', '.join(map(str, places))} changed: {told}")

    def _listing(self, places: tuple[Path, ...]) -> Listing:
        if places not in self._listings:
            self._listings[places] = listing(list(places))
        return self._listings[places]


def answer_from_records(workflow: Any) -> None:
    """Make this process's Snakemake ask the results, for jobs of `mstkd`.

    Where the environment names a file in `STANDINGS`, it is written at the end (see `check`).

    Raises:
        InputError: this Snakemake does not ask as those versions do for which this is written.
    """
    _check_interface(PersistenceBase)
    reruns = Reruns()
    if STANDINGS in os.environ:
        path = Path(os.environ[STANDINGS]).absolute()
        atexit.register(_write, workflow, reruns, path, Path.cwd())
    own = {name: getattr(PersistenceBase, name) for name in REPLACED}

    def params_changed(self: Any, job: Any, file: Any = None) -> Any:
        found = reruns.of(job)
        if found is None:
            return own["params_changed"](self, job, file)
        if found.state in ("current", "missing"):
            return ParamsChange()
        return Difference(found, job.output[0])

    def with_answer(name: str, answer: Any) -> Any:
        def method(self: Any, job: Any, file: Any = None) -> Any:
            if is_ours(job):
                return answer
            return own[name](self, job) if file is None else own[name](self, job, file)

        return method

    async def incomplete(self: Any, job: Any) -> list[Any]:
        # An output is whole, or not there; that of another run is told by its record.
        return [] if is_ours(job) else await own["incomplete"](self, job)

    PersistenceBase.params_changed = params_changed
    PersistenceBase.incomplete = incomplete
    PersistenceBase.has_metadata = with_answer("has_metadata", True)
    PersistenceBase.has_outdated_metadata = with_answer("has_outdated_metadata", False)
    PersistenceBase.code_changed = with_answer("code_changed", ())
    PersistenceBase.input_changed = with_answer("input_changed", ())
    PersistenceBase.software_stack_changed = with_answer("software_stack_changed", ())


def _check_interface(persistence: type) -> None:
    """Refuse a Snakemake whose answers would be replaced in vain: then stale results would stay."""
    for name in REPLACED:
        method = getattr(persistence, name, None)
        given = list(inspect.signature(method).parameters)[:2] if callable(method) else []
        below: list[type] = persistence.__subclasses__()
        others = [kind.__name__ for kind in below if name in vars(kind)]
        if given != ["self", "job"] or others:
            found = f"a method of ({', '.join(given)})" if given else "no such method"
            raise InputError(
                f"snakemake {snakemake_version}: {persistence.__name__}.{name}",
                found=f"another in {others[0]}" if others else found,
                expected="one that is asked with (self, job), as snakemake 9.17 to 9.27 has it",
            )


def _write(workflow: Any, reruns: Reruns, path: Path, folder: Path) -> None:
    jobs = []
    # Snakemake, which has left the folder of `--directory`, asked for none that must run anyway.
    os.chdir(folder)
    for job in workflow.dag.jobs:
        found = reruns.of(job)
        if found is not None:
            told = JobStanding(
                rule=job.rule.name,
                outputs=list(map(str, job.output)),
                state=found.state,
                why=found.why,
                runs=workflow.dag.needrun(job),
            )
            jobs.append(told)
    JobStandings(jobs=jobs).write(path)
