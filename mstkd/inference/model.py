"""A face model that is asked: embeddings, verification, evaluation.

Shapes: N images, H their side in pixels, D embedding dimension.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.records import Record
from mstkd.config import CalibrationSettings, EvaluationSettings, InputSettings
from mstkd.config.data import Suffixes
from mstkd.data.given import GivenFaces
from mstkd.errors import InputError
from mstkd.evaluation.auditing.audit import Audit, audit
from mstkd.evaluation.evaluate import ScoredPacks, open_tested, scored_packs
from mstkd.inference.calibration import Calibration, GroupErrors, calibrate, read_calibration
from mstkd.inference.network import Network
from mstkd.inference.pairs import verification_packs
from mstkd.progress import progress as show_progress

if TYPE_CHECKING:
    from mstkd.data.given import Faces
    from mstkd.embeddings.embed import Rows

BATCH = 128  # images in flight; no embedding depends on it


class Card(Record):
    """What a model is."""

    name: str
    kind: Literal["teacher", "student", "imported", "foreign", "onnx"]
    architecture: str
    image_size: int  # pixels
    embedding_dim: int
    parameters: int | None  # None where they are not counted
    sha256: str  # of the file of weights
    seen: InputSettings  # how images are shown to it; it is given RGB of 0 to 255 all the same
    trained_on: dict[str, str]  # hashes of what it was made from, by name
    teacher_set: str | None = None  # of this package's own


class Verification(NamedTuple):
    """Whether two images show one person, as a model sees it."""

    similarity: float  # the cosine, -1 to 1
    threshold: float | None  # of at least which pairs are taken for one person; None: not known
    same: bool | None  # the decision; None without a threshold
    errors: dict[str, GroupErrors]  # error rates of each group at that threshold


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A model that embeds aligned faces; `mstkd.load` gives one.

    Args:
        path: its weights.
        card: what it is.
        network: what computes.
        mirror: whether an embedding is that of the image plus that of its mirror image, as in the
            paper's verification (D9). Similarities, thresholds and error rates are of one use.
        enclosed: the calibration that is in the file itself, where one is.
        more_suffixes: endings of further formats of images to read (`data.more_suffixes`).
    """

    path: Path
    card: Card
    network: Network
    mirror: bool = True
    enclosed: Calibration | None = None
    more_suffixes: Suffixes = None

    # ---------------------------------------------------------------- asking

    def embed(
        self, images: Faces, *, batch: int = BATCH, progress: bool = False
    ) -> NDArray[np.float32]:
        """Embeddings of unit length (N, D) of aligned faces.

        Examples:
            >>> model.embed(["a.png", "b.png"]).shape
            (2, 8)

        Args:
            images: one or several of: the path of an image, an array uint8 (H, H, 3) RGB, a tensor
                uint8 (3, H, H) RGB; or an array (N, H, H, 3) or a tensor (N, 3, H, H) of many.
            batch: images at a time, for memory.
            progress: whether to show on stderr how far it is.

        Raises:
            InputError: an image that cannot be read, has another size or type, or whose embedding
                is zero or not finite.
        """
        faces = GivenFaces(images, self.card.image_size, self.more_suffixes)
        vectors = self._vectors(faces, batch=batch, progress=progress)
        units = vectors.astype(np.float64)
        lengths = np.sqrt(np.vecdot(units, units))
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            expected = "finite numbers, not all of them zero"
            raise InputError(
                faces.names[int(bad[0])], found="an embedding without direction", expected=expected
            )
        return (units / lengths[:, None]).astype(np.float32)

    def verify(self, one: Faces, other: Faces, *, threshold: float | None = None) -> Verification:
        """Whether two images show one person.

        Examples:
            >>> found = model.verify("a.png", "a.png", threshold=0.5)
            >>> round(found.similarity, 3), found.same
            (1.0, True)

        Args:
            one: an image, as `embed` takes it.
            other: the other.
            threshold: the least similarity of one person; that of the model's calibration unless
                given, for which error rates by group are known too.

        Raises:
            InputError: as `embed`; several images; a threshold that is no finite number; the
                calibration is of another model or use.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise InputError("threshold", found=threshold, expected="a finite number")
        vectors = [self.embed(image).astype(np.float64) for image in (one, other)]
        if [len(vector) for vector in vectors] != [1, 1]:
            found = " and ".join(str(len(vector)) for vector in vectors)
            raise InputError("images", found=found, expected="one and one")
        similarity = float(np.clip(vectors[0][0] @ vectors[1][0], -1, 1))
        known = None if threshold is not None else self.calibration()
        at = threshold if known is None else known.threshold
        same = None if at is None else similarity >= at
        return Verification(similarity, at, same, {} if known is None else dict(known.groups))

    def evaluate(
        self,
        pairs: str | Path,
        *,
        thresholds: Sequence[float] = (),
        fmrs: Sequence[float] = (),
        folds: int = 10,
    ) -> Audit:
        """Every measure of the model on verification pairs, group by group, with intervals.

        Args:
            pairs: as of `mstkd audit --model`: a verification pack or a folder of them, or aligned
                images in a layout of verification data (docs/real-data.md).
            thresholds: similarities at which error rates are taken.
            fmrs: global false match rates at which they are; as `mstkd.audit` unless given.
            folds: of lists that have none.

        Raises:
            InputError: a fault of the pairs or of an image.
        """
        with self.packs(pairs) as packs:
            table = self.score(packs, folds=folds).table
        return audit({self.card.name: table}, thresholds=thresholds, fmrs=fmrs)

    # ---------------------------------------------------------------- thresholds

    def calibration(self) -> Calibration | None:
        """The threshold recorded for the model; None where there is none.

        Raises:
            InputError: the record is damaged, or of other weights or another use of them.
        """
        found = read_calibration(self.path, self.card.sha256)
        if found is None:
            return self.enclosed
        if (found.mirror, found.seen) != (self.mirror, self.card.seen):
            told = [
                f"mirror={mirror}, {seen.colours}, {seen.normalisation}"
                for mirror, seen in ((found.mirror, found.seen), (self.mirror, self.card.seen))
            ]
            mirror = "" if self.mirror else " --no-mirror"
            expected = (
                f"{told[1]}, as it is loaded; mstkd calibrate{mirror} sets a threshold for that"
            )
            raise InputError(f"{self.path}: calibration", found=told[0], expected=expected)
        return found

    def calibrated(self, pairs: str | Path, *, fmr: float, folds: int = 10) -> Calibration:
        """A threshold for a false match rate on verification pairs, not yet written.

        Args:
            pairs: as `evaluate` takes them.
            fmr: the rate, of all groups together.
            folds: of lists that have none; they are not used, but every list has them.

        Raises:
            InputError: a fault of the pairs, or too few impostor pairs for that rate.
        """
        settings = CalibrationSettings(fmr=fmr)
        with self.packs(pairs) as packs:
            table = self.score(packs, folds=folds).table
        return calibrate(
            settings,
            table,
            weights_sha256=self.card.sha256,
            mirror=self.mirror,
            seen=self.card.seen,
        )

    # ---------------------------------------------------------------- packs

    def score(self, packs: Sequence[Path], *, folds: int = 10) -> ScoredPacks:
        """The cosines of all pairs of verification packs, a group each.

        Raises:
            InputError: a pack of another size than the model takes, or too few pairs for the folds.
        """
        sizes = {self.path: self.card.image_size}
        opened = open_tested(packs, EvaluationSettings(folds=folds).folds, sizes)
        embeddings = [self._vectors(pack.images) for pack in opened]
        return scored_packs(opened, embeddings, folds)

    def shown(self, seen: InputSettings) -> FaceModel:
        """The model, but that images are shown to it in another way."""
        card = self.card.model_copy(update={"seen": seen})
        return replace(self, card=card, network=self.network.shown(seen))

    @contextlib.contextmanager
    def packs(self, pairs: str | Path) -> Iterator[list[Path]]:
        """The packs of some pairs; those that have to be made are there for a while.

        Raises:
            InputError: a fault of the pairs or of an image.
        """
        with tempfile.TemporaryDirectory() as folder:
            yield verification_packs(
                Path(pairs),
                image_size=self.card.image_size,
                output=Path(folder),
                more=self.more_suffixes,
            )

    def _vectors(
        self, images: Rows, *, batch: int = BATCH, progress: bool = False
    ) -> NDArray[np.float32]:
        """Embeddings (N, D) of any length."""
        if batch < 1:
            raise InputError("batch", found=batch, expected="at least 1")
        rows = [slice(at, min(at + batch, len(images))) for at in range(0, len(images), batch)]
        if not progress:
            return self.network.embed(images, rows, mirror=self.mirror)
        with show_progress("embed", len(images), "images") as advance:
            return self.network.embed(_Told(images, advance), rows, mirror=self.mirror)


class _Told:
    """Images that tell when they are read."""

    def __init__(self, images: Rows, advance: Callable[[int], None]) -> None:
        self._images, self._advance = images, advance

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        read = self._images[rows]
        self._advance(len(read))
        return read
