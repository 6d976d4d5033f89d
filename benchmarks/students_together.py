"""Students of one set trained from one stream of batches against each in a job of its own.

OMP_NUM_THREADS=1 python benchmarks/students_together.py [--epochs 1]

Needs a finished demo: its packs, embedding cache and adaptors. In both ways the weights end as the
same bytes, which is checked.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from _machine import describe

from mstkd.artifacts.atomic import write_json
from mstkd.artifacts.records import Subject
from mstkd.config import Config, read_config
from mstkd.training.student import Student, train_students

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "students_together.json"
SET, SEED = "specialized", 0


def students(config: Config, results: Path, backbone: str, output: Path) -> list[Student]:
    """All students of the set, `--epochs` long, whose epoch no pairs choose."""
    made = []
    for adaptor in config.adaptors.architectures:
        for loss in config.students.losses:
            weights = results / f"adaptors/{backbone}/{SET}/{adaptor}/seed{SEED}/model.safetensors"
            subject = Subject(
                kind="student", backbone=backbone, set=SET, name=adaptor, loss=loss, seed=SEED
            )
            path = output / adaptor / loss / "model.safetensors"
            made.append(Student(config.student_settings(SET, loss), subject, weights, path))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the demo has run")
    arguments = parser.parse_args()
    config = read_config(ROOT / "config/config.yaml")
    short = config.students.optimiser.model_copy(update={"epochs": arguments.epochs})
    last = config.students.selection.model_copy(update={"rule": "last"})
    changed = config.students.model_copy(update={"optimiser": short, "selection": last})
    config = config.model_copy(update={"students": changed})
    results = arguments.folder / config.results()
    backbone = config.teachers.backbones[0]
    inputs = {
        "packs": [results / f"packs/train/{group}.h5" for group in config.groups],
        "selection": [],
        "cache": results / f"embeddings/{backbone}/{SET}/seed{SEED}.h5",
        "device": "cpu",
    }
    with tempfile.TemporaryDirectory() as folder:
        together = students(config, results, backbone, Path(folder, "together"))
        alone = students(config, results, backbone, Path(folder, "alone"))
        begin = time.process_time()
        train_students(together, **inputs)
        middle = time.process_time()
        for student in alone:
            train_students([student], **inputs)
        end = time.process_time()
        same = all(
            one.output.read_bytes() == other.output.read_bytes()
            for one, other in zip(together, alone, strict=True)
        )
    result = {
        "what": f"processor seconds of {len(alone)} students of the demo, {arguments.epochs} "
        "epoch each, from one stream of batches and one after another, in one process",
        "students": len(alone),
        "together_cpu_seconds": round(middle - begin, 2),
        "alone_cpu_seconds": round(end - middle, 2),
        "share": round((middle - begin) / (end - middle), 3),
        "same_bytes": same,
        **describe("torch", "numpy"),
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
