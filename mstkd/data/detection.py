"""Landmarks for images that come without any, by a detector that a plug-in brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mstkd.config.data import Suffixes
from mstkd.data.decode import BadImage, decode, formats_of
from mstkd.data.formats.landmarks import load_detector, write_landmarks_csv
from mstkd.data.formats.layouts import verification_folder
from mstkd.data.formats.listing import read_unlabelled
from mstkd.data.sources import Points
from mstkd.progress import progress


def detect_landmarks(
    root: Path, *, detector: str, output: Path, more: Suffixes = None
) -> list[str]:
    """Write the landmarks CSV of every image below a folder.

    Args:
        root: the folder; an image is called by its path from there, `<group>/<identity>/<image>`
            in a training folder, and below `data` in a folder of RFW's layout.
        detector: name of an installed plug-in, an entry point of the group `mstkd.detectors`.
        output: the CSV.
        more: further endings of images.

    Returns:
        The images that cannot be read, or in which no face was found: they are not in the CSV.

    Raises:
        InputError: no such plug-in, no images, or no face in any of them.
    """
    find = load_detector(detector)
    images = read_unlabelled(root, more)
    formats = formats_of(more)
    layout = verification_folder(root)
    in_rfw = (layout / "data").is_dir() and (layout / "txts").is_dir()
    above = f"{(layout / 'data').relative_to(root).as_posix()}/" if in_rfw else ""
    missed: list[str] = []

    def rows() -> Iterator[tuple[str, Points]]:
        with progress("detect landmarks", len(images), "images") as advance:
            for image in images:
                try:
                    points = find(decode(image.source, formats=formats))
                except BadImage:
                    points = None
                name = image.name.removeprefix(above)
                if points is None:
                    missed.append(name)
                else:
                    yield name, points
                advance(1)

    write_landmarks_csv(output, rows())
    return missed
