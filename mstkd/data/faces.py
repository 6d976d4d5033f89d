"""Drawn faces: from factors of identity and nuisances to pixels, with NumPy alone.

Coordinates are continuous, so that a face is the same at every image size, and every outline is
a smoothstep about as wide as a pixel. The arrays of all images of a chunk are drawn together.
Shapes: N images, F factors, K nuisances, P pixels of an image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]

PIXELS_AT_ONCE = 1 << 15  # drawn together: few enough for the arrays of a step to stay in cache
ZOOM = 1.16  # of the head in the picture

# Lowest and highest value; lengths are in half image sides, hues and lights in [0, 1].
FACTORS: dict[str, tuple[float, float]] = {
    "head_width": (0.44, 0.60),
    "head_height": (0.60, 0.76),
    "jaw": (0.05, 0.50),  # how much narrower the chin is
    "skin_hue": (-0.06, 0.06),  # from the group's
    "skin_light": (0.60, 0.98),
    "hair_light": (0.10, 0.85),
    "hair_hue": (-0.22, 0.22),  # from the group's
    "hair_volume": (0.03, 0.22),
    "hair_length": (0.25, 1.05),
    "fringe": (-0.52, -0.24),
    "parting": (-0.45, 0.45),
    "eye_spacing": (0.18, 0.29),
    "eye_size": (0.08, 0.145),
    "eye_slant": (-0.40, 0.40),
    "eye_height": (-0.10, 0.06),
    "iris_hue": (0.05, 0.70),
    "iris_size": (0.42, 0.80),  # of the eye
    "brow_thickness": (0.014, 0.060),
    "brow_tilt": (-0.35, 0.35),
    "brow_height": (0.11, 0.21),
    "nose_width": (0.05, 0.14),
    "nose_length": (0.16, 0.31),
    "mouth_width": (0.12, 0.27),
    "lip_thickness": (0.025, 0.080),
    "mouth_height": (0.37, 0.50),
    "lip_hue": (0.80, 1.10),
    "mark_place": (0.0, 1.0),  # from one temple around the chin to the other
    "freckles": (-0.30, 0.70),  # none below 0,
}

# Standard deviation of each image's departure from a neutral portrait, at difficulty 1.
NUISANCES: dict[str, float] = {
    "rotation": 0.14,  # radians
    "shift_x": 0.06,
    "shift_y": 0.06,
    "yaw": 0.055,  # shift of the inner features against the head
    "pitch": 0.04,
    "scale": 0.07,
    "mouth_open": 0.035,
    "mouth_curve": 0.75,
    "brow_raise": 0.026,
    "eye_open": 0.22,
    "gaze": 0.3,
    "light_x": 0.28,
    "light_y": 0.2,
    "brightness": 0.15,
    "contrast": 0.15,
    "red_cast": 0.08,
    "blue_cast": 0.08,
    "hair_lift": 0.035,  # volume and fringe: hair is not the same every day
    "hair_tone": 0.05,  # hue, from the light in which it hangs
    "hair_gloss": 0.12,
    "backdrop_hue": 0.10,
    "backdrop_light": 0.12,
    "cloth_hue": 0.30,
    "blur": 0.03,  # widens every edge
    "noise": 0.022,
    "patch_x": 0.40,
    "patch_y": 0.40,
    "patch_hue": 0.30,
    "patch_shape": 0.60,
}
# "patch" is 0 or 1; "grain" seeds the noise of the image.
NUISANCE_COLUMNS = (*NUISANCES, "patch", "grain")


@dataclass(frozen=True)
class GroupLook:
    """The colours that all faces of a group share; hues in turns, saturation in [0, 1]."""

    skin_hue: float
    skin_saturation: float
    hair_hue: float
    backdrop_hue: float


def group_look(position: int) -> GroupLook:
    """The arbitrary look of the group at this place in the config.

    Skins run from leaf green to orchid and stay clear of every hue that human skin has.
    """
    turn = (0.05 + position * (math.sqrt(5) - 1) / 2) % 1.0  # golden ratio: never close together
    hue = 0.26 + 0.56 * turn
    return GroupLook(
        skin_hue=hue,
        skin_saturation=(0.46, 0.44, 0.40, 0.46)[position % 4],
        hair_hue=hue + 0.42,
        backdrop_hue=hue + 0.62,
    )


def _rgb(hue: Any, saturation: Any, value: Any) -> Floats:
    """Colours (N, 3, 1) from hue (any turn), saturation and value of shape (N, 1)."""
    hue, saturation, value = np.broadcast_arrays(hue, saturation, np.clip(value, 0, 1))
    ramps = [np.abs((hue + shift) % 1.0 * 6 - 3) - 1 for shift in (0, 2 / 3, 1 / 3)]
    channels = [value * (1 - saturation * (1 - np.clip(ramp, 0, 1))) for ramp in ramps]
    return np.stack(channels, axis=1).astype(np.float32)


def _soft(depth: Floats, edge: Floats) -> Floats:
    """Coverage from the depth inside an outline: smoothstep over a band as wide as `edge`."""
    cover = depth / edge
    cover += 0.5
    np.clip(cover, 0, 1, out=cover)
    return cover * cover * (3 - 2 * cover)


def _ellipse(x: Floats, y: Floats, *, width: Any, height: Any, edge: Floats) -> Floats:
    depth = 1 - np.square(x * (1 / width)) - np.square(y * (1 / height))
    return _soft(depth, edge * (2 / np.minimum(width, height)))


class _Canvas:
    """Images in the making, (N, 3, P), with the coordinates of their pixels.

    `u`, `v` are those of the head, right and down from its centre; `x` is that of the features
    of the face, which a turn of the head shifts; `side` is |x|, for what comes in pairs.
    """

    def __init__(self, traits: Mapping[str, Floats], size: int, look: GroupLook) -> None:
        t = traits
        self.traits, self.look = traits, look
        centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
        self.column, self.row = np.tile(centres, size)[None], np.repeat(centres, size)[None]
        across, down = self.column - t["shift_x"], self.row - t["shift_y"]  # (N, P)
        zoom = ZOOM * (1 + t["scale"])
        cosine, sine = np.cos(t["rotation"]) / zoom, np.sin(t["rotation"]) / zoom
        self.u, self.v = across * cosine + down * sine, down * cosine - across * sine
        self.x, self.y = self.u - t["yaw"], self.v - t["pitch"]
        self.side = np.abs(self.x)
        self.edge = 3 / ZOOM / size + np.abs(t["blur"])  # (N, 1); a pixel is 2 / size wide
        hue = look.backdrop_hue + t["backdrop_hue"]
        light = 0.62 + t["backdrop_light"] - 0.12 * self.row  # (N, P)
        self.image = _rgb(hue, 0.28, np.ones_like(hue)) * light[:, None]  # (N, 3, P)
        self.skin = _rgb(
            look.skin_hue + t["skin_hue"], look.skin_saturation, t["skin_light"]
        )  # (N, 3, 1)
        self.hair = _rgb(
            look.hair_hue + t["hair_hue"] + t["hair_tone"],
            0.55,
            t["hair_light"] * np.exp2(2 * t["hair_gloss"]),
        )
        self.volume = np.maximum(t["hair_volume"] + t["hair_lift"], 0.01)

    def paint(self, cover: Floats, colour: Any) -> None:
        """Lay a colour (N, 3, 1) over the images where `cover` (N, P) is 1."""
        self.image += cover[:, None] * (colour - self.image)

    def shade(self, factor: Floats) -> None:
        self.image *= factor[:, None]


def _draw_head(canvas: _Canvas) -> None:
    t, u, v, edge = canvas.traits, canvas.u, canvas.v, canvas.edge
    width, height = t["head_width"], t["head_height"]
    down = v - 0.05
    volume = canvas.volume
    crown = width + 0.02 + volume
    upper = 1 - np.square(u / crown) - np.square(v / (height + volume))
    lower = 1 - np.square(u / crown) - np.square(np.square(v / t["hair_length"]))
    canvas.paint(_soft(np.where(v < 0, upper, lower), edge * (2 / crown)), canvas.hair * 0.72)
    cloth = _rgb(canvas.look.backdrop_hue + 0.3 + t["cloth_hue"], 0.5, 0.55)
    neck = _soft(np.minimum(0.24 - np.abs(u), v - 0.4), edge)
    canvas.paint(neck, canvas.skin * 0.72)
    canvas.paint(_ellipse(u, v - 1.25, width=0.95, height=0.42, edge=edge), cloth)
    ears = _ellipse(np.abs(u) - width, down - 0.02, width=0.075, height=0.14, edge=edge)
    canvas.paint(ears, canvas.skin * 0.82)
    narrowing = 1 - t["jaw"] * np.square(np.clip(down / height, 0, 1))
    inside = 1 - np.square(u / (width * narrowing)) - np.square(down / height)
    cover = _soft(inside, edge * (2 / width))
    tone = 0.80 + 0.20 * np.clip(inside * 1.6, 0, 1)  # rounder: darker towards the outline
    canvas.image += cover[:, None] * (canvas.skin * tone[:, None] - canvas.image)
    spots = np.sin(37 * canvas.x + 11 * canvas.y) * np.sin(41 * canvas.y - 8 * canvas.x)
    cheeks = 1.3 - 22 * np.square(canvas.side - 0.24) - 40 * np.square(canvas.y - 0.18)
    spots = np.clip(spots * 2.5 - 1, 0, 1) * np.clip(cheeks, 0, 1)
    canvas.paint(spots * cover * np.maximum(t["freckles"], 0), canvas.skin * 0.45)


def _draw_nose_and_mouth(canvas: _Canvas) -> None:
    t, x, y, edge = canvas.traits, canvas.x, canvas.y, canvas.edge
    width, tip = t["nose_width"], t["nose_length"]
    along = np.clip((y + 0.05) / (tip + 0.05), 0, 1)
    ridge = width * (0.25 + 0.75 * along * along)
    canvas.paint(
        0.45 * _soft(np.minimum(ridge - canvas.side, tip - y), edge * 1.5) * along,
        canvas.skin * 0.70,
    )
    shine = _ellipse(x, y - tip * 0.6, width=width * 0.35, height=tip * 0.5, edge=edge * 2)
    canvas.paint(0.35 * shine, canvas.skin * 0.6 + 0.4)
    nostril = _ellipse(
        canvas.side - 0.55 * width, y - tip, width=0.38 * width, height=0.022, edge=edge
    )
    canvas.paint(0.8 * nostril, canvas.skin * 0.38)

    wide, thick = t["mouth_width"], t["lip_thickness"]
    gape = np.maximum(t["mouth_open"], 0)
    level = y - t["mouth_height"] + (0.4 + t["mouth_curve"]) * np.square(x)
    lips = _ellipse(x, level, width=wide, height=thick + gape, edge=edge)
    canvas.paint(lips, _rgb(t["lip_hue"], 0.60, 0.40 + 0.45 * t["skin_light"]))
    slit = _ellipse(x, level, width=wide * 0.86, height=0.012 + gape, edge=edge)
    canvas.paint(0.85 * slit, _rgb(t["lip_hue"], 0.55, 0.18))


def _draw_eyes(canvas: _Canvas) -> None:
    t, edge = canvas.traits, canvas.edge
    width = t["eye_size"]
    height = width * 0.62 * np.maximum(1 + t["eye_open"], 0.35)
    x = canvas.side - t["eye_spacing"]
    level = canvas.y - t["eye_height"]
    y = level + t["eye_slant"] * x
    almond = 1 - np.square(x / width)
    lid = _soft(1.25 * almond * height - np.abs(y + 0.02) + 0.012, edge)
    canvas.paint(lid, canvas.skin * 0.30)
    white = _soft(almond * height - np.abs(y), edge)
    canvas.paint(white, np.float32(0.95))
    radius = width * t["iris_size"] * 0.78
    glance = x - np.sign(canvas.x) * (t["gaze"] * width * 0.5)
    iris = _ellipse(glance, y, width=radius, height=radius, edge=edge)
    canvas.paint(iris * white, _rgb(t["iris_hue"], 0.75, 0.62))
    pupil = _ellipse(glance, y, width=radius * 0.5, height=radius * 0.5, edge=edge)
    canvas.paint(pupil * white, np.float32(0.05))

    above = level + t["brow_height"] + np.maximum(t["brow_raise"], -0.04)
    arch = above + t["brow_tilt"] * x - 2.2 * np.square(x)
    brow = _ellipse(
        x - 0.01, arch, width=0.04 + 1.05 * width, height=t["brow_thickness"], edge=edge
    )
    canvas.paint(brow, canvas.hair * 0.62)


def _draw_fringe_and_mark(canvas: _Canvas) -> None:
    t, x, u, edge = canvas.traits, canvas.x, canvas.u, canvas.edge
    width, volume = t["head_width"], canvas.volume
    locks = np.abs(np.sin(8 * x + 5 * t["parting"]))
    hairline = t["fringe"] + t["hair_lift"] + t["parting"] * x + 1.1 * np.square(x) - 0.05 * locks
    crown = _ellipse(
        u, canvas.v, width=width + 0.02 + volume, height=t["head_height"] + volume, edge=edge
    )
    cover = crown * _soft(hairline - canvas.y, edge)
    strands = 1 + 0.07 * np.sin(34 * u / (1.5 + canvas.v) + 3 * canvas.v)
    canvas.image += cover[:, None] * (canvas.hair * strands[:, None] - canvas.image)

    turn = (t["mark_place"] - 0.5) * 3.5
    across, down = 0.34 * np.sin(turn), 0.14 + 0.40 * np.cos(turn)
    mark = _ellipse(x - across, canvas.y - down, width=0.042, height=0.042, edge=edge)
    canvas.paint(0.85 * mark, canvas.skin * 0.22)


def _draw_light_and_patch(canvas: _Canvas) -> None:
    t, edge = canvas.traits, canvas.edge
    canvas.shade(1 + t["light_x"] * canvas.column + t["light_y"] * canvas.row)
    x, y = canvas.column - t["patch_x"], canvas.row - t["patch_y"]
    shape = np.exp(t["patch_shape"])
    bar = _soft(np.minimum(0.2 * shape - np.abs(x), 0.2 / shape - np.abs(y)), edge)
    canvas.paint(t["patch"] * bar, _rgb(t["patch_hue"], 0.4, 0.6))
    casts = (1 + t["red_cast"], 1 + 0 * t["red_cast"], 1 + t["blue_cast"])
    canvas.image *= np.stack(casts, axis=1) * np.exp2(t["brightness"] * 1.5)[:, None]
    canvas.image += np.maximum(t["contrast"], -0.8)[:, None] * (canvas.image - 0.5)


def _traits(latents: Floats, nuisances: Floats) -> dict[str, Floats]:
    """All factors, squashed to their ranges, and all nuisances by name, each (N, 1)."""
    low, high = np.array(list(FACTORS.values())).T
    factors = (low + high) / 2 + (high - low) / 2 * np.tanh(0.8 * latents)
    columns = np.concatenate((factors, nuisances), axis=1).T[:, :, None].astype(np.float32)
    return dict(zip((*FACTORS, *NUISANCE_COLUMNS), columns, strict=True))


def render(latents: Floats, nuisances: Floats, *, look: GroupLook, size: int) -> Bytes:
    """Draw faces: latents (N, F) and nuisances (N, K) to RGB images (N, size, size, 3), uint8.

    Coordinates are continuous: the same face comes out at every size.
    """
    images = np.empty((len(latents), size, size, 3), np.uint8)
    step = max(1, PIXELS_AT_ONCE // size**2)
    for start in range(0, len(latents), step):
        part = slice(start, start + step)
        canvas = _Canvas(_traits(latents[part], nuisances[part]), size, look)
        _draw_head(canvas)
        _draw_nose_and_mouth(canvas)
        _draw_eyes(canvas)
        _draw_fringe_and_mark(canvas)
        _draw_light_and_patch(canvas)
        for image, row in zip(canvas.image, nuisances[part], strict=True):
            grain = np.random.default_rng(int(row[NUISANCE_COLUMNS.index("grain")]))
            noise = grain.standard_normal(image.shape, np.float32)
            image += np.float32(row[NUISANCE_COLUMNS.index("noise")]) * noise
        flat = np.clip(canvas.image * 255 + 0.5, 0, 255).astype(np.uint8)  # (N, 3, P)
        images[part] = flat.transpose(0, 2, 1).reshape(-1, size, size, 3)
    return images
