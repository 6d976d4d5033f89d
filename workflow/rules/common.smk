import gc
import os
import re
import signal
import sys
from functools import cache, partial
from pathlib import Path
from typing import get_args

from snakemake.executors import touch
from snakemake.exceptions import WorkflowError

from mstkd import __version__
from mstkd.compute.leases import JOBS_PER_GPU, jobs_per_gpu
from mstkd.config import SETS, Config, files, models, workflow_config
from mstkd.config.data import Part
from mstkd.errors import InputError
from mstkd.workflow.reruns import answer_from_records

# Snakemake takes what stands in braces for a wildcard, in the paths of environments too.
CHECKOUT = str(Path(str(workflow.current_basedir)).parents[1])
if {"{", "}"} & set(CHECKOUT):
    raise WorkflowError(
        f"{CHECKOUT}: found braces in the path of the checkout; expected none: clone elsewhere"
    )

# Jobs call `mstkd` by name; with `.venv/bin/snakemake` and no activation it is not on the path.
# And the scripts beside the conda environments install the package from this checkout, or its version.
os.environ.update(
    PATH=os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    ),
    MSTKD_CHECKOUT=CHECKOUT,
    MSTKD_VERSION=__version__,
)

# Jobs and files stay for as long as Snakemake runs. To look through them all for what is not needed
# any more, as often as Python does, is a fifth of a dry run of ten thousand jobs.
gc.set_threshold(100_000)

# What torch.compile made for one job serves the next, and goes with the folder.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", str(Path(".snakemake/compiled").absolute())
)

# A scheduler's warning before a time limit reaches every process of a job, and Snakemake, which
# runs in it too, would die of it and take along the training that saves its state. Ignored here,
# it is ignored by the shells below as well; the training listens to it all the same.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# How many jobs share a GPU: in a profile's resources, of which no rule asks for this one.
if "jobs_per_gpu" in workflow.global_resources.keys():
    shared = workflow.global_resources["jobs_per_gpu"]
    os.environ.setdefault(JOBS_PER_GPU, str(getattr(shared, "value", shared)))

try:
    jobs_per_gpu(os.environ)
    CONFIG = workflow_config(
        config,
        # After `workdir:` in another workflow, a file of its own may be out of sight.
        [path for path in map(Path, workflow.configfiles) if path.exists()],
        given=workflow.config_settings.config,
        used_as=workflow.modifier.namespace,
    )
except InputError as error:
    raise WorkflowError(str(error)) from None


# In another workflow's module with a `prefix:`, Snakemake puts that before inputs, outputs and logs;
# what params say of files is ours.
PLACED = CONFIG.placed(workflow.modifier.path_modifier.replace_prefix)


pathvars:
    results=str(CONFIG.results()),
    inputs=str(CONFIG.inputs()),


SYNTHETIC = CONFIG.data.synthetic is not None
DATA_INDEX = ["<inputs>/data/index.csv"] if SYNTHETIC else []
TRAIN_INDEX = DATA_INDEX + [
    f"<inputs>/data/sources/{source}/index.csv" for source in CONFIG.data.other_draws()
]
TRAIN_PACKS = files.packs(CONFIG, "train")
TESTED = CONFIG.data.tested_part
MODELS = models.every_model(CONFIG)
GIVEN_TEACHERS = models.given_teachers(CONFIG)
# The paper's tables by name, and each again with one threshold for all groups.
TABLES = models.tables(CONFIG)
FIGURES = [name for name, table in TABLES.items() if table.threshold == "own"]
FORMATS = ("csv", "md", "tex", "html")
PICTURES = ("png", "svg", "pdf", "csv")  # of one figure, and its numbers
# Beside each variant of specialized teachers stand the baseline's with its values.
TEACHERS = dict.fromkeys(
    model.backbone
    for model in MODELS
    if model.kind == "teachers" and model.set == SETS[0]
)
REPORT_FILES = [
    *expand("<results>/tables/{table}.{format}", table=TABLES, format=FORMATS),
    *expand("<results>/error-rates/{table}.{format}", table=FIGURES, format=FORMATS),
    *expand("<results>/figures/{table}.{format}", table=FIGURES, format=PICTURES),
    *expand(
        "<results>/figures/{kind}-{table}.{format}",
        kind=["scores", "impostors"],
        table=FIGURES,
        format=("html", *PICTURES),
    ),
    *expand(
        "<results>/figures/{name}.{format}",
        name=["training", "intervals-groups", "intervals-std", "det", "roc"],
        format=("html", *PICTURES),
    ),
    *expand(
        "<results>/figures/stages-{backbone}.{format}",
        backbone=TEACHERS,
        format=("html", *PICTURES),
    ),
    *expand(
        "<results>/figures/tracing-{backbone}-{measure}.{format}",
        backbone=TEACHERS,
        measure=["embedding", "separation"],
        format=["png", "svg", "pdf"],
    ),
    *expand("<results>/figures/tracing-{backbone}.csv", backbone=TEACHERS),
    *expand(
        "<results>/figures/grid-{grid}.{format}",
        grid=CONFIG.grids(),
        format=("html", *PICTURES),
    ),
    *expand("<results>/figures/samples-{part}.png", part=["train", TESTED]),
    *expand("<results>/cards/{part}.jsonld", part=files.packed_parts(CONFIG)),
    *files.model_cards(CONFIG),
    "<results>/report.html",
    "<results>/data-report.html",
    "<results>/data-report.md",
    "<results>/config.yaml",
    "<results>/provenance.html",
    "<results>/provenance.json",
]
# As many threads each as leave no core idle and none shared: a pack of each group can be made at
# once, and of training and verification; and eight teachers or more are ready together.
PACKING_THREADS = max(1, (workflow.cores or 1) // (2 * len(CONFIG.groups)))
TRAINING_THREADS = max(1, (workflow.cores or 1) // 8)
# Memory and time asked of a scheduler are for the paper's 1.25 million images of 112 x 112 and its
# IResNet-34 and -50; on a workstation nobody looks at them.
HOUR = 60
LONGEST_JOB = 24 * HOUR  # a common limit of partitions, which refuse what asks for more


def one_of(names):
    """A pattern that fits these names alone."""
    return "|".join(map(re.escape, dict.fromkeys(filter(None, names))))


SEED = r"-?\d+"


def splits_of(set_):
    """A pattern that fits the folders of a set's splits, of any seed where each has its own."""
    return one_of(CONFIG.split_folders(set_)).replace(re.escape("{seed}"), SEED)


wildcard_constraints:
    table=one_of(TABLES),
    model="(teachers|students)/.+",
    group=one_of(CONFIG.groups),
    student="students/.+",
    part=one_of(get_args(Part)),
    backbone=one_of(model.backbone for model in MODELS),
    set=one_of(model.set for model in MODELS),
    split=splits_of("specialized"),
    grid=one_of(CONFIG.grids()),
    source=one_of(CONFIG.data.other_draws()),
    teacher=one_of(model.name for model in MODELS if model.kind == "teachers"),
    adaptor=one_of(model.name for model in MODELS if model.kind == "students"),
    loss=one_of(model.loss for model in MODELS),
    seed=SEED,


def growing(megabytes):
    """Memory for each attempt, half as much again: a job that was killed may have had too little."""

    def resource(wildcards, attempt):
        return megabytes * (attempt + 1) // 2

    return resource


def longer(minutes):
    """Time for each attempt, up to LONGEST_JOB: training goes on from where it was anyway."""

    def resource(wildcards, attempt):
        return min(minutes * attempt, LONGEST_JOB)

    return resource


def refuse_gpus_asked_for_twice(steps):
    """`gpu` becomes --gpus; what SLURM makes of --gres beside it depends on its version."""
    for step in steps:
        asked = {name: step.resources.get(name) for name in ("gpu", "gres")}
        gpu, gres = (str(asked[name].raw) if asked[name] else "" for name in asked)
        if gpu not in ("", "0") and "gpu" in gres:
            raise WorkflowError(
                f"resources.{step.name}: found gpu={gpu} and gres={gres}; "
                "expected one of them: in set-resources, set gpu=0 beside gres"
            )


def ranks(wildcards, resources):
    """Processes of a job: one a GPU, asked for as gpu=2 or as gres=gpu:2 or gpu:<kind>:2.

    That it reads `resources` keeps it out of what Snakemake compares: no number reruns a job.
    """
    count = resources.get("gres", "gpu").rpartition(":")[2]
    return resources.get("gpu") or (int(count) if count.isdecimal() else 1)


def of_config(function, *names, of=CONFIG, **constants):
    """An input or a param: what a function of the config says, for wildcards of these names.

    It is called once for all jobs that are alike. Of params in which paths stand, `of` is PLACED.
    """
    once = cache(partial(function, of, **constants))

    def value(wildcards):
        return once(*(wildcards[name] for name in names))

    return value


def settings_of(method, *names, **constants):
    """A param: the settings that a method of the config gives, as the text Snakemake compares."""

    def text(config, *values):
        return getattr(config, method)(*values, **constants).dump()

    return of_config(text, *names, of=PLACED)


def table_subcategory(wildcards):
    """Where a table, or its figure, stands in Snakemake's report."""
    return f"{TABLES[wildcards.table].backbone} teachers"


def figure_labels(wildcards):
    """Number and models of a table, so that Snakemake's report sorts by the number.

    One label: of a further one that two figures share half and half, the report makes a switch,
    and fails where a figure has one side of it only.
    """
    table = TABLES[wildcards.table]
    number = str(table.number).zfill(len(str(len(FIGURES))))
    return {
        "table": f"{number}: {f'{table.loss} students' if table.loss else 'teachers'}"
    }


def error_rate_labels(format):
    """What Snakemake's report says of error rates in this format."""

    def labels(wildcards):
        return {**figure_labels(wildcards), "format": format}

    return labels


def student_labels(wildcards):
    """Who a student is, for Snakemake's report: the parts of its path."""
    _, backbone, *parts = wildcards.student.split("/")
    return {"model": f"{', '.join(parts)}; teachers {backbone}"}


def table_labels(format):
    """What Snakemake's report says of a table in this format."""

    def labels(wildcards):
        shared = TABLES[wildcards.table].threshold == "shared"
        return {
            **figure_labels(wildcards),
            "format": format,
            "threshold": "one for all groups" if shared else "each group's own",
        }

    return labels


# A dry run says what the experiment takes, where `mstkd bench` has measured this machine.
if workflow.output_settings.dryrun and Path("results/bench.json").exists():
    from mstkd.bench.estimate import dry_run_line

    print(dry_run_line(CONFIG, Path("results/bench.json")), file=sys.stderr)


# `--touch` goes in the order of the jobs, and times have ticks of some milliseconds: nobody needs
# to wait a tenth of a second before each job, which is 17 minutes of ten thousand.
touch.Executor.SLEEPING_TIME = 0

# Jobs of a cluster do what they are told.
if workflow.is_main_process:
    try:
        answer_from_records(workflow)
    except InputError as error:
        raise WorkflowError(str(error)) from None
