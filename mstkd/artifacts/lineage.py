"""From a result back to the data: what made it, what made that, and whether the files are the same.

The command `mstkd provenance`. It goes up as far as the files are there and are those that were
read; of a file that is gone or has changed only the hash is known.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py

from mstkd.artifacts.contents import content_sha256
from mstkd.artifacts.records import Provenance, Record, SealedRecord, Source, Subject
from mstkd.artifacts.told import KNOWN, Told, told_by
from mstkd.errors import InputError

State = Literal["as it was", "changed", "gone", "no record"]
# How much of a file was compared: of packs and caches that are not asked for themselves all but the
# images and embeddings.
Extent = Literal["all", "all but what is large", "nothing"]
DIGITS = 12  # of a hash, as people see it


class Read(Record):
    """A file that a result was made from, and what has become of it."""

    path: str
    sha256: str  # when it was read
    state: State


class Result(Record):
    """One file of the chain."""

    path: str
    step: str
    settings: dict[str, Any]
    subject: Subject | None  # of models and their scores
    package_version: str
    sha256: str  # now; of packs and caches the hash of content that they carry
    unchanged: bool | None  # since it was written; None where it holds no hash of itself
    read: Extent  # of it, to see that
    sources: list[Read]


class Lineage(SealedRecord):
    """A result and all that it was made from, the nearest first."""

    format: Literal["mstkd-lineage"] = "mstkd-lineage"
    results: list[Result]
    provenance: Provenance | None = None  # of a file of it


def lineage(path: Path) -> Lineage:
    """The chain above a result.

    Raises:
        InputError: no such file, not a result of mstkd, or one that says nothing of itself.
    """
    if not path.is_file():
        raise InputError(path, found="no such file", expected=KNOWN)
    found = told_by(path, large=True)
    if found is None:
        raise InputError(path, found="no record of what made it", expected=KNOWN)
    # A file may be a source of many, and weights are large.
    content = functools.cache(content_sha256)
    results: dict[Path, Result] = {}
    waiting = {path: found}
    while waiting:
        here, found = next(iter(waiting.items()))
        del waiting[here]
        made, unchanged, subject, _ = found
        large = here != path and h5py.is_hdf5(here)
        sources = []
        for source in made.sources:
            file = Path(os.path.normpath(here.parent / source.path))
            state, above = _compare(file, source, content)
            sources.append(Read(path=str(file), sha256=source.sha256, state=state))
            if above is not None and file not in results and file != here:
                waiting[file] = above
        results[here] = Result(
            path=str(here),
            step=made.step,
            settings=made.settings,
            subject=subject,
            package_version=made.package_version,
            sha256=content(here),
            unchanged=unchanged,
            read="nothing" if unchanged is None else "all but what is large" if large else "all",
            sources=sources,
        )
    return Lineage(results=list(results.values()))


def _compare(
    file: Path, source: Source, content: Callable[[Path], str]
) -> tuple[State, Told | None]:
    if not file.is_file():
        return "gone", None
    if content(file) != source.sha256:
        return "changed", None
    try:
        above = told_by(file)
    except InputError:
        above = None
    if above is not None and above.unchanged is False and h5py.is_hdf5(file):
        return "changed", None  # though it carries the hash that it had
    return ("no record" if above is None else "as it was"), above


# ---------------------------------------------------------------- as people read it


def lineage_lines(told: Lineage) -> list[str]:
    """The chain in short: the file itself, then each step above it with its settings once."""
    own, *above = told.results
    lines = [own.path, f"  made by   {own.step} of mstkd {own.package_version}"]
    if own.subject is not None:
        lines.append(f"  is of     {_named(own.subject)}")
    lines.append(f"  settings  {_json(own.settings)}")
    words = {
        None: "not known: it holds no hash of itself",
        True: "yes: all of it was read and compared",
        False: "NO, it was edited or damaged",
    }
    lines.append(f"  unchanged {words[own.unchanged]}")
    lines.append(f"  sha256    {own.sha256}")
    if own.sources:
        lines.append("  made from")
    elif own.step.startswith("pack-"):
        lines.append("  made from files outside, see root in the settings")
    else:
        lines.append("  made from files that are not recorded")
    lines += [f"    {read.sha256[:DIGITS]}  {read.path}" for read in own.sources]
    every = [read for result in told.results for read in result.sources]
    if above:
        hashes = {read.path: read.sha256 for read in every}
        lines += ["", "and that, up to the data, by", *_steps(above, hashes)]
    if any(result.read == "all but what is large" for result in above):
        compared = "Of packs and caches above, all but images and embeddings was read and compared;"
        lines += ["", f"{compared} asked for by name, a file is read whole."]
    for state, heading in (
        ("gone", "GONE, with all that is known above it:"),
        ("changed", "CHANGED since it was read, so nothing above it is told:"),
        ("no record", "without a record of what made it:"),
    ):
        names = dict.fromkeys(read.path for read in every if read.state == state)
        if names:
            lines += ["", heading, *(f"  {name}" for name in names)]
    edited = [result.path for result in above if result.unchanged is False]
    if edited:
        lines += ["", "EDITED since it was written:", *(f"  {name}" for name in edited)]
    return lines


def _steps(results: list[Result], hashes: Mapping[str, str]) -> Iterator[str]:
    """A paragraph a step and version: how many results, of which seeds, by which settings."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        alike.setdefault((result.step, result.package_version), []).append(result)
    for (step, version), members in alike.items():
        # Weights, record and history are one result.
        count = len({one.path if one.subject is None else str(one.subject) for one in members})
        seeds = sorted({one.subject.seed for one in members if one.subject is not None})
        of_seeds = f", seed {', '.join(map(str, seeds))}" if seeds else ""
        yield f"  {step} of mstkd {version}: {count} result{'s' if count > 1 else ''}{of_seeds}"
        yield from (f"    {line}" for line in _in_common([one.settings for one in members]))
        if step.startswith("pack-"):
            yield from (f"    {hashes[one.path][:DIGITS]}  {one.path}" for one in members)


def _in_common(settings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What all settings share as a line of JSON, then a line for each key in which they differ."""
    keys = dict.fromkeys(key for one in settings for key in one)
    texts = {
        key: dict.fromkeys(_json(one[key]) if key in one else "nothing" for one in settings)
        for key in keys
    }
    same = {key: json.loads(next(iter(told))) for key, told in texts.items() if len(told) == 1}
    if same:
        yield _json(same)
    for key, told in texts.items():
        if len(told) > 1:
            yield f"{key}: {'  or  '.join(told)}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _named(subject: Subject) -> str:
    parts = (subject.backbone, subject.set, subject.name, subject.loss)
    return f"{subject.kind} {'/'.join(part for part in parts if part)}, seed {subject.seed}"
