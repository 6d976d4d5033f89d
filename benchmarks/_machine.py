"""What a benchmark ran on, for its JSON."""

from mstkd.bench.machine import cpu_model, describe

__all__ = ["cpu_model", "describe"]
