"""The scores of a model on verification pairs of any layout that the pipeline packs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.config import AuditSettings, EvaluationSettings, PackSettings, validate
from mstkd.config.data import file_kind
from mstkd.data.formats.bins import group_bins
from mstkd.data.formats.layouts import training_groups, verification_folder
from mstkd.data.formats.pairlists import is_pair_list, pair_list_groups
from mstkd.data.packing import pack_verification
from mstkd.errors import InputError
from mstkd.evaluation.auditing.all_impostors import EmbeddedImages
from mstkd.evaluation.evaluate import score_packs
from mstkd.evaluation.scorefiles import write_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.models.weights import record_path

PAIRS = (
    "a verification pack or a folder of them, RFW's folder, a CSV of pairs, a .bin, or a folder "
    "of <group>_test.bin"
)


def score_model(
    settings: AuditSettings,
    *,
    model: Path,
    packs: Sequence[Path],
    output: Path,
    threads: int = 1,
    device: str = "auto",
) -> tuple[ScoreTable, EmbeddedImages]:
    """Write the cosines of a model's pairs as a table of scores.

    Args:
        settings: the number of folds of lists that have none.
        model: weights of a teacher or student.
        packs: verification packs, one a group.
        output: the table, ending in .h5.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Returns:
        The table, and all images of the packs.

    Raises:
        InputError: a fault of the model or of a pack.
    """
    asked = EvaluationSettings(folds=settings.folds)
    found = score_packs(asked, model=model, packs=packs, threads=threads, device=device)
    read = {model: found.record.weights_sha256} | {one.path: one.sha256 for one in found.packs}
    write_scores(found.table, output, provenance_of("audit", settings, read, output))
    images = EmbeddedImages(np.concatenate(found.embeddings), found.person, found.group)
    return found.table, images


def verification_packs(pairs: Path, *, model: Path, output: Path, threads: int = 1) -> list[Path]:
    """The verification packs of some pairs, made where there are none yet.

    Args:
        pairs: a verification pack or a folder of them; or, to be packed, aligned images in one of
            the layouts of verification data (docs/real-data.md).
        model: whose size of images they get.
        output: a folder for what is packed.
        threads: CPU threads.

    Raises:
        InputError: a fault of the pairs or of an image.
    """
    if pairs.is_file() and h5py.is_hdf5(pairs):
        return [pairs]
    if pairs.is_dir() and (found := sorted(pairs.glob("*.h5"))):
        return found
    sources = _groups(pairs)
    size = read_record(ModelRecord, record_path(model)).image_size
    if size is None:
        raise InputError(model, found="an adaptor", expected="a teacher or student")
    made = []
    for group, root in sources.items():
        given = {"root": root, "group": group, "image_size": size, "on_bad_image": "error"}
        settings = validate(PackSettings, given, str(pairs))
        made.append(output / f"{group}.h5")
        pack_verification(settings, output=made[-1], workers=threads)
    return made


def _groups(pairs: Path) -> Mapping[str, Path]:
    """Where the pairs of each group lie."""
    if not pairs.exists():
        raise InputError(pairs, found="no such file or folder", expected=PAIRS)
    if pairs.is_file() and file_kind(pairs) == "bin":
        return {pairs.stem.removesuffix("_test"): pairs}
    if pairs.is_file() and is_pair_list(pairs):
        return dict.fromkeys(pair_list_groups(pairs), pairs)
    if pairs.is_dir() and group_bins(pairs):
        return dict.fromkeys(group_bins(pairs), pairs)
    root = verification_folder(pairs)
    if (root / "txts").is_dir():
        return dict.fromkeys(training_groups(root / "data"), pairs)
    raise InputError(pairs, found="something else", expected=PAIRS)
