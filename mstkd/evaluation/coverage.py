"""What simulated sets say of intervals that cover less, or more, than the 95 % that they say.

benchmarks/calibration.py asks 93 to 97 % of every kind; docs/uncertainty.md has its table. A report
that shows an interval of these kinds says so beside it.
"""

from __future__ import annotations

# By measure, as in measures.csv, and by measure of a comparison; where 95 % is said.
NOTES = {
    "std": "in simulated sets this interval covers 89 to 99 %, least where groups are even",
    "ser": "in simulated sets this interval covers 89 to 99 %, least where groups are even",
    "garbe": "in simulated sets this interval covers 91 to 98 %",
    "difference of std": "in simulated sets this interval covers 91 to 100 %: less where several "
    "even systems are set against uneven ones, more where both are even",
    "difference of ser": "in simulated sets this interval covers 94 to 100 %: more where both are "
    "even or the set is small",
}
