"""What a person types: to look at data, results and this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mstkd.cli.steps import OPTIONS
from mstkd.cli.suffixes import MoreSuffixes, suffixes

Output = Annotated[Path, OPTIONS["output"]]
Device = Annotated[str, OPTIONS["device"]]


def inspect(
    path: Annotated[Path, typer.Argument(help="A folder, CSV, .rec or .bin.")],
    groups: Annotated[
        Path | None, typer.Option("--groups", help="Of a .rec: BUPT's .lst, or a CSV.")
    ] = None,
    more_suffixes: MoreSuffixes = None,
) -> None:
    """Say what lies at a path before any work: groups, identities, images, pairs, problems.

    Exits with 1 if there are problems.

    Example: mstkd inspect /data/train
    """
    from mstkd.data.inspection.inspect import inspect
    from mstkd.data.inspection.text import report_lines

    found = inspect(path, groups=groups, more=suffixes(more_suffixes))
    for line in report_lines(found):
        typer.echo(line)
    if found.problems:
        raise typer.Exit(1)


def detect_landmarks(
    detector: Annotated[str, typer.Option("--detector", help="Name of an installed plug-in.")],
    output: Output,
    path: Annotated[
        Path, typer.Argument(help="A folder <group>/<identity>/<image>, or of any images.")
    ],
    more_suffixes: MoreSuffixes = None,
) -> None:
    """Find five landmarks in every image below a folder and write the CSV that aligns them.

    Example: mstkd detect-landmarks /data/train --detector mtcnn --output landmarks.csv
    """
    from mstkd.data.detection import detect_landmarks

    more = suffixes(more_suffixes)
    missed = detect_landmarks(path, detector=detector, output=output, more=more)
    typer.echo(f"{output}; images without a face: {len(missed):,}")
    for name in missed:
        typer.echo(f"  {name}")


def make_pairs(
    root: Annotated[Path, typer.Argument(help="A folder <group>/<identity>/<image>.")],
    output: Output,
    groups: Annotated[
        list[str] | None, typer.Option("--groups", help="Folders of it; all unless named.")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=4, help="Of a group, at most.")] = 6000,
    folds: Annotated[int, typer.Option("--folds", min=2, help="No person is in two.")] = 10,
    seed: Annotated[int, OPTIONS["seed"]] = 0,
    more_suffixes: MoreSuffixes = None,
) -> None:
    """Write a list of verification pairs, balanced and in folds, as data.verification reads it.

    Example: mstkd make-pairs /data/test --output /data/test/pairs.csv
    """
    from mstkd.data.pairing import make_pairs

    make_pairs(
        root,
        output=output,
        groups=groups or (),
        pairs=pairs,
        folds=folds,
        seed=seed,
        more=suffixes(more_suffixes),
    )


def audit(
    output: Annotated[Path, typer.Option("--output", help="A folder to write to.")],
    scores: Annotated[
        list[Path] | None,
        typer.Argument(help="Tables of scored pairs, one a system; or one CSV of rates by group."),
    ] = None,
    embeddings: Annotated[
        list[Path] | None,
        typer.Option("--embeddings", help="In place of scores: .npz or HDF5; with --pairs."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", help="In place of scores: weights; with --pairs."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="Of embeddings a CSV; of a model packs or RFW's folder."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Columns that make groups: ethnicity,sex for each product."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option("--threshold", help="A similarity at which to take error rates."),
    ] = None,
    fmr: Annotated[
        list[float] | None,
        typer.Option("--fmr", help="A global FMR to take them at; else 0.01, 0.001, 0.0001."),
    ] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="The column of scores, of another name.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="What scores are, where the column does not say: similarity, distance, euclidean "
            "or squared-euclidean (of unit vectors).",
        ),
    ] = None,
    attributes: Annotated[
        Path | None,
        typer.Option("--attributes", help="A CSV of further columns, by image or by pair."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=2, help="Of a table without a column fold.")
    ] = 10,
    threads: Annotated[int, OPTIONS["threads"]] = 1,
    device: Device = "auto",
) -> None:
    """Measure any system on scored pairs, group by group, with intervals; compare several.

    Writes measures.csv, comparisons.csv, audit.json and the page audit.html; of embeddings or a
    model also impostors.csv, false matches over all pairs of images.

    Example: mstkd audit scores.csv --group ethnicity,sex --output audit
    """
    # Before NumPy is loaded: on a busy machine threads of small products wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from mstkd.cli.audit import audit
    from mstkd.config import AuditSettings, validate

    given = {
        "group": _names(group),
        "score": score,
        "kind": kind,
        "folds": folds,
        "thresholds": tuple(threshold or ()),
        "fmrs": tuple(fmr or ()),
    }
    answer = audit(
        validate(AuditSettings, given, "audit"),
        scores=scores or (),
        embeddings=embeddings or (),
        models=model or (),
        pairs=pairs,
        attributes=attributes,
        output=output,
        threads=threads,
        device=device,
    )
    typer.echo(answer)
    further = ", impostors.csv" if pairs else ""
    typer.echo(f"\n{output / 'audit.html'}, measures.csv, comparisons.csv{further}, audit.json")


def trace(
    images: Annotated[list[Path], typer.Argument(help="Aligned faces, of the teachers' size.")],
    student: Annotated[
        Path | None, typer.Option("--student", help="Weights: traced is what it was taught.")
    ] = None,
    adaptor: Annotated[
        Path | None, typer.Option("--adaptor", help="Weights, in place of a student's.")
    ] = None,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--teachers", help="Weights, in block order, once each; else as recorded."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="The teachers' embedding cache; else as recorded")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="A picture to write: .png, .svg or .pdf.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers.")] = False,
    threads: Annotated[int, OPTIONS["threads"]] = 1,
    device: Device = "auto",
) -> None:
    """Say which teachers the fused embedding of an image is from; of two, their similarity too.

    What a student is taught is the fused embedding (docs/tracing.md).

    Example: mstkd trace face.png --student model.safetensors --output shares.png
    """
    from mstkd.evaluation.traced import find_fusion, trace_images
    from mstkd.report.traced import render_traced, traced_lines

    fusion = find_fusion(student=student, adaptor=adaptor, cache=cache, teachers=teachers or ())
    told = trace_images(images, fusion, threads=threads, device=device)
    if output is not None:
        render_traced(told, output)
    typer.echo(told.text() if as_json else "\n".join(traced_lines(told)))


def view(
    results: Annotated[
        Path, typer.Argument(help="A folder below which tables of scored pairs lie.")
    ] = Path("results"),
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Where the pictures that tables name lie, if not in packs."),
    ] = None,
    more_suffixes: MoreSuffixes = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Of CSVs, as of mstkd audit: columns of groups.")
    ] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="Of CSVs: the column of scores.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Of CSVs: what scores are, as of mstkd audit.")
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")
    ] = 0,
) -> None:
    """Serve a page on this machine: error rates by threshold, the hardest pairs, their shares.

    Prints its address, which holds a secret; Ctrl-C ends it, with exit code 0.

    Example: mstkd view results
    """
    # Before NumPy is loaded: on a busy machine threads of small products wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mstkd.config import AuditSettings, validate
    from mstkd.errors import InputError

    try:
        from mstkd.view.serving import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "werkzeug":
            raise
        found, expected = "no werkzeug", "the extra view: pip install 'mstkd[view]'"
        raise InputError("view", found=found, expected=expected) from None
    # Folds say nothing here, so that two pairs of a kind are enough.
    given = {"group": _names(group), "score": score, "kind": kind, "folds": 2}
    settings = validate(AuditSettings, given, "view")
    more = suffixes(more_suffixes)
    serve(results, settings, images=images, more=more, port=port, tell=typer.echo)


def provenance(
    path: Annotated[Path, typer.Argument(help="A pack, model, table, figure, report, ...")],
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it, every file of the chain.")
    ] = False,
) -> None:
    """Say which version, settings, seed and data made a result, and if they are still there.

    Example: mstkd provenance results/tables/table2.csv
    """
    from mstkd.artifacts.lineage import lineage, lineage_lines

    told = lineage(path)
    typer.echo(told.model_dump_json(indent=2) if as_json else "\n".join(lineage_lines(told)))


def check(
    results: Annotated[
        Path, typer.Argument(help="The folder of results; what lies there unasked is listed.")
    ] = Path("results"),
    configfile: Annotated[
        Path | None, typer.Option("--configfile", help="As for snakemake; its own default.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file whole, weights and packs too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every job and orphan.")] = False,
) -> None:
    """Say which results are current, stale, damaged, missing or orphaned, and what a run makes.

    Exits with 1 unless all are current. To be called where snakemake is.

    Example: mstkd check --configfile mine.yaml
    """
    from rich.console import Console

    from mstkd.workflow.check import check, show

    checked = check(results, configfile=configfile, deep=deep)
    if as_json:
        typer.echo(checked.model_dump_json(indent=2))
    else:
        show(checked, Console())
    if not checked.well():
        raise typer.Exit(1)


def init(
    folder: Annotated[Path, typer.Argument(help="To be made; nothing is overwritten.")],
) -> None:
    """Make a folder to run the method in: a Snakefile, configs and profiles, to be edited.

    Example: mstkd init study
    """
    import shlex

    from mstkd.workflow.starting import init

    for path in init(folder):
        typer.echo(path)
    typer.echo(f"cd {shlex.quote(str(folder))} && snakemake --cores all")


def show_tables(
    paths: Annotated[list[Path], typer.Argument(help="CSV tables, or folders of them.")],
) -> None:
    """Print tables on the terminal, the best of each section in bold.

    Example: mstkd show-tables results/tables
    """
    from mstkd.report.tables import show_tables

    show_tables(paths)


def bench(
    config: Annotated[Path, typer.Option("--config", help="The experiment's config file.")],
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="Of each measurement, after a warm-up.")
    ] = 3.0,
    packs: Annotated[
        Path | None,
        typer.Option("--packs", help="Folder of packs; where it has none, images are made up."),
    ] = None,
    output: Output = Path("results/bench.json"),
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="CPU threads; an eighth of the cores, as a job has."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure input, step, embedding and verification here, and say what the experiment takes.

    Example: mstkd bench --config config/paper.yaml
    """
    from rich.console import Console

    from mstkd.bench.bench import bench, show
    from mstkd.config import read_config

    result = bench(
        read_config(config),
        name=str(config),
        packs=packs,
        output=output,
        seconds=seconds,
        threads=threads or max(1, (os.cpu_count() or 1) // 8),
        device=device,
    )
    show(result, Console())


def schema() -> None:
    """Print the JSON schema of the config file, for editors.

    Example: mstkd schema > config.schema.json
    """
    import json

    from mstkd.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _names(told: str | None) -> tuple[str, ...] | None:
    """Those of columns, as `--group` takes them."""
    return None if told is None else tuple(filter(None, told.split(",")))


COMMANDS = (
    init,
    inspect,
    detect_landmarks,
    make_pairs,
    audit,
    trace,
    view,
    check,
    provenance,
    show_tables,
    bench,
    schema,
)
