"""What simulated sets say of intervals that cover less, or more, than the 95 % that they say.

benchmarks/calibration.py asks 93 to 97 % of every kind; docs/uncertainty.md has its table. A report
that shows an interval of these kinds says so beside it.
"""

from __future__ import annotations

NOTES = {
    "garbe": "in simulated sets of uneven groups this interval covers 90 to 95 %, not 95 %",
    "difference of std": "in simulated sets this interval covers 89 to 100 %; less than 95 % where "
    "several even systems are set against uneven ones, more where both are even",
    "difference of ser": "in simulated sets this interval covers 91 to 100 %; more than 95 % where "
    "both are even or the set is small",
}  # by measure, as in measures.csv, and by measure of a comparison
