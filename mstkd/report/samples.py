"""Faces of the packs, as the networks see them: aligned, in the right colours, well labelled."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.sealed import DAMAGE, OFFSETS, Pieces, Sealed, reading
from mstkd.artifacts.sources import provenance_of
from mstkd.errors import InputError
from mstkd.report.canvas import check_format, new_figure, save, without_layout
from mstkd.report.style import STYLE

Images = npt.NDArray[np.uint8]  # (N, H, W, 3)
KINDS = {"train": "Training", "verification": "Verification", "unlabelled": "Unlabelled"}

TITLE = "{} faces: a row a group, two images of each identity"
DOUBTFUL_FIRST = "; the worst landmarks at the left"
BLANK = 255  # grey level where an identity has no second image
WIDTH = 9.0  # inches
MARGIN = 0.05  # inches, above and below
GAP = 0.12  # between identities and between groups, as a share of an image


class Faces(NamedTuple):
    """Some images of a pack."""

    kind: str
    group: str
    images: Images
    doubted: bool = False  # whether those with the worst landmarks stand first


def render_samples(*, packs: Sequence[Path], output: Path, per_group: int = 12) -> None:
    """Draw sample faces: a row a group, two images of each identity.

    Args:
        packs: packs of one kind, one a group, in the order of the rows.
        output: a .png or .svg file.
        per_group: images in a row, of half as many identities.

    Raises:
        InputError: the suffix is unknown, or a file is not a pack.
    """
    check_format(output)
    if not packs:
        raise InputError("packs", found="no file", expected="one pack or more")
    rows = [read_faces(path, count=per_group) for path in packs]
    title = TITLE.format(KINDS[rows[0].kind])
    if any(row.doubted for row in rows):
        title += DOUBTFUL_FIRST
    with mpl.rc_context(STYLE):
        made = provenance_of("render-samples", None, hashed_contents(packs), output)
        figure = draw_faces([(row.group, row.images) for row in rows])
        save(figure, output, title=title, message=_message(rows), made=made)


def _message(rows: Sequence[Faces]) -> str:
    """What is to be seen, for those who do not see it."""
    side = rows[0].images.shape[1]
    parts = [f"{row.group} {len(row.images)}" for row in rows]
    first = ", those with the worst landmarks first" if any(row.doubted for row in rows) else ""
    return (
        f"Aligned faces of {side} by {side} pixels as the networks see them, images a group: "
        f"{', '.join(parts)}{first}."
    )


def draw_faces(rows: Sequence[tuple[str, Images]]) -> Figure:
    """A row a group; images uint8 (N, H, W, 3), two of an identity side by side."""
    columns = max(len(faces) for _, faces in rows)
    label = 0.35 + 0.12 * max(len(group) for group, _ in rows)  # inches
    across = columns + GAP * ((columns - 1) // 2)  # images
    down = len(rows) + GAP * (len(rows) - 1)
    image = (WIDTH - label) / across  # inches
    height = image * down + 2 * MARGIN
    figure = new_figure(WIDTH, height)
    without_layout(figure)
    axes = figure.add_axes(
        (label / WIDTH, MARGIN / height, 1 - label / WIDTH, 1 - 2 * MARGIN / height)
    )
    for number, (group, faces) in enumerate(rows):
        y = number * (1 + GAP)
        axes.text(-0.12, y + 0.5, group, ha="right", va="center", fontsize=12, weight="bold")
        for column, face in enumerate(faces):
            x = column + GAP * (column // 2)
            axes.imshow(face, extent=(x, x + 1, y + 1, y), interpolation="nearest")
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    axes.set_axis_off()
    return figure


def read_faces(path: Path, *, count: int) -> Faces:
    """Two images each of identities spread evenly over a pack's names, at most `count` in all.

    Of a pack that landmarks aligned, the worst come first, in half of the row. Identities of one
    image are shown only where too few have two, with a blank in the second one's place.

    Raises:
        InputError: the file is missing or is not a pack.
    """
    try:
        with reading(path) as file:
            pack = Sealed(path, file)
            pack.compare()
            kind, group = str(pack.attributes["kind"]), str(pack.attributes["group"])
    except DAMAGE as error:
        raise InputError(path, found=" ".join(str(error).split()), expected="a pack") from None
    doubt = pack.datasets.get("doubt")
    rows = _shown(pack.datasets["identity"], doubt, count)
    pieces = pack.pieces()
    images = [None if row is None else _pixels(pack, pieces, row) for row in rows]
    blank = np.full_like(next(image for image in images if image is not None), BLANK)
    filled = [blank if image is None else image for image in images]
    return Faces(kind, group, np.stack(filled), doubt is not None)


def _shown(
    identity: npt.NDArray[np.int32], doubt: npt.NDArray[np.float32] | None, count: int
) -> list[int | None]:
    """Rows of a pack, two of each identity; None where one has no second image."""
    names, images = np.unique(identity, return_counts=True)
    several, single = names[images > 1], names[images == 1]
    number = min((count + 1) // 2, len(names))
    chosen: list[int] = []
    if doubt is not None:
        for row in np.argsort(-doubt, kind="stable"):
            if len(chosen) >= (number + 1) // 2:
                break
            if int(identity[row]) not in chosen:
                chosen.append(int(identity[row]))
    for some in (several, single):
        left = some[~np.isin(some, chosen)]
        wanted = min(number - len(chosen), len(left))
        chosen += left[np.linspace(0, len(left) - 1, wanted).round().astype(int)].tolist()
    rows: list[int | None] = []
    for one in chosen:
        own = np.flatnonzero(identity == one)
        if doubt is not None:
            own = own[np.argsort(-doubt[own], kind="stable")]
        rows += [*own[:2].tolist(), None][:2]
    if rows[-1] is None:  # at the end of the row a blank keeps nothing apart
        rows.pop()
    return rows[:count]


def _pixels(pack: Sealed, pieces: Pieces, row: int) -> Images:
    # Not by `mstkd.data.pack`, which may decode by torchvision: a report is made without torch.
    if pack.name == "images":
        stored = pack.large[row]
    else:
        begin, end = pack.datasets[OFFSETS][row : row + 2]
        stored = pack.large[begin:end]
    pieces.compare(np.array([row]), [stored], where=pack.path)
    if pack.name == "images":
        return stored
    with Image.open(io.BytesIO(stored.tobytes())) as image:
        return np.array(image.convert("RGB"))
