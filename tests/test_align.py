from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstkd.data.align import TEMPLATE, align, centre_crop, similarity, template
from mstkd.data.decode import BadImage

EYES_NOSE_MOUTH = [  # as the public alignment tools have them
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
]


def umeyama(points: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Equations 40 to 42 of Umeyama, IEEE TPAMI 13(4), 1991: the same minimum by an SVD."""
    start, end = points - points.mean(0), goal - goal.mean(0)
    u, d, vt = np.linalg.svd(end.T @ start / len(points))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / (start**2).sum(axis=1).mean()
    linear = scale * turn
    return np.column_stack([linear, goal.mean(0) - linear @ points.mean(0)])


def movement(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    angle = np.radians(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def landmarks_for(matrix: np.ndarray, size: int) -> np.ndarray:
    """Where the landmarks lie in a picture that `matrix` brings to the template."""
    whole = np.vstack([matrix, [0, 0, 1]])
    return moved(np.linalg.inv(whole)[:2], template(size))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def bilinear(pixels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The warp in float64, unrounded: the four neighbours weighed, black where there is none."""
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    rows, columns = np.mgrid[:size, :size]
    x, y = moved(back, np.column_stack([columns.ravel(), rows.ravel()])).T
    total = np.zeros((size * size, 3))
    height, width = pixels.shape[:2]
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = np.floor(x).astype(int) + dx, np.floor(y).astype(int) + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
            colour = pixels[row.clip(0, height - 1), column.clip(0, width - 1)]
            total += (weight * inside)[:, None] * colour
    return total.reshape(size, size, 3)


# ---------------------------------------------------------------- template


def test_the_template_is_the_standard_one_and_cannot_be_changed() -> None:
    assert TEMPLATE.dtype == np.float64
    np.testing.assert_array_equal(TEMPLATE, EYES_NOSE_MOUTH)
    np.testing.assert_array_equal(template(112), EYES_NOSE_MOUTH)
    with pytest.raises(ValueError, match="read-only"):
        TEMPLATE[0, 0] = 0


def test_the_template_grows_with_the_image() -> None:
    np.testing.assert_allclose(template(224), 2 * np.array(EYES_NOSE_MOUTH), rtol=1e-15)


# ---------------------------------------------------------------- similarity


def test_the_template_maps_to_itself() -> None:
    matrix = similarity(TEMPLATE, TEMPLATE)
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_similarity_is_umeyamas_on_faces_that_fit_badly(seed: int) -> None:
    random = np.random.default_rng(seed)
    start = moved(
        movement(*random.uniform((0.3, -180, -50, -50), (4, 180, 400, 400))),
        TEMPLATE + random.normal(0, 6, (5, 2)),
    )
    np.testing.assert_allclose(
        similarity(start, TEMPLATE), umeyama(start, TEMPLATE), rtol=1e-9, atol=1e-9
    )


@given(st.floats(0.05, 20), st.floats(-180, 180), st.floats(-5e3, 5e3), st.floats(-5e3, 5e3))
@settings(max_examples=50, deadline=None)
def test_a_known_movement_is_recovered(scale: float, degrees: float, x: float, y: float) -> None:
    matrix = movement(scale, degrees, x, y)
    np.testing.assert_allclose(
        similarity(landmarks_for(matrix, 112), TEMPLATE), matrix, rtol=1e-8, atol=1e-8
    )


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = TEMPLATE * (-1, 1)
    matrix = similarity(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0
    assert np.abs(moved(matrix, mirrored) - TEMPLATE).max() > 5


def uncorrelated() -> np.ndarray:
    """Points for which no rotation and scale is better than the scale nought."""
    u, v = (TEMPLATE - TEMPLATE.mean(0)).T
    one, zero = np.ones(5), np.zeros(5)
    bound = np.array([[*u, *v], [*-v, *u], [*one, *zero], [*zero, *one]])
    return np.linalg.svd(bound)[2][-1].reshape(2, 5).T * 100


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((5, 2), np.nan), "not a finite number of pixels"),
        ([*EYES_NOSE_MOUTH[:4], (70.0, np.nan)], "not a finite number of pixels"),
        ([*EYES_NOSE_MOUTH[:4], (np.inf, 92.0)], "not a finite number of pixels"),
        ([*EYES_NOSE_MOUTH[:4], (-np.inf, 92.0)], "not a finite number of pixels"),
        ([*EYES_NOSE_MOUTH[:4], (1e300, 92.0)], "not a finite number of pixels"),
        (np.zeros((5, 2)), "fit no face"),
        (np.full((5, 2), 123.456), "fit no face"),
        (uncorrelated(), "fit no face"),
        (EYES_NOSE_MOUTH[:4], r"shape \(4, 2\), expected \(5, 2\)"),
        (np.ravel(EYES_NOSE_MOUTH), r"shape \(10,\)"),
    ],
)
def test_landmarks_that_are_none(points: object, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        similarity(points, TEMPLATE)
    with pytest.raises(BadImage, match=reason):
        align(noise(8, 8, 3), points, 112)


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True, width=64), st.floats(width=64)), min_size=5, max_size=5
    )
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("error")
def test_any_five_points_align_or_are_refused(points: list[tuple[float, float]]) -> None:
    try:
        aligned = align(noise(9, 7, 3), points, 16)
    except BadImage:
        return
    assert aligned.shape == (16, 16, 3)


# ---------------------------------------------------------------- align


@pytest.mark.parametrize("size", [112, 64, 113])
def test_landmarks_on_the_template_leave_the_picture_as_it_is(size: int) -> None:
    pixels = noise(size, size, 3)
    aligned = align(pixels, template(size), size)
    assert aligned.dtype == np.uint8
    np.testing.assert_array_equal(aligned, pixels)


@pytest.mark.parametrize(("x", "y"), [(30, 7), (0, 0), (61, 48), (-5, 3), (100, -90), (70, 50)])
def test_a_shift_by_whole_pixels_is_exact_and_black_outside(x: int, y: int) -> None:
    pixels = noise(160, 173, 3)
    canvas = np.zeros((600, 600, 3), np.uint8)
    canvas[200 : 200 + 160, 200 : 200 + 173] = pixels
    aligned = align(pixels, np.add(template(112), (x, y)), 112)
    np.testing.assert_array_equal(aligned, canvas[200 + y : 312 + y, 200 + x : 312 + x])


def test_a_quarter_turn_is_exact() -> None:
    pixels = noise(112, 112, 3)
    # What np.rot90 does to a point: to the left by a quarter, back into the picture.
    points = landmarks_for(movement(1, -90, 0, 111), 112)
    np.testing.assert_array_equal(align(pixels, points, 112), np.rot90(pixels))


def test_halving_takes_every_other_pixel_unsmoothed() -> None:
    pixels = noise(224, 224, 3)
    np.testing.assert_array_equal(align(pixels, 2 * TEMPLATE, 112), pixels[::2, ::2])


@pytest.mark.parametrize(
    "matrix",
    [
        movement(0.44, 3, -30, -25),  # RFW's crops of 400 pixels
        movement(0.44, -25, 20, 40),
        movement(1, 0, 0.5, -0.25),
        movement(1.7, 200, 150, 160),
        movement(9, 45, -700, -1400),
        movement(0.2, 10, 50, 30),  # all of the picture, and black around it
        movement(1, 90, 90.5, -20),
    ],
)
@pytest.mark.parametrize("shape", [(400, 400, 3), (150, 231, 3), (1, 5, 3)])
@pytest.mark.parametrize("size", [112, 70])
def test_pixels_are_those_of_a_float_warp_rounded(
    matrix: np.ndarray, shape: tuple[int, ...], size: int
) -> None:
    pixels = noise(*shape)
    aligned = align(pixels, landmarks_for(matrix, size), size)
    exact = bilinear(pixels, matrix, size)
    assert np.abs(aligned - exact).max() <= 0.5 + 1e-3


def test_the_rim_fades_into_black() -> None:
    white = np.full((112, 112, 3), 200, np.uint8)
    aligned = align(white, np.add(TEMPLATE, (-0.75, 0)), 112)
    assert (aligned[:, 0] == 50).all()
    assert (aligned[:, 1:] == 200).all()
    assert (align(white, np.add(TEMPLATE, (-1.75, 0)), 112)[:, :3, 0] == [0, 50, 200]).all()


@pytest.mark.parametrize("shift", [(113, 0), (-113, 0), (0, 500), (0, -113), (1e6, 1e6)])
def test_a_face_beyond_the_picture_is_black(shift: tuple[float, float]) -> None:
    aligned = align(np.full((112, 112, 3), 255, np.uint8), np.add(TEMPLATE, shift), 112)
    assert aligned.shape == (112, 112, 3)
    assert aligned.dtype == np.uint8
    assert not aligned.any()


COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250)]


@pytest.mark.parametrize(
    "matrix", [movement(0.45, 12, -40, -10), movement(0.6, -30, -40, 50), movement(1, 5, -100, -60)]
)
def test_coloured_dots_come_to_the_template(matrix: np.ndarray) -> None:
    places = landmarks_for(matrix, 112)
    rows, columns = np.mgrid[:400, :400]
    picture = np.zeros((400, 400, 3))
    for (x, y), colour in zip(places, COLOURS, strict=True):
        dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
        picture += dot[:, :, None] * colour
    aligned = align(picture.clip(0, 255).round().astype(np.uint8), places, 112).astype(float)
    rows, columns = np.mgrid[:112, :112]
    for (x, y), colour in zip(EYES_NOSE_MOUTH, COLOURS, strict=True):
        near = np.hypot(columns - x, rows - y) < 7
        weight = aligned.max(axis=2)[near]
        found = [np.average(axis[near], weights=weight) for axis in (columns, rows)]
        np.testing.assert_allclose(found, (x, y), atol=0.2)
        middle = aligned[round(y), round(x)]
        np.testing.assert_array_equal(middle > 128, np.array(colour) > 128)


# ---------------------------------------------------------------- centre crop


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((20, 31, 3), slice(0, 20), slice(5, 25)),
        ((31, 20, 3), slice(5, 25), slice(0, 20)),
        ((20, 20, 3), slice(0, 20), slice(0, 20)),
    ],
)
def test_the_largest_centred_square_is_kept(
    shape: tuple[int, ...], rows: slice, columns: slice
) -> None:
    pixels = noise(*shape)
    np.testing.assert_array_equal(centre_crop(pixels, 20), pixels[rows, columns])


def test_a_crop_made_smaller_is_smoothed() -> None:
    stripes = np.zeros((64, 80, 3), np.uint8)
    stripes[:, ::2] = (200, 100, 0)
    cropped = centre_crop(stripes, 8)
    assert cropped.shape == (8, 8, 3)
    assert cropped.dtype == np.uint8
    assert np.abs(cropped.astype(int) - [100, 50, 0]).max() <= 8


def test_a_crop_may_be_made_larger() -> None:
    assert (centre_crop(np.full((3, 2, 3), (9, 8, 7), np.uint8), 112) == [9, 8, 7]).all()


# ---------------------------------------------------------------- large photographs


def test_a_face_made_much_smaller_is_averaged() -> None:
    """Squares of seven pixels are finer than the pixels of the result: they average to grey."""
    rows, columns = np.mgrid[:2000, :2000]
    board = np.where((rows // 7 + columns // 7) % 2, 255, 0).astype(np.uint8)
    pixels = np.repeat(board[:, :, None], 3, axis=2)
    face = align(pixels, landmarks_for(movement(1 / 14.3, 20, 0, 0), 112), 112)
    inside = align(np.full_like(pixels, 255), landmarks_for(movement(1 / 14.3, 20, 0, 0), 112), 112)
    found = face[(inside == 255).all(axis=2)]
    assert len(found) > 1000
    assert abs(found.mean() - 127.5) < 2 and found.std() < 16


@pytest.mark.parametrize("shrunk", [5.9, 6.0, 7.7, 16.2])
def test_averaging_moves_nothing(shrunk: float) -> None:
    """Of a slope that is straight, averages are the values in the middle."""
    rows, columns = np.mgrid[:1800, :1800]
    pixels = np.stack([columns / 8, rows / 8, (rows + columns) / 16], axis=2)
    matrix = movement(1 / shrunk, 12, 3, 5)
    face = align(np.rint(pixels).astype(np.uint8), landmarks_for(matrix, 112), 112)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    down, across = np.mgrid[:112, :112]
    x, y = moved(back, np.column_stack([across.ravel(), down.ravel()])).T
    expected = np.stack([x / 8, y / 8, (x + y) / 16], axis=1)
    inside = ((x > 40) & (x < 1760) & (y > 40) & (y < 1760)).nonzero()[0]
    assert len(inside) > 1000
    assert np.abs(face.reshape(-1, 3)[inside] - expected[inside]).max() < 1.2
