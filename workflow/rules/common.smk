import os
import re
import signal
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mstkd.config import SETS, Config, validate
from mstkd.errors import InputError

# Jobs call `mstkd` by name; with `.venv/bin/snakemake` and no activation it is not on the path.
# And the scripts beside the conda environments install the package from this checkout.
os.environ.update(
    PATH=os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    ),
    MSTKD_CHECKOUT=str(Path(str(workflow.current_basedir)).parents[1]),
)

# A scheduler's warning before a time limit reaches every process of a job, and Snakemake, which
# runs in it too, would die of it and take along the training that saves its state. Ignored here,
# it is ignored by the shells below as well; the training listens to it all the same.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

try:
    CONFIG = validate(
        Config, config, " + ".join(map(str, workflow.configfiles)) or "config"
    )
except InputError as error:
    raise WorkflowError(str(error)) from None


pathvars:
    results=str(CONFIG.results()),
    inputs=str(CONFIG.inputs()),


SYNTHETIC = CONFIG.data.synthetic is not None
DATA_INDEX = ["<inputs>/data/index.csv"] if SYNTHETIC else []
TRAIN_PACKS = expand("<inputs>/packs/train/{group}.h5", group=CONFIG.groups)
UNLABELLED_PACK = "<inputs>/packs/unlabelled.h5"
VERIFICATION_PACKS = expand(
    "<inputs>/packs/verification/{group}.h5", group=CONFIG.groups
)
EVALUATION_PACKS = expand(
    "<inputs>/packs/{part}/{group}.h5",
    part=CONFIG.evaluation.pairs,
    group=CONFIG.groups,
)
# The paper's tables by number, and each again with one threshold for all groups.
TABLES = {f"table{n}": key for n, key in enumerate(CONFIG.tables(), start=1)}
ALL_TABLES = [*TABLES, *expand("{table}-shared-threshold", table=TABLES)]
FORMATS = ("csv", "md", "tex", "html")
REPORT_FILES = [
    *expand("<results>/tables/{table}.{format}", table=ALL_TABLES, format=FORMATS),
    *expand("<results>/figures/{table}.png", table=TABLES),
    "<results>/figures/training.png",
    "<results>/figures/training.html",
    "<results>/figures/samples-train.png",
    "<results>/figures/samples-verification.png",
    "<results>/report.html",
    "<results>/data-report.html",
    "<results>/data-report.md",
    "<results>/config.yaml",
    "<results>/provenance.html",
    "<results>/provenance.json",
]
# The names in paths: one for each value of a list in the config.
BACKBONES = [
    *CONFIG.backbones,
    *(
        name
        for one in CONFIG.teachers.backbones
        for name in CONFIG.teacher_variants(one)
    ),
]
LOSSES = [
    name
    for loss in (*CONFIG.students.losses, "none")
    for name in CONFIG.loss_variants(loss)
]
# As many threads each as leave no core idle and none shared: a pack of each group can be made at
# once, and of training and verification; and eight teachers or more are ready together.
PACKING_THREADS = max(1, (workflow.cores or 1) // (2 * len(CONFIG.groups)))
TRAINING_THREADS = max(1, (workflow.cores or 1) // 8)
# Memory and time asked of a scheduler are for the paper's 1.25 million images of 112 x 112 and its
# IResNet-34 and -50; on a workstation nobody looks at them.
HOUR = 60
LONGEST_JOB = 24 * HOUR  # a common limit of partitions, which refuse what asks for more


wildcard_constraints:
    table="|".join(ALL_TABLES),
    model="(teachers|students)/.+",
    group="|".join(CONFIG.groups),
    part="train|verification",
    backbone="|".join(map(re.escape, BACKBONES)),
    set="specialized|baseline|single|none",
    teacher=r"[^/]+",
    adaptor=r"[^/]+",
    loss="|".join(map(re.escape, LOSSES)),
    seed=r"-?\d+",


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


def teacher_packs(wildcards):
    return expand(
        "<inputs>/packs/train/{group}.h5",
        group=CONFIG.training_groups(wildcards.teacher),
    )


@cache
def selection_packs(selection, groups):
    """The packs whose pairs choose an epoch."""
    if not selection.needs_pairs:
        return []
    part = "heldout" if selection.rule == "heldout" else "verification"
    return [f"<inputs>/packs/{part}/{group}.h5" for group in groups]


def teacher_selection(wildcards):
    groups = CONFIG.selection_groups(wildcards.teacher)
    return selection_packs(CONFIG.teachers.selection, groups)


def student_selection(wildcards):
    return selection_packs(CONFIG.students.selection, CONFIG.groups)


def learns_unlabelled(loss):
    return CONFIG.student_loss(loss).images == "unlabelled"


def student_packs(wildcards):
    return UNLABELLED_PACK if learns_unlabelled(wildcards.loss) else TRAIN_PACKS


def set_teachers(wildcards):
    return expand(
        "<results>/teachers/{{backbone}}/{{set}}/{teacher}/seed{{seed}}/model.safetensors",
        teacher=CONFIG.teachers_of(wildcards.set),
    )


def student_cache(wildcards):
    if wildcards.set == "none":
        return []
    if learns_unlabelled(wildcards.loss):
        return "<results>/embeddings/{backbone}/{set}/unlabelled/seed{seed}.h5"
    return "<results>/embeddings/{backbone}/{set}/seed{seed}.h5"


def student_adaptor(wildcards):
    if wildcards.adaptor not in CONFIG.adaptors.architectures:
        return []
    return "<results>/adaptors/{backbone}/{set}/{adaptor}/seed{seed}/model.safetensors"


def together_adaptors(wildcards):
    return expand(
        "<results>/adaptors/{{backbone}}/{{set}}/{adaptor}/seed{{seed}}/model.safetensors",
        adaptor=dict.fromkeys(adaptor for adaptor, _ in CONFIG.students_together()),
    )


def together_files(file):
    """That file of every student that one job trains."""
    return [
        f"<results>/students/{{backbone}}/{{set}}/{adaptor}/{loss}/seed{{seed}}/{file}"
        for adaptor, loss in CONFIG.students_together()
    ]


@cache
def table_models(table):
    """The models of a table, in the order of its rows."""
    backbone, loss = TABLES[table]
    variants = CONFIG.teacher_variants(backbone)
    if loss is None:
        models = [
            f"teachers/{variant}/{set_}/{teacher}"
            for set_ in CONFIG.sets()
            for teacher in CONFIG.teachers_of(set_)
            for variant in variants
        ]
    else:
        losses = CONFIG.loss_variants(loss)
        models = [
            f"students/{variant}/{set_}/{adaptor}/{one}"
            for set_ in SETS
            for adaptor in CONFIG.adaptors.architectures
            for variant in variants
            for one in losses
        ]
        if CONFIG.controls:
            models += [
                f"students/{CONFIG.student_backbone(control)}/none/none/{control}"
                for control in CONFIG.loss_variants("none")
            ]
            models += [
                f"students/{variant}/single/direct/{one}"
                for variant in variants
                for one in losses
            ]
    return tuple(models)


@cache
def every_model():
    """The models that some table shows, each once."""
    models = [model for table in TABLES for model in table_models(table)]
    return tuple(dict.fromkeys(models))


def of_every_seed(models, file):
    """A file of models, the seeds of each together."""
    return [
        f"<results>/{model}/seed{seed}/{file}"
        for model in models
        for seed in CONFIG.seeds
    ]


def with_seed_open(models, file):
    """The same, as a command gets it: with all names written out, those of some two thousand
    models would be a longer command than Linux takes."""
    return [f"{CONFIG.results()}/{model}/seed{{seed}}/{file}" for model in models]


def table_metrics(wildcards):
    table = wildcards.table.removesuffix("-shared-threshold")
    return of_every_seed(table_models(table), "metrics.json")


def table_patterns(wildcards):
    table = wildcards.table.removesuffix("-shared-threshold")
    return with_seed_open(table_models(table), "metrics.json")


def metrics_patterns(wildcards):
    return with_seed_open(every_model(), "metrics.json")


def record_patterns(wildcards):
    return with_seed_open(every_model(), "model.json")


@cache
def text(settings, *names):
    """The settings of a step as the text that Snakemake compares, made once for all its jobs."""
    return settings(*names).dump()


def synthesize_settings(wildcards):
    return CONFIG.synthesize_settings().dump()


def train_pack_settings(wildcards):
    return text(CONFIG.train_pack_settings, wildcards.group)


def heldout_pack_settings(wildcards):
    return CONFIG.heldout_pack_settings(wildcards.group).dump()


def verification_pack_settings(wildcards):
    return text(CONFIG.verification_pack_settings, wildcards.group)


def unlabelled_pack_settings(wildcards):
    return CONFIG.unlabelled_pack_settings().dump()


def check_settings(wildcards):
    return CONFIG.check_settings().dump()


def baseline_split_settings(wildcards):
    return CONFIG.split_settings("baseline").dump()


def undivided_split_settings(wildcards):
    return CONFIG.split_settings("specialized").dump()


def teacher_settings(wildcards):
    return text(CONFIG.teacher_settings, wildcards.backbone)


def cache_settings(wildcards):
    return CONFIG.cache_settings().dump()


def adaptor_settings(wildcards):
    return text(CONFIG.adaptor_settings, wildcards.adaptor)


def student_settings(wildcards):
    return text(CONFIG.student_settings, wildcards.loss)


def students_settings(wildcards):
    return CONFIG.students_settings().dump()


def evaluation_settings(wildcards):
    return CONFIG.evaluation_settings().dump()


def table_settings(wildcards):
    table = wildcards.table.removesuffix("-shared-threshold")
    threshold = "own" if table == wildcards.table else "shared"
    return CONFIG.table_settings(*TABLES[table], threshold).dump()


def page_settings(wildcards):
    return CONFIG.page_settings().dump()


def whole_config(wildcards):
    return CONFIG.dump()


def table_subcategory(wildcards):
    """Where a table, or its figure, stands in Snakemake's report."""
    table = wildcards.table.removesuffix("-shared-threshold")
    return f"{TABLES[table][0]} teachers"


def figure_labels(wildcards):
    """Number and models of a table, so that Snakemake's report sorts by the number.

    One label: of a further one that two figures share half and half, the report makes a switch,
    and fails where a figure has one side of it only.
    """
    table = wildcards.table.removesuffix("-shared-threshold")
    number = table.removeprefix("table").zfill(len(str(len(TABLES))))
    loss = TABLES[table][1]
    return {"table": f"{number}: {f'{loss} students' if loss else 'teachers'}"}


def table_labels(format):
    """What Snakemake's report says of a table in this format."""

    def labels(wildcards):
        shared = wildcards.table.endswith("-shared-threshold")
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
