"""What simulated sets say of intervals that cover less, or more, than the 95 % that they say.

benchmarks/calibration.py asks 93 to 97 % of every kind; docs/uncertainty.md has its table. Kinds
that lie outside by more than chance say so wherever they are shown.
"""

from __future__ import annotations

# By measure, as in measures.csv, and by measure of a comparison; where 95 % is said.
NOTES = {
    "fmr_max_min": "in simulated sets this interval covers 94 to 98 %",
    "fmr_max_geomean": "in simulated sets this interval covers 94 to 98 %",
    "fnmr_max_geomean": "in simulated sets this interval covers 94 to 98 %",
    "difference of std": "in simulated sets this interval covers 94 to 100 %: 99 where both are "
    "even",
    "difference of ser": "in simulated sets this interval covers 95 to 100 %: 99 where both are "
    "even",
}
