"""Models on disk: model.safetensors with model.json and history.csv beside it.

A file that does not fit is an error, never a warning: training on with random weights is how
results go wrong unseen (D23).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field, Strict
from torch import Tensor, nn

from mstkd.artifacts.atomic import NO_ROOM_TOLD, naming, replacing
from mstkd.artifacts.records import Computed, ModelRecord, Subject, file_sha256, read_record
from mstkd.artifacts.sources import source_list
from mstkd.config import AdaptorArchitecture, BackboneSettings, InputSettings, validate
from mstkd.config.base import Dimensions, Names, Settings, Side
from mstkd.errors import InputError, anew
from mstkd.models.adaptors import DLDP, SL, DuL, build_adaptor
from mstkd.models.backbone import Backbone
from mstkd.models.iresnet import BLOCKS, WIDTHS, IResNet
from mstkd.models.mobilefacenet import MobileFaceNet
from mstkd.models.timm import Timm


def build_backbone(settings: BackboneSettings, *, embedding_dim: int, image_size: int) -> Backbone:
    """The network that the settings describe, freshly initialised.

    Raises:
        InputError: it is of timm, which is not there or has no such network.
    """
    build: Callable[..., Backbone] = MobileFaceNet
    if settings.timm is not None:
        build = partial(Timm, settings.timm)
    elif settings.architecture != "mobilefacenet":
        blocks = settings.blocks or BLOCKS[str(settings.architecture)]
        build = partial(IResNet, blocks, widths=settings.widths or WIDTHS)
    return build(embedding_dim=embedding_dim, dropout=settings.dropout, image_size=image_size)


def record_path(weights: Path) -> Path:
    """model.json beside the weights."""
    return weights.with_suffix(".json")


def history_path(weights: Path) -> Path:
    """history.csv beside the weights."""
    return weights.with_name("history.csv")


def events_folder(weights: Path) -> Path:
    """The folder of TensorBoard's events beside the weights."""
    return weights.with_name("events")


def save_model(
    output: Path,
    *,
    state: Mapping[str, Tensor],
    history: Sequence[Mapping[str, Any]],
    subject: Subject,
    settings: Mapping[str, Any],
    image_size: int | None,
    inputs: Mapping[str, str],
    chosen_epoch: int,
    chosen_by: str,
    sources: Mapping[Path, str] | None = None,
    precision: Computed | None = None,
    found: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, record and history; the weights appear last.

    Without rows there is no history: of a model that was trained elsewhere. `inputs` are the
    hashes that later steps compare, `sources` the files that were read; `precision` is the one in
    which the network computed; `found` is as in `ModelRecord`.
    """
    needed = sum(tensor.nbytes for tensor in state.values())
    files = [*([history_path(output)] if history else ()), record_path(output), output]
    with replacing(*files, needed=needed) as (*rows, record, weights):
        for one in rows:
            with naming(one), one.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(history[0]))
                writer.writeheader()
                writer.writerows(history)
        _save({name: tensor.contiguous() for name, tensor in state.items()}, weights)
        made = ModelRecord(
            subject=subject,
            settings=dict(settings),
            found=None if found is None else dict(found),
            image_size=image_size,
            inputs=dict(inputs),
            weights_sha256=file_sha256(weights),
            history_sha256=file_sha256(rows[0]) if rows else None,
            chosen_epoch=chosen_epoch,
            chosen_by=chosen_by,
            sources=source_list(sources or {}, output),
            precision=precision,
        )
        with naming(record):
            record.write_text(made.text(), encoding="utf-8")


def _save(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors; where the disk is full, raise what Python would."""
    try:
        safetensors.torch.save_file(state, path)
    except safetensors.SafetensorError as error:
        code = NO_ROOM_TOLD.search(str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def is_saved(
    output: Path,
    *,
    subject: Subject,
    settings: Mapping[str, Any],
    image_size: int | None,
    inputs: Mapping[str, str],
    sources: Mapping[Path, str],
) -> bool:
    """Whether `save_model` has written these files for the same model, and they are still whole."""
    try:
        record = read_record(ModelRecord, record_path(output))
        whole = (
            file_sha256(output) == record.weights_sha256
            and file_sha256(history_path(output)) == record.history_sha256
        )
    except (InputError, OSError):
        return False
    return whole and (
        (record.subject, record.settings, record.image_size) == (subject, settings, image_size)
        and record.inputs == inputs
        and record.sources == source_list(sources, output)
    )


def load_backbone(path: Path) -> tuple[Backbone, ModelRecord]:
    """A teacher, a student or an imported network in evaluation mode, with its record.

    All take images in [-1, 1], RGB: what an imported one wants is done inside of it.

    Raises:
        InputError: a file is missing, the two do not belong together, or the weights are not
            those of the recorded architecture.
    """
    record = _read(path, ("teacher", "student", "imported"))
    told = {key: record.built.get(key) for key in _Built.model_fields}
    asked = {key: value for key, value in told.items() if value is not None}
    built = validate(
        _Built, {**asked, "image_size": record.image_size}, f"{record_path(path)}: settings"
    )

    def build() -> Backbone:
        return build_backbone(
            built.backbone, embedding_dim=built.embedding_dim, image_size=built.image_size
        )

    _refuse_larger(build, path)
    model = build()
    load_weights(model, path)
    model.show(built)
    return model.eval(), record


def shown_as(record: ModelRecord) -> InputSettings:
    """How images are shown to the network of a record.

    Raises:
        InputError: the record says what no network is shown.
    """
    told = {key: record.built[key] for key in InputSettings.model_fields if key in record.built}
    return validate(InputSettings, told, "settings")


class _Built(InputSettings):
    """What a backbone is built by."""

    backbone: BackboneSettings
    embedding_dim: Annotated[Dimensions, Strict()]
    image_size: Annotated[Side, Field(multiple_of=16)]


def _refuse_larger(build: Callable[[], nn.Module], path: Path) -> None:
    """Refuse a network that is larger than its file before it takes any memory.

    Raises:
        InputError: it is.
    """
    with torch.device("meta"):
        needed = sum(tensor.numel() for tensor in build().state_dict().values())
    found = path.stat().st_size
    if needed > found:  # of whatever type, a number takes a byte
        expected = f"{needed:,} numbers, as {record_path(path).name} describes the network"
        raise InputError(path, found=f"{found:,} bytes of weights", expected=expected)


def load_adaptor(path: Path, teachers: int) -> tuple[SL | DuL | DLDP, ModelRecord]:
    """An adaptor of so many teachers in evaluation mode, with its record.

    Of fewer where the record names those that it fuses (`fused_teachers`).

    Raises:
        InputError: as for `load_backbone`.
    """
    record = _read(path, ("adaptor", "imported"))
    told = {key: record.settings.get(key) for key in _BuiltAdaptor.model_fields}
    asked = {key: value for key, value in told.items() if value is not None}
    settings = validate(_BuiltAdaptor, asked, f"{record_path(path)}: settings")

    def build() -> SL | DuL | DLDP:
        count = teachers if settings.teachers is None else len(settings.teachers)
        dims = settings.embedding_dim, settings.teacher_dim
        return build_adaptor(settings.adaptor, count, *dims)

    _refuse_larger(build, path)
    model = build()
    load_weights(model, path)
    return model.eval(), record


class _BuiltAdaptor(Settings):
    """What an adaptor is built by."""

    adaptor: AdaptorArchitecture
    embedding_dim: Annotated[Dimensions, Strict()]
    teacher_dim: Annotated[Dimensions, Strict()] | None = None
    teachers: Names | None = None


def fused_teachers(record: ModelRecord) -> tuple[str, ...] | None:
    """The teachers that an adaptor fuses, by their names; None for all of its cache.

    The record is that of an adaptor that was loaded.
    """
    teachers = record.settings.get("teachers")
    return None if teachers is None else tuple(teachers)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file whose names and shapes are exactly the model's.

    Raises:
        InputError: naming the first tensor that is missing, unknown or of another shape.
    """
    try:
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise InputError(path, found="no such file", expected="safetensors weights") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(path, found=str(error), expected="safetensors weights") from None
    own = model.state_dict()
    for name in (*own, *state):
        found = tuple(state[name].shape) if name in state else "no such tensor"
        expected = tuple(own[name].shape) if name in own else "no such tensor"
        if found != expected:
            raise InputError(f"{path}: {name}", found=found, expected=expected)
    model.load_state_dict(state)


def _read(path: Path, kinds: tuple[str, ...]) -> ModelRecord:
    record = read_record(ModelRecord, record_path(path))
    if record.subject.kind not in kinds:
        raise InputError(
            record_path(path), found=f"a {record.subject.kind}", expected=" or ".join(kinds)
        )
    if not path.exists():
        raise InputError(path, found="no such file", expected="the weights of its model.json")
    if file_sha256(path) != record.weights_sha256:
        raise InputError(
            path,
            found="other weights than its model.json describes",
            expected=anew("the two files of one training run", path),
        )
    return record
