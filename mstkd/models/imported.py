"""A checkpoint of another program, made into a model of this one: weights with their record."""

from __future__ import annotations

from pathlib import Path

from mstkd.artifacts.records import Subject, file_sha256
from mstkd.config import ImportSettings
from mstkd.models.foreign import Foreign, read_foreign
from mstkd.models.weights import save_model


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
