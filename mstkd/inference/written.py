"""What models are made into on the disk: embeddings, thresholds, imported weights."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.sources import provenance_of
from mstkd.artifacts.standing import WEIGHTS
from mstkd.config import CalibrationSettings, ImportSettings
from mstkd.config.data import Suffixes
from mstkd.data.formats.listing import read_unlabelled
from mstkd.data.sources import file_of
from mstkd.errors import InputError
from mstkd.inference.calibration import Calibration, calibration_path
from mstkd.inference.model import FaceModel
from mstkd.models.imported import import_model


class Imported(NamedTuple):
    """What was made of a checkpoint."""

    path: Path
    called: str  # its architecture
    left_out: tuple[str, ...]  # names of tensors
    is_adaptor: bool


def image_files(paths: Sequence[Path], more: Suffixes = None) -> list[Path]:
    """Images, and all below folders, in order; `more` are further endings of them.

    Raises:
        InputError: a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [file_of(image.source) for image in read_unlabelled(path, more)]
        else:
            found.append(path)
    return found


def write_embeddings(model: FaceModel, images: Sequence[Path], output: Path) -> None:
    """Write embeddings float32 (N, D) of unit length and names of images (N,) as .npz.

    Raises:
        InputError: another suffix, or an image that cannot be embedded.
    """
    if output.suffix != ".npz":
        raise InputError(output, found=output.suffix or "no suffix", expected=".npz")
    vectors = model.embed(list(images), progress=True)
    file = io.BytesIO()
    np.savez(file, embeddings=vectors, images=np.array([str(image) for image in images]))
    with replacing(output, needed=file.getbuffer().nbytes) as (part,):
        part.write_bytes(file.getvalue())


def write_calibration(model: FaceModel, pairs: Path, *, fmr: float) -> tuple[Calibration, Path]:
    """Write the threshold of a false match rate beside the weights; it, and where it lies.

    Raises:
        InputError: as `FaceModel.calibrated`.
    """
    output = calibration_path(model.path)
    found = model.calibrated(pairs, fmr=fmr)
    read = {model.path: model.card.sha256}
    if pairs.is_file():
        read |= hashed_contents([pairs])
    made = provenance_of("calibrate", CalibrationSettings(fmr=fmr), read, output)
    found = found.model_copy(update={"provenance": made})
    found.write(output)
    return found, output


def import_any(settings: ImportSettings, checkpoint: Path, output: Path) -> Imported:
    """Write a model of another program as one of this: weights, or ONNX with what is said of it.

    Args:
        settings: how images are shown to it.
        checkpoint: as `read_foreign` takes it, or an ONNX model.
        output: a folder; of an ONNX model a file ending in .onnx.

    Raises:
        InputError: as `import_model` and `import_onnx`.
    """
    if checkpoint.suffix == ".onnx":
        from mstkd.inference.onnx_network import import_onnx

        card = import_onnx(settings, checkpoint=checkpoint, output=output)
        return Imported(output, card.architecture, (), False)
    weights = output / WEIGHTS
    found = import_model(settings, checkpoint=checkpoint, output=weights)
    return Imported(weights, found.called, found.left_out, "adaptor" in found.settings)
