"""Writes the tables of documents from the results, between their `<!-- table -->` marks.

python benchmarks/render.py [--check]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mstkd.artifacts.atomic import write_text
from mstkd.bench.estimate import duration, significant

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = [ROOT / "docs" / name for name in ("performance.md", "uncertainty.md", "study.md")]
BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_MEASURED = "not measured"

BETWEEN = ("normalisation", "activation", "additions")

Result = dict[str, Any]
Row = Sequence[object]


def table(header: Row, rows: Iterable[Row]) -> str:
    """A Markdown table, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    right = [":--" if column == 0 else "--:" for column in range(len(header))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (cells[0], right, *cells[1:]))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


# ---------------------------------------------------------------- a table each


def adaptor_epoch(found: Result) -> str:
    alone = found["input_alone"]
    rates = alone["samples_a_second"]
    rows: list[Row] = [
        (
            "input alone",
            rates["ours"],
            rates[alone["fastest_plain"]],
            alone["times_as_fast"],
            found["target"],
            alone["target_met"],
        )
    ]
    for case in found["with_step"].values():
        rows.append(
            (
                f"with the step, {case['identities']:,} identities",
                case["ours_samples_a_second"],
                case["plain_samples_a_second"],
                case["times_as_fast"],
                found["target"],
                case["target_met"],
            )
        )
    fastest = f"plain: fastest with {alone['fastest_plain'].removeprefix('plain, ')}."
    header = ("samples a second", "ours", "plain", "times as fast", "target", "met")
    return table(header, rows) + f"\n{fastest.capitalize()}\n"


def training_step(found: Result) -> str:
    header = ("images a second", "ours", "plain", "times as fast", "target", "met")
    rows: list[Row] = []
    for where, target in (("on_cpu", "target_on_cpu"), ("on_gpu", "target_on_gpu")):
        cases = found[where]
        if isinstance(cases, str):
            rows.append(("on a GPU", cases, cases, cases, found[target], cases))
            continue
        for name, case in cases.items():
            rates = (case["ours_images_a_second"], case["plain_images_a_second"])
            rows.append((name, *rates, case["times_as_fast"], found[target], case["target_met"]))
    return table(header, rows)


def evaluation(found: Result) -> str:
    alone = found["verification_alone"]
    header = ("seconds", "ours", "plain", "times as fast", "target", "met")
    images, pairs = f"{found['images']:,} images", f"{found['pairs']:,} pairs"
    return table(
        header,
        [
            (
                f"embedding and verification, {images}, {pairs}",
                found["ours_seconds"],
                found["plain_seconds"],
                found["times_as_fast"],
                found["target"],
                found["target_met"],
            ),
            (
                f"verification alone, {alone['pairs']:,} pairs",
                alone["ours_seconds"],
                alone["plain_seconds"],
                alone["times_as_fast"],
                "",
                "",
            ),
        ],
    )


def measures(found: Result) -> str:
    header = (
        f"{found['draws']:,} draws of {found['pairs']:,} pairs, seconds",
        "ours",
        "loop over draws",
        "times as fast",
    )
    text = table(header, [(name, *case.values()) for name, case in found["measures"].items()])
    every = found["impostors"]
    header = (
        f"{every['impostor_pairs']:,} impostor pairs",
        "ours",
        "the whole matrix",
        "ours, every rate with its interval",
    )
    rows: list[Row] = [
        ("seconds", every["seconds"], every["plain_seconds"], every["rates_seconds"]),
        ("memory, MiB", every["mib"], every["plain_mib"], every["rates_mib"]),
    ]
    text += "\n" + table(header, rows)
    read = found["seconds_to_read_the_table"].items()
    return text + "\n" + table(("reading the table", "seconds"), read)


def audit(found: Result) -> str:
    targets = list(found["targets"].values())
    header = ("a whole audit", "measured", "of the processors", "at most")
    of_all = (found["seconds"], found["processor_seconds"])
    of_one = (found["seconds_of_one"], found["processor_seconds_of_one"])
    rows = [
        ("seconds, of one system", *of_one, targets[0]),
        (f"seconds, of {found['systems']} systems", *of_all, targets[1]),
        ("peak memory, MB", found["peak_memory_mb"], "", targets[2]),
    ]
    counts = f"{found['measures']:,} measures and {found['comparisons']:,} comparisons"
    return table(header, rows) + f"\n{counts}, of {found['pairs']:,} pairs.\n"


def scaling(found: Result) -> str:
    heads = found["head_exact_by_identities"]
    header = ("head, identities", "weight, MiB", "a step's memory, MiB", "a step, seconds")
    text = table(header, [(f"{int(size):,}", *one.values()) for size, one in heads.items()])
    sampled = found["head_sampled_by_identities"]
    header = (f"head that looks at {found['sampled_share']:.0%}, identities", *header[1:])
    text += "\n" + table(header, [(f"{int(n):,}", *one.values()) for n, one in sampled.items()])
    for kind in ("pack", "cache"):
        header = (f"{kind}, images", "file, MiB", "memory, MiB", "open and a batch, seconds")
        sizes = found[f"{kind}_by_images"]
        text += "\n" + table(header, [(f"{int(n):,}", *one.values()) for n, one in sizes.items()])
    return text


def gpu(found: Result) -> str:
    """Stages that were not reached have no table; what failed says why in its place."""
    texts = [f"On {found['gpu']}, bfloat16 product {found['matmul_tflops']} TFLOP/s.\n"]
    header = ("way", "images a second", "share of matmul peak", "peak memory, GiB")
    rates: list[Row] = []
    for network, tasks in found["networks"].items():
        for task, ways in tasks.items():
            rates += [(f"{network} {task}, {way}", *_rate(one)) for way, one in ways.items()]
    for batch, ways in found.get("larger_batches", {}).items():
        rates += [(f"batch {batch}, {way}", *_rate(one)) for way, one in ways.items()]
    texts.append(table(header, rates))
    if "loop" in found:
        rows = [(name, *_rate(one)) for name, one in found["loop"].items()]
        texts.append(table(("the pipeline's loop", *header[1:]), rows))
    profiles = {f"{name}, eager": one for name, one in found.get("profile", {}).items()}
    for network, tasks in found["networks"].items():
        for task, ways in tasks.items():
            profiles |= {
                f"{network} {task}, {way}": one["profile"]
                for way, one in ways.items()
                if isinstance(one, dict) and "profile" in one
            }
    if profiles:
        texts.append(_profiles(profiles))
    if "waits" in found:
        rows = [
            (what, one["passes"], one["host_ms"], one["whole_ms"])
            if isinstance(one, dict)
            else (what, one, "", "")
            for what, one in found["waits"].items()
        ]
        texts.append(table(("a step", "never waits", "host, ms", "whole, ms"), rows))
    if "together" in found:
        texts.append(table(("teachers at once", "images a second"), found["together"].items()))
    texts += _same_bytes(found)
    if hours := found.get("hours_of_the_six_tables_and_the_controls"):
        texts.append(table(("the six tables and the controls", "hours"), hours.items()))
    return "\n".join(texts)


WAYS = {
    "off": "launched one by one",
    "captured": "captured",
    "default": "compiled",
    "auto": "`engine.compile: auto`",
}


def gpu_step(found: Result) -> str:
    """The pipeline's steps side by side, then what else the same call measured."""
    texts = [f"On {found['gpu']}, bfloat16 product {found.get('matmul_tflops')} TFLOP/s.\n"]
    rows: list[Row] = []
    for step, ways in found.get("steps", {}).items():
        for way, one in ways.items():
            label = f"{step}, {WAYS[way]}"
            if isinstance(one, str):
                rows.append((label, one, "", "", "", ""))
                continue
            profile, waits = one["profile"], one["waits"]
            busy = f"{profile['busy_share']:.0%}" if isinstance(profile, dict) else profile
            never = waits["passes"] if isinstance(waits, dict) else waits
            rows.append((label, *_rate(one)[:2], busy, never, one.get("reserved_gib", "")))
    header = ("a step", "images a second", "share of matmul peak", "busy", "never waits", "GiB")
    texts.append(table(header, rows))
    if "sizes" in found:
        texts.append(_by_the_roofline(found))
    if "embedding" in found:
        rows = [
            (name, one if isinstance(one, str | int) else one["images_a_second"])
            for name, one in found["embedding"].items()
        ]
        texts.append(table(("embedding, with the uploads", "images a second"), rows))
    if "loop" in found:
        rows = [(name, *_rate(one)) for name, one in found["loop"].items()]
        header = ("the pipeline's loop", "images a second", "share of matmul peak", "GiB")
        texts.append(table(header, rows))
    return "\n".join([*texts, *_same_bytes(found)])


def _by_the_roofline(found: Result) -> str:
    """What the device spent on a teacher's step, beside the bound by its copies and products."""
    from mstkd.bench.bound import seconds_at_least, step_work
    from mstkd.bench.result import Roofline
    from mstkd.config import BackboneSettings
    from mstkd.models.weights import build_backbone

    ceilings = json.loads((RESULTS / "gpu.json").read_text(encoding="utf-8"))["ceilings"]
    device = Roofline(
        bytes_a_second=ceilings["device_copy_gb_a_second"] * 1e9,
        flops_a_second=found["matmul_tflops"] * 1e12,
        float32_flops_a_second=ceilings["float32_tflops"] * 1e12,
    )
    sizes, rows = found["sizes"], []
    for step, ways in found.get("steps", {}).items():
        name, _, kind = step.partition(" ")
        if kind != "teacher" or not isinstance(ways.get("auto"), dict):
            continue
        settings = BackboneSettings.model_validate({"architecture": name})
        network = build_backbone(settings, embedding_dim=sizes["dim"], image_size=sizes["side"])
        spent = ways["auto"]["profile"]["ms_by_family"]
        shape = (network, sizes["batch"], sizes["side"])
        works = [
            step_work(*shape, classes=sizes["identities"], half=True, design=design)
            for design in ("compiled", "fused")
        ]
        for what, measured, kinds in (
            ("convolutions", spent["convolutions"], ("products",)),
            ("between them", spent["fused by the compiler"], BETWEEN),
            ("the whole", ways["auto"]["profile"]["ms"], None),
        ):
            cells = [measured]
            for work in works:
                # The profile counts the last layer's products with those of the head.
                own = [w for w in work if kinds is None or (w.kind in kinds and w.layer != "fc")]
                cells.append(1e3 * seconds_at_least(own, device))
            rows.append((f"{name} teacher: {what}", *(f"{cell:.2f}" for cell in cells)))
    header = ("a step by `auto`, ms", "measured", "at least", "at least, statistics fused")
    return table(header, rows)


def _same_bytes(found: Result) -> list[str]:
    texts = []
    for label, one in found.get("determinism", {}).items():
        if isinstance(one, str):
            texts.append(f"Same bytes, {label}: {one}.\n")
            continue
        told = {
            "`deterministic`, twice": one["same_twice"],
            "`deterministic`, killed and resumed": one["same_resumed"],
        }
        if "same_twice_without_deterministic" in one:
            told["without, twice"] = one["same_twice_without_deterministic"]
        texts.append(table((f"a teacher's bytes the same, {label}", ""), told.items()))
    return texts


def _rate(found: Result | str) -> Row:
    if isinstance(found, str):
        return (found, "", "")
    rate, share, gib = list(found.values())[:3]
    return (rate, "" if share is None else share, gib)


def _profiles(profiles: dict[str, Result | str]) -> str:
    """Milliseconds a step by family of kernels, the longest families first."""
    rows: list[Row] = []
    for name, one in profiles.items():
        if isinstance(one, str):
            rows.append((name, one, "", "", ""))
            continue
        families = [f"{family} {ms:.1f}" for family, ms in one["ms_by_family"].items() if ms >= 0.1]
        ms = round(one["ms_from_first_to_last_kernel"], 1)
        rows.append((name, one["kernels"], ms, f"{one['busy_share']:.0%}", ", ".join(families)))
    return table(("a step under the profiler", "kernels", "ms", "busy", "of which, ms"), rows)


def bench(found: Result) -> str:
    peak = found["matmul"]
    rows: list[Row] = [
        (f"matmul, {peak['dtype']}", f"{peak['flops_a_second'] / 1e12:.3f} TFLOP", "")
    ]
    for rate in found["rates"]:
        share = rate["share_of_matmul_peak"]
        of_peak = "" if share is None else f"{share:.0%}"
        rows.append((rate["part"], f"{significant(rate['per_second'])} {rate['unit']}", of_peak))
    text = table(("part", "a second", "share of matmul peak"), rows)
    text += "".join(f"\n{sentence}.\n" for sentence in found["binds"])
    estimate = found["estimate"]
    parts: list[Row] = [
        (part["part"], part["jobs"], f"{part['images']:,.0f}", duration(part["hours"]))
        for part in estimate["parts"]
    ]
    parts.append(("one job after another", "", "", duration(estimate["hours"])))
    text += "\n" + table(("the experiment", "jobs", "images seen", "time"), parts)
    return text + f"\nGPU: {found['gpu']}.\n"


def head(found: Result) -> str:
    return table(
        (f"head, {found['classes']:,} identities", "ours", "textbook", "ours / textbook"),
        [
            ("seconds", found["ours_seconds"], found["textbook_seconds"], found["time_ratio"]),
            ("MiB", found["ours_mib"], found["textbook_mib"], found["memory_ratio"]),
        ],
    )


def loading(found: Result) -> str:
    times = found["times_as_fast_as_the_dataset"]
    rows = [
        (name.replace("_", " "), rate, times.get(name, ""))
        for name, rate in found["images_a_second"].items()
    ]
    return table(("one core", "images a second", "times the Dataset of files"), rows)


def integrity(found: Result) -> str:
    rows = [
        (one["epoch"], one["compare_us_a_sample"], one["percent"], found["target_percent"])
        for one in found["first_epochs"]
    ]
    return table(("first epoch", "µs a sample", "percent of it", "at most"), rows)


def demo(found: Result) -> str:
    rows = [("seconds", found["seconds"]), ("peak memory, GiB", found["peak_memory_gib"])]
    return table(("the whole demo", "measured"), rows)


def students_together(found: Result) -> str:
    header = (f"{found['students']} students", "together", "one by one", "together / one by one")
    seconds = (found["together_cpu_seconds"], found["alone_cpu_seconds"], found["share"])
    return table(header, [("processor seconds", *seconds)])


def big_dag(found: Result) -> str:
    rows = [
        ("jobs", found["jobs"]),
        ("seconds of a dry run", found["seconds"]),
        ("peak memory, MB", round(found["peak_resident_bytes"] / 1e6)),
    ]
    return table(("200 seeds of a grid", "measured"), rows)


LOWEST, HIGHEST = 0.93, 0.97  # of coverage that is asked for
MOST_WRONG = 0.06


def calibration(found: Result) -> str:
    """Coverage by kind of interval; then each interval outside what is asked for; then verdicts.

    Those over all impostor pairs are asked of sets of their own, and have tables of their own.
    """
    names = {"rfw": "RFW's design", "demo": "the demo's size"}
    texts = [f"{found['sets']:,} sets a design.\n"]
    apart = [one for one in found["again"] if one["parts"] == ["impostors"]]
    texts += [f"Asked again {_run(one)}.\n" for one in found["again"] if one not in apart]
    texts += _coverage(found["coverage"], names, found["sets"])
    wrong = found["wrong_verdicts"]
    header = ["wrong verdicts, lowest to highest", *(names[design] for design in wrong)]
    measures = dict.fromkeys(name.split(", spread")[0] for of in wrong.values() for name in of)
    rows = [
        (
            measure,
            *(
                _range([share for name, share in of.items() if name.startswith(f"{measure}, ")])
                for of in wrong.values()
            ),
        )
        for measure in measures
    ]
    texts.append(table(header, rows))
    shares = [share for of in wrong.values() for share in of.values()]
    above = sum(share > MOST_WRONG for share in shares)
    mean = sum(shares) / len(shares)
    texts.append(f"{above} of {len(shares)} are above {MOST_WRONG:.0%}; the mean is {mean:.1%}.\n")
    if "impostors" in found:
        crowds = found["crowds"]
        names = {
            name: f"{one['people']} people a group, an FMR of {one['fmr']:g}"
            for name, one in crowds.items()
        }
        images = " and ".join(f"{one['images']}" for one in crowds.values())
        texts.append(f"**Over all impostor pairs** of images, {images} of each person.\n")
        texts += [f"Asked {_run(one)}.\n" for one in apart]
        texts += _coverage(found["impostors"], names, found["sets"])
    return "\n".join(texts)


def _run(again: Result) -> str:
    """Of which sets a part was asked by itself."""
    last = again["first"] + again["sets"] - 1
    parts = ", ".join(again["parts"])
    return (
        f"of sets {again['first']:,} to {last:,}, {again['date'][:10]}: {parts} "
        f"(`{again['command']}`)"
    )


def _coverage(of_designs: Result, names: dict[str, str], sets: int) -> list[str]:
    """Coverage by kind of interval, and each interval outside what is asked for."""
    header = ["coverage, lowest to highest", *(names[design] for design in of_designs)]
    kinds: dict[str, dict[str, list[float]]] = {}
    outside: list[Row] = []
    for design, intervals in of_designs.items():
        for name, one in intervals.items():
            by_design = kinds.setdefault(name.split(": ")[0], {})
            by_design.setdefault(design, []).append(one["coverage"])
            if not LOWEST <= one["coverage"] <= HIGHEST:
                shares = (one["coverage"], one["truth_below"], one["truth_above"])
                outside.append((f"{name}, {names[design]}", *(f"{share:.1%}" for share in shares)))
    rows = [
        (kind, *(_range(by_design.get(design, [])) for design in of_designs))
        for kind, by_design in kinds.items()
    ]
    asked = f"outside {LOWEST:.0%} to {HIGHEST:.0%}"
    shown = [one["coverage"] for intervals in of_designs.values() for one in intervals.values()]
    chance = [2 * math.sqrt(edge * (1 - edge) / sets) for edge in (LOWEST, HIGHEST)]
    below = sum(one < LOWEST - chance[0] for one in shown)
    above = sum(one > HIGHEST + chance[1] for one in shown)
    texts = [
        table(header, rows),
        f"{len(outside)} of {len(shown)} lie {asked}; by more than two standard errors of "
        f"{sets:,} sets {below} lie below and {above} above.\n",
    ]
    if outside:
        texts.append(table((asked, "coverage", "truth below", "truth above"), outside))
    return texts


def _range(shares: Sequence[float]) -> str:
    if not shares:
        return ""
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    return low if low == high else f"{low} to {high}"


def uncertainty(found: Result) -> str:
    rows: list[Row] = [
        ("models", found["models"]),
        ("pairs of each", found["pairs"]),
        ("intervals", found["intervals"]),
        ("comparisons", found["comparisons"]),
        ("seconds for all", found["seconds"]),
        ("processor seconds of these", found["processor_seconds"]),
        ("seconds for one model", found["seconds_of_one_model"]),
        ("peak memory, MB", found["peak_memory_mb"]),
        ("2,000 draws of a bootstrap as a loop, seconds reckoned", found["loop_seconds_reckoned"]),
    ]
    return table(("every interval and comparison", "measured"), rows)


def power(found: Result) -> str:
    header = (
        "measure",
        "smallest difference, 1 seed",
        f"{found['seeds']} seeds",
        "the paper's",
        "needs times the identities",
        "or times the pairs",
        "or seeds",
    )
    rows = [
        ["none" if cell is None else cell for cell in one.values()] for one in found["measures"]
    ]
    return table(header, rows)


def study_design(found: Result) -> str:
    """What is drawn, trained and tested; then every claim that will be judged."""
    design = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else value)
        for name, value in found["design"].items()
    ]
    claims = [
        (f"**{one['claim']}**" if one["question"] else one["claim"], one["comparisons"])
        for one in found["claims"]
    ]
    texts = [table(("design", ""), design), table(("claim", "comparisons"), claims)]
    return "\n".join(texts)


def study_power(found: Result) -> str:
    measures = ("global accuracy", "accuracy of a group", "STD")
    rows: list[Row] = [
        (
            f"{one['pairs']} {found['pairs'][one['pairs']]:,} pairs of "
            f"{found['identities'][one['pairs']]} people",
            one["seeds"],
            one["spread"] if one["seeds"] > 1 else "not known",
            *(one[name] for name in measures),
        )
        for one in found["smallest_difference"]
    ]
    header = ("a group", "seeds", "spread between seeds, points", *measures)
    own = ""
    if found["demo"]:
        seen = "; ".join(
            f"{loss}: {of_loss['global_accuracy']} of global accuracy, {of_loss['std']} of STD"
            for loss, of_loss in found["demo"].items()
        )
        own = f"\nBy its own scores the demo, of one seed, could see (points): {seen}.\n"
    return table(header, rows) + own


def study_cost(found: Result) -> str:
    rows = [(one["rule"], one["jobs"], one["measured"], one["each"]) for one in found["rules"]]
    header = ("rule", "jobs", "measured", "processor seconds each, the longest")
    text = (
        f"\n{found['processor_hours']} hours of processor time, {found['hours']} hours on "
        f"{found['cores']} cores with nothing else to do. Left out, since they were not measured: "
        f"{', '.join(found['not_measured'])}.\n"
    )
    return table(header, rows) + text


def study(found: Result) -> str:
    """The answer in the report's words, and the question's claims by their numbers."""
    names = {"global_accuracy": "global accuracy", "every_group": "every group", "std": "STD"}
    rows = [
        (
            one["claim"],
            names[one["measure"]],
            f"{one['value']:+.2f}",
            f"{one['low']:+.2f} to {one['high']:+.2f}",
            one["verdict"],
            f"{one['smallest']:.2f}",
            " / ".join(
                str(one["alone"].get(verdict, 0))
                for verdict in ("supported", "contradicted", "undecided")
            ),
        )
        for one in found["claims"]
    ]
    header = ("claim", "on", "points", "95 % interval", "verdict", "could see", "seeds alone")
    beside = "".join(f"- {sentence}\n" for sentence in found["beside"])
    seeds, designed = len(found["seeds"]), found["designed"]
    so_far = ""
    if seeds < designed:
        so_far = (
            f"**The run is not finished: {seeds} of {designed} seeds, in their order, whatever "
            "they show.** This is told for the record; the answer is that of all of them.\n\n"
        )
    note = (
        f'Of {seeds} seeds. "Could see" is the smallest difference that is seen in '
        'four of five cases; "seeds alone" how many seeds say supported, contradicted and '
        "undecided if each is judged as all that was trained. Their jobs add up to "
        f"{found['job_hours']} hours, two at a time, beside what else the machine did."
    )
    answer = f"{found['answer']} {found['whom']}"
    return f"{so_far}{answer}\n\n{table(header, rows)}\n{note}\n\n{beside}"


def finished_dag(found: Result) -> str:
    """Ours, the bare workflow, and what is ours of it, before too where that was measured."""
    cases = {
        "nothing changed": found["nothing_changed"],
        "one lambda edited": found["one_lambda_edited"],
        "`--touch` after the edit": found["touch_after_the_edit"],
    }
    columns = ("ours", "bare", "ours_less_bare", "before", "before_less_bare")
    rows = [(name, *(one.get(column, "") for column in columns)) for name, one in cases.items()]
    rows.append(("`mstkd check`", found["check"]["processor_seconds"], "", "", "", ""))
    header = (f"{found['jobs']:,} finished jobs, processor seconds", "ours", "bare")
    return table((*header, "ours less bare", "before", "before less bare"), rows)


def watching(found: Result) -> str:
    header = ("a listing of files", "files", "processor seconds", "target", "seconds")
    spent, seconds = (sorted(found[name])[1] for name in ("processor_seconds", "seconds"))
    return table(header, [("median of 3", found["files"], spent, found["target"], seconds)])


TABLES: dict[str, Callable[[Result], str]] = {
    "adaptor_epoch": adaptor_epoch,
    "training_step": training_step,
    "evaluation": evaluation,
    "measures": measures,
    "audit": audit,
    "scaling": scaling,
    "gpu": gpu,
    "gpu_step": gpu_step,
    "bench_demo": bench,
    "head": head,
    "loading": loading,
    "integrity": integrity,
    "demo": demo,
    "students_together": students_together,
    "big_dag": big_dag,
    "calibration": calibration,
    "uncertainty": uncertainty,
    "power": power,
    "study_design": study_design,
    "study_power": study_power,
    "study_cost": study_cost,
    "study": study,
    "finished_dag": finished_dag,
    "watching": watching,
}


def source(name: str, found: Result) -> str:
    """What a table was measured with: every figure's file, command, machine, versions, date."""
    machine = found.get("machine", found)
    torch = f"PyTorch {machine['torch']}, " if "torch" in machine else ""
    return (
        f"\n[{name}.json](../benchmarks/results/{name}.json): `{machine['command']}`, "
        f"{machine['cpu']} with {machine['cpu_count']} cores, load before "
        f"{machine['load_average']}, {torch}Python {machine['python']}, {machine['date'][:10]}.\n"
    )


def block(name: str, results: Path) -> str:
    """The text of one table; `not measured` where there is no result."""
    path = results / f"{name}.json"
    if not path.exists():
        return f"\n{NOT_MEASURED.capitalize()}.\n\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    return f"\n{TABLES[name](found)}{source(name, found)}\n"


def render(text: str, results: Path = RESULTS) -> str:
    """The document with all its tables made anew."""
    return BLOCK.sub(lambda match: match[1] + block(match["name"], results) + match[3], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if stale")
    check = parser.parse_args().check
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        rendered = render(text)
        if check and rendered != text:
            sys.exit(f"{document} is not in step with the results")
        if not check:
            write_text(document, rendered)


if __name__ == "__main__":
    main()
