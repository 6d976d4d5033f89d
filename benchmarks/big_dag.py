"""What a dry run of more than ten thousand jobs takes: 200 seeds of a grid of lambda and margin.

python benchmarks/big_dag.py [--seeds 200]

The target is 60 s and 2 GB on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from _machine import describe

from mstkd.artifacts.atomic import write_json

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "big_dag.json"
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
MOST_SECONDS, MOST_BYTES, LEAST_JOBS = 60, 2e9, 10_000


def config(seeds: int) -> dict[str, object]:
    """Two groups, one loss, one adaptor: 2 margins of the teachers by 5 lambdas, no controls."""
    return {
        "groups": ["A", "B"],
        "seeds": list(range(seeds)),
        "data": {"image_size": 16, "synthetic": {}},
        "backbones": {"small": {"blocks": [1, 1, 1, 1]}},
        "teachers": {"backbones": ["small"], "head": {"margin": [0.3, 0.5]}},
        "adaptors": {"architectures": {"SL": {}}},
        "students": {
            "backbone": "small",
            "losses": {"a-KD": {"kd_weight": [100, 1000, 10000, 100000, 1000000]}},
        },
        "controls": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    arguments = parser.parse_args()
    machine = describe("snakemake")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config(arguments.seeds)))
        command = [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--directory", folder]
        command += ["--configfile", path, "--cores", "2", "--dry-run", "--quiet", "rules"]
        begin = time.perf_counter()
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
    if told.returncode:
        raise SystemExit(told.stdout + told.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = re.search(r"^total +(\d+)$", told.stdout, re.MULTILINE)
    jobs = int(total[1]) if total else 0
    peak = used.ru_maxrss * 1024  # Linux counts in KiB
    result = {
        "what": "a dry run of Snakemake on an empty folder, from start to end; processor_seconds "
        "are the user's and the system's, which other programs disturb less",
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_resident_bytes": peak,
        "target": f"at least {LEAST_JOBS} jobs in {MOST_SECONDS} s and {MOST_BYTES / 1e9:g} GB",
        "target_met": jobs >= LEAST_JOBS and seconds <= MOST_SECONDS and peak <= MOST_BYTES,
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
