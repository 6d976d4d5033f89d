"""What a whole audit takes: every measure, interval and comparison, of one system and of 24.

OMP_NUM_THREADS=1 python benchmarks/audit.py [--systems 24]

Systems score 24,000 pairs of RFW's design, in HDF5; timed is the command's work, from reading the
files to the page, with one thread, as the command works.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from _machine import describe
from _memory import status
from _verification_sets import APART, RFW, draw_pairs, draw_similarities, models_of

from mstkd.artifacts.atomic import write_json
from mstkd.config import AuditSettings
from mstkd.evaluation.auditing.audit import Audit
from mstkd.evaluation.scorefiles import write_scores
from mstkd.evaluation.scores import ScoreTable
from mstkd.report.audit import write_audit

RESULT = Path(__file__).parent / "results" / "audit.json"
GROUPS = ("A", "B", "C", "D")
TARGETS = {"of one system, seconds": 5, "of 24 systems, seconds": 60, "memory, MB": 1000}


def written(systems: int, folder: Path) -> list[Path]:
    """A table of scores a system, all of the same pairs."""
    random = np.random.default_rng(0)
    pairs = draw_pairs(RFW, random)
    accuracies = random.uniform(89, 96, (systems, len(GROUPS)))
    scores = draw_similarities(models_of(accuracies, APART), pairs, random).clip(-1, 1)
    people = int(max(pairs.identity1.max(), pairs.identity2.max())) + 1
    images = int(max(pairs.image1.max(), pairs.image2.max())) + 1
    paths = []
    for number, similarity in enumerate(scores):
        table = ScoreTable(
            similarity=similarity,
            same=pairs.same,
            fold=pairs.fold.astype(np.int16),
            group1=pairs.group.astype(np.int16),
            group2=pairs.group.astype(np.int16),
            groups=GROUPS,
            identity1=pairs.identity1.astype(np.int32),
            identity2=pairs.identity2.astype(np.int32),
            identities=tuple(f"m.{one:06}" for one in range(people)),
            image1=pairs.image1.astype(np.int32),
            image2=pairs.image2.astype(np.int32),
            images=tuple(f"{one:06}.jpg" for one in range(images)),
        )
        paths.append(folder / f"system{number:02}.h5")
        write_scores(table, paths[-1])
    return paths


def timed(paths: list[Path], output: Path) -> tuple[float, float, Audit]:
    """Seconds from files to files, by the clock and of the processors, and what was found."""
    begin, own = time.perf_counter(), time.process_time()
    found = write_audit(AuditSettings(), scores=paths, output=output)
    return time.perf_counter() - begin, time.process_time() - own, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=24)
    arguments = parser.parse_args()
    machine = describe("numpy", "scipy", "pandas", "matplotlib")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = written(arguments.systems, folder)
        timed(paths[:1], folder / "first")  # imports
        of_one, own_of_one, _ = timed(paths[:1], folder / "one")
        Path("/proc/self/clear_refs").write_text("5")
        of_all, own, found = timed(paths, folder / "all")
    memory = status("VmHWM") / 1e6
    result = {
        "what": "seconds from tables of scores to the four files of an audit, all intervals and "
        "comparisons at own and shared thresholds and at three global FMRs",
        "pairs": 24000,
        "systems": arguments.systems,
        "measures": len(found.rows),
        "comparisons": len(found.differences),
        "seconds_of_one": round(of_one, 2),
        "seconds": round(of_all, 1),
        "processor_seconds_of_one": round(own_of_one, 2),
        "processor_seconds": round(own, 1),
        "peak_memory_mb": round(memory),
        "targets": TARGETS,
        "target_met": bool(of_one <= 5 and of_all <= 60 and memory <= 1000),
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
