"""Settings of where the faces come from, and of packs, checks and splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from mstkd.config.base import Folds, Groups, Name, Positive, Settings, Side, Step, Storage, unique


def file_kind(path: Path) -> str:
    """What a file is by its ending, in capitals or not: "rec", "bin", "csv" or none of the data."""
    return path.suffix.lower().removeprefix(".")


# Endings of images that are read only where a config names them: their decoders are less used.
Suffix = Literal[".bmp", ".jpe", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"]
# None: no further ones. Only what differs from that is written, so that nothing is packed anew.
Suffixes = Annotated[tuple[Suffix, ...], Field(min_length=1), AfterValidator(unique)] | None


class FurtherImages(Settings):
    """Which images are read beside JPEG's, PNG's and WebP's; `--more-suffixes` of commands."""

    more_suffixes: Suffixes = None


class SyntheticSettings(Settings):
    """Procedural faces. They are drawings: the groups say nothing about people."""

    seed: int = 0
    identities: Positive = 80  # per group, for training
    images_per_identity: Annotated[int, Field(ge=2)] = 16
    verification_identities: Annotated[int, Field(ge=2)] = 100  # per group, none of them trained on
    verification_images: Annotated[int, Field(ge=2)] = 4  # per identity
    folds: Folds = 10
    pairs_per_fold: Positive = 60  # genuine pairs in a fold; as many impostor pairs
    informative_factors: Annotated[int, Field(ge=1, le=7)] = 6  # factors a group varies identity by
    difficulty: dict[Name, Annotated[float, Field(gt=0, le=4)]] = {}  # nuisance; 1 unless named
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 95


class SynthesizeSettings(SyntheticSettings, Step):
    """Settings of the step `synthesize`."""

    groups: Groups
    image_size: Side


class OtherDraw(Settings):
    """How drawn faces of a source differ from those of `data.synthetic`, where they do."""

    seed: int  # another one: of one seed the same persons are drawn
    identities: Positive | None = None
    images_per_identity: Annotated[int, Field(ge=2)] | None = None
    informative_factors: Annotated[int, Field(ge=1, le=7)] | None = None
    difficulty: dict[Name, Annotated[float, Field(gt=0, le=4)]] | None = None
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None


Share = Annotated[float, Field(gt=0, le=1)]


class TrainSource(Settings):
    """One of several sources of training images."""

    share: Share  # of each group's identities
    path: Path | None = None  # of any form that `data.train` may have
    groups: Path | None = None  # of a .rec
    # Drawn like this; a source with neither path nor this is what `data.synthetic` draws.
    synthetic: OtherDraw | None = None


Sources = Annotated[
    dict[Name, TrainSource],
    Field(min_length=1),
    AfterValidator(unique),
    Tag("dict[str,source]"),
]


class AlignmentSettings(Settings):
    """Five landmarks to the template, for images that are not aligned yet."""

    # As of a step, so that a change of the alignment reruns the packing of what is aligned alone.
    recipe: int = 2
    # RFW's own <group>_lmk.txt files, or a CSV `path,x1,y1,...,x5,y5`.
    landmarks: Literal["rfw"] | Path
    # An image without landmarks is a bad image, or its middle is taken for the face.
    without_landmarks: Literal["bad_image", "centre_crop"] = "bad_image"


class HeldOutIdentities(Settings):
    """Which training identities are kept out: all that the training packs need to know."""

    seed: int = 0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of each group's identities


class HeldOutSettings(HeldOutIdentities):
    """Training identities kept out, to choose epochs by instead of the test pairs (D8, D26)."""

    folds: Folds = 10
    pairs: Annotated[int, Field(ge=4)] = 3000  # a group, half of them genuine; fewer if need be


class OriginSettings(Settings):
    """What the owner of images says of them, for their data card; nothing hangs on it."""

    licence: str | None = None  # an address, a name of SPDX's list, or words
    creator: str | None = None
    url: str | None = None
    published: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d\d){0,2}$")] | None = None
    citation: str | None = None


# Of the images of a part; those that were kept out are of the training images.
OriginOf = Literal["train", "verification", "unlabelled"]
Part = Literal["train", "verification", "heldout", "unlabelled"]


# None: the same person. Only what differs from that is written, so that nothing is checked anew.
SameNames = Literal["unrelated"] | None


class DataSettings(Settings):
    """Where the faces come from: written by the generator, or files of yours."""

    image_size: Annotated[Side, Field(ge=16, multiple_of=16)] = 112  # pixels, both sides
    on_bad_image: Literal["error", "skip"] = "error"
    storage: Storage = "pixels"
    more_suffixes: Suffixes = None  # of images, beside JPEG's, PNG's and WebP's
    synthetic: SyntheticSettings | None = None
    # A folder <group>/<identity>/<image>, a CSV `path,identity,group`, or an MXNet .rec; or
    # several of them by names, each with a share.
    train: (
        Annotated[
            Sources | Annotated[Path, Tag("path")],
            Discriminator(
                lambda value: "dict[str,source]" if isinstance(value, Mapping) else "path"
            ),
        ]
        | None
    ) = None
    train_groups: Path | None = None  # of a .rec: BUPT's .lst, or a CSV `identity,group`
    # Of each group in several sources together; as many as their shares allow unless given.
    train_identities: Positive | None = None
    train_alignment: AlignmentSettings | None = None
    # A folder in RFW's layout or of <group>_test.bin files, a CSV of pairs, or a .bin file for each
    # group. Not needed where evaluation and selection take held-out pairs.
    verification: Path | dict[Name, Path] | None = None
    verification_alignment: AlignmentSettings | None = None
    unlabelled: Path | None = None  # a folder of images for losses that need no label
    # Where packs lie, for experiments that share them; else with the experiment's results.
    shared: Path | None = None
    exclude_verification_identities: bool = False  # from training, by name
    heldout: HeldOutSettings | None = None
    expected: Literal["bupt-rfw"] | None = None  # the counts that the data must have
    overlap: Literal["error", "warn"] = "error"  # images or identities trained on and tested on
    # Equal names of identities in training and verification mean the same person, or nothing:
    # numbers from 0 in both. Equal images are an overlap all the same.
    same_names: SameNames = None
    origin: dict[OriginOf, OriginSettings] = {}  # told in the data cards

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        return self._refused_for(self._misfits())

    def _misfits(self) -> Iterator[str]:
        if self.synthetic is None and self.train is None:
            yield "train, with verification where its pairs are looked at, or synthetic"
        if self.synthetic is not None and (self.train_paths() or self.verification):
            yield "either synthetic or folders of your own, not both"
        yield from self._misfits_of_sources()
        if self.shared is not None and {"{", "}"} & set(str(self.shared)):
            yield "shared without braces, in which Snakemake looks for wildcards"
        if self.expected is not None and not self.has_verification:
            yield "expected with verification, whose counts it names too"
        paired, aligned = self.verification_folder(), self.verification_alignment
        if paired and file_kind(paired) == "csv" and aligned and aligned.landmarks == "rfw":
            yield "verification_alignment with a CSV of landmarks for a CSV of pairs"
        is_record = isinstance(self.train, Path) and file_kind(self.train) == "rec"
        if is_record != (self.train_groups is not None):
            yield "train_groups with a .rec in train, and with nothing else"
        aligned = self.train_alignment
        has_record = [file_kind(path) == "rec" for path in self.train_paths()] == [True]
        if aligned is not None and (has_record or aligned.landmarks == "rfw"):
            yield "train_alignment with a CSV of landmarks, and not for a .rec"
        if self.exclude_verification_identities and paired is None:
            yield "exclude_verification_identities with a folder in verification"
        if self.exclude_verification_identities and self.same_names == "unrelated":
            yield "exclude_verification_identities where equal names mean the same person"

    def _misfits_of_sources(self) -> Iterator[str]:
        sources = self.sources()
        if sources and not math.isclose(sum(one.share for one in sources.values()), 1):
            yield f"train: shares that sum to 1, not {sum(s.share for s in sources.values()):g}"
        if self.train_identities is not None and len(sources) < 2:
            yield "train_identities with several sources in train"
        if len(sources) > 1 and self.train_alignment is not None:
            yield "train_alignment with one source in train"
        if len(sources) > 1 and self.expected is not None:
            yield "expected with one source in train"
        seeds = [] if self.synthetic is None else [self.synthetic.seed]
        for name, source in sources.items():
            is_record = source.path is not None and file_kind(source.path) == "rec"
            if is_record != (source.groups is not None):
                yield f"train.{name}.groups with a .rec in path, and with nothing else"
            if self.synthetic is None and (source.path is None or source.synthetic is not None):
                yield f"a path alone in train.{name}, where there is no synthetic"
            if source.synthetic is not None and source.synthetic.seed in seeds:
                yield f"train.{name}.synthetic with a seed of its own, or the persons are the same"
            seeds += [] if source.synthetic is None else [source.synthetic.seed]
        plain = [
            name for name, one in sources.items() if one.path is None and one.synthetic is None
        ]
        if self.synthetic is not None and len(plain) > 1:
            yield f"train: what synthetic draws in one source, not in {' and '.join(plain)}"

    def sources(self) -> dict[str, TrainSource]:
        """The sources of training images by their names; none where there is but a path."""
        return self.train if isinstance(self.train, dict) else {}

    def train_paths(self) -> list[Path]:
        """Where training images lie that this program did not draw."""
        if isinstance(self.train, Path):
            return [self.train]
        return [one.path for one in self.sources().values() if one.path is not None]

    def other_draws(self) -> dict[str, SyntheticSettings]:
        """The sources with drawn faces of their own, and how these are drawn."""
        drawn = self.synthetic
        if drawn is None:
            return {}
        return {
            name: drawn.model_copy(update=one.synthetic.model_dump(exclude_none=True))
            for name, one in self.sources().items()
            if one.synthetic is not None
        }

    @property
    def has_verification(self) -> bool:
        """Whether there are pairs beside those of held-out identities."""
        return self.synthetic is not None or self.verification is not None

    @property
    def tested_part(self) -> Literal["verification", "heldout"]:
        """The pairs that are checked and shown beside the training images."""
        return "verification" if self.has_verification else "heldout"

    def verification_folder(self) -> Path | None:
        """The verification data, where they are one folder."""
        return self.verification if isinstance(self.verification, Path) else None


class ImageSettings(Step):
    """How images become a pack's: part of the settings of each packing step."""

    image_size: Side
    on_bad_image: Literal["error", "skip"]
    storage: Storage = "pixels"
    alignment: AlignmentSettings | None = None
    more_suffixes: Suffixes = None


class SourceImages(Settings):
    """One of several places of training images."""

    share: Share  # of the group's identities
    root: Path  # a folder, a CSV or a .rec
    groups: Path | None = None  # of a .rec


class Mixture(Settings):
    """Training identities drawn from several sources."""

    sources: Annotated[dict[Name, SourceImages], Field(min_length=2)]
    seed: int = 0  # of the draw
    identities: Positive | None = None  # of a group; as many as the shares allow unless given


class PackSettings(ImageSettings):
    """Settings of the steps `pack-train`, `pack-heldout` and `pack-verification`."""

    # A folder, a CSV or a .rec, or several of them; of verification, a folder or a .bin.
    root: Path | Mixture
    group: Name
    groups: Path | None = None  # of a .rec
    exclude: Path | None = None  # RFW's folder, whose identities are left out
    heldout: HeldOutIdentities | HeldOutSettings | None = None

    def of_sources(self) -> dict[str, PackSettings]:
        """Of each source the settings that read it alone; none where there is one place."""
        if isinstance(self.root, Path):
            return {}
        return {
            name: self.model_copy(update={"root": one.root, "groups": one.groups})
            for name, one in self.root.sources.items()
        }

    def lying_at(self, root: Any) -> PackSettings:
        """The same with images where dumped settings of a pack have them."""
        if isinstance(self.root, Path):
            return self.model_copy(update={"root": Path(root)} if isinstance(root, str) else {})
        then = root["sources"] if isinstance(root, Mapping) else {}
        sources = {
            name: one.model_copy(update={"root": Path(then[name]["root"])} if name in then else {})
            for name, one in self.root.sources.items()
        }
        return self.model_copy(update={"root": self.root.model_copy(update={"sources": sources})})

    def where(self) -> Path | str:
        """What a message calls the place of the images."""
        return self.root if isinstance(self.root, Path) else "data.train"


class PackUnlabelledSettings(ImageSettings):
    """Settings of the step `pack-unlabelled`."""

    root: Path


class CheckSettings(Step):
    """Settings of the step `check-data`."""

    expected: Literal["bupt-rfw"] | None = None
    overlap: Literal["error", "warn"] = "error"
    same_names: SameNames = None
    folds: Folds = 10
    # That the choice of epochs makes of the same pairs, None where it looks at others.
    selection_folds: Folds | None = None


class DataCardSettings(Step):
    """Settings of the step `describe-data`."""

    part: Part
    procedural: bool  # the faces are drawings, and the card must say so
    origin: OriginSettings = OriginSettings()


class Dealing(Step):
    """How identities are dealt to teachers (section 4.5: random, disjoint, balanced; D5)."""

    seed: int = 0


class Splits(Dealing):
    """Section `splits` of the config."""

    # Anew for each training seed. None where not, so that it is not written out.
    by_seed: Annotated[bool | None, AfterValidator(lambda value: value or None)] = None


# Of the identities of a specialized teacher, those of other groups.
ForeignShare = Annotated[float, Field(ge=0, le=1)]


class SplitSettings(Dealing):
    """Settings of the step `split`."""

    # Only where a share is not 0, so that the paper's splits are what they were.
    foreign_share: Annotated[float, Field(gt=0, le=1)] | None = None
    group: Name | None = None  # whose teacher's split it is
    training_seed: int | None = None  # of the teachers that it is drawn anew for

    @model_validator(mode="after")
    def _group_of_a_share(self) -> Self:
        if (self.foreign_share is None) != (self.group is None):
            raise ValueError("group where there is a foreign_share, and nowhere else")
        return self
