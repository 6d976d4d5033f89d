"""What the paper's own 40 published rows support, by the rules of this package's report.

python benchmarks/published_claims.py
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from _machine import describe

from mstkd.artifacts.atomic import write_json
from mstkd.evaluation.claims import Judged, judge
from mstkd.evaluation.power import needed, smallest_difference
from mstkd.report.paper import (
    ASSUMPTION,
    PUBLISHED_GROUPS,
    PUBLISHED_PAIRS,
    paper_claims,
    published_models,
)

RESULT = Path(__file__).parent / "results" / "published_claims.json"
# Section 5.3 names both of the linear adaptor's students of IResNet-34 teachers, EAF-KD.
NAMED = "specialized SL, EAF-KD, iresnet34 and baseline SL, EAF-KD, iresnet34"


def told(one: Judged) -> dict[str, object]:
    """Its numbers, percentage points of accuracies and STD, ratios of SER."""
    contrast, cells = one.contrast, one.cells
    return {
        "claim": one.text,
        "measure": one.question.group or one.question.measure,
        "value": round(contrast.value, 2),
        "low": round(contrast.low, 2),
        "high": round(contrast.high, 2),
        "p_holm": float(f"{one.p_adjusted:.2g}"),
        "verdict": one.verdict,
        "cells": len(cells),
        "cells_supported": sum(cell.verdict == "supported" for cell in cells),
        "cells_contradicted": sum(cell.verdict == "contradicted" for cell in cells),
    }


def power(one: Judged) -> dict[str, object]:
    """What the test set can tell of such a difference, and what this one would need."""
    contrast = one.contrast
    wanted = needed(contrast, contrast.value)
    return {
        "value": round(contrast.value, 2),
        "smallest_shown": round(smallest_difference(contrast), 2),
        "times_as_many_identities": round(wanted.identities, 1),
        "pairs_a_group": round(wanted.identities * PUBLISHED_PAIRS),
    }


def main() -> None:
    machine = describe("numpy", "scipy")
    subjects, rates = published_models()
    begin = time.perf_counter()
    claims = judge(paper_claims(subjects, PUBLISHED_GROUPS), {"own": rates}, PUBLISHED_GROUPS)
    seconds = time.perf_counter() - begin
    cells = {
        one.question.measure: cell
        for one in claims
        for cell in one.cells
        if cell.text == NAMED and one.question.group is None
    }
    result = {
        "what": "the paper's claims on its published rows",
        "assumption": ASSUMPTION,
        "verdicts": {
            name: int(np.sum([one.verdict == name for one in claims]))
            for name in ("supported", "contradicted", "undecided")
        },
        "claims": [told(one) for one in claims],
        "named_in_the_paper": {"models": NAMED}
        | {measure: power(cells[measure]) for measure in ("global_accuracy", "std", "ser")},
        "seconds": round(seconds, 1),
        **machine,
    }
    write_json(RESULT, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
