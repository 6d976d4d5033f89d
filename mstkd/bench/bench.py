"""The command `bench`: measure each part on this machine and say what the experiment takes.

Shapes: B batch, H side in pixels, D embedding dimension, C identities, T teachers.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from mstkd import __version__
from mstkd.bench.bound import bound, roofline, told
from mstkd.bench.estimate import duration, estimate, significant
from mstkd.bench.images import bench_packs
from mstkd.bench.machine import describe
from mstkd.bench.measure import (
    BACKWARD,
    embedding_batch,
    endless,
    matmul_peak,
    time_embedding,
    time_input,
    time_training,
    time_verification,
)
from mstkd.bench.pace import Span
from mstkd.bench.result import BenchResult, Bound, Estimate, Matmul, Rate, Roofline
from mstkd.bench.work import (
    Counts,
    Measure,
    Use,
    adaptor_of,
    count_images,
    embedding_of,
    experiment,
    teacher_variants,
    training_of,
)
from mstkd.compute.devices import place, precision_on
from mstkd.compute.numerics import configure
from mstkd.config import Config, HeadSettings, OptimiserSettings
from mstkd.config.models import every_model
from mstkd.data.loader import FaceBatches
from mstkd.data.pack import Pack
from mstkd.errors import InputError
from mstkd.losses.head_loss import build_head_loss, margin_generator
from mstkd.models.adaptors import build_adaptor
from mstkd.models.backbone import flops
from mstkd.models.timm import Timm
from mstkd.models.weights import build_backbone

PAIRS = 6000  # of an RFW group
MADE_UP_BATCHES = 8
NO_GPU = "no GPU here: nothing was measured on one"


@dataclass(frozen=True)
class _Bench:
    """What all measurements share."""

    config: Config
    packs: Sequence[Pack]
    classes: int  # of the largest head
    device: torch.device
    seconds: float
    folder: Path
    matmul: Matmul
    roofline: Roofline


def bench(
    config: Config,
    *,
    name: str,
    output: Path,
    packs: Path | None = None,
    seconds: float = 3.0,
    threads: int = 1,
    device: str = "auto",
) -> BenchResult:
    """Measure every part for about so many seconds, print a table and write the result.

    Args:
        config: the experiment.
        name: what to call the config in the result.
        output: the JSON to write.
        packs: the folder of packs, the experiment's own if None; where it has none, images are
            made up.
        seconds: of each measurement, after its warm-up.
        threads: CPU threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: a device that is not there, or packs that do not fit the config.
    """
    where = configure(device, threads, deterministic=config.engine.deterministic)
    packs = packs or config.inputs() / "packs"
    counts, no_estimate = _counts(config, packs)
    classes = sum(count.identities for count in counts.train.values()) if counts else 1000
    batch = max(optimiser.batch_size for _, optimiser in _trainings(config))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contextlib.redirect_stderr(io.StringIO()):  # the progress of packing
            opened = bench_packs(config, packs, folder, images=MADE_UP_BATCHES * batch)
        made_up = opened[0].path.is_relative_to(folder)
        matmul = matmul_peak(where, seconds)
        ridge = roofline(where, seconds, matmul.flops_a_second)
        shared = _Bench(config, opened, classes, where, seconds, folder, matmul, ridge)
        sizes = dict.fromkeys(optimiser.batch_size for _, optimiser in _networks(config))
        rates = [_input_rate(shared, size) for size in sizes]
        bounds = []
        for network in _networks(config):
            of_network, its_bound = _network_rates(shared, network)
            rates += of_network
            bounds += [] if its_bound is None else [its_bound]
        rates += [_adaptor_rate(shared, name) for name in config.adaptors.architectures]
        rates.append(_verification_rate(shared))
    result = BenchResult(
        config=name,
        device="cpu" if where.type == "cpu" else torch.cuda.get_device_name(where),
        gpu=NO_GPU if where.type == "cpu" else torch.cuda.get_device_name(where),
        torch_threads=threads,
        jobs_at_once=1 if where.type == "cuda" else max(1, (os.cpu_count() or 1) // threads),
        images="made up, in the page cache" if made_up else f"the packs in {packs}",
        matmul=matmul,
        rates=rates,
        binds=_what_binds(rates),
        roofline=ridge,
        bounds=tuple(bounds),
        estimate=None,
        no_estimate_because=no_estimate,
        machine={"mstkd": __version__, **describe("torch", "numpy", "h5py")},
    )
    if counts is not None:
        found = estimate(experiment(config, counts), result, counted_from=counts.source)
        result = result.model_copy(update={"estimate": found})
    result.write(output)
    return result


def _counts(config: Config, packs: Path) -> tuple[Counts | None, str | None]:
    try:
        return count_images(config, packs), None
    except InputError as error:
        return None, str(error)


def _trainings(config: Config) -> list[tuple[str, OptimiserSettings]]:
    """Backbone and optimiser of every network that learns from images."""
    teachers = [
        (backbone, config.teacher_settings(variant).optimiser)
        for backbone, variant in teacher_variants(config)
    ]
    students = [
        (
            config.student_backbone(model.set, model.loss),
            config.student_settings(model.set, model.loss).optimiser,
        )
        for model in every_model(config)
        if model.kind == "students"
    ]
    return [*teachers, *students]


def _networks(config: Config) -> list[tuple[str, OptimiserSettings]]:
    """Those that differ in speed; of two alike the first."""
    different: dict[str, tuple[str, OptimiserSettings]] = {}
    for backbone, optimiser in _trainings(config):
        key = str(training_of(config, backbone, optimiser.batch_size))
        different.setdefault(key, (backbone, optimiser))
    return list(different.values())


def _batches(shared: _Bench, batch: int) -> FaceBatches:
    return FaceBatches(shared.packs, split=None, batch_size=batch, seed=0, device=shared.device)


def _input_rate(shared: _Bench, batch: int) -> Rate:
    """Batches of images to the device; it is the same for all networks."""
    batches = _batches(shared, batch)
    span = time_input(batches, device=shared.device, seconds=shared.seconds)
    data = shared.config.data
    of = {"image_size": data.image_size, "batch_size": batch, "storage": data.storage}
    return _rate(shared, f"input alone, batch {batch}", "input", of, span, batch)


def _network_rates(
    shared: _Bench, network: tuple[str, OptimiserSettings]
) -> tuple[list[Rate], Bound | None]:
    """Step alone, input and step, and embedding, of one backbone and batch size; and its bound."""
    (name, optimiser), config, device = network, shared.config, shared.device
    size, batch = config.data.image_size, optimiser.batch_size
    backbone = build_backbone(
        config.backbones[name], embedding_dim=config.embedding_dim, image_size=size
    )
    margins = margin_generator(config.teachers.head, shared.classes, 0, device)
    head = build_head_loss(config.teachers.head, config.embedding_dim, shared.classes, margins)
    one = torch.zeros(1, 3, size, size)
    forward = flops(backbone, one)
    step = BACKWARD * (forward + _head_flops(config.teachers.head, shared))
    place(nn.ModuleDict({"backbone": backbone, "head": head}), device)
    batches = _batches(shared, batch)
    of = training_of(config, name, batch)
    common: dict[str, Any] = {"device": device, "seconds": shared.seconds}
    training: dict[str, Any] = {"input_key": "images", "settings": optimiser, **common}
    training["engine"] = config.engine

    label, on_gpu = f"{name}, batch {batch}", device.type == "cuda"
    kept = next(batches.epoch(0))
    span = time_training(backbone, head, itertools.repeat(kept), **training)
    rates = [_rate(shared, f"step alone, {label}", "step", of, span, batch, step)]
    compile_ = config.engine.compile
    its_bound = None
    if not isinstance(backbone, Timm):  # whose layers are of kinds that are not counted
        its_bound = bound(
            label,
            backbone,
            batch,
            size,
            classes=_looked_at(config.teachers.head, shared.classes),
            half=precision_on(config.engine.precision, device) == "bfloat16",
            compiled=on_gpu if compile_ == "auto" else compile_ != "off",
            fused_norm=bool(config.engine.fused_norm) and on_gpu,
            measured=span.seconds / span.steps,
            on=shared.roofline,
        )
    span = time_training(backbone, head, endless(batches), **training)
    rates.append(_rate(shared, f"input and step, {label}", "training", of, span, batch, step))
    images = embedding_batch(shared.packs)
    ways = {str(of): of for of in (embedding_of(config, name, use) for use in get_args(Use))}
    for of in ways.values():
        span = time_embedding(
            backbone,
            shared.packs,
            shared.folder / "cache.h5",
            embedding_dim=config.embedding_dim,
            dtype=config.cache.dtype,
            precision=of["precision"],
            compiled=of["compiled"],
            **common,
        )
        how = f"{of['precision']}, compiled" if of["compiled"] and on_gpu else of["precision"]
        part = f"embedding, {name}, {how}"
        rates.append(_rate(shared, part, "embedding", of, span, images, forward))
    return rates, its_bound


def _head_flops(settings: HeadSettings, shared: _Bench) -> int:
    """Of one embedding's products with the class weights that a step looks at."""
    return 2 * shared.config.embedding_dim * _looked_at(settings, shared.classes)


def _looked_at(settings: HeadSettings, classes: int) -> int:
    """Of so many classes, those that a step looks at."""
    share = settings.sampled_share(classes)
    return classes if share is None else round(share * classes)


def _adaptor_rate(shared: _Bench, name: str) -> Rate:
    """The step of an adaptor, rows taken from a cache in memory."""
    config, device = shared.config, shared.device
    batch, dim = config.adaptors.optimiser.batch_size, config.embedding_dim
    teachers = len(config.groups)
    adaptor = build_adaptor(config.adaptors.architectures[name], teachers, dim)
    margins = margin_generator(config.adaptors.head, shared.classes, 0, device)
    head = build_head_loss(config.adaptors.head, dim, shared.classes, margins)
    step = flops(adaptor, torch.zeros(1, teachers * dim))
    step += _head_flops(config.adaptors.head, shared)
    nn.ModuleDict({"adaptor": adaptor, "head": head}).to(device)
    count = MADE_UP_BATCHES * batch
    stored = torch.float16 if config.cache.dtype == "float16" else torch.float32
    cached = torch.randn(count, teachers * dim).to(device, stored)
    labels = torch.randint(shared.classes, (count,), device=device)

    def batches() -> Any:
        while True:
            rows = torch.randperm(count)[:batch].to(device)
            yield {"embeddings": cached.index_select(0, rows).float(), "labels": labels[rows]}

    span = time_training(
        adaptor,
        head,
        batches(),
        input_key="embeddings",
        settings=config.adaptors.optimiser,
        engine=config.engine,
        device=device,
        seconds=shared.seconds,
    )
    of, part = adaptor_of(config, name), f"adaptor {name}, batch {batch}"
    return _rate(shared, part, "adaptor", of, span, batch, BACKWARD * step, unit="embeddings")


def _verification_rate(shared: _Bench) -> Rate:
    dim, folds = shared.config.embedding_dim, shared.config.evaluation.folds
    span = time_verification(PAIRS, dim, folds=folds, seconds=shared.seconds)
    of = {"embedding_dim": dim, "folds": folds, "pairs": PAIRS}
    part = f"verification, {folds} folds"
    return _rate(shared, part, "verification", of, span, PAIRS, unit="pairs")


def _rate(
    shared: _Bench,
    part: str,
    measure: Measure,
    of: dict[str, Any],
    span: Span,
    batch: int,
    flops_per_unit: int | None = None,
    *,
    unit: Any = "images",
) -> Rate:
    per_second = span.steps * batch / span.seconds
    share = None
    if flops_per_unit is not None:
        share = per_second * flops_per_unit / shared.matmul.flops_a_second
    return Rate(
        part=part,
        measure=measure,
        of=of,
        unit=unit,
        per_second=per_second,
        flops_per_unit=flops_per_unit,
        share_of_matmul_peak=share,
        peak_gpu_bytes=span.peak_gpu_bytes,
        batches=span.steps,
        seconds=span.seconds,
    )


def _what_binds(rates: Sequence[Rate]) -> list[str]:
    """For each network that is trained: input or step, whichever is slower alone."""
    inputs = {rate.of["batch_size"]: rate for rate in rates if rate.measure == "input"}
    sentences = []
    for step in rates:
        if step.measure == "step":
            rate = inputs[step.of["batch_size"]]
            slow, fast = sorted((rate, step), key=lambda one: one.per_second)
            times = significant(fast.per_second / slow.per_second)
            name = step.part.removeprefix("step alone, ")
            what, other = ("input", "step") if slow is rate else ("step", "input")
            sentences.append(f"{name}: the {what} binds; the {other} alone is {times} times faster")
    return sentences


# ---------------------------------------------------------------- for people


def show(result: BenchResult, console: Console) -> None:
    """Print what was measured as tables."""
    device = str(result.machine["cpu"]) if result.device == "cpu" else result.device
    on_gpu = result.device != "cpu"
    table = _table(f"{result.config} on {device}, CPU threads: {result.torch_threads}")
    for column in ("a second", "of", "share of peak", *(["GPU memory"] if on_gpu else [])):
        table.add_column(column, justify="right")
    peak = f"{result.matmul.flops_a_second / 1e12:.3f}"
    table.add_row(f"matmul, {result.matmul.dtype}", peak, "TFLOP", "100 %")
    for rate in result.rates:
        share = rate.share_of_matmul_peak
        cells = [significant(rate.per_second), rate.unit, "" if share is None else f"{share:.0%}"]
        if rate.peak_gpu_bytes is not None:
            cells.append(f"{rate.peak_gpu_bytes / 2**30:.2f} GiB")
        table.add_row(rate.part, *cells)
    console.print(table)
    for one in result.bounds:
        _show_bound(one, console)
    for sentence in (*result.binds, f"images: {result.images}", result.gpu):
        console.print(sentence, highlight=False)
    if result.estimate is None:
        console.print(f"no estimate: {result.no_estimate_because}", highlight=False)
    else:
        _show_estimate(result.estimate, result.jobs_at_once, console)


def _show_bound(found: Bound, console: Console) -> None:
    table = _table(f"{found.part}: a step takes at least {1000 * found.seconds:.2f} ms")
    for column in ("GFLOP", "GB read and written", "ms at least"):
        table.add_column(column, justify="right")
    for kind in dict.fromkeys(share.kind for share in found.layers):
        shares = [share for share in found.layers if share.kind == kind]
        cells = (
            sum(share.flops for share in shares) / 1e9,
            sum(share.bytes for share in shares) / 1e9,
            1000 * sum(share.seconds for share in shares),
        )
        table.add_row(kind, *map(significant, cells))
    console.print(table)
    console.print(told(found), highlight=False)


def _show_estimate(found: Estimate, at_once: int, console: Console) -> None:
    table = _table(f"the experiment, images counted from {found.counted_from}")
    for column in ("jobs", "images seen", "time"):
        table.add_column(column, justify="right")
    for part in found.parts:
        table.add_row(part.part, f"{part.jobs}", f"{part.images:,.0f}", duration(part.hours))
    table.add_section()
    table.add_row("one job after another", "", "", duration(found.hours))
    if at_once > 1:
        table.add_row(f"{at_once} at once, at best", "", "", duration(found.hours / at_once))
    console.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("part", no_wrap=True)
    return table
