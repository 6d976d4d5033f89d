"""The `mstkd` command: one sub-command a step of the pipeline, under the step's own name.

A step is imported inside its command, so that `mstkd --help` loads no torch.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mstkd import __version__
from mstkd.compute.interruption import Interrupted
from mstkd.errors import InputError, RankError

TEACHER_SETS = ("specialized", "baseline", "single")


class StepCommand(TyperCommand):
    """A command whose list options take several values: `--packs a.h5 b.h5`.

    Snakemake writes a list of files so. A list option with no value counts as not given.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for param in self.params if _is_list(param) for name in param.opts}
        spread: list[str] = []
        current: str | None = None
        for arg in args:
            if arg.startswith("--"):
                current = arg if arg in lists else None
                spread += [] if current else [arg]
            else:
                spread += [current, arg] if current else [arg]
        return super().parse_args(ctx, spread)


def _is_list(param: Any) -> bool:
    return bool(getattr(param, "multiple", False))


class Steps(TyperGroup):
    """Tells a user's fault in one line, on the terminal and in the log, and exits with 2.

    A run that a signal ended says so too, and exits as a shell would: 143 for SIGTERM.
    """

    def invoke(self, ctx: Any) -> Any:
        with _logging_to(ctx.params.get("log")) as tell:
            try:
                return super().invoke(ctx)
            except InputError as error:
                message = str(error)
            except Interrupted as interrupted:
                tell(f"mstkd: {interrupted}")
                raise SystemExit(interrupted.exit_code) from None
            except RankError as error:
                tell(f"mstkd: error: {error}")
                raise SystemExit(1) from None
            except OSError as error:
                message = str(error)
                if error.filename is None and error.errno is None:
                    raise  # not the system's word but a library's: it keeps its traceback
            tell(f"mstkd: error: {message}")
            raise SystemExit(2)


@contextlib.contextmanager
def _logging_to(log: Path | None) -> Iterator[Callable[[str], None]]:
    """Send all output of the process to a file; give a function that tells the terminal too."""
    if log is None:
        yield lambda line: typer.echo(line, err=True)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    # By descriptor, so that what libraries and worker processes print lands there too.
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)

    def tell(line: str) -> None:
        typer.echo(line, err=True)
        os.write(terminal, f"{line}\n".encode())

    try:
        yield tell
    finally:
        os.close(terminal)


app = typer.Typer(
    cls=Steps,
    help="Fair face recognition by multi-teacher distillation, step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
step = functools.partial(app.command, cls=StepCommand)

Settings = Annotated[
    str, typer.Option("--settings", help="The step's settings: a line of JSON, or a file.")
]
Output = Annotated[Path, typer.Option("--output", help="What to write.")]
Outputs = Annotated[list[Path], typer.Option("--outputs", help="What to write, one or more.")]
Packs = Annotated[list[Path], typer.Option("--packs", help="Packs, in the order of the groups.")]
Selection = Annotated[
    list[Path] | None,
    typer.Option("--selection", help="Verification packs that choose the epoch."),
]
Backbone = Annotated[str, typer.Option("--backbone", help="Name of the teachers' backbone.")]
TeacherSet = Annotated[str, typer.Option("--set", help="specialized, baseline, single or none.")]
Name = Annotated[str, typer.Option("--name", help="Name of the teacher or adaptor.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads to use.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, or cuda:1 say.")]
RankCount = Annotated[
    int, typer.Option("--ranks", min=0, help="Processes that train together, a GPU each.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    log: Annotated[
        Path | None, typer.Option("--log", help="Write all output there; errors also here.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@step()
def synthesize(settings: Settings, output: Output, threads: Threads = 1) -> None:
    """Write procedural faces: a training folder and a verification set in RFW's layout."""
    from mstkd.config import SynthesizeSettings, read_settings
    from mstkd.data.synthetic import synthesize

    synthesize(read_settings(SynthesizeSettings, settings), output=output, workers=threads)


@step("pack-train")
def pack_train(settings: Settings, output: Output, threads: Threads = 1) -> None:
    """Pack the training images of one group into one HDF5 file."""
    from mstkd.config import PackSettings, read_settings
    from mstkd.data.packing import pack_train

    pack_train(read_settings(PackSettings, settings), output=output, workers=threads)


@step("pack-heldout")
def pack_heldout(settings: Settings, output: Output, threads: Threads = 1) -> None:
    """Pack pairs of the training identities that are held out."""
    from mstkd.config import PackSettings, read_settings
    from mstkd.data.packing import pack_heldout

    pack_heldout(read_settings(PackSettings, settings), output=output, workers=threads)


@step("pack-verification")
def pack_verification(settings: Settings, output: Output, threads: Threads = 1) -> None:
    """Pack the verification images and pairs of one group."""
    from mstkd.config import PackSettings, read_settings
    from mstkd.data.packing import pack_verification

    pack_verification(read_settings(PackSettings, settings), output=output, workers=threads)


@step("pack-unlabelled")
def pack_unlabelled(settings: Settings, output: Output, threads: Threads = 1) -> None:
    """Pack images that have neither identity nor group."""
    from mstkd.config import PackUnlabelledSettings, read_settings
    from mstkd.data.packing import pack_unlabelled

    pack_unlabelled(read_settings(PackUnlabelledSettings, settings), output=output, workers=threads)


@step("check-data")
def check_data(
    settings: Settings,
    train: Annotated[list[Path], typer.Option("--train", help="Training packs.")],
    verification: Annotated[list[Path], typer.Option("--verification", help="Verification packs.")],
    output: Output,
) -> None:
    """Look for what spoils a result: overlap, copies, lost images, uneven groups and folds."""
    from mstkd.config import CheckSettings, read_settings
    from mstkd.data.checks.check_data import check_data

    check_data(
        read_settings(CheckSettings, settings),
        train=train,
        verification=verification,
        output=output,
    )


@step("split")
def split(settings: Settings, packs: Packs, outputs: Outputs) -> None:
    """Deal the identities of each pack evenly over the splits to write."""
    from mstkd.config import SplitSettings, read_settings
    from mstkd.data.splits import split

    split(read_settings(SplitSettings, settings), packs=packs, outputs=outputs)


@step("train-teacher")
def train_teacher(
    settings: Settings,
    packs: Packs,
    split: Annotated[Path, typer.Option("--split", help="CSV of the identities to train on.")],
    output: Output,
    backbone: Backbone,
    set_: TeacherSet,
    name: Name,
    seed: Seed,
    selection: Selection = None,
    threads: Threads = 1,
    device: Device = "auto",
    ranks: RankCount = 1,
) -> None:
    """Train one teacher and keep its best epoch."""
    from mstkd.compute.parallel import run
    from mstkd.config import TeacherSettings, read_settings
    from mstkd.training.teacher import train_teacher

    run(
        train_teacher,
        settings=read_settings(TeacherSettings, settings),
        subject=_subject("teacher", backbone, set_, name, seed),
        packs=packs,
        selection=selection or [],
        split=split,
        output=output,
        ranks=ranks,
        threads=threads,
        device=device,
    )


@step("cache-embeddings")
def cache_embeddings(
    settings: Settings,
    teachers: Annotated[list[Path], typer.Option("--teachers", help="Weights, in block order.")],
    packs: Packs,
    output: Output,
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Write all teachers' embeddings of all training images, side by side."""
    from mstkd.config import CacheSettings, read_settings
    from mstkd.embeddings.cache import cache_embeddings

    cache_embeddings(
        read_settings(CacheSettings, settings),
        teachers=teachers,
        packs=packs,
        output=output,
        threads=threads,
        device=device,
    )


@step("train-adaptor")
def train_adaptor(
    settings: Settings,
    cache: Annotated[Path, typer.Option("--cache", help="The teachers' embedding cache.")],
    output: Output,
    backbone: Backbone,
    set_: TeacherSet,
    name: Name,
    seed: Seed,
    threads: Threads = 1,
    device: Device = "auto",
    ranks: RankCount = 1,
) -> None:
    """Fuse the teachers' spaces into one, from the cache alone."""
    from mstkd.compute.parallel import run
    from mstkd.config import AdaptorSettings, read_settings
    from mstkd.training.adaptor import train_adaptor

    run(
        train_adaptor,
        settings=read_settings(AdaptorSettings, settings),
        subject=_subject("adaptor", backbone, set_, name, seed),
        cache=cache,
        output=output,
        ranks=ranks,
        threads=threads,
        device=device,
    )


@step("train-student")
def train_student(
    settings: Settings,
    packs: Packs,
    output: Output,
    backbone: Backbone,
    set_: TeacherSet,
    name: Name,
    loss: Annotated[str, typer.Option("--loss", help="Name of the loss, a-KD say.")],
    seed: Seed,
    selection: Selection = None,
    cache: Annotated[
        list[Path] | None, typer.Option("--cache", help="The embedding cache to distil from.")
    ] = None,
    adaptor: Annotated[
        list[Path] | None, typer.Option("--adaptor", help="The adaptor of that cache.")
    ] = None,
    threads: Threads = 1,
    device: Device = "auto",
    ranks: RankCount = 1,
) -> None:
    """Distil one student; without --cache it learns from the labels alone."""
    from mstkd.compute.parallel import run
    from mstkd.config import StudentSettings, read_settings
    from mstkd.training.student import train_student

    run(
        train_student,
        settings=read_settings(StudentSettings, settings),
        subject=_subject("student", backbone, set_, name, seed, loss),
        packs=packs,
        selection=selection or [],
        cache=_at_most_one("--cache", cache),
        adaptor=_at_most_one("--adaptor", adaptor),
        output=output,
        ranks=ranks,
        threads=threads,
        device=device,
    )


@step("train-students")
def train_students(
    settings: Settings,
    packs: Packs,
    cache: Annotated[Path, typer.Option("--cache", help="The embedding cache to distil from.")],
    adaptors: Annotated[
        list[Path], typer.Option("--adaptors", help="Of that cache, as the settings name them.")
    ],
    outputs: Outputs,
    backbone: Backbone,
    set_: TeacherSet,
    seed: Seed,
    selection: Selection = None,
    threads: Threads = 1,
    device: Device = "auto",
    ranks: RankCount = 1,
) -> None:
    """Distil several students from one stream of batches, each as it would be alone."""
    from mstkd.compute.parallel import run
    from mstkd.config import StudentsSettings, read_settings
    from mstkd.training.student import Student, train_students

    wanted = read_settings(StudentsSettings, settings).students
    names = list(dict.fromkeys(student.adaptor for student in wanted))
    for option, files, count in (
        ("--adaptors", adaptors, len(names)),
        ("--outputs", outputs, len(wanted)),
    ):
        if len(files) != count:
            raise InputError(option, found=f"{len(files)} files", expected=f"{count}")
    adaptor_of = dict(zip(names, adaptors, strict=True))
    run(
        train_students,
        students=[
            Student(
                student.settings,
                _subject("student", backbone, set_, student.adaptor, seed, student.loss),
                adaptor_of[student.adaptor],
                output,
            )
            for student, output in zip(wanted, outputs, strict=True)
        ],
        packs=packs,
        selection=selection or [],
        cache=cache,
        ranks=ranks,
        threads=threads,
        device=device,
    )


@step("evaluate")
def evaluate(
    settings: Settings,
    model: Annotated[Path, typer.Option("--model", help="Weights of a teacher or student.")],
    packs: Packs,
    scores: Annotated[Path, typer.Option("--scores", help="HDF5 of pair scores to write.")],
    metrics: Annotated[Path, typer.Option("--metrics", help="JSON of metrics to write.")],
    threads: Threads = 1,
    device: Device = "auto",
) -> None:
    """Score the verification pairs of every group."""
    from mstkd.config import EvaluationSettings, read_settings
    from mstkd.evaluation.evaluate import evaluate

    evaluate(
        read_settings(EvaluationSettings, settings),
        model=model,
        packs=packs,
        scores=scores,
        metrics=metrics,
        threads=threads,
        device=device,
    )


Metrics = Annotated[list[Path], typer.Option("--metrics", help="metrics.json files, in order.")]
Seeds = Annotated[
    list[int] | None,
    typer.Option("--seeds", help="For each, read the paths with {seed} replaced by it."),
]


def _of_seeds(paths: list[Path], seeds: list[int] | None) -> list[Path]:
    """All paths of one model, then those of the next."""
    if not seeds:
        return paths
    return [Path(str(path).replace("{seed}", str(seed))) for path in paths for seed in seeds]


@step("render-table")
def render_table(
    settings: Settings, metrics: Metrics, outputs: Outputs, seeds: Seeds = None
) -> None:
    """Write one table as .csv, .md, .tex or .html, by the suffix of each output."""
    from mstkd.config import TableSettings, read_settings
    from mstkd.report.tables import render_table

    render_table(
        read_settings(TableSettings, settings), metrics=_of_seeds(metrics, seeds), outputs=outputs
    )


@step("render-accuracies")
def render_accuracies(
    settings: Settings, metrics: Metrics, output: Output, seeds: Seeds = None
) -> None:
    """Draw the accuracies of one table."""
    from mstkd.config import TableSettings, read_settings
    from mstkd.report.figures import render_accuracies

    render_accuracies(
        read_settings(TableSettings, settings), metrics=_of_seeds(metrics, seeds), output=output
    )


@step("render-curves")
def render_curves(
    models: Annotated[list[Path], typer.Option("--models", help="model.json files.")],
    outputs: Outputs,
    seeds: Seeds = None,
) -> None:
    """Draw loss and accuracy over the epochs, from the history.csv beside each model.json."""
    from mstkd.report.figures import render_curves

    render_curves(models=_of_seeds(models, seeds), outputs=outputs)


@step("render-samples")
def render_samples(packs: Packs, output: Output) -> None:
    """Draw sample faces, one row a group."""
    from mstkd.report.figures import render_samples

    render_samples(packs=packs, output=output)


@step("render-data-report")
def render_data_report(
    findings: Annotated[Path, typer.Option("--findings", help="What check-data wrote.")],
    outputs: Outputs,
) -> None:
    """Write what check-data found as .html or .md, by the suffix of each output."""
    from mstkd.report.data_report import render_data_report

    render_data_report(findings, outputs)


@step("compute-claims")
def compute_claims(metrics: Metrics, output: Output, seeds: Seeds = None) -> None:
    """Compare specialized, baseline and control models, with bootstrap intervals."""
    from mstkd.report.claims import compute_claims

    compute_claims(_of_seeds(metrics, seeds), output)


@step("render-page")
def render_page(
    settings: Settings,
    tables: Annotated[list[Path], typer.Option("--tables", help="Tables in HTML, in order.")],
    figures: Annotated[list[Path], typer.Option("--figures", help="PNG files, in order.")],
    claims: Annotated[Path, typer.Option("--claims", help="claims.json.")],
    output: Output,
) -> None:
    """Write the report: one HTML page that needs no other file."""
    from mstkd.config import PageSettings, read_settings
    from mstkd.report.page import render_page

    render_page(
        read_settings(PageSettings, settings),
        tables=tables,
        figures=figures,
        claims=claims,
        output=output,
    )


@step("render-provenance")
def render_provenance(
    result: Annotated[Path, typer.Option("--result", help="Of what, report.html say.")],
    outputs: Outputs,
) -> None:
    """Write what made a result, back to the data, as .html or .json."""
    from mstkd.report.provenance_page import render_provenance

    render_provenance(result, outputs)


@step("write-config")
def write_config(settings: Settings, output: Output) -> None:
    """Write the config with every default, as YAML that a run can take."""
    from mstkd.artifacts.atomic import write_text
    from mstkd.config import Config, read_settings

    write_text(output, read_settings(Config, settings).as_yaml())


@step("inspect")
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder, CSV, .rec or .bin.")],
    groups: Annotated[
        Path | None, typer.Option("--groups", help="Of a .rec: BUPT's .lst, or a CSV.")
    ] = None,
) -> None:
    """Say what lies at a path before any work: groups, identities, images, pairs, problems.

    Exits with 1 if there are problems.
    """
    from mstkd.data.inspection.inspect import inspect
    from mstkd.data.inspection.text import report_lines

    found = inspect(path, groups=groups)
    for line in report_lines(found):
        typer.echo(line)
    if found.problems:
        raise typer.Exit(1)


@step("detect-landmarks")
def detect_landmarks(
    detector: Annotated[str, typer.Option("--detector", help="Name of an installed plug-in.")],
    output: Output,
    path: Annotated[
        Path, typer.Argument(help="A folder <group>/<identity>/<image>, or of any images.")
    ],
) -> None:
    """Find five landmarks in every image below a folder and write the CSV that aligns them."""
    from mstkd.data.detection import detect_landmarks

    missed = detect_landmarks(path, detector=detector, output=output)
    typer.echo(f"{output}; images without a face: {len(missed):,}")
    for name in missed:
        typer.echo(f"  {name}")


@step("provenance")
def provenance(
    path: Annotated[Path, typer.Argument(help="A pack, model, table, figure, report, ...")],
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it, every file of the chain.")
    ] = False,
) -> None:
    """Say which version, settings, seed and data made a result, and if they are still there."""
    from mstkd.artifacts.lineage import lineage, lineage_lines

    told = lineage(path)
    typer.echo(told.model_dump_json(indent=2) if as_json else "\n".join(lineage_lines(told)))


@step("show-tables")
def show_tables(
    paths: Annotated[list[Path], typer.Argument(help="CSV tables, or folders of them.")],
) -> None:
    """Print tables on the terminal, the best of each section in bold."""
    from mstkd.report.tables import show_tables

    show_tables(paths)


@step("bench")
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
    """Measure input, step, embedding and verification here, and say what the experiment takes."""
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


@step("schema")
def schema() -> None:
    """Print the JSON schema of the config file, for editors."""
    import json

    from mstkd.config import Config
    from mstkd.config.grids import allow_lists

    schema = allow_lists(Config.model_json_schema(), sections=["Teachers", "Students"])
    typer.echo(json.dumps(schema, indent=2))


def _subject(
    kind: str, backbone: str, set_: str, name: str, seed: int, loss: str | None = None
) -> Any:
    from mstkd.artifacts.records import Subject

    sets = (*TEACHER_SETS, "none") if kind == "student" else TEACHER_SETS
    if set_ not in sets:
        raise InputError("--set", found=repr(set_), expected=" or ".join(sets))
    return Subject.model_validate(
        {
            "kind": kind,
            "backbone": backbone,
            "set": set_,
            "name": name,
            "loss": loss,
            "seed": seed,
        }
    )


def _at_most_one(option: str, paths: list[Path] | None) -> Path | None:
    if paths and len(paths) > 1:
        raise InputError(option, found=f"{len(paths)} files", expected="at most one")
    return paths[0] if paths else None


def main() -> None:
    """Entry point of the `mstkd` command."""
    app(prog_name="mstkd")
