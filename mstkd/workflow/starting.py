"""A folder of one's own in which `snakemake` runs the installed workflow."""

from __future__ import annotations

import os
from pathlib import Path

import mstkd
from mstkd.errors import InputError

SNAKEFILE = """\
# `snakemake --cores all` in this folder runs the workflow of the installed mstkd, of whatever
# version, on config/config.yaml; `--configfile` names another config. Rules of yours may follow.
from mstkd.workflow.starting import workflow_folder


include: f"{workflow_folder()}/workflow/Snakefile"


if workflow.modifier.is_main_snakefile():
    workflow.default_target = "all"  # Snakemake takes none from an included file
"""
# Not the workflow itself: two versions of it side by side would soon differ.
YOURS = ("config", "workflow/profiles")


def workflow_folder() -> Path:
    """Where `workflow/`, `config/` and `envs/` lie: in a wheel's package, or in a checkout."""
    package = Path(mstkd.__file__).parent
    shipped = package / "shipped"
    return shipped if shipped.is_dir() else package.parent


def init(folder: Path) -> list[Path]:
    """Make a folder to run the method in: a Snakefile, the configs and the profiles, to be edited.

    Args:
        folder: made unless it is there; nothing in it is overwritten.

    Returns:
        The files written.

    Raises:
        InputError: one of the files is there.
    """
    written = {folder / "Snakefile": SNAKEFILE.encode()}
    for part in YOURS:
        for source in sorted((workflow_folder() / part).rglob("*.yaml")):
            written[folder / source.relative_to(workflow_folder())] = source.read_bytes()
    for path in written:
        if os.path.lexists(path):
            expected = "a folder that holds none of the files to be made"
            raise InputError(path, found="a file of that name", expected=expected)
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(written)
