"""A model as one file for other programs: ONNX, or a program of `torch.export`.

Either takes images uint8 (N, H, H, 3), RGB, as a picture is decoded, any number of them, and gives
embeddings float32 (N, D) of unit length: normalisation, the mirror image and the length are inside,
so that a threshold holds for what comes out. What the model is stands in the file's metadata.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.records import Record
from mstkd.errors import InputError
from mstkd.inference.calibration import Calibration
from mstkd.inference.model import Card, FaceModel
from mstkd.inference.network import TorchNetwork
from mstkd.models.backbone import Backbone, folded
from mstkd.models.iresnet import PReLU

OPSET = 18
METADATA = "mstkd"  # the key, in ONNX; the name of a file in it, of `torch.export`
EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir")  # their loggers
EXTRA = "the extra onnx: pip install 'mstkd[onnx]'"
INPUT, OUTPUT = "images", "embeddings"


class Exported(Record):
    """What an ONNX model says of itself."""

    format: Literal["mstkd-exported"] = "mstkd-exported"
    card: Card
    mirror: bool
    calibration: Calibration | None
    quantised: bool = False
    inside: bool = True  # whether the graph does all that is done to images, as of an export
    opset: int | None = None  # None of `torch.export`
    # Of an export, for who writes a program that runs it.
    input: str = "images: uint8 (N, H, H, 3), RGB, aligned faces of the card's image_size"
    output: str = "embeddings: float32 (N, D), of unit length"


class Deployed(nn.Module):
    """Images uint8 (N, H, H, 3), RGB, to embeddings (N, D) of unit length.

    Args:
        network: is left as it is.
        mirror: whether to add the embedding of the mirror image.
    """

    def __init__(self, network: Backbone, *, mirror: bool) -> None:
        super().__init__()
        self.network = folded(network).cpu().to(memory_format=torch.contiguous_format)
        self.mirror = mirror
        for holder in list(self.network.modules()):
            for name, part in list(holder.named_children()):
                if isinstance(part, PReLU):  # whose own backward pass no exporter knows
                    plain = nn.PReLU(part.num_parameters)
                    plain.load_state_dict(part.state_dict())
                    holder.add_module(name, plain)

    def forward(self, images: Tensor) -> Tensor:
        seen = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        embeddings: Tensor = self.network(seen)
        if self.mirror:
            embeddings = embeddings + self.network(seen.flip(3))
        return functional.normalize(embeddings)


def export(model: FaceModel, output: Path, *, single: bool = False) -> Exported:
    """Write a model as `.onnx` or `.pt2`, by the suffix of the output.

    Args:
        model: of PyTorch.
        output: the file.
        single: whether it takes one image at a time, and not any number.

    Returns:
        The metadata that is in it.

    Raises:
        InputError: another suffix, a model that is ONNX itself, or packages are missing; a
            calibration that is not the model's.
    """
    if output.suffix not in (".onnx", ".pt2"):
        raise InputError(output, found=output.suffix or "no suffix", expected=".onnx or .pt2")
    if not isinstance(model.network, TorchNetwork):
        raise InputError(model.path, found="an ONNX model", expected="one of PyTorch")
    is_onnx = output.suffix == ".onnx"
    told = Exported(
        card=model.card,
        mirror=model.mirror,
        calibration=model.calibration(),
        opset=OPSET if is_onnx else None,
    )
    network = Deployed(model.network.network, mirror=model.mirror).eval()
    size = model.card.image_size
    # Of an example of one image a graph is made that does for one alone.
    example = torch.zeros(1 if single else 2, size, size, 3, dtype=torch.uint8)
    dynamic = None if single else ({0: torch.export.Dim("batch", min=1, max=2**16)},)
    with quietly(*EXPORTERS):
        program = torch.export.export(network, (example,), dynamic_shapes=dynamic, strict=False)
        data = _as_onnx(program, told) if is_onnx else _as_program(program, told)
    with replacing(output, needed=len(data)) as (part,):
        part.write_bytes(data)
    return told


def with_metadata(proto: Any, told: Exported) -> bytes:
    """An ONNX model with its metadata, as bytes.

    Raises:
        InputError: it is no valid model.
    """
    import onnx

    onnx.helper.set_model_props(proto, {METADATA: told.model_dump_json()})
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString()
    return data


def needs(*packages: str) -> None:
    """Refuse what an extra is needed for that is not installed.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError("ONNX", found=f"no package {', '.join(missing)}", expected=EXTRA)


@contextlib.contextmanager
def quietly(*loggers: str) -> Iterator[None]:
    """Without what exporters say to those who write them.

    Args:
        loggers: names of those that say no less than errors.
    """
    levels = {logger: logger.level for logger in map(logging.getLogger, loggers)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _as_onnx(program: Any, told: Exported) -> bytes:
    needs("onnx", "onnxscript")
    made = torch.onnx.export(
        program,
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert made is not None, "a program was given"
    proto = made.model_proto
    proto.producer_name = "mstkd"
    del proto.metadata_props[:]
    return with_metadata(proto, told)


def _as_program(program: Any, told: Exported) -> bytes:
    file = io.BytesIO()
    extra = {f"{METADATA}.json": json.dumps(told.model_dump(mode="json"))}
    torch.export.save(program, file, extra_files=extra)
    return file.getvalue()
