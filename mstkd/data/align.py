"""A face turned, scaled and shifted so that its five landmarks lie where the networks expect them.

The template is the one of ArcFace and its successors, on 112x112 pixels. Landmarks and matrices
count pixels as OpenCV does: the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from mstkd.data.decode import BadImage

TEMPLATE_SIDE = 112
TEMPLATE: NDArray[np.float64] = np.array(
    [
        (38.2946, 51.6963),  # eye on the left of the image
        (73.5318, 51.5014),  # eye on the right
        (56.0252, 71.7366),  # tip of the nose
        (41.5493, 92.3655),  # corner of the mouth on the left
        (70.7299, 92.2041),  # corner of the mouth on the right
    ]
)
TEMPLATE.setflags(write=False)

FARTHEST = 1e9  # pixels; no picture is that wide, and squares of it are harmless
SHRUNK = 6  # so many pixels of the picture to one, from which on they are averaged
LEAST_FIT = 1e-6  # of the template's spread that the landmarks must explain


def template(size: int) -> NDArray[np.float64]:
    """The template float64 (5, 2) for images of `size` x `size` pixels."""
    return TEMPLATE * (size / TEMPLATE_SIDE)


def similarity(points: ArrayLike, template: ArrayLike) -> NDArray[np.float64]:
    """The rotation, scale and shift that bring `points` (5, 2) nearest to `template` (5, 2).

    Nearest in the sum of squared distances; there is no reflection.

    Returns:
        float64 (2, 3): `matrix[:, :2] @ point + matrix[:, 2]` is the point moved.

    Raises:
        BadImage: not five points, one that is not finite or beyond any picture, or points that
            determine no such movement, as five in one place.
    """
    start, goal = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if start.shape != TEMPLATE.shape:
        raise BadImage(f"landmarks of shape {start.shape}, expected {TEMPLATE.shape}")
    if not (np.abs(start) < FARTHEST).all():  # so written, it is true of NaN
        raise BadImage("a landmark that is not a finite number of pixels")
    centre = start.mean(axis=0)
    x, y = (start - centre).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    # u = a x - b y + s and v = b x + a y + t are linear in a, b, s and t.
    system = np.block([[x, y], [-y, x], [one, zero], [zero, one]]).T  # (10, 4)
    (a, b, s, t), *_ = np.linalg.lstsq(system, goal.T.ravel())
    linear = np.array([[a, -b], [b, a]])
    # Of points in one place it is nought: the shortest solution leaves a and b out.
    reached = math.hypot(a, b) * np.linalg.norm(start - centre)
    if reached < LEAST_FIT * np.linalg.norm(goal - goal.mean(axis=0)):
        raise BadImage("landmarks that fit no face")
    return np.column_stack([linear, (s, t) - linear @ centre])


def align(pixels: NDArray[np.uint8], points: ArrayLike, size: int) -> NDArray[np.uint8]:
    """The face uint8 (size, size, 3) with its five landmarks on the template.

    Bilinear between pixel centres, rounded; what lies outside the picture is black, and its rim
    fades into that black over one pixel. A face that is made six times smaller or more is first
    averaged over squares of whole pixels, else only some of its pixels would count; one that is not
    is not smoothed, as in the crops that the public networks were trained on.

    Args:
        pixels: uint8 (H, W, 3).
        points: (5, 2), x and y in pixels, in the order of the template.
        size: side of the result in pixels.

    Raises:
        BadImage: landmarks that `similarity` refuses.
    """
    matrix = similarity(points, template(size))
    back = np.linalg.inv(matrix[:, :2])
    shift = -back @ matrix[:, 2]
    corners = back @ [[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1]] + shift[:, None]
    # Only what the face covers, and a pixel around it once it is averaged, is worth converting.
    shrunk = math.sqrt(abs(np.linalg.det(back)))
    factor = int(shrunk) if shrunk >= SHRUNK else 1
    low = np.floor(corners.min(axis=1)) - factor
    high = np.floor(corners.max(axis=1)) + 1 + 2 * factor
    height, width = pixels.shape[:2]
    left, top = (int(v) for v in np.clip(low, 0, (width, height)))
    right, bottom = (int(v) for v in np.clip(high, 0, (width, height)))
    covered = pixels[top:bottom, left:right]
    if factor > 1 and covered.size:
        covered = np.asarray(Image.fromarray(covered).reduce(factor))
    # Pillow would stretch the outermost pixels by half a pixel; a black rim fades them instead.
    window = np.zeros((covered.shape[0] + 2, covered.shape[1] + 2, 3), np.uint8)
    window[1:-1, 1:-1] = covered
    # Pillow counts from the corner of a pixel, at both ends, hence the halves.
    x, y = shift - (left - 1, top - 1) + 0.5 - back.sum(axis=1) / 2
    if factor > 1:
        back, x, y = back / factor, (x - 1) / factor + 1, (y - 1) / factor + 1
    coefficients = (back[0, 0], back[0, 1], x, back[1, 0], back[1, 1], y)
    # In float, because Pillow cuts off the fractions of whole numbers: half a grey level darker.
    bands = [
        band.convert("F").transform(
            (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        for band in Image.fromarray(window).split()
    ]
    levels = np.stack([np.asarray(band) for band in bands], axis=2)  # (size, size, 3)
    return np.rint(levels).astype(np.uint8)


def centre_crop(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The largest centred square of `pixels` uint8 (H, W, 3) as uint8 (size, size, 3).

    Resized with smoothing (Pillow's bilinear filter). Of an odd rest, the pixel more is cut off
    at the right or at the bottom.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.array(square.resize((size, size), Image.Resampling.BILINEAR), np.uint8)
