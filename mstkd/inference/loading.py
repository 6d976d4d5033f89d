"""`mstkd.load`: a model of this package, of another program or of ONNX, ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mstkd.artifacts.records import file_sha256
from mstkd.artifacts.standing import WEIGHTS, weights_of
from mstkd.compute.numerics import configure
from mstkd.config import BackboneSettings, InputSettings, validate
from mstkd.config.data import FurtherImages
from mstkd.config.inference import Colours
from mstkd.errors import InputError
from mstkd.inference.model import Card, FaceModel
from mstkd.inference.network import TorchNetwork
from mstkd.models.backbone import Backbone, parameters_of
from mstkd.models.foreign import read_foreign
from mstkd.models.weights import build_backbone, load_backbone, record_path, shown_as

RESULTS = Path("results")
SAID = "colours='rgb' or 'bgr', as it was trained: no file says it; or mstkd import-model once"


def load(
    path_or_name: str | Path,
    *,
    colours: Colours | None = None,
    normalisation: str | None = None,
    mirror: bool = True,
    device: str = "auto",
    threads: int | None = None,
    more_suffixes: Sequence[str] | None = None,
) -> FaceModel:
    """A model that embeds and compares aligned faces.

    Examples:
        >>> model = load("model.safetensors")
        >>> model.card.image_size, model.card.embedding_dim
        (16, 8)

    Args:
        path_or_name: weights with their model.json, the folder that holds them, an ONNX model, or
            the checkpoint of another program (docs/models.md); or its place below `results`, as
            `students/small/specialized/SL/EAF-KD`, without the seed where there is one alone.
        colours: of another program's model, the order that it was trained with.
        normalisation: of the same; `-1..1` unless given, `0..1`, `0..255`, `imagenet`, or
            `MEAN/STD` of pixels of 0 to 255.
        mirror: whether an embedding is that of the image plus that of its mirror image.
        device: "auto", "cpu", "cuda" or "cuda:1", say.
        threads: CPU threads; as the process has them unless given.
        more_suffixes: endings of further images to read, `[".bmp", ".tif"]` say, as
            `data.more_suffixes` has them.

    Raises:
        InputError: no such model, files that do not belong together, a checkpoint of another
            network, colours that are said of a model whose record says them, or not of one whose
            file does not, or endings that no decoder reads.
    """
    more = validate(FurtherImages, {"more_suffixes": more_suffixes}, "load").more_suffixes
    path = found_weights(path_or_name)
    said = {"colours": colours, "normalisation": normalisation}
    given = {key: value for key, value in said.items() if value is not None}
    is_onnx = path.suffix == ".onnx"
    if is_onnx:
        from mstkd.inference.onnx_network import load_onnx

        model = load_onnx(path, given, mirror=mirror, threads=threads)
        return replace(model, more_suffixes=more)
    if given and record_path(path).exists():
        expected = f"neither: {record_path(path).name} says them"
        raise InputError(path, found=" and ".join(given), expected=expected)
    where = configure(device, threads or torch.get_num_threads(), deterministic=False)
    network, card = _recorded(path) if record_path(path).exists() else _foreign(path, given)
    return FaceModel(path, card, TorchNetwork(network, where), mirror, more_suffixes=more)


def found_weights(path_or_name: str | Path) -> Path:
    """The file of a path or name.

    Raises:
        InputError: there is none, or several.
    """
    given = Path(path_or_name)
    for path in (given, RESULTS / given):
        if weights_of(path).is_file():
            return weights_of(path)
        seeds = sorted(path.glob(f"seed*/{WEIGHTS}"))
        if len(seeds) > 1:
            found = ", ".join(one.parent.name for one in seeds)
            raise InputError(path, found=found, expected="one of them")
        if seeds:
            return seeds[0]
    expected = f"weights, a folder with {WEIGHTS}, or such a folder below {RESULTS}"
    raise InputError(path_or_name, found="no such model", expected=expected)


def _recorded(path: Path) -> tuple[Backbone, Card]:
    network, record = load_backbone(path)
    subject = record.subject
    assert subject.kind != "adaptor", "no backbone"
    own = subject.kind != "imported"
    return network, Card(
        name=subject.name,
        kind=subject.kind,
        architecture=validate(BackboneSettings, record.built["backbone"], str(path)).called,
        image_size=record.image_size or 0,
        embedding_dim=network.embedding_dim,
        parameters=parameters_of(network),
        sha256=record.weights_sha256,
        seen=shown_as(record),
        trained_on=record.inputs,
        teacher_set=subject.set if own else None,
    )


def _foreign(path: Path, given: dict[str, str]) -> tuple[Backbone, Card]:
    if "colours" not in given:
        raise InputError(
            path,
            found=f"no {record_path(path).name} beside it",
            expected=SAID,
        )
    seen = validate(InputSettings, given, str(path))
    found = read_foreign(path)
    if found.image_size is None:
        raise InputError(path, found=f"an {found.called}", expected="a network that embeds images")
    network = build_backbone(
        validate(BackboneSettings, found.settings["backbone"], str(path)),
        embedding_dim=found.settings["embedding_dim"],
        image_size=found.image_size,
    )
    network.load_state_dict(found.state)
    network.show(seen)
    return network.eval(), Card(
        name=path.stem,
        kind="foreign",
        architecture=found.called,
        image_size=found.image_size,
        embedding_dim=found.settings["embedding_dim"],
        parameters=parameters_of(network),
        sha256=file_sha256(path),
        seen=seen,
        trained_on={},
    )
