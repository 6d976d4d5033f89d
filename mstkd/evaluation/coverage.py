"""What simulated sets say of intervals that cover less, or more, than the 95 % that they say.

benchmarks/calibration.py asks 93 to 97 % of every kind; docs/uncertainty.md has its table. Kinds
that lie outside by more than chance say so wherever they are shown.
"""

from __future__ import annotations

# Percent, of the systems least and most covered; by measure, as in measures.csv, and by measure of
# a comparison.
COVERED: dict[str, tuple[int, int]] = {
    "difference of std": (93, 99),
    "difference of ser": (94, 100),
    "fdr": (94, 98),
    "fnmr_max_min": (95, 98),
    "fnmr_max_geomean": (93, 98),
    "difference of ir": (95, 98),
    "difference of fmr_max_min": (96, 99),
    "difference of fmr_max_geomean": (95, 99),
    "difference of fnmr_max_min": (96, 98),
    "difference of fnmr_max_geomean": (96, 99),
    "fdr, all impostor pairs": (93, 98),
    "ir, all impostor pairs": (94, 99),
    "garbe, all impostor pairs": (94, 100),
    "fmr_max_min, all impostor pairs": (94, 100),
    "fmr_max_geomean, all impostor pairs": (94, 98),
    "fnmr_max_geomean, all impostor pairs": (94, 99),
}
NOTES = {
    of: f"in simulated sets this interval covers {least} to {most} %"
    for of, (least, most) in COVERED.items()
}
