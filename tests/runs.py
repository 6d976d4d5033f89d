"""The real `snakemake` command on small configurations, for tests of several modules."""

import contextlib
import copy
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SNAKEFILES = ("Snakefile", "workflow/Snakefile")  # one workflow
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
TINY = yaml.safe_load((ROOT / "tests/configs/tiny.yaml").read_text())


def snakemake(folder, config, *options, check=True, snakefile=ROOT / "Snakefile"):
    """Run the workflow in `folder`; `config` is a dict, or a path of a file."""
    if isinstance(config, dict):
        path = folder / "edited.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        config = path
    command = [SNAKEMAKE, "--snakefile", snakefile, "--directory", folder]
    command += ["--configfile", config, "--cores", "2", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def training(folder, name):
    """The process that trains a teacher of a run in `folder`, if there is one."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            own = (process / "cwd").readlink() == folder
            if own and b"train-teacher" in words and name.encode() in words:
                return int(process.name)
    return None


def planned(folder, config, *options, **keywords):
    """Jobs of a dry run by rule, the target `all` left out."""
    told = snakemake(folder, config, "--dry-run", *options, **keywords)
    stats = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", told.stdout, re.DOTALL)
    if stats is None:
        assert "Nothing to be done" in told.stdout + told.stderr
        return {}
    counts = dict(line.split() for line in stats[1].splitlines())
    return {rule: int(count) for rule, count in counts.items() if rule != "all"}


def edited(config, edits):
    config = copy.deepcopy(config)
    for path, value in edits.items():
        *parents, last = path.split(".")
        place = config
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return config
