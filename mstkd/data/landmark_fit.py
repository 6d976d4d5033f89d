"""Whether landmarks can be those of faces: in what order, in what unit, and of which pictures.

Landmarks in another order than the template's align without a fault, into turned, tiny or black
images. The limits are those of 4,956 photographs (LFW): right landmarks left 1.1 to 11.0 pixels of
the template between them and its points, with eyes and mouth exchanged 22.3 to 23.2.
Shapes: N images, K of a sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.data.align import TEMPLATE, TEMPLATE_SIDE
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError

MOST_RESIDUAL = 13.0  # template pixels, root mean square over the five points
NO_FACE = 18.0  # template pixels; a profile has less, and no order of it fits any better
MOST_TURN = 60.0  # degrees
MOST_SCALE = 20.0  # template pixels a pixel: eyes less than two pixels apart
MOST_BLACK = 0.5  # share of an aligned face's pixels
LEAST_CONTRAST = 8  # grey levels between the darkest and the brightest
BETTER = 0.6  # of the residual, that another order leaves of it at most
A_FILE = 2  # images; what is wrong with the only one is not the file's order
SAMPLE = 500  # images in which other orders are tried

FIELDS = tuple(f"{axis}{number}" for number in range(1, 6) for axis in "xy")
MEANING = (
    "1 the eye on the left of the image, 2 the eye on its right, 3 the nose, 4 and 5 the left and "
    "right corner of the mouth, in pixels"
)

Floats = NDArray[np.float64]


class Fit(NamedTuple):
    """The similarity transforms of faces to the template, (N,) each."""

    residual: Floats  # template pixels, root mean square over the five points
    scale: Floats  # template pixels a pixel
    turn: Floats  # degrees, clockwise in the image

    def wrong(self) -> NDArray[np.bool_]:
        """Which are unlike any face's."""
        turned = np.abs(self.turn) > MOST_TURN
        return (self.residual > MOST_RESIDUAL) | turned | (self.scale > MOST_SCALE)


def fit(points: Floats) -> Fit:
    """Of points (..., 5, 2) the least-squares similarity that `align.similarity` gives."""
    # As complex numbers a similarity is a factor and a shift.
    start, goal = points @ (1, 1j), TEMPLATE @ (1, 1j)
    start, goal = start - start.mean(axis=-1, keepdims=True), goal - goal.mean()
    spread = np.maximum((np.abs(start) ** 2).sum(axis=-1), 1e-12)
    along = (start.conj() * goal).sum(axis=-1)
    left = (np.abs(goal) ** 2).sum() - np.abs(along) ** 2 / spread
    residual = np.sqrt(np.maximum(left, 0) / 5)
    return Fit(residual, np.abs(along) / spread, np.degrees(np.angle(along)))


def check_landmarks(images: Sequence[FaceImage], where: object) -> Floats:
    """How far landmarks are from those of a face, (N,): 1 and more is none; 0 of no landmarks.

    Args:
        images: with their points, where they have any.
        where: the file of the landmarks, for messages.

    Raises:
        InputError: most of the images have landmarks that are no face's; names the order that
            would fit, if one does.
    """
    doubt = np.zeros(len(images))
    known = np.array([row for row, image in enumerate(images) if image.points is not None], int)
    if not len(known):
        return doubt
    points = np.array([images[row].points for row in known], np.float64)  # (N, 5, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        found = fit(points)
    values = (found.residual / MOST_RESIDUAL, np.abs(found.turn) / MOST_TURN)
    doubt[known] = np.nan_to_num(np.maximum(*values), nan=np.inf)
    small = found.scale > MOST_SCALE
    doubt[known[small]] = np.maximum(doubt[known[small]], found.scale[small] / MOST_SCALE)
    wrong = doubt[known] >= 1
    if len(known) >= A_FILE and 2 * wrong.sum() > len(known):
        _refuse(points, found, int(wrong.sum()), where)
    return doubt


def _refuse(points: Floats, found: Fit, wrong: int, where: object) -> None:
    """Raise if a whole file's landmarks are no faces': of profiles that lie so it is not sure."""
    of = f"in {wrong:,} of {len(points):,} images"
    if np.median(found.scale) > MOST_SCALE:
        most = np.quantile(np.abs(points).max(axis=(1, 2)), 0.9)
        told = f"landmarks less than a few pixels apart {of}, no number above {most:.3g} in most"
        raise InputError(where, found=told, expected="pixels; are these parts of the sides?")
    residual, turn = np.median(found.residual), np.median(np.abs(found.turn))
    told = (
        f"landmarks that fit no face {of}: {residual:.1f} pixels off the template of "
        f"{TEMPLATE_SIDE}, turned by {turn:.0f} degrees, in the median"
    )
    order = _order_that_fits(points, found)
    if order is not None:
        names = ",".join(order)
        expected = f"{','.join(FIELDS)} ({MEANING}); in the order {names} they would fit"
        raise InputError(where, found=told, expected=expected)
    if residual > NO_FACE:
        raise InputError(where, found=told, expected=f"{','.join(FIELDS)} ({MEANING})")


def _order_that_fits(points: Floats, found: Fit) -> tuple[str, ...] | None:
    """What the ten numbers must be for most of the faces to be upright ones."""
    rows = np.linspace(0, len(points) - 1, min(SAMPLE, len(points))).astype(int)
    numbers = points[rows].reshape(len(rows), 10)
    at = np.arange(10)
    by_point, by_axis = at.reshape(5, 2), at.reshape(2, 5).T
    layouts = (by_point, by_point[:, ::-1], by_axis, by_axis[:, ::-1])
    best: tuple[float, NDArray[np.int64]] | None = None
    for layout, order in itertools.product(layouts, itertools.permutations(range(5))):
        places = layout[list(order)]  # (5, 2), the number that is x and y of each point
        tried = fit(numbers[:, places])
        if 2 * tried.wrong().sum() >= len(rows):
            continue
        residual = float(np.median(tried.residual))
        if best is None or residual < best[0]:
            best = residual, places
    upright = np.median(np.abs(found.turn)) <= MOST_TURN
    if best is None or (upright and best[0] > BETTER * np.median(found.residual[rows])):
        return None
    names = dict(zip(best[1].ravel().tolist(), FIELDS, strict=True))
    return tuple(names[place] for place in range(10))


def emptiness(pixels: NDArray[np.uint8]) -> float:
    """The share of an aligned face (H, H, 3) that is black; 1 where all of it is one colour."""
    if int(pixels.max()) - int(pixels.min()) < LEAST_CONTRAST:
        return 1.0
    return float(1 - pixels.any(axis=2).mean())


def told_of(image: FaceImage, black: float) -> str:
    """Where an image's landmarks lie and what came of it, as a line of a list says it."""
    found = fit(np.array(image.points, np.float64))
    told = f"{found.residual:.1f} pixels off the template of {TEMPLATE_SIDE}"
    told += f", turned by {found.turn:.0f} degrees, scaled by {found.scale:.3g}"
    return told + (f", {100 * black:.0f} % black or one colour" if black else "")
