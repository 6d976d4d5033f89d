"""Numbers as text, for every table, page and figure: halves up as in print, and no minus zero."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

UNDEFINED = "–"
DIGITS = 9  # within which a value is what it was computed to be: 87.825 may be stored below it


def rounded(value: float, decimals: int) -> str:
    """`value` with so many digits after the point: 87.825 is 87.83, -0.001 is 0.00."""
    if not math.isfinite(value):
        return UNDEFINED
    exact = Decimal(repr(round(float(value), DIGITS)))
    text = str(exact.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP))
    return text if text.strip("-0.") else text.lstrip("-")


def signed(value: float, decimals: int = 2) -> str:
    """A difference with its sign: 0.5 is +0.50, -0.005 is −0.01, -0.001 is 0.00."""
    text = rounded(value, decimals)
    if text == UNDEFINED or not text.strip("0."):
        return text
    return f"−{text[1:]}" if text.startswith("-") else f"+{text}"
