"""README's pictures, and what it says of the demo, from a finished run of the demo.

    make pictures

The pictures go to docs/images, the numbers that they and README show to
benchmarks/results/demo_tables.json; tests/test_readme.py fails where one of them differs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from _machine import describe

from mstkd.artifacts.atomic import write_text
from mstkd.artifacts.records import file_sha256, read_record
from mstkd.report.answer import answer, whom
from mstkd.report.claims import Claims
from mstkd.report.tables import read_table

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks/results/demo_tables.json"
README = ROOT / "README.md"
IMAGES = ROOT / "docs/images"
# By their name in docs/images, where they lie in the results.
PICTURES = {
    "samples.png": "figures/samples-train.png",
    "teachers.png": "figures/table1.png",
    "students.png": "figures/table3.png",
}
TABLES = ("table1", "table2", "table3")
BLOCK = re.compile(r"(<!-- demo: begin -->\n).*?(<!-- demo: end -->)", re.DOTALL)


def result_of(results: Path) -> dict[str, Any]:
    """What README shows of a finished run: its answer, its tables, and which pictures these are."""
    claims = read_record(Claims, results / "claims.json")
    return {
        "what": "the answer and the tables of the demo, and the pictures of README",
        "answer": answer(claims),
        "whom": whom(claims),
        "control": control(claims),
        "tables": {
            name: json.loads(read_table(results / f"tables/{name}.csv").to_json(orient="records"))
            for name in TABLES
        },
        "pictures": {name: file_sha256(results / path) for name, path in PICTURES.items()},
    }


def control(claims: Claims) -> str:
    """What the paper does not ask: whether several teachers are better than one of all groups."""
    told = (
        one.sentence
        for one in claims.claims
        if one.topic == "single teacher"
        and "specialized" in one.claim
        and (one.measure, one.threshold) == ("global_accuracy", "own")
    )
    return next(told, "")


def with_answer(text: str, result: dict[str, Any]) -> str:
    """README with what the run says between its marks."""
    told = [result[name] for name in ("answer", "whom", "control") if result[name]]
    words = f"What it finds on these drawings: {' '.join(told)}"
    filled = textwrap.fill(words, 100, break_on_hyphens=False)
    return BLOCK.sub(lambda match: f"{match[1]}{filled}\n{match[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results")
    results = parser.parse_args().results
    if not (results / "report.html").exists():
        sys.exit(f"{results}: no finished run; make demo makes one")
    result = result_of(results)
    for name, path in PICTURES.items():
        shutil.copyfile(results / path, IMAGES / name)
    write_text(RESULT, json.dumps(result | describe("torch", "matplotlib"), indent=2) + "\n")
    write_text(README, with_answer(README.read_text(encoding="utf-8"), result))


if __name__ == "__main__":
    main()
