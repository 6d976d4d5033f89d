"""Models in ONNX, run by onnxruntime: this package's exports and other programs' models.

Shapes: N images, H their side in pixels, D embedding dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.records import file_sha256, parse_record
from mstkd.config import ImportSettings, InputSettings, validate
from mstkd.config.inference import mean_and_std
from mstkd.embeddings.embed import Rows
from mstkd.errors import InputError
from mstkd.inference.export import METADATA, Exported, needs, with_metadata
from mstkd.inference.loading import SAID
from mstkd.inference.model import Card, FaceModel

EXPECTED = "an ONNX model of faces (N, 3, H, H) float32 or (N, H, H, 3) uint8 to embeddings (N, D)"
ALIKE = 1e-3  # relative difference of an image's embedding in two batches, above which they differ


class OnnxNetwork:
    """An ONNX model whose input is float32 (N, 3, H, H), normalised outside of it.

    Args:
        session: of onnxruntime.
        seen: how images are shown to it.
        batch: the one number of images that it takes; None for any.
    """

    def __init__(self, session: Any, seen: InputSettings, batch: int | None) -> None:
        self._session, self._seen, self._batch = session, seen, batch
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def embed(self, images: Rows, rows: Sequence[slice], *, mirror: bool) -> NDArray[np.float32]:
        parts = []
        for part in rows:
            pixels = images[part]
            vectors = self._run(pixels)
            if mirror:
                vectors = vectors + self._run(pixels[:, :, ::-1])
            parts.append(vectors)
        found: NDArray[np.float32] = np.concatenate(parts)
        return found

    def shown(self, seen: InputSettings) -> OnnxNetwork:
        return OnnxNetwork(self._session, seen, self._batch)

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        mean, std = np.array(mean_and_std(self._seen.normalisation), np.float32)
        seen = (pixels.astype(np.float32) - mean) / std
        if self._seen.colours == "bgr":
            seen = seen[..., ::-1]
        return self._batches(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)))

    def _batches(self, given: NDArray[Any]) -> NDArray[np.float32]:
        """Embeddings (N, D), in batches of the one size where there is one."""
        if self._batch is None or not len(given):
            return self._session.run([self._output], {self._input: given})[0]
        short = -len(given) % self._batch
        padded = np.concatenate([given, np.repeat(given[-1:], short, axis=0)])
        parts = [
            self._session.run([self._output], {self._input: padded[at : at + self._batch]})[0]
            for at in range(0, len(padded), self._batch)
        ]
        found: NDArray[np.float32] = np.concatenate(parts)[: len(given)]
        return found


class ExportedNetwork(OnnxNetwork):
    """This package's export: its input is uint8 (N, H, H, 3) RGB, all else is done inside."""

    def embed(self, images: Rows, rows: Sequence[slice], *, mirror: bool) -> NDArray[np.float32]:
        return super().embed(images, rows, mirror=False)

    def shown(self, seen: InputSettings) -> OnnxNetwork:
        expected = f"{self._seen.colours} and {self._seen.normalisation}, which are in the graph"
        raise InputError("an exported model", found="another input", expected=expected)

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._batches(np.ascontiguousarray(pixels))


def load_onnx(
    path: Path, said: Mapping[str, str], *, mirror: bool, threads: int | None
) -> FaceModel:
    """A model of an ONNX file, on the CPU.

    Args:
        path: the file.
        said: colours and normalisation, of a model that another program exported.
        mirror: whether to add the embeddings of mirror images; of this package's exports as they
            were made.
        threads: CPU threads; as many as there are cores unless given.

    Raises:
        InputError: onnxruntime is missing or refuses it, it embeds no images, colours are not said
            or said in vain, or an image's embedding depends on what else is in the batch.
    """
    needs("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # of several kinds, none of them with a common ancestor
        found = str(error).strip().splitlines()[0]
        raise InputError(path, found=found, expected=EXPECTED) from None
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    told = None if text is None else parse_record(Exported, text, path)
    inside = told is not None and told.inside
    batch, size, dim = _shapes(session, inside, path)
    if told is not None and said:
        raise InputError(path, found=" and ".join(said), expected="neither: the file says them")
    if told is None and "colours" not in said:
        raise InputError(path, found="an ONNX model of another program", expected=SAID)
    if told is None:
        seen = validate(InputSettings, dict(said), str(path))
        card = _foreign_card(path, seen, size, dim)
    else:
        card = told.card.model_copy(update={"kind": "onnx", "sha256": file_sha256(path)})
    kind = ExportedNetwork if inside else OnnxNetwork
    network = kind(session, card.seen, batch)
    _check_batches(network, size, path)
    if told is None or not inside:
        return FaceModel(path, card, network, mirror)
    return FaceModel(path, card, network, told.mirror, told.calibration)


def import_onnx(settings: ImportSettings, *, checkpoint: Path, output: Path) -> Card:
    """Write another program's ONNX model with how images are shown to it in its metadata.

    Args:
        settings: the order of colours and the normalisation that it was trained with.
        checkpoint: the model.
        output: a file ending in .onnx.

    Raises:
        InputError: as `load_onnx`; or it says such things of itself already.
    """
    needs("onnx")
    import onnx

    said = {"colours": settings.colours, "normalisation": settings.normalisation}
    card = load_onnx(checkpoint, said, mirror=True, threads=1).card
    told = Exported(card=card, mirror=True, calibration=None, inside=False, input="", output="")
    data = with_metadata(onnx.load(checkpoint), told)
    with replacing(output, needed=len(data)) as (part,):
        part.write_bytes(data)
    return card


def _foreign_card(path: Path, seen: InputSettings, size: int, dim: int) -> Card:
    """What is known of another program's ONNX model."""
    return Card(
        name=path.stem,
        kind="onnx",
        architecture="of another program",
        image_size=size,
        embedding_dim=dim,
        parameters=None,
        sha256=file_sha256(path),
        seen=seen,
        trained_on={},
    )


def _shapes(session: Any, inside: bool, path: Path) -> tuple[int | None, int, int]:
    """Images at a time (None for any), their side and the embedding dimension."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    given = inputs[0].shape if inputs else []
    kind, channels, side = ("uint8", 3, 1) if inside else ("float", 1, 2)
    made = outputs[0].shape if outputs else []
    right = len(inputs) == 1 and len(given) == 4 and len(made) == 2
    if not right or inputs[0].type != f"tensor({kind})" or given[channels] != 3:
        found = "; ".join(f"{one.name} {one.type} {one.shape}" for one in (*inputs, *outputs))
        raise InputError(path, found=found, expected=EXPECTED)
    size, dim = given[side], made[1]
    if not isinstance(size, int) or not isinstance(dim, int):
        found = f"a side of {size} and {dim} dimensions"
        raise InputError(path, found=found, expected="an ONNX model that fixes both as numbers")
    return (given[0] if isinstance(given[0], int) else None), size, dim


def _check_batches(network: OnnxNetwork, size: int, path: Path) -> None:
    """Refuse a model whose embedding of an image depends on the batch: a known fault of exports."""
    faces = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    every = [slice(0, 3)], [slice(0, 1), slice(1, 2), slice(2, 3)]
    try:
        together, alone = (network.embed(faces, rows, mirror=False) for rows in every)
    except Exception as error:
        found = str(error).strip().splitlines()[0]
        raise InputError(path, found=found, expected="a model that takes any batch") from None
    if not np.abs(together - alone).max() <= ALIKE * np.abs(alone).max():
        found = f"embeddings that differ by {np.abs(together - alone).max():.3g} in another batch"
        raise InputError(path, found=found, expected="the same alone and among others")
