"""The report's figures, by the names under which the steps call them."""

from mstkd.report.accuracies import render_accuracies
from mstkd.report.curves import render_curves
from mstkd.report.det import render_det
from mstkd.report.distributions import render_distributions
from mstkd.report.grid import render_grid
from mstkd.report.impostors import render_impostors
from mstkd.report.intervals import render_intervals
from mstkd.report.samples import render_samples
from mstkd.report.stages import render_stages
from mstkd.report.tracing import render_tracing

__all__ = [
    "render_accuracies",
    "render_curves",
    "render_det",
    "render_distributions",
    "render_grid",
    "render_impostors",
    "render_intervals",
    "render_samples",
    "render_stages",
    "render_tracing",
]
