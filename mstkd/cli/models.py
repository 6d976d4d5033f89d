"""What a person types to use a model: embed, verify, compare, calibrate, export."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mstkd.cli.steps import OPTIONS
from mstkd.cli.suffixes import MoreSuffixes, suffixes

if TYPE_CHECKING:
    from mstkd.inference.model import FaceModel

DIFFERENT, UNDECIDED = 1, 3  # exit codes of `verify`; 2 is a fault

Given = Annotated[
    str, typer.Option("--model", help="Weights or their folder, or an ONNX model (docs/models.md).")
]
GivenFirst = Annotated[str, typer.Argument(help="Weights or their folder, or an ONNX model.")]
Pairs = Annotated[
    Path,
    typer.Option("--pairs", help="A verification pack, a folder of them, RFW's folder, a CSV."),
]
SomePairs = Annotated[Path | None, typer.Option("--pairs", help="As of mstkd compare.")]
AsJson = Annotated[bool, typer.Option("--json", help="All numbers, for a program.")]
Mirror = Annotated[
    bool,
    typer.Option("--mirror/--no-mirror", help="Add the embedding of the mirror image, or not."),
]
Device = Annotated[str, OPTIONS["device"]]
Threads = Annotated[int, OPTIONS["threads"]]
Output = Annotated[Path, OPTIONS["output"]]


def embed(
    images: Annotated[list[Path], typer.Argument(help="Aligned faces, and folders of them.")],
    model: Given,
    output: Annotated[Path, typer.Option("--output", help="An .npz to write.")],
    mirror: Mirror = True,
    more_suffixes: MoreSuffixes = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Write the embeddings of aligned faces, of unit length, with the names of the images.

    The file is one that mstkd audit --embeddings reads: embeddings (N, D) and images (N,).

    Example: mstkd embed faces --model model.safetensors --output embeddings.npz
    """
    from mstkd.inference.written import image_files, write_embeddings

    loaded = _loaded(model, mirror=mirror, threads=threads, device=device, more=more_suffixes)
    names = image_files(images, loaded.more_suffixes)
    write_embeddings(loaded, names, output)
    typer.echo(f"{output}; {len(names):,} embeddings of {loaded.card.embedding_dim} dimensions")


def verify(
    one: Annotated[Path, typer.Argument(help="An aligned face.")],
    other: Annotated[Path, typer.Argument(help="Another.")],
    model: Given,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Similarity from which on it is one person."),
    ] = None,
    as_json: AsJson = False,
    mirror: Mirror = True,
    more_suffixes: MoreSuffixes = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Say whether two faces are of one person, and how often a model is wrong there, by group.

    Exits with 0 if they are, with 1 if they are not, and with 3 where no threshold is known.

    Example: mstkd verify a.png b.png --model model.safetensors
    """
    from mstkd.inference.lines import verified_lines

    loaded = _loaded(model, mirror=mirror, threads=threads, device=device, more=more_suffixes)
    found = loaded.verify(one, other, threshold=threshold)
    if as_json:
        errors = {name: rates.model_dump() for name, rates in found.errors.items()}
        _tell(found._asdict() | {"errors": errors})
    else:
        typer.echo("\n".join(verified_lines(found)))
    if not found.same:
        raise typer.Exit(UNDECIDED if found.same is None else DIFFERENT)


def compare(
    first: GivenFirst,
    second: Annotated[str, typer.Argument(help="Another.")],
    pairs: Pairs,
    fmr: Annotated[
        list[float] | None,
        typer.Option("--fmr", help="A global FMR to compare error rates at; with --json."),
    ] = None,
    as_json: AsJson = False,
    mirror: Mirror = True,
    more_suffixes: MoreSuffixes = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Compare two models on the same pairs, group by group, by what their errors have in common.

    Example: mstkd compare old.safetensors new.onnx --pairs pairs.csv
    """
    from mstkd.inference.comparison import compare

    one, other = (
        _loaded(path, mirror=mirror, threads=threads, device=device, more=more_suffixes)
        for path in (first, second)
    )
    _show_comparison(compare(one, other, pairs, fmrs=fmr or ()), as_json=as_json)


def calibrate(
    model: GivenFirst,
    pairs: Pairs,
    fmr: Annotated[float, typer.Option("--fmr", help="The false match rate, of all groups.")],
    as_json: AsJson = False,
    mirror: Mirror = True,
    more_suffixes: MoreSuffixes = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Set the threshold of a model for a false match rate, and record it beside the weights.

    Writes model.calibration.json: the threshold with its interval, and error rates by group.

    Example: mstkd calibrate model.safetensors --pairs pairs.csv --fmr 0.001
    """
    from mstkd.inference.lines import calibration_lines
    from mstkd.inference.written import write_calibration

    loaded = _loaded(model, mirror=mirror, threads=threads, device=device, more=more_suffixes)
    found, path = write_calibration(loaded, pairs, fmr=fmr)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        typer.echo("\n".join([*calibration_lines(found), "", str(path)]))


def export(
    model: GivenFirst,
    output: Annotated[Path, typer.Option("--output", help="A file to write: .onnx or .pt2.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="ONNX with weights of 8 bits; with --pairs.")
    ] = False,
    pairs: SomePairs = None,
    as_json: AsJson = False,
    mirror: Mirror = True,
    threads: Threads = 1,
) -> None:
    """Write a model as one file that takes pictures and gives embeddings, all else inside.

    Of int8 weights it says what they cost, group by group.

    Example: mstkd export model.safetensors --output model.onnx
    """
    from mstkd.errors import InputError
    from mstkd.inference.export import export

    if int8 and (pairs is None or output.suffix != ".onnx"):
        found = "no --pairs" if pairs is None else output.name
        expected = "--pairs and a file .onnx: what 8 bits cost each group is to be seen"
        raise InputError("--int8", found=found, expected=expected)
    loaded = _loaded(model, mirror=mirror, threads=threads, device="cpu")
    if not int8 or pairs is None:
        told = export(loaded, output)
        size = f"{output.stat().st_size:,} bytes"
        typer.echo(told.model_dump_json(indent=2) if as_json else f"{output}; {size}")
        return
    from mstkd.inference.comparison import compare
    from mstkd.inference.quantised import export_quantised

    export_quantised(loaded, output)
    small = _loaded(str(output), mirror=mirror, threads=threads, device="cpu")
    found_by = compare(small, loaded, pairs, names=("int8", "float32"))
    _show_comparison(found_by, as_json=as_json)


def info(
    model: GivenFirst,
    pairs: SomePairs = None,
    faces: Annotated[
        list[Path] | None,
        typer.Option("--face", help="An aligned face to show in every order of colours."),
    ] = None,
    as_json: AsJson = False,
    more_suffixes: MoreSuffixes = None,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Say what a model is, and its threshold; with faces or pairs, if its colours may be wrong.

    Example: mstkd info model.safetensors --pairs pairs.csv
    """
    from mstkd.inference.guesses import every_guess
    from mstkd.inference.lines import calibration_lines, card_lines, guess_lines

    loaded = _loaded(model, mirror=True, threads=threads, device=device, more=more_suffixes)
    threshold = loaded.calibration()
    guesses = every_guess(loaded, faces=faces or (), pairs=pairs) if faces or pairs else []
    if as_json:
        told = {
            "model": loaded.card.model_dump(),
            "calibration": None if threshold is None else threshold.model_dump(),
            "shown": [one._asdict() | {"seen": one.seen.model_dump()} for one in guesses],
        }
        _tell(told)
        return
    lines = card_lines(loaded.card)
    lines += [] if threshold is None else ["", *calibration_lines(threshold)]
    lines += ["", *guess_lines(guesses)] if guesses else []
    typer.echo("\n".join(lines))


def import_model(
    checkpoint: Annotated[Path, typer.Argument(help="A state dict, safetensors or ONNX.")],
    colours: Annotated[str, typer.Option("--colours", help="rgb or bgr, as it was trained.")],
    output: Annotated[
        Path, typer.Option("--output", help="A folder; of an ONNX model a file .onnx.")
    ],
    normalisation: Annotated[
        str,
        typer.Option(
            "--normalisation",
            help="-1..1, 0..1, 0..255, imagenet, or MEAN/STD of pixels: 127.5/128.",
        ),
    ] = "-1..1",
    pairs: SomePairs = None,
) -> None:
    """Make a model of another program's checkpoint, with how images are shown to it on record.

    With pairs it says if another order of colours or normalisation seems right.

    Example: mstkd import-model backbone.pth --colours rgb --output models/arcface
    """
    from mstkd.config import ImportSettings, validate
    from mstkd.inference.guesses import every_guess
    from mstkd.inference.lines import card_lines, guess_lines
    from mstkd.inference.written import import_any

    given = {"colours": colours, "normalisation": normalisation}
    settings = validate(ImportSettings, given, "import-model")
    found = import_any(settings, checkpoint, output)
    typer.echo(f"{found.path}: {found.called}")
    if found.left_out:
        typer.echo(f"left out: {', '.join(found.left_out)}")
    if found.is_adaptor:
        return
    loaded = _loaded(str(found.path), mirror=True, threads=1, device="auto")
    typer.echo("\n".join(card_lines(loaded.card)))
    if pairs is not None:
        typer.echo("\n".join(["", *guess_lines(every_guess(loaded, pairs=pairs))]))


def _loaded(
    path: str, *, mirror: bool, threads: int, device: str, more: str | None = None
) -> FaceModel:
    # Before NumPy is loaded: on a busy machine threads of small products wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from mstkd.inference.loading import load

    return load(path, mirror=mirror, threads=threads, device=device, more_suffixes=suffixes(more))


def _show_comparison(found: Any, *, as_json: bool) -> None:
    from mstkd.report.compared import compared_lines

    if not as_json:
        typer.echo("\n".join(compared_lines(found)))
        return
    tables = {"measures": found.measures, "comparisons": found.comparisons}
    _tell({name: json.loads(one.to_json(orient="records")) for name, one in tables.items()})


def _tell(told: Any) -> None:
    from pydantic_core import to_json

    typer.echo(to_json(told, indent=2, inf_nan_mode="null").decode())


COMMANDS = (embed, verify, compare, calibrate, export, info, import_model)
