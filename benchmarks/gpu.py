"""The first half hour on a GPU as one command; writes nothing where there is none.

python benchmarks/gpu.py [--stages ceilings,waits] [--seconds 3] [--limit 300] [--all]

Each stage's measurements are written as they are made, so that a kill loses none; one that fails
says why. The cheap ones come first, what torch.compile takes its time for last. On one batch that
lies on the device, unless a stage says otherwise; the device is waited for at the ends of a timed
loop only. `--device cpu --tiny` tries the script itself.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _gpu_bench import Bench, reason, short
from _gpu_networks import (
    EXTRACTION_WAYS,
    NORM_PASSES,
    NORM_WAYS,
    REAL,
    TINY,
    WAYS,
    Step,
    Way,
    extraction_step,
    first_seconds,
    norm_shapes,
    norm_step,
    repeat_few,
    step_flops,
    training_step,
)
from _gpu_pipeline import (
    TASKS,
    adaptor_loop,
    extraction_rate,
    faces,
    input_rate,
    made_up_pack,
    next_batch,
    one_batch,
    pairs_rate,
    pipeline_run,
    pipeline_step,
    teacher_loop,
    waits,
)
from _gpu_processes import rate_of_streams, rates_of_processes, same_bytes
from _gpu_profile import kernels
from _machine import describe

from mstkd.artifacts.atomic import write_json
from mstkd.bench.measure import endless
from mstkd.bench.pace import repeat
from mstkd.bench.work import count_images, experiment
from mstkd.config import EngineSettings, Precision, read_config
from mstkd.embeddings.embed import BATCH

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "gpu.json"
BFLOAT16 = "+ bfloat16"
EXTRACTION = "bfloat16, folded"  # as `cache-embeddings` has it
LARGER = (2, 4)  # times the batch
ENGINES = (EngineSettings(compile="off"), EngineSettings())


# ------------------------------------------------------------------ stages


def ceilings(bench: Bench) -> None:
    """What the device reaches at most: products, copies."""
    device, size = bench.device, bench.sizes.matmul
    seconds = min(bench.seconds, 1.0)

    def product(dtype: torch.dtype, tf32: bool) -> float:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left = torch.randn(size, size, device=device).to(dtype)
        right = torch.randn(size, size, device=device).to(dtype)
        out = torch.empty_like(left)
        span = repeat_few(lambda: torch.mm(left, right, out=out), device, seconds)
        torch.backends.cuda.matmul.allow_tf32 = False
        return round(2 * size**3 * span.steps / span.seconds / 1e12, 3)

    def noise() -> torch.Tensor:
        return torch.randint(256, (bench.sizes.copied_bytes,), dtype=torch.uint8, device=device)

    def copied(source: torch.Tensor, *, times: int) -> float:
        target = torch.empty_like(source, device=device)
        span = repeat_few(lambda: target.copy_(source, non_blocking=True), device, seconds)
        return round(times * source.nbytes * span.steps / span.seconds / 1e9, 2)

    def pinned() -> torch.Tensor:
        return noise().cpu().pin_memory() if device.type == "cuda" else noise()

    bench.put("matmul_tflops", measured=lambda: product(torch.bfloat16, False))
    put = functools.partial(bench.put, "ceilings")
    put("float32_tflops", measured=lambda: product(torch.float32, False))
    put("tf32_tflops", measured=lambda: product(torch.float32, True))
    # What is read and what is written count.
    put("device_copy_gb_a_second", measured=lambda: copied(noise(), times=2))
    put("pinned_to_device_gb_a_second", measured=lambda: copied(pinned(), times=1))
    put("pageable_to_device_gb_a_second", measured=lambda: copied(noise().cpu(), times=1))


def waiting(bench: Bench) -> None:
    """Where the host waits for the device within the pipeline's steps, and the batches'."""
    device, sizes = bench.device, bench.sizes
    for task in TASKS:
        bench.put(
            "waits",
            task,
            measured=lambda task=task: waits(
                pipeline_step(task, bench.networks[0], device, sizes), device
            ),
        )
    pack = made_up_pack(sizes)
    for resident in (True, False):

        def taken(resident: bool = resident) -> dict[str, Any]:
            batches = faces(pack, sizes.batch, device, resident=resident)
            return waits(next_batch(batches), device)

        bench.put("waits", f"batch, {'resident' if resident else 'streamed'}", measured=taken)


def measured_step(
    bench: Bench, build: Callable[[], Step], batch: int, flops: int, *, compiled: bool
) -> dict[str, Any]:
    """Rate of a step; of a compiled one also the seconds that takes, and its kernels."""
    step = build()
    first = first_seconds(step, bench.device)
    found = bench.span(repeat(step, device=bench.device, seconds=bench.seconds), batch, flops)
    if compiled:
        found["compile_seconds"] = round(first, 1)
        try:
            found["profile"] = kernels(step, bench.device)
        except Exception as error:  # the rate stays
            found["profile"] = reason(error)
    return found


def training_way(bench: Bench, name: str, label: str, batch: int, *keys: str) -> None:
    way = WAYS[label]
    bench.put(
        *(keys or ("networks", name, "training", label)),
        measured=lambda: measured_step(
            bench,
            lambda: training_step(name, way, batch, bench.device, bench.sizes),
            batch,
            step_flops(name, bench.sizes, training=True),
            compiled=way.compile_mode is not None,
        ),
    )


def extraction_way(bench: Bench, name: str, label: str) -> None:
    way, batch = EXTRACTION_WAYS[label], bench.sizes.embedding_batch
    bench.put(
        "networks",
        name,
        "extraction",
        label,
        measured=lambda: measured_step(
            bench,
            lambda: extraction_step(name, way, batch, bench.device, bench.sizes),
            batch,
            step_flops(name, bench.sizes, training=False),
            compiled=way.compile_mode is not None,
        ),
    )


def eager(ways: dict[str, Way]) -> list[str]:
    return [label for label, way in ways.items() if way.compile_mode is None]


def compiled(ways: dict[str, Way]) -> list[str]:
    return [label for label, way in ways.items() if way.compile_mode is not None]


def training(bench: Bench) -> None:
    """Each way of training without torch.compile, and larger batches."""
    first, second = bench.networks
    for label in eager(WAYS):
        training_way(bench, first, label, bench.sizes.batch)
    for label in eager(WAYS) if bench.everything else [BFLOAT16]:
        training_way(bench, second, label, bench.sizes.batch)
    for times in LARGER:
        batch = times * bench.sizes.batch
        training_way(bench, first, BFLOAT16, batch, "larger_batches", str(batch), BFLOAT16)


def loop(bench: Bench) -> None:
    """The pipeline's loop: on one batch again and again, and with batches of resident images."""
    device, sizes, name = bench.device, bench.sizes, bench.networks[0]
    pack = made_up_pack(sizes)
    for engine in ENGINES:
        for label, stream in (("one batch", one_batch), ("resident images", endless)):

            def teacher(stream: Any = stream, engine: EngineSettings = engine) -> dict[str, Any]:
                batches = stream(faces(pack, sizes.batch, device, resident=True))
                span = teacher_loop(name, batches, device, sizes, bench.seconds, engine)
                return bench.span(span, sizes.batch, step_flops(name, sizes, training=True))

            bench.put("loop", f"teacher, {label}, {engine.compile}", measured=teacher)
        for batch in (sizes.batch, sizes.adaptor_batch):
            bench.put(
                "loop",
                f"adaptor DuL, batch {batch}, {engine.compile}",
                measured=lambda batch=batch, engine=engine: bench.span(
                    adaptor_loop(batch, device, sizes, bench.seconds, engine), batch
                ),
            )


def steps(bench: Bench) -> None:
    """The pipeline's steps launched one by one, captured, compiled, and both: side by side."""
    sizes = bench.sizes
    first, second = bench.networks
    for name, task, batch, ways in (
        (first, "teacher", sizes.batch, ("off", "captured", "auto")),
        (first, "adaptor", sizes.batch, ("off", "auto")),
        (first, "student", sizes.batch, ("off", "auto")),
        (second, "teacher", sizes.batch, ("off", "captured", "auto")),
        (first, "adaptor", sizes.adaptor_batch, ("off", "auto")),
    ):
        of = f"DuL adaptor, batch {batch}" if task == "adaptor" else f"{name} {task}"
        count = 0 if task == "adaptor" else step_flops(name, sizes, training=True)
        for way in ways:
            bench.put(
                "steps",
                of,
                way,
                measured=lambda name=name, task=task, batch=batch, way=way, count=count: one_step(
                    bench, name, task, batch, way, count
                ),
            )


def one_step(
    bench: Bench, name: str, task: str, batch: int, way: str, flops: int
) -> dict[str, Any]:
    """Rate of a step, whether it is computed that way, where it waits, and its kernels."""
    device, sizes = bench.device, bench.sizes
    run, of = pipeline_run(task, name, device, sizes, way, batch)
    numbers = itertools.count()

    def step() -> None:
        run.step(of, 1e-3, next(numbers))

    first = first_seconds(step, device)
    found = bench.span(repeat(step, device=device, seconds=bench.seconds), batch, flops)
    found["seconds_of_the_first_step"] = round(first, 1)
    embed = run.learner.embed
    found["compiled"] = embed is not None and embed.compiled
    found["captured"] = run.is_captured
    found["loss_is_finite"] = run.first_bad_step() is None
    if device.type == "cuda":
        found["reserved_gib"] = round(torch.cuda.memory_reserved(device) / 2**30, 2)
    for label, more in (("waits", waits), ("profile", kernels)):
        try:
            found[label] = more(step, device)  # type: ignore[operator]
        except Exception as error:  # the rate stays
            found[label] = reason(error)
    return found


def norms(bench: Bench) -> None:
    """Batch normalisation with PReLU alone, of every size, and steps with `engine.fused_norm`."""
    device, name = bench.device, bench.networks[0]
    for shape in norm_shapes(name, bench.sizes):
        for way in NORM_WAYS:

            def measured(shape: tuple[int, ...] = shape, way: str = way) -> dict[str, float]:
                step = norm_step(way, shape, device)
                span = repeat(step, device=device, seconds=min(bench.seconds, 0.5))
                moved = NORM_PASSES * 2 * math.prod(shape)
                return {
                    "ms": round(1e3 * span.seconds / span.steps, 4),
                    "gb_a_second": round(moved * span.steps / span.seconds / 1e9, 1),
                }

            bench.put("norms", "x".join(map(str, shape)), way, measured=measured)
    flops = step_flops(name, bench.sizes, training=True)
    for way in ("off", "captured", "auto"):
        for fused in ("", ", fused_norm"):
            bench.put(
                "norms",
                f"{name} teacher",
                way + fused,
                measured=lambda way=way + fused: one_step(
                    bench, name, "teacher", bench.sizes.batch, way, flops
                ),
            )


def runs(bench: Bench) -> None:
    """Whether runs of `train-teacher` that compile and capture end with the same bytes."""

    def compared() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return same_bytes(
                bench.smallest,
                Path(folder),
                bench.device,
                bench.sizes,
                compile_mode="auto",
                kinds=("deterministic 1", "deterministic 2"),
            )

    bench.put("determinism", "compiled and captured", measured=compared)


def embedding(bench: Bench) -> None:
    """Extraction as `cache-embeddings` and the choice of an epoch have it, the uploads with it."""
    device, sizes = bench.device, bench.sizes
    name = bench.networks[0]
    of_caches: list[tuple[Precision, bool]] = [
        ("bfloat16", True),
        ("bfloat16", False),
        ("float32", True),
        ("float32", False),
    ]
    for precision, compiled in of_caches:
        label = precision + (", compiled" if compiled else "")

        def cached(precision: Precision = precision, compiled: bool = compiled) -> dict[str, Any]:
            span = extraction_rate(name, precision, compiled, device, sizes, bench.seconds)
            return bench.span(
                span, min(BATCH, sizes.images), step_flops(name, sizes, training=False)
            )

        bench.put("embedding", f"cache, {label}", measured=cached)
        bench.put(
            "embedding",
            f"pairs, {label}",
            measured=lambda precision=precision, compiled=compiled: round(
                pairs_rate(name, precision, compiled, device, sizes)
            ),
        )


def matmul(bench: Bench) -> None:
    """The measured peak alone, which shares are of."""
    size, device = bench.sizes.matmul, bench.device
    left = torch.randn(size, size, device=device).to(torch.bfloat16)
    right, out = torch.randn_like(left), torch.empty_like(left)

    def product() -> float:
        span = repeat_few(lambda: torch.mm(left, right, out=out), device, min(bench.seconds, 1.0))
        return round(2 * size**3 * span.steps / span.seconds / 1e12, 3)

    bench.put("matmul_tflops", measured=product)


def determinism(bench: Bench) -> None:
    """Whether runs of `train-teacher` end with the same bytes."""
    for label in ("eager", "compiled") if bench.everything else ("eager",):

        def compared(label: str = label) -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                return same_bytes(
                    bench.smallest,
                    Path(folder),
                    bench.device,
                    bench.sizes,
                    compile_mode="default" if label == "compiled" else "off",
                )

        bench.put("determinism", label, measured=compared)


def profiled(bench: Bench) -> None:
    """Kernels of the pipeline's own steps, eager."""
    for task in TASKS:
        bench.put(
            "profile",
            task,
            measured=lambda task=task: kernels(
                pipeline_step(task, bench.networks[0], bench.device, bench.sizes), bench.device
            ),
        )


def extraction(bench: Bench) -> None:
    """Each way of extraction without torch.compile."""
    for name in bench.networks:
        for label in eager(EXTRACTION_WAYS):
            if name == bench.networks[0] or bench.everything or label == EXTRACTION:
                extraction_way(bench, name, label)


def inputs(bench: Bench) -> None:
    """Batches alone: of images on the device, and read as they are needed."""
    pack = made_up_pack(bench.sizes)
    for resident in (True, False):

        def taken(resident: bool = resident) -> dict[str, Any]:
            batches = faces(pack, bench.sizes.batch, bench.device, resident=resident)
            span = input_rate(batches, bench.device, bench.seconds)
            return bench.span(span, bench.sizes.batch)

        bench.put("input", "resident" if resident else "streamed", measured=taken)


def compilation(bench: Bench) -> None:
    """What torch.compile gives, how long it takes, and its kernels."""
    first, second = bench.networks
    training_way(bench, first, "+ compile", bench.sizes.batch)
    training_way(bench, second, "+ compile", bench.sizes.batch)
    extraction_way(bench, first, "bfloat16, folded, compile")


def more_compilation(bench: Bench) -> None:
    """CUDA graphs, and larger batches."""
    first, second = bench.networks
    training_way(bench, first, "+ CUDA graphs", bench.sizes.batch)
    if bench.everything:
        training_way(bench, second, "+ CUDA graphs", bench.sizes.batch)
        extraction_way(bench, second, "bfloat16, folded, compile")
    for times in LARGER:
        batch = times * bench.sizes.batch
        training_way(bench, first, "+ compile", batch, "larger_batches", str(batch), "+ compile")


def together(bench: Bench) -> None:
    """One teacher alone, two in one process and in two: images a second of all."""
    of = (bench.device, bench.sizes, bench.seconds)
    name = bench.networks[0]
    for count, label in ((1, "alone"), (2, "two streams")):
        bench.put(
            "together",
            label,
            measured=lambda count=count: round(rate_of_streams(name, count, *of)),
        )
    bench.put(
        "together",
        "two processes",
        measured=lambda: round(sum(rates_of_processes(name, 2, *of))),
    )


# The second call, of a device already known: --stages matmul,steps,runs,embedding
STAGES: dict[str, Callable[[Bench], None]] = {
    "matmul": matmul,
    "steps": steps,
    "norms": norms,
    "runs": runs,
    "embedding": embedding,
    "ceilings": ceilings,
    "waits": waiting,
    "training": training,
    "loop": loop,
    "determinism": determinism,
    "profile": profiled,
    "extraction": extraction,
    "input": inputs,
    "compile": compilation,
    "together": together,
    "compile_more": more_compilation,
}


# ------------------------------------------------------------------ results


def six_tables(networks: dict[str, Any]) -> dict[str, float]:
    """Hours of training and caches of config/paper.yaml at each way's rates, one GPU.

    Caches are made in one way. Adaptors, input and evaluation are left out; `mstkd bench` counts
    them. A way that was not measured of all networks has none.
    """
    config = read_config(ROOT / "config/paper.yaml")
    loads = experiment(config, count_images(config, ROOT / "results/packs"))
    hours = {}
    for label in WAYS:
        ways = {"training": ("training", label), "embedding": ("extraction", EXTRACTION)}
        total = 0.0
        for load in loads:
            if load.subject.measure not in ways:
                continue
            task, way = ways[load.subject.measure]
            architecture = load.subject.of["backbone"]["architecture"]
            found = networks.get(architecture, {}).get(task, {}).get(way)
            if not isinstance(found, dict):
                break
            total += load.images / found["images_a_second"] / 3600
        else:
            hours[label] = round(total, 1)
    return hours


def table(result: dict[str, Any]) -> None:
    """Print the rates, a line each."""

    def lines(keys: tuple[str, ...], value: Any) -> None:
        if isinstance(value, dict) and "images_a_second" in value:
            share, gib = value["share_of_bfloat16_matmul_peak"], value["peak_memory_gib"]
            print(f"{' / '.join(keys)}: {value['images_a_second']}/s {share} {gib} GiB", end="")
            seconds = value.get("compile_seconds")
            print("" if seconds is None else f", compiled in {seconds} s")
        elif isinstance(value, dict):
            for key, inner in value.items():
                lines((*keys, key), inner)
        elif keys[-1] != "longest":
            print(f"{' / '.join(keys)}: {short(value)}")

    for key, value in result.items():
        if key != "sizes" and isinstance(value, (dict, float)):
            lines((key,), value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds; then none is begun")
    parser.add_argument("--all", action="store_true", help="the teachers' network in each way too")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="to try the script itself")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    stages = arguments.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("no GPU: not measured")
        return
    device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    sizes = TINY if arguments.tiny else REAL
    result: dict[str, Any] = {
        "what": "one batch on the device, warm, the device waited for at the ends of the loop "
        "only; training: forward, margin head of all identities in float32, backward, clipping, "
        "fused SGD; shares are of a measured bfloat16 product",
        "gpu": torch.cuda.get_device_name(device) if on_gpu else "none",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "sizes": sizes._asdict(),
        "seconds_of_each": arguments.seconds,
        **describe("torch", "numpy", *(["triton"] if on_gpu else [])),
    }
    bench = Bench(
        device,
        arguments.seconds,
        sizes,
        ("tiny", "tiny") if arguments.tiny else ("iresnet34", "iresnet50"),
        "tiny" if arguments.tiny else "iresnet18",
        arguments.all,
        time.monotonic() + arguments.limit,
        arguments.output,
        result,
    )
    for stage in STAGES:
        if stage in stages:
            begin = time.monotonic()
            try:
                STAGES[stage](bench)
            except Exception:
                result[f"{stage}_failed"] = traceback.format_exc(limit=-1).splitlines()[-1]
                traceback.print_exc(file=sys.stdout)
            seconds = result.setdefault("seconds_of_stages", {})
            seconds[stage] = round(time.monotonic() - begin, 1)
            if "networks" in result:
                result["hours_of_the_six_tables_and_the_controls"] = six_tables(result["networks"])
            write_json(arguments.output, result)
    table(result)


if __name__ == "__main__":
    main()
