"""What the study of config/study.yaml takes, from a few jobs of it.

    snakemake --cores 2 --configfile config/study.yaml --config experiment=pilot 'seeds=[0]' ...
    python benchmarks/study_cost.py results/pilot

The targets (...) are metrics.json of models, and tracing/.../seed0.json, of the baseline's set, so
that no answer is seen; the seed is none of the study's. Of each rule the longest processor time of
its jobs is taken (what Snakemake's benchmark says, which leaves out what other processes took
meanwhile), times how many jobs a whole run has. What has no job in the pilot, reports above all,
is left out and said.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from _machine import describe

from mstkd.artifacts.atomic import write_json

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks/results/study_cost.json"
CONFIG = ROOT / "config/study.yaml"
CORES = 2
SPLITS = "split_"  # how rules begin whose jobs take as long as each other's


def jobs() -> dict[str, int]:
    """How many jobs of each rule a whole run has."""
    snakemake = Path(sys.executable).with_name("snakemake")
    with tempfile.TemporaryDirectory() as folder:
        command = [snakemake, "-s", ROOT / "Snakefile", "-d", folder, "--configfile", CONFIG, "-n"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Job stats:\n.*?\n-+.*?\n(.*?)\ntotal", told, re.DOTALL)
    assert found is not None, told
    counts = dict(line.split() for line in found[1].splitlines())
    return {rule: int(count) for rule, count in counts.items() if rule != "all"}


def seconds(results: Path) -> dict[str, list[float]]:
    """Processor seconds of each rule's jobs; the teacher of all groups apart, splits as one."""
    found: dict[str, list[float]] = {}
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv")
        if rule == "train_teacher" and "-single-" in path.name:
            rule = "train_single_teacher"
        rule = SPLITS if rule.startswith(SPLITS) else rule
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                found.setdefault(rule, []).append(float(row["cpu_time"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="the folder of the pilot")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    measured, counts = seconds(arguments.results), jobs()
    rows, unmeasured, total = [], [], 0.0
    for rule, count in sorted(counts.items(), key=lambda one: -one[1]):
        of_rule = measured.get(SPLITS if rule.startswith(SPLITS) else rule)
        if of_rule is None:
            unmeasured.append(rule)
            continue
        each = max(of_rule)
        total += count * each
        rows.append({"rule": rule, "jobs": count, "measured": len(of_rule), "each": round(each, 1)})
    result = {
        "what": "processor seconds of the study's jobs, from a pilot's; hours on as many cores",
        "cores": CORES,
        "rules": rows,
        "not_measured": unmeasured,
        "processor_hours": round(total / 3600, 2),
        "hours": round(total / CORES / 3600, 2),
        **describe("torch", "snakemake"),
    }
    write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
