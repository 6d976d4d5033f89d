"""A model that somebody has, made into one of this package: weights with their record.

Of another program's checkpoint (`foreign`), or of another run of this one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from mstkd.artifacts.records import Subject, file_sha256
from mstkd.artifacts.standing import WEIGHTS, weights_of
from mstkd.config import (
    BackboneSettings,
    ImportGivenSettings,
    ImportSettings,
    ImportStartSettings,
    InputSettings,
    validate,
)
from mstkd.errors import InputError
from mstkd.models.foreign import Foreign, State, read_foreign
from mstkd.models.weights import (
    build_backbone,
    load_backbone,
    record_path,
    save_model,
    shown_as,
)

FIRST = "conv1.weight"  # of an IResNet, as all networks are that this program reads as shown BGR


class Given(NamedTuple):
    """A network that embeds images, from the file of somebody's."""

    weights: Path
    sha256: str
    state: State
    backbone: BackboneSettings
    seen: InputSettings


def import_model(settings: ImportSettings, *, checkpoint: Path, output: Path) -> Foreign:
    """Write the network of a checkpoint as model.safetensors, with its model.json.

    The weights stay as they are, as float32; how images are shown to them is recorded, and done
    wherever the model is loaded.

    Args:
        settings: the order of colours and the normalisation that it was trained with.
        checkpoint: as `read_foreign` takes it.
        output: weights to write.

    Raises:
        InputError: as `read_foreign`.
    """
    found = read_foreign(checkpoint)
    sha256 = file_sha256(checkpoint)
    save_model(
        output,
        state=found.state,
        history=(),
        subject=Subject(
            kind="imported", backbone=found.called, set="none", name=checkpoint.stem, seed=0
        ),
        settings={**settings.model_dump(mode="json"), **found.settings},
        image_size=found.image_size,
        inputs={"checkpoint": sha256},
        chosen_epoch=0,
        chosen_by=f"imported from {checkpoint.name}",
        sources={checkpoint: sha256},
    )
    return found


def import_given(
    settings: ImportGivenSettings, *, subject: Subject, checkpoint: Path, output: Path
) -> None:
    """Write a model that somebody has as a teacher that is not trained.

    Its architecture is its own. How images are shown to it is recorded, and done wherever it is
    loaded.

    Args:
        settings: the size of images and embeddings, and how images are shown to it.
        subject: which teacher of which set it is to be, and the seed of those beside it.
        checkpoint: as `read_foreign` takes it; or a model of this package, or its folder.
        output: weights to write; model.json appears beside it.

    Raises:
        InputError: as `read_foreign`, or another size; the config's key is named.
    """
    with _naming(settings.key):
        _save(settings, _read(settings, checkpoint), subject, output)


def import_start(settings: ImportStartSettings, *, checkpoint: Path, output: Path) -> None:
    """Write a model that somebody has as the weights that students start from.

    Students see images as this package shows them: where the model was shown BGR, the first
    convolution's inputs are turned, which computes the same.

    Args:
        settings: as of `import_given`, and the students' backbone.
        checkpoint: as of `import_given`.
        output: weights to write; model.json appears beside it.

    Raises:
        InputError: as of `import_given`; it is of another architecture, or was shown images in
            another range.
    """
    with _naming(settings.key):
        given = _read(settings, checkpoint)
        with torch.device("meta"):
            students: nn.Module = build_backbone(
                settings.backbone,
                embedding_dim=settings.embedding_dim,
                image_size=settings.image_size,
            )
        if _shapes(given.state) != _shapes(students.state_dict()):
            expected = f"{settings.backbone.called}, as students.backbone has it"
            raise InputError(given.weights, found=given.backbone.called, expected=expected)
        if given.seen.normalisation != InputSettings().normalisation:
            found = f"normalisation {given.seen.normalisation}"
            expected = f"{InputSettings().normalisation}, as images are shown to students"
            raise InputError(given.weights, found=found, expected=expected)
        state = given.state
        if given.seen.colours == "bgr":
            if FIRST not in state:
                found = f"{given.backbone.called}, to which its record says images are shown BGR"
                raise InputError(given.weights, found=found, expected="an IResNet, or RGB")
            state = {**state, FIRST: state[FIRST].flip(1)}
        who = Subject(
            kind="student", backbone=given.backbone.called, set="none", name="given", seed=0
        )
        given = given._replace(state=state, backbone=settings.backbone, seen=InputSettings())
        _save(settings, given, who, output)


@contextlib.contextmanager
def _naming(key: str) -> Iterator[None]:
    """Say in a refusal which key of the config it is of."""
    try:
        yield
    except InputError as error:
        where = f"{key}: {error.where}"
        raise InputError(where, found=error.found, expected=error.expected) from None


def _read(settings: ImportGivenSettings, checkpoint: Path) -> Given:
    weights = weights_of(checkpoint)
    recorded = weights.name == WEIGHTS and record_path(weights).exists()
    given, size, dim = _recorded(settings, weights) if recorded else _foreign(settings, weights)
    for found, wanted, what, key in (
        (size, settings.image_size, "pixels", "data.image_size"),
        (dim, settings.embedding_dim, "dimensions", "embedding_dim"),
    ):
        if found != wanted:
            expected = f"{wanted}, as {key} has it"
            raise InputError(weights, found=f"a network of {found} {what}", expected=expected)
    return given


def _recorded(settings: ImportGivenSettings, weights: Path) -> tuple[Given, int | None, int]:
    """A model of this package, and its image size and dimensions."""
    if settings.seen is not None:
        expected = f"neither: {record_path(weights).name} says them"
        raise InputError(weights, found="colours and normalisation", expected=expected)
    network, record = load_backbone(weights)
    backbone = validate(BackboneSettings, record.built["backbone"], str(record_path(weights)))
    state, seen = network.state_dict(), shown_as(record)
    given = Given(weights, record.weights_sha256, state, backbone, seen)
    return given, record.image_size, network.embedding_dim


def _foreign(settings: ImportGivenSettings, weights: Path) -> tuple[Given, int | None, int]:
    """The same of another program's checkpoint."""
    found = read_foreign(weights)
    if found.image_size is None:
        raise InputError(weights, found=f"an {found.called}", expected="a network of images")
    if settings.seen is None:
        expected = "colours, rgb or bgr, as it was trained: no file says it"
        raise InputError(weights, found="another program's network", expected=expected)
    backbone = validate(BackboneSettings, found.settings["backbone"], str(weights))
    given = Given(weights, file_sha256(weights), found.state, backbone, settings.seen)
    return given, found.image_size, found.settings["embedding_dim"]


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _save(settings: ImportGivenSettings, given: Given, subject: Subject, output: Path) -> None:
    save_model(
        output,
        state=given.state,
        history=(),
        subject=subject,
        settings=settings.model_dump(mode="json", exclude_none=True),
        found={
            "backbone": given.backbone.model_dump(mode="json", exclude_none=True),
            **given.seen.model_dump(mode="json"),
        },
        image_size=settings.image_size,
        inputs={"checkpoint": given.sha256},
        chosen_epoch=0,
        chosen_by=f"given as {given.weights.name}, and not trained here",
        sources={given.weights: given.sha256},
    )
