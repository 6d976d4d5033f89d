"""The files outside of the results that packs are made from: whether they are what was packed.

A pack is made from up to a million images, too many to hash at every start. So their listing is
compared, names, sizes and times, which takes seconds; where it differs the pack is made anew, and
where its pixels are equal nothing behind it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from mstkd.artifacts.contents import content_sha256
from mstkd.artifacts.records import Record
from mstkd.artifacts.sources import compared, descent, given
from mstkd.config import PackSettings, PackUnlabelledSettings
from mstkd.data.formats.bins import group_bins
from mstkd.data.formats.layouts import leads_to_folder, verification_folder
from mstkd.data.formats.recordio import beside

PARTS = (".idx", ".lst")  # files beside a .rec that say what its records are


class Listing(Record):
    """What lay at some places: a hash of the names, sizes and times of all files."""

    files: int
    sha256: str


class Noted(Listing):
    """What lay where a pack was made from, and what became of it; older versions: that alone."""

    asked: str | None = None  # of the pack, as `sources.descent` says it
    content: str | None = None  # of the pack

    def is_of(self, now: Listing) -> bool:
        """Whether the same lies there now."""
        return (self.files, self.sha256) == (now.files, now.sha256)


def listing_path(output: Path) -> Path:
    """Where the listing of the files that a result was made from lies.

    Of packs not in their folder, which people delete whole to make room: it says what they held.
    """
    folder = output.parent
    for packs in (folder, folder.parent):
        if packs.name == "packs":
            own = packs.with_name(".packs") / folder.relative_to(packs)
            return own / f"{output.name}.files.json"
    return output.with_name(f".{output.name}.files.json")


def watched(settings: PackSettings | PackUnlabelledSettings) -> list[Path]:
    """The files and folders that a packing step reads images, lists and landmarks from."""
    if isinstance(settings, PackUnlabelledSettings):
        places = [settings.root]
    else:
        every = settings.of_sources().values() or [settings]
        places = [place for one in every for place in (*_images(one), one.groups) if place]
        if settings.exclude is not None:
            places.append(settings.exclude)
    if settings.alignment is not None and settings.alignment.landmarks != "rfw":
        places.append(Path(settings.alignment.landmarks))
    return list(dict.fromkeys(places))


def drawn_folders(index: Path) -> list[Path]:
    """The folders of the faces that `synthesize` drew."""
    return [index.parent / part for part in ("train", "verification")]


def _images(settings: PackSettings) -> list[Path]:
    root, group = settings.root, settings.group
    assert isinstance(root, Path), "of one source"
    kind = root.suffix.lower()
    if kind == ".rec":
        return [root, *(beside(root, suffix) for suffix in PARTS)]
    if kind == ".csv":
        return [root.parent]  # a listing's images lie below its folder
    if kind == ".bin":
        return [root]
    if root.is_dir() and (binary := group_bins(root).get(group)):
        return [binary]
    in_rfw = verification_folder(root)
    parts = [in_rfw / "data" / group, in_rfw / "txts" / group]
    return parts if parts[0].is_dir() else [root / group]


def listing(places: list[Path]) -> Listing:
    """The state of files, and of all files below folders; what is not there has a state too.

    benchmarks/watching.py measures it for 1,250,000 files.
    """
    digest, count = hashlib.sha256(), 0
    for place in places:
        for line in _lines(place):
            digest.update(line)
            count += line.count(b"\n")
    return Listing(files=count, sha256=digest.hexdigest())


def _lines(place: Path) -> Iterator[bytes]:
    """A folder's files at a time, each with the size and the time of its last change."""
    try:
        found = place.stat()
    except OSError:
        yield os.fsencode(f"{place.name}\0gone\n")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield os.fsencode(f"{place.name}\0{found.st_size}\0{found.st_mtime_ns}\n")
        return
    waiting, seen = [("", str(place))], {(found.st_dev, found.st_ino)}
    while waiting:
        name, folder = waiting.pop()
        files, inner = [], []
        with os.scandir(folder) as entries:
            for entry in entries:
                below = f"{name}/{entry.name}"
                if leads_to_folder(entry):
                    if entry.is_symlink():  # which may lead back to where we are
                        target = entry.stat()
                        if (target.st_dev, target.st_ino) in seen:
                            continue
                        seen.add((target.st_dev, target.st_ino))
                    inner.append((below, entry.path))
                    continue
                try:
                    state = entry.stat()
                except OSError:  # a link that leads nowhere
                    files.append(f"{below}\0gone\n")
                else:
                    files.append(f"{below}\0{state.st_size}\0{state.st_mtime_ns}\n")
        waiting += sorted(inner, reverse=True)
        files.sort()
        yield os.fsencode("".join(files))


@contextlib.contextmanager
def noting(step: str, settings: BaseModel, output: Path) -> Iterator[None]:
    """Around a step: note beside its output what lay where it reads, or where it has drawn."""
    if step == "synthesize":
        yield
        index = output / "index.csv"
        drawn = listing(drawn_folders(index))
        Noted(**drawn.model_dump()).write(listing_path(index))
        return
    assert isinstance(settings, PackSettings | PackUnlabelledSettings)
    before = listing(watched(settings))  # before the step reads it
    listing_path(output).unlink(missing_ok=True)
    yield
    asked = descent(step, compared(given(settings)), {})
    noted = Noted(**before.model_dump(), asked=asked, content=content_sha256(output))
    noted.write(listing_path(output))
