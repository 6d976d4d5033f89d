"""Checkpoints that other programs wrote: what network they are of, under which names.

Public IResNets come as state dicts: of ArcFace and those who took its code (ElasticFace, MST-KD)
under the names of `iresnet`; of AdaFace under its own. The network is recognised by names and
shapes, and a file that is not of it to the last tensor is refused: half a model embeds faces too.
Whether it was shown RGB or BGR no file says.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mstkd.config import AdaptorArchitecture, BackboneSettings, validate
from mstkd.errors import InputError
from mstkd.models.adaptors import build_adaptor
from mstkd.models.iresnet import BATCH_NORM_EPS, BLOCKS, DOWNSCALING, WIDTHS
from mstkd.models.weights import build_backbone

EXPECTED = "a state dict of an IResNet, of ArcFace's, ElasticFace's, AdaFace's or MST-KD's names"
SHOWN = 8  # names of a refusal; the rest are counted
COUNTER = ".num_batches_tracked"  # older versions of PyTorch kept none
# A tensor that each layout has, behind whatever a program wrapped its network in.
ANCHORS = {
    "iresnet": "layer1.0.conv1.weight",
    "adaface": "body.0.res_layer.1.weight",
    "two layers": "fc1.weight",
    "one layer": "fc.weight",
}
# Registered and never used by the public adaptors (D13).
UNUSED = re.compile(r"attention\..+|key_vector|value_vector")
# AdaFace's names of what stands outside of its blocks, and within one.
OUTSIDE = {
    "input_layer.0": "conv1",
    "input_layer.1": "bn1",
    "input_layer.2": "prelu",
    "output_layer.0": "bn2",
    "output_layer.3": "fc",
    "output_layer.4": "features",
}
INSIDE = {
    "shortcut_layer.0": "downsample.0",
    "shortcut_layer.1": "downsample.1",
    "res_layer.0": "bn1",
    "res_layer.1": "conv1",
    "res_layer.2": "bn2",
    "res_layer.3": "prelu",
    "res_layer.4": "conv2",
    "res_layer.5": "bn3",
}

State = dict[str, Tensor]


class Foreign(NamedTuple):
    """A network of another program's checkpoint, in this package's names.

    `state` has the names and shapes of the network that `settings` describe, floats as float32.
    """

    settings: dict[str, Any]  # `embedding_dim`, and `backbone` or `adaptor`
    image_size: int | None  # pixels; None of an adaptor
    state: State
    called: str  # the architecture, for people
    left_out: tuple[str, ...]  # names of tensors that are not of the network


def read_foreign(path: Path) -> Foreign:
    """The network in a checkpoint: safetensors, or what `torch.save` wrote, tensors alone.

    Args:
        path: of a file; nothing in it is executed.

    Raises:
        InputError: it cannot be read, holds none of the known networks or two of them, or not all
            of one; missing and unexpected names are told.
    """
    return _recognised(_tensors(path), path)


# ---------------------------------------------------------------- files


def _tensors(path: Path) -> State:
    """All tensors of a file, nested ones under dotted names."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected=EXPECTED) from None
    except pickle.UnpicklingError as error:
        kind = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", str(error))
        found = f"objects that are no tensors ({kind[1]})" if kind else "no checkpoint of PyTorch"
        expected = (
            "a file of tensors alone; the program that wrote it can save its state_dict() by itself"
        )
        raise InputError(path, found=found, expected=expected) from None
    except (
        *(safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError),
        *(LookupError, TypeError, AttributeError, zipfile.BadZipFile),  # of damaged bytes
    ) as error:
        found = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(path, found=found, expected=EXPECTED) from None
    found_tensors = dict(_flat(loaded, ""))
    if not found_tensors:
        raise InputError(path, found="no tensors", expected=EXPECTED)
    return found_tensors


def _flat(value: Any, name: str) -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))


# ---------------------------------------------------------------- layouts


def _recognised(tensors: State, path: Path) -> Foreign:
    for layout, anchor in ANCHORS.items():
        ends = [name for name in tensors if name == anchor or name.endswith(f".{anchor}")]
        if not ends:
            continue
        if len(ends) > 1:
            found = f"{len(ends)} networks: {_listed(ends)}"
            raise InputError(path, found=found, expected="one, as of a model that is deployed")
        prefix = ends[0].removesuffix(anchor)
        inside = {
            name.removeprefix(prefix): one
            for name, one in tensors.items()
            if name.startswith(prefix)
        }
        outside = [name for name in tensors if not name.startswith(prefix)]
        try:
            return READERS[layout](inside, outside, path)
        except KeyError as error:
            found = f"{anchor} without {error.args[0]}"
            raise InputError(path, found=found, expected=EXPECTED) from None
    raise InputError(path, found=f"the tensors {_listed(tensors)}", expected=EXPECTED)


def _iresnet(state: State, outside: list[str], path: Path) -> Foreign:
    blocks = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    widths = tuple(int(state[f"layer{stage}.0.conv2.weight"].shape[0]) for stage in (1, 2, 3, 4))
    dim, columns = (int(one) for one in state["fc.weight"].shape)
    side = math.isqrt(columns // widths[-1]) * DOWNSCALING
    name = next((name for name, known in BLOCKS.items() if known == blocks), None)
    plain: dict[str, Any] = {"architecture": name}
    if name is None or widths != WIDTHS:
        plain = {"blocks": blocks, "widths": widths}
    backbone = validate(BackboneSettings, plain, str(path))
    with torch.device("meta"):
        try:
            network = build_backbone(backbone, embedding_dim=dim, image_size=side)
        except ValueError as error:
            found = f"{columns} columns of fc.weight: {error}"
            raise InputError(path, found=found, expected=EXPECTED) from None
    settings = {"backbone": plain, "embedding_dim": dim}
    fitting = _fitting(state, network, path)
    return Foreign(settings, side, fitting, backbone.called, tuple(outside))


def _adaface(state: State, outside: list[str], path: Path) -> Foreign:
    """The same network under other names, but for two things that it leaves out.

    Its first block takes every second pixel as it is where `iresnet` has a convolution of one pixel
    and a normalisation, and its last normalisation scales nothing. Both are written out, by a
    convolution that changes nothing, so that one network stands for either.
    """
    blocks, stage, inputs = 0, 0, 0
    renamed: State = {}
    names: dict[str, str] = dict(OUTSIDE)
    for number in range(_count(state, r"body\.(\d+)\.")):
        width, before = state[f"body.{number}.res_layer.1.weight"].shape[:2]
        stage, blocks = (stage + 1, 0) if number == 0 or width != before else (stage, blocks + 1)
        inputs = int(before) if number == 0 else inputs
        names |= {
            f"body.{number}.{theirs}": f"layer{stage}.{blocks}.{ours}"
            for theirs, ours in INSIDE.items()
        }
    for name, one in state.items():
        layer, _, part = name.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{part}" if layer else name] = one
    if "layer1.0.downsample.0.weight" not in renamed:
        renamed["layer1.0.downsample.0.weight"] = torch.eye(inputs)[:, :, None, None]
        renamed |= _changing_nothing("layer1.0.downsample.1", inputs)
    if "features.running_mean" in renamed and "features.weight" not in renamed:
        renamed["features.weight"] = torch.ones_like(renamed["features.running_mean"])
        renamed["features.bias"] = torch.zeros_like(renamed["features.running_mean"])
    return _iresnet(renamed, outside, path)


def _changing_nothing(name: str, width: int) -> State:
    """A batch normalisation that gives what it is given."""
    variance = torch.full((width,), 1 - BATCH_NORM_EPS)
    return {
        f"{name}.weight": torch.ones(width),
        f"{name}.bias": torch.zeros(width),
        f"{name}.running_mean": torch.zeros(width),
        f"{name}.running_var": variance,
    }


def _adaptor(state: State, outside: list[str], path: Path) -> Foreign:
    two = "fc1.weight" in state
    unused = [name for name in state if UNUSED.fullmatch(name)]
    used = {name: one for name, one in state.items() if name not in unused}
    dim, columns = (int(one) for one in state["fc1.weight" if two else "fc.weight"].shape)
    if columns % dim:
        found = f"{columns} columns for {dim} dimensions"
        raise InputError(path, found=found, expected="an adaptor of whole teachers")
    # DLDP differs from DuL in training alone: no tensor tells them apart.
    plain = {"architecture": "DuL" if two else "SL"}
    with torch.device("meta"):
        architecture = validate(AdaptorArchitecture, plain, str(path))
        network = build_adaptor(architecture, columns // dim, dim)
    called = f"adaptor of {columns // dim} teachers, {'DuL or DLDP' if two else 'SL'}"
    settings = {"adaptor": plain, "embedding_dim": dim}
    return Foreign(settings, None, _fitting(used, network, path), called, (*outside, *unused))


READERS: dict[str, Callable[[State, list[str], Path], Foreign]] = {
    "iresnet": _iresnet,
    "adaface": _adaface,
    "two layers": _adaptor,
    "one layer": _adaptor,
}


def _count(state: State, pattern: str) -> int:
    """How many numbers stand in names, 0 the first."""
    found = {int(match[1]) for name in state if (match := re.match(pattern, name))}
    return max(found, default=-1) + 1


def _fitting(state: State, network: nn.Module, path: Path) -> State:
    """The tensors as the network has them.

    Raises:
        InputError: the names are others, a shape is, or a number is not finite.
    """
    own = network.state_dict()
    state = {name: torch.tensor(0) for name in own if name.endswith(COUNTER)} | state
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        told = {"missing": missing, "unexpected": unexpected}
        found = "; ".join(f"{len(names)} {how}: {_listed(names)}" for how, names in told.items())
        raise InputError(path, found=found, expected=EXPECTED)
    for name, one in own.items():
        if state[name].shape != one.shape:
            shapes = {"found": tuple(state[name].shape), "expected": tuple(one.shape)}
            raise InputError(f"{path}: {name}", **shapes)
    fitting = {name: state[name].to(one.dtype).contiguous() for name, one in own.items()}
    for name, one in fitting.items():
        if not one.isfinite().all():
            found = f"a number that is not finite, of {state[name].dtype}"
            raise InputError(f"{path}: {name}", found=found, expected="finite numbers")
    return fitting


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more if every else "none"
