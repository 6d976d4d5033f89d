"""What a run of the whole demo costs: wall time and memory of `snakemake --cores all`.

Runs it from nothing in an empty folder, six to eight minutes on two cores:

    .venv/bin/python benchmarks/demo.py
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
from _machine import describe

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks/results/demo.json"


def memory(root):
    """Bytes of a process and all below it, shared pages counted once (PSS)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "results/demo")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True)
    command = [Path(sys.executable).with_name("snakemake"), "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", ROOT / "config/config.yaml"]
    command += ["--cores", "all", "--quiet", "all"]
    begin, peak = time.monotonic(), 0
    running = psutil.Popen(command)
    while True:
        try:
            status = running.wait(timeout=1)
            break
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            peak = max(peak, memory(running))
    if status:
        sys.exit(status)
    result = {
        "what": "snakemake --cores all with the default config, from nothing to the report",
        "seconds": round(time.monotonic() - begin),
        "peak_memory_gib": round(peak / 2**30, 2),
        "results_mib": round(
            sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
        ),
        **describe("torch", "snakemake"),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
