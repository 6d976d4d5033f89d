"""The embedded data set: procedural faces in the layouts of BUPT-Balancedface and of RFW.

Those two are licensed; these are drawings. A group is a name of the config with an arbitrary,
unnatural tint and with its own few factors by which its identities differ. It stands for no
people, and nothing measured on it says anything about people.
Shapes: I identities, M images of each, F factors, K nuisances, H = W the image size.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from mstkd.artifacts import atomic
from mstkd.artifacts.provenance import beside, sidecar
from mstkd.artifacts.sources import provenance_of
from mstkd.artifacts.writers import only_writer
from mstkd.config import SynthesizeSettings
from mstkd.data.faces import (
    FACTORS,
    NUISANCE_COLUMNS,
    NUISANCES,
    Bytes,
    Floats,
    group_look,
    render,
)
from mstkd.errors import InputError
from mstkd.orphans import end_with_parent
from mstkd.progress import progress, say

Part = Literal["train", "verification"]
PARTS: tuple[Part, ...] = ("train", "verification")

INDEX = "index.csv"
MARKER = ".mstkd-synthetic"  # says that the tree is ours to remove
UNINFORMATIVE_STD = 0.2  # of a factor that is not its group's; 1 of one that is
PATCH_PROBABILITY = 0.2  # of something in front of the face, at difficulty 1
IMAGES_PER_TASK = 256

# Four disjoint sets, strong factors before subtle ones, each with colour, shape and place.
INFORMATIVE = tuple(
    tuple(names.split())
    for names in (
        "hair_light eye_spacing jaw brow_thickness mouth_height iris_hue nose_length",
        "fringe lip_hue head_width eye_size brow_tilt mark_place nose_width",
        "skin_light hair_volume mouth_width brow_height iris_size eye_slant freckles",
        "hair_hue head_height eye_height lip_thickness parting skin_hue hair_length",
    )
)

# Where the mean of a group may lie elsewhere: hair and marks, nothing that a stereotype is about.
STYLE = ("hair_volume", "hair_length", "fringe", "parting", "mark_place", "freckles", "jaw")


def _generator(*key: object) -> np.random.Generator:
    """A stream of its own for each key: no draw depends on how many others are made."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest)))


def informative_factors(settings: SynthesizeSettings, group: str) -> tuple[str, ...]:
    """The factors by which the identities of `group` differ, strong ones first.

    The first four groups have disjoint sets; each later one draws its set from all factors.
    """
    position, count = settings.groups.index(group), settings.informative_factors
    if position < len(INFORMATIVE):
        return INFORMATIVE[position][:count]
    drawn = _generator(settings.seed, "informative", group).permutation(list(FACTORS))[:count]
    return tuple(str(name) for name in drawn)


def identity_latents(
    settings: SynthesizeSettings, group: str, *, part: Part, identities: Sequence[int]
) -> Floats:
    """Factors of the identities with these numbers, (I, F), for `render`."""
    informative = informative_factors(settings, group)
    own = np.array([name in informative for name in FACTORS])
    style = _generator(settings.seed, "style", group).uniform(-1.2, 1.2, len(FACTORS))
    mean = np.where(~own & np.array([name in STYLE for name in FACTORS]), style, 0.0)
    streams = (_generator(settings.seed, "latents", group, part, number) for number in identities)
    draws = np.stack([generator.standard_normal(len(FACTORS)) for generator in streams])
    return mean + draws * np.where(own, 1.0, UNINFORMATIVE_STD)


def identity_nuisances(
    settings: SynthesizeSettings, group: str, *, part: Part, identities: Sequence[int]
) -> Floats:
    """Nuisances of all images of these identities, (I, M, K), for `render`."""
    images = _images(settings, part)
    strength = settings.difficulty.get(group, 1.0)
    nuisances = np.empty((len(identities), images, len(NUISANCE_COLUMNS)))
    for row, number in zip(nuisances, identities, strict=True):
        generator = _generator(settings.seed, "nuisances", group, part, number)
        draws = generator.standard_normal((images, len(NUISANCES))).clip(-2.2, 2.2)
        row[:, :-2] = draws * np.array(list(NUISANCES.values())) * strength
        row[:, -2] = generator.random(images) < PATCH_PROBABILITY * strength
        row[:, -1] = generator.integers(1 << 32, size=images)
    return nuisances


def faces(
    settings: SynthesizeSettings, group: str, *, part: Part, identities: Sequence[int]
) -> Bytes:
    """All images of these identities, (I, M, H, W, 3)."""
    latents = identity_latents(settings, group, part=part, identities=identities)  # (I, F)
    nuisances = identity_nuisances(settings, group, part=part, identities=identities)  # (I, M, K)
    count, images, _ = nuisances.shape
    drawn = render(
        latents.repeat(images, axis=0),
        nuisances.reshape(count * images, -1),
        look=group_look(settings.groups.index(group)),
        size=settings.image_size,
    )
    return drawn.reshape(count, images, *drawn.shape[1:])


def sample_sheet(settings: SynthesizeSettings, *, per_group: int = 10, size: int = 96) -> Bytes:
    """A picture of verification faces: two rows a group, a column an identity (RGB, uint8)."""
    settings = settings.model_copy(update={"image_size": size, "verification_images": 2})
    rows = []
    for group in settings.groups:
        drawn = faces(settings, group, part="verification", identities=range(per_group))
        rows.append(drawn.transpose(1, 2, 0, 3, 4).reshape(2 * size, per_group * size, 3))
    return np.concatenate(rows)


# ---------------------------------------------------------------- pairs


@dataclass(frozen=True)
class Pair:
    """Two images, each an identity and the number of its image from 1 on."""

    first: str
    first_image: int
    second: str
    second_image: int

    def line(self) -> str:
        """The pair in RFW's form: the identity stands once where it is the same."""
        fields: tuple[object, ...] = (self.first, self.first_image, self.second_image)
        if self.first != self.second:
            fields = (self.first, self.first_image, self.second, self.second_image)
        return "\t".join(map(str, fields))


def verification_pairs(
    identities: Sequence[str],
    *,
    images: int,
    folds: int,
    pairs_per_fold: int,
    generator: np.random.Generator,
) -> list[Pair]:
    """Pairs fold by fold: `pairs_per_fold` genuine ones, then as many impostor ones.

    No pair occurs twice, and no identity in two folds.

    Raises:
        InputError: the smallest fold has fewer pairs than asked for.
    """
    smallest = len(identities) // folds
    possible = min(
        smallest * (images * (images - 1) // 2), smallest * (smallest - 1) // 2 * images**2
    )
    if pairs_per_fold > possible:
        raise InputError(
            "data.synthetic.pairs_per_fold",
            found=pairs_per_fold,
            expected=f"at most {possible}: {len(identities)} verification_identities in {folds} "
            f"folds, {images} verification_images each",
        )
    numbers = range(1, images + 1)
    pairs = []
    for fold in np.array_split(np.arange(len(identities)), folds):
        names = [identities[index] for index in fold]
        within = list(itertools.combinations(numbers, 2))
        between = list(itertools.combinations(names, 2))
        for drawn in _draw(len(names) * len(within), pairs_per_fold, generator):
            name, (first, second) = names[drawn // len(within)], within[drawn % len(within)]
            pairs.append(Pair(name, first, name, second))
        for drawn in _draw(len(between) * images**2, pairs_per_fold, generator):
            (name, other), image = between[drawn // images**2], drawn % images**2
            pairs.append(Pair(name, image // images + 1, other, image % images + 1))
    return pairs


def _draw(population: int, count: int, generator: np.random.Generator) -> list[int]:
    """Different numbers below `population`, in rising order."""
    return sorted(map(int, generator.choice(population, count, replace=False)))


# ---------------------------------------------------------------- files


def _images(settings: SynthesizeSettings, part: Part) -> int:
    return settings.images_per_identity if part == "train" else settings.verification_images


def _identities(settings: SynthesizeSettings, part: Part) -> int:
    return settings.identities if part == "train" else settings.verification_identities


def _name(group: str, part: Part, number: int) -> str:
    return f"{group}.{part[0]}{number:05}"  # a group's name has no dot: no two are alike


def _paths(settings: SynthesizeSettings, group: str, part: Part, number: int) -> list[Path]:
    """Where the images of an identity lie below the output folder."""
    name, images = _name(group, part, number), range(_images(settings, part))
    if part == "train":
        return [Path("train", group, name, f"{image:03}.jpg") for image in images]
    folder = Path("verification", "data", group, name)
    return [folder / f"{name}_{image + 1:04}.jpg" for image in images]


@dataclass(frozen=True)
class _Task:
    group: str
    part: Part
    identities: range


def _tasks(settings: SynthesizeSettings) -> Iterator[_Task]:
    for group, part in itertools.product(settings.groups, PARTS):
        step = max(1, IMAGES_PER_TASK // _images(settings, part))
        numbers = range(_identities(settings, part))
        for start in numbers[::step]:
            yield _Task(group, part, numbers[start : start + step])


def _write_images(task: _Task, settings: SynthesizeSettings, output: Path) -> int:
    drawn = faces(settings, task.group, part=task.part, identities=task.identities)
    for number, images in zip(task.identities, drawn, strict=True):
        paths = _paths(settings, task.group, task.part, number)
        (output / paths[0]).parent.mkdir(parents=True)
        for path, image in zip(paths, images, strict=True):
            # Colour is not halved: at 32 pixels it would be a smear.
            picture = Image.fromarray(image)
            with atomic.naming(output / path):
                picture.save(output / path, quality=settings.jpeg_quality, subsampling=0)
    return drawn.shape[0] * drawn.shape[1]


@contextlib.contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[int]]]:
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        yield pool.map


def _clear(output: Path) -> None:
    """Remove a former set of ours, its index first, and mark the folder."""
    marker = output / MARKER
    for path in (output / INDEX, *(output / part for part in PARTS)):
        if path.is_symlink() or (path.exists() and not marker.is_file()):
            raise InputError(
                path, found="something that mstkd did not write", expected="an empty folder"
            )
    output.mkdir(parents=True, exist_ok=True)
    atomic.write_text(marker, "Written by mstkd synthesize, which may remove what lies here.\n")
    (output / INDEX).unlink(missing_ok=True)
    for part in PARTS:
        if (output / part).exists():
            shutil.rmtree(output / part)


def _write_lists(settings: SynthesizeSettings, group: str, output: Path) -> None:
    """RFW's three text files of a group."""
    numbers = range(settings.verification_identities)
    names = [_name(group, "verification", number) for number in numbers]
    pairs = verification_pairs(
        names,
        images=settings.verification_images,
        folds=settings.folds,
        pairs_per_fold=settings.pairs_per_fold,
        generator=_generator(settings.seed, "pairs", group),
    )
    images = [
        f"{path.name}\t{number}"
        for number in numbers
        for path in _paths(settings, group, "verification", number)
    ]
    lists = {
        "pairs": [pair.line() for pair in pairs],
        "people": [f"{name}\t{settings.verification_images}" for name in names],
        "images": images,
    }
    folder = output / "verification" / "txts" / group
    for kind, lines in lists.items():
        atomic.write_text(folder / f"{group}_{kind}.txt", "".join(f"{line}\n" for line in lines))


def _index(settings: SynthesizeSettings) -> str:
    rows = [
        (part, group, _name(group, part, number), path.as_posix())
        for part, group in itertools.product(PARTS, settings.groups)
        for number in range(_identities(settings, part))
        for path in _paths(settings, group, part, number)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("part", "group", "identity", "path"))
    writer.writerows(sorted(rows))
    return text.getvalue()


def synthesize(settings: SynthesizeSettings, *, output: Path, workers: int = 1) -> None:
    """Write procedural faces: a training folder and a verification set in RFW's layout.

    Both hold every group, under `output`. `index.csv` comes last: where it stands, everything
    does. A former set is removed.

    Raises:
        InputError: more pairs than the identities allow, or files below `output` that are not
            ours.
    """
    pairs_possible = functools.partial(
        verification_pairs,
        images=settings.verification_images,
        folds=settings.folds,
        pairs_per_fold=settings.pairs_per_fold,
    )
    pairs_possible(["?"] * settings.verification_identities, generator=_generator())
    output.mkdir(parents=True, exist_ok=True)
    with only_writer(output / INDEX, settings.dump()) as turn:
        if turn.finished:
            say(f"{output}: another process has drawn the same faces meanwhile")
            return
        _write(settings, output, workers)


def _write(settings: SynthesizeSettings, output: Path, workers: int) -> None:
    _clear(output)
    tasks = list(_tasks(settings))
    per_group = sum(_identities(settings, part) * _images(settings, part) for part in PARTS)
    with (
        _mapping(workers) as mapping,
        progress("synthesize", per_group * len(settings.groups), "images") as advance,
    ):
        write = functools.partial(_write_images, settings=settings, output=output)
        for count in mapping(write, tasks):
            advance(count)
    for group in settings.groups:
        _write_lists(settings, group, output)
    os.sync()  # thousands of small files: before the index says that they are there
    index, text = output / INDEX, _index(settings)
    made = provenance_of("synthesize", settings, {}, index)
    atomic.write_text(sidecar(index), beside(text, made))
    atomic.write_text(index, text)
