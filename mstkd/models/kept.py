"""Finished models under a second name, so that nothing is trained twice.

Snakemake deletes the outputs of a job before it starts it, whatever they hold. A job is started
where an input was made anew, and that is often the same as before: a cache that was deleted and is
needed again, images that were touched. So the files of a finished model are kept, as hard links
which take no room, where Snakemake does not look; and a training that would end with them again
puts them back instead.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.records import ModelRecord, Subject, file_sha256, read_record
from mstkd.artifacts.standing import Asked, Contents, differences
from mstkd.artifacts.told import told_of_model
from mstkd.artifacts.writers import only_writer
from mstkd.config import Step
from mstkd.errors import InputError
from mstkd.models.weights import history_path, record_path
from mstkd.progress import say

FOLDER = ".kept"
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")


def _files(weights: Path) -> tuple[Path, ...]:
    """In the order in which they appear: the weights last."""
    return history_path(weights), record_path(weights), weights


def _kept(weights: Path) -> Path:
    return weights.parent / FOLDER / weights.name


def keep(output: Path) -> None:
    """Give a model's files their second names; on a file system without hard links, none."""
    for file, second in zip(_files(output), _files(_kept(output)), strict=True):
        second.parent.mkdir(exist_ok=True)
        second.unlink(missing_ok=True)
        try:
            os.link(file, second)
        except OSError:
            return


def put_back(
    output: Path, settings: Step, subject: Subject, read: Sequence[Sequence[Path]], *, write: bool
) -> bool:
    """Whether the model that would be trained is kept; if so it is put in its place.

    Args:
        output: weights to write.
        settings: the training step's.
        subject: which model it would be.
        read: the files that the step reads, those of one kind in order.
        write: whether this process is the one that writes.
    """
    kept = _kept(output)
    try:
        record = read_record(ModelRecord, record_path(kept))
        whole = (file_sha256(kept), file_sha256(history_path(kept))) == (
            record.weights_sha256,
            record.history_sha256,
        )
    except (InputError, OSError):
        return False
    asked = Asked(
        f"train-{subject.kind}",
        settings.model_dump(mode="json", exclude_none=True),
        read,
        subject.model_dump(),
    )
    contents = Contents()
    if not whole or any(differences(told_of_model(record), output.parent, asked, contents)):
        return False
    if any(contents.of(os.path.normpath(path)) is None for kind in read for path in kind):
        return False
    if write:
        # Not under the hands of another that may still train it.
        with only_writer(output), replacing(*_files(output)) as parts:
            for second, part in zip(_files(kept), parts, strict=True):
                os.link(second, part)
        for left in CHECKPOINTS:  # of a run that was killed when all but this was done
            output.with_name(left).unlink(missing_ok=True)
        say(f"{output}: trained before on the same, put back")
    return True
