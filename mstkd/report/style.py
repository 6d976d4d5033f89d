"""How every figure looks: fonts, colours, marks and dashes.

Each colour stands out from white by 4.5 or more (WCAG 2.2, of text; 3 is asked of marks), so all
are dark, and in grey they look alike: marks and dashes tell groups and models apart by themselves.
The first four were chosen to lie far apart for readers with protanopia and deuteranopia too
(Machado et al., IEEE TVCG 2009).
"""

from __future__ import annotations

import itertools
from typing import Any

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mstkd",  # else the ids in an SVG are random
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}
COLOURS = ("#007CA6", "#A65300", "#591224", "#0000D9", "#001D73", "#006CD9", "#737373")
MARKERS = ("o", "s", "^", "D", "v")
Dash = str | tuple[int, tuple[int, ...]]
DASHES: tuple[Dash, ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (8, 2)),
    (0, (1, 3)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (3, 3)),
)
MOST = 16  # groups of a config
# Five markers, or eight dashes, and seven colours go round together far beyond that before a pair
# returns.
GROUP_MARKS = tuple(itertools.islice(zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS)), MOST))
GROUP_LINES: tuple[tuple[str, Dash], ...] = tuple(
    itertools.islice(zip(itertools.cycle(COLOURS), itertools.cycle(DASHES)), MOST)
)
SET_MARKS = {  # by section of a table
    "Specialized": ("^", COLOURS[0]),
    "Baseline": ("s", COLOURS[1]),
    "Controls": ("X", "#444444"),
}
SET_DASHES = {"specialized": "-", "baseline": (0, (5, 2)), "single": (0, (1, 1.5))}
FRAME = "#B34700"  # of what is a group's own
QUIET = "#666666"  # of what is beside the matter, and must be read all the same
