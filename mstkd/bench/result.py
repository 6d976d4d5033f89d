"""bench.json: what was measured, on what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mstkd.artifacts.records import Record, read_record
from mstkd.bench.work import Measure, Subject


class Rate(Record):
    """How fast one part is."""

    part: str
    measure: Measure
    of: dict[str, Any]  # all that decides the speed but the machine
    unit: Literal["images", "pairs", "embeddings"]
    per_second: float
    flops_per_unit: int | None = None  # forward, times 3 where it is trained
    share_of_matmul_peak: float | None = None
    peak_gpu_bytes: int | None = None  # None where no GPU is used
    batches: int
    seconds: float


class Matmul(Record):
    """A plain product of two square matrices."""

    dtype: Literal["float32", "bfloat16"]
    size: int
    flops_a_second: float


class Roofline(Record):
    """What a device can do at most, by large products and a large copy."""

    bytes_a_second: float  # read and written
    flops_a_second: float  # as `Matmul` has it
    float32_flops_a_second: float


class Share(Record):
    """What the layers of a kind in a stage of a network have in a step's bound."""

    layer: str
    kind: str
    flops: int
    bytes: int
    seconds: float  # at least


class Bound(Record):
    """What a step takes at least on this device (`mstkd.bench.bound`)."""

    part: str
    compiled: bool  # whether what lies between the products is taken as fused
    seconds: float
    reached: float  # the bound over what was measured; above 1 where caches hold what is counted
    would_take_off: dict[str, float]  # of the bound, by compile, overlap, fusion and fused_norm
    layers: list[Share]


class PartHours(Record):
    """What all jobs of a kind take, one after another."""

    part: str
    jobs: int
    images: float
    hours: float


class Estimate(Record):
    """What the experiment takes on this machine, one job after another."""

    counted_from: str
    parts: list[PartHours]
    hours: float


class BenchResult(Record):
    """What `mstkd bench` writes."""

    format: Literal["mstkd-bench"] = "mstkd-bench"
    version: Literal[1] = 1
    config: str
    device: str  # "cpu", or the GPU's name
    gpu: str  # its name, or that nothing was measured on one
    torch_threads: int
    jobs_at_once: int  # that the cores have threads for; a GPU is one job's
    images: str  # where the images of the measurement come from
    matmul: Matmul
    rates: list[Rate]
    binds: list[str]  # a sentence for each network that is trained
    roofline: Roofline | None = None  # None in results from before it was measured
    bounds: tuple[Bound, ...] = ()  # of each network that is trained
    estimate: Estimate | None
    no_estimate_because: str | None = None
    machine: dict[str, Any]

    def rate_of(self, subject: Subject) -> Rate | None:
        """The rate of just that, if it was measured."""
        for rate in self.rates:
            if rate.measure == subject.measure and rate.of == subject.of:
                return rate
        return None


def read_result(path: Path) -> BenchResult:
    """The result at `path`.

    Raises:
        InputError: no such file, or another kind of file.
    """
    return read_record(BenchResult, path)
