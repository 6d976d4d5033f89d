"""The steps that rules call: a command each, which follows from the signature of its function.

The signature is read from the function's source, not from the function: importing that would load
torch for a page of help or a mistyped option.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from mstkd.artifacts.atomic import sync_above
from mstkd.cli.times import refuse_future
from mstkd.errors import InputError

if TYPE_CHECKING:
    from mstkd.artifacts.records import Subject
    from mstkd.compute.ranks import Ranks
    from mstkd.config import StudentsSettings

PACKAGE = Path(__file__).parent.parent
PANEL = "Steps of the workflow"

# The module of each step's function, which bears the command's name.
STEPS = {
    "synthesize": "data.synthetic",
    "pack-train": "data.packing",
    "pack-heldout": "data.packing",
    "pack-verification": "data.packing",
    "pack-unlabelled": "data.packing",
    "check-data": "data.checks.check_data",
    "split": "data.splits",
    "import-given": "models.imported",
    "train-teacher": "training.teacher",
    "cache-embeddings": "embeddings.cache",
    "train-adaptor": "training.adaptor",
    "import-start": "models.imported",
    "train-student": "training.student",
    "train-students": "cli.steps",
    "evaluate": "evaluation.evaluate",
    "trace-adaptors": "evaluation.fused",
    "score-impostors": "evaluation.impostor_table",
    "render-table": "report.tables",
    "render-error-rates": "report.error_rates",
    "render-accuracies": "report.accuracies",
    "render-distributions": "report.distributions",
    "render-impostors": "report.impostors",
    "render-curves": "report.curves",
    "render-samples": "report.samples",
    "render-det": "report.det",
    "render-tracing": "report.tracing",
    "render-stages": "report.stages",
    "render-data-report": "report.data_report",
    "describe-data": "report.data_card",
    "render-model-card": "report.model_card",
    "compute-claims": "report.claims",
    "render-intervals": "report.intervals",
    "render-grid": "report.grid",
    "render-page": "report.page",
    "render-provenance": "report.provenance_page",
    "write-config": "cli.steps",
}
# What the command line says of a parameter, by its name; required where it has no default.
OPTIONS = {
    "settings": typer.Option(help="The step's settings: a line of JSON, or a file."),
    "packs": typer.Option(help="Packs, in the order of the groups."),
    "train": typer.Option(help="Training packs."),
    "verification": typer.Option(help="Verification packs."),
    "selection": typer.Option(help="Verification packs that choose the epoch."),
    "split": typer.Option(help="CSV of the identities to train on."),
    "teachers": typer.Option(help="Weights, in block order."),
    "cache": typer.Option(help="The teachers' embedding cache."),
    "mirrored": typer.Option(help="The same of mirror images, for targets of what is seen."),
    "adaptor": typer.Option(help="The adaptor of that cache."),
    "adaptors": typer.Option(help="Adaptors of that cache, in order."),
    "checkpoint": typer.Option(
        help="A model that somebody has: a checkpoint, or a folder of ours."
    ),
    "start": typer.Option(help="Weights that students start from."),
    "model": typer.Option(help="Weights of a teacher or student; of a card, model.json."),
    "models": typer.Option(help="model.json files; of impostors, weights."),
    "impostors": typer.Option(help="CSV of score-impostors."),
    "scores": typer.Option(help="HDF5 of pair scores to write."),
    "metrics": typer.Option(help="metrics.json: to read, in order, or to write."),
    "seeds": typer.Option(help="For each, read the paths with {seed} replaced by it."),
    "tracing": typer.Option(help="tracing.json files."),
    "findings": typer.Option(help="What check-data wrote."),
    "tables": typer.Option(help="Tables in HTML, in order."),
    "figures": typer.Option(help="PNG files, in order."),
    "claims": typer.Option(help="claims.json."),
    "cards": typer.Option(help="Data cards, in order."),
    "config": typer.Option(help="The whole config, in YAML."),
    "result": typer.Option(help="Of what, report.html say."),
    "output": typer.Option(help="What to write."),
    "outputs": typer.Option(help="What to write, one or more."),
    "backbone": typer.Option(help="Name of the teachers' backbone."),
    "set_": typer.Option("--set", help="specialized, baseline, single or none."),
    "name": typer.Option(help="Name of the teacher or adaptor."),
    "loss": typer.Option(help="Name of the loss, a-KD say."),
    "seed": typer.Option(help="Seed of everything random."),
    "threads": typer.Option(min=1, help="CPU threads to use."),
    "workers": typer.Option("--threads", min=1, help="CPU threads to use."),
    "device": typer.Option(help="auto, cpu, cuda, or cuda:1 say."),
    "ranks": typer.Option(min=0, help="Processes that train together, a GPU each."),
}
# What else has a default is the program's own.
OPTIONAL = (
    *("selection", "cache", "mirrored", "adaptor", "start", "claims", "config", "cards"),
    *("threads", "workers", "device"),
)
SUBJECT = {"backbone": str, "set_": str, "name": str, "loss": str, "seed": int}
WRITTEN = ("output", "outputs", "scores", "metrics")  # the last may be read instead
SEEDED = ("metrics", "models")  # lists of these may hold {seed}
TYPES: dict[str, Any] = {
    "Path": Path,
    "Path | None": list[Path],  # the workflow writes an option with nothing after it
    "Sequence[Path]": list[Path],
    "int": int,
    "str": str,
}


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


def command(name: str) -> Any:
    """The command of a step: its function's summary, and an option for each parameter."""
    function = _function(name)
    types = {parameter: kind for parameter, kind, _ in _parameters(function)}

    def call(**options: Any) -> None:
        given = {key: value for key, value in options.items() if value not in (None, [], ())}
        _call(name, types, given)

    call.__signature__ = Signature(list(_options(function)))  # type: ignore[attr-defined]
    summary = str(ast.get_docstring(function)).partition("\n")[0]
    app = typer.Typer(add_completion=False)
    app.command(name, cls=StepCommand, help=summary, rich_help_panel=PANEL)(call)
    return typer.main.get_command(app)


def _function(name: str) -> ast.FunctionDef:
    path = PACKAGE / f"{STEPS[name].replace('.', '/')}.py"
    functions = (
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == name.replace("-", "_")
    )
    return next(functions)


def _parameters(function: ast.FunctionDef) -> Iterator[tuple[str, str, ast.expr | None]]:
    """Name, type and default of each, as the source has them."""
    given = function.args
    defaults = [*(None for _ in given.args), *given.kw_defaults]
    for argument, default in zip(given.args + given.kwonlyargs, defaults, strict=True):
        assert argument.annotation is not None, "mypy is strict"
        yield argument.arg, ast.unparse(argument.annotation), default


def _options(function: ast.FunctionDef) -> Iterator[Parameter]:
    for parameter, kind, default in _parameters(function):
        if parameter == "subject":
            for field, type_ in SUBJECT.items():
                if field != "loss" or function.name == "train_student":
                    yield _option(field, type_)
        elif kind == "Ranks":
            yield _option(parameter, int, 1)
        elif default is None:
            yield _option(parameter, str if parameter == "settings" else TYPES[kind])
        elif parameter in OPTIONAL:
            yield _option(parameter, TYPES[kind], ast.literal_eval(default) or None)
        if parameter in SEEDED and kind == "Sequence[Path]":
            yield _option("seeds", list[int], None)


def _option(name: str, kind: Any, default: Any = Parameter.empty) -> Parameter:
    kind = kind | None if default is None else kind
    kind = Annotated[kind, OPTIONS[name]]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _call(name: str, types: Mapping[str, str], given: dict[str, Any]) -> None:
    """Call a step's function with what the command line gave."""
    from mstkd import config

    if types.get("settings", "str") != "str":
        model = getattr(config, types["settings"])
        given["settings"] = config.read_settings(model, given["settings"])
    if "subject" in types:
        who = {field: given.pop(field) for field in SUBJECT if field in given}
        kind = "teacher" if name == "import-given" else name.removeprefix("train-")
        given["subject"] = _subject(kind, **who)
    seeds = given.pop("seeds", [])
    for parameter, value in given.items():
        if types.get(parameter) == "Path | None":
            given[parameter] = _one(f"--{parameter}", value)
        elif seeds and parameter in SEEDED:
            given[parameter] = [
                Path(str(path).replace("{seed}", str(seed))) for path in value for seed in seeds
            ]
    # Snakemake makes the folders of outputs and does not sync them.
    written = [path for name in WRITTEN if name in given for path in _paths(given[name])]
    sync_above(written)
    function = getattr(importlib.import_module(f"mstkd.{STEPS[name]}"), name.replace("-", "_"))
    refuse_future(
        path for key, value in given.items() if key not in WRITTEN for path in _paths(value)
    )
    _run(name, function, types, given)


def _paths(value: Any) -> list[Path]:
    """The paths of an option."""
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if isinstance(one, Path)]


def _run(name: str, function: Any, types: Mapping[str, str], given: Mapping[str, Any]) -> None:
    if "ranks" in types:
        from mstkd.compute.parallel import run

        run(function, **given)
    elif name == "synthesize" or name.startswith("pack-"):
        from mstkd.data.watched import noting

        with noting(name, given["settings"], given["output"]):
            function(**given)
    else:
        function(**given)


def _one(option: str, paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise InputError(option, found=f"{len(paths)} files", expected="at most one")
    return paths[0]


def _subject(kind: str, *, set_: str, **others: Any) -> Subject:
    from mstkd.artifacts.records import Subject
    from mstkd.config.models import StudentSet, TeacherSet

    sets = get_args(StudentSet if kind == "student" else TeacherSet)
    if set_ not in sets:
        raise InputError("--set", found=repr(set_), expected=" or ".join(sets))
    return Subject.model_validate({"kind": kind, "set": set_, **others})


def train_students(
    settings: StudentsSettings,
    *,
    packs: Sequence[Path],
    cache: Path,
    adaptors: Sequence[Path],
    outputs: Sequence[Path],
    backbone: str,
    set_: str,
    seed: int,
    selection: Sequence[Path] = (),
    mirrored: Path | None = None,
    start: Path | None = None,
    threads: int = 1,
    device: str = "auto",
    ranks: Ranks,
) -> None:
    """Distil several students from one stream of batches, each as it would be alone.

    Args:
        settings: the students, in the order of `outputs`.
        adaptors: one for each that the settings name, in the order of their first mention.

    Raises:
        InputError: another number of files; and as `training.student.train_students`.
    """
    from mstkd.training import student as training

    names = list(dict.fromkeys(student.adaptor for student in settings.students))
    for option, files, count in (
        ("--adaptors", adaptors, len(names)),
        ("--outputs", outputs, len(settings.students)),
    ):
        if len(files) != count:
            raise InputError(option, found=f"{len(files)} files", expected=f"{count}")
    adaptor_of = dict(zip(names, adaptors, strict=True))
    who: dict[str, Any] = {"backbone": backbone, "set_": set_, "seed": seed}
    training.train_students(
        [
            training.Student(
                settings=student.settings,
                subject=_subject("student", name=student.adaptor, loss=student.loss, **who),
                adaptor=adaptor_of[student.adaptor],
                output=output,
            )
            for student, output in zip(settings.students, outputs, strict=True)
        ],
        packs=packs,
        selection=selection,
        cache=cache,
        mirrored=mirrored,
        start=start,
        threads=threads,
        device=device,
        ranks=ranks,
    )


def write_config(settings: str, *, output: Path) -> None:
    """Write the config with every default, as YAML that a run can take."""
    from mstkd.artifacts.atomic import write_text
    from mstkd.artifacts.provenance import embedded
    from mstkd.artifacts.sources import provenance_of
    from mstkd.config import Config, read_settings

    config = read_settings(Config, settings)
    made = provenance_of("write-config", config, {}, output)
    write_text(output, embedded(config.as_yaml(), made, output.suffix))
