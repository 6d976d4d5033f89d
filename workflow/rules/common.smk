import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mstkd.config import SETS, Config, validate
from mstkd.errors import InputError

# Jobs call `mstkd` by name; with `.venv/bin/snakemake` and no activation it is not on the path.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)

try:
    CONFIG = validate(
        Config, config, " + ".join(map(str, workflow.configfiles)) or "config"
    )
except InputError as error:
    raise WorkflowError(str(error)) from None

SYNTHETIC = CONFIG.data.synthetic is not None
DATA_INDEX = ["results/data/index.csv"] if SYNTHETIC else []
TRAIN_PACKS = expand("results/packs/train/{group}.h5", group=CONFIG.groups)
UNLABELLED_PACK = "results/packs/unlabelled.h5"
VERIFICATION_PACKS = expand(
    "results/packs/verification/{group}.h5", group=CONFIG.groups
)
# The paper's tables by number, and each again with one threshold for all groups.
TABLES = {f"table{n}": key for n, key in enumerate(CONFIG.tables(), start=1)}
ALL_TABLES = [*TABLES, *expand("{table}-shared-threshold", table=TABLES)]
FORMATS = ("csv", "md", "tex", "html")
REPORT_FILES = [
    *expand("results/tables/{table}.{format}", table=ALL_TABLES, format=FORMATS),
    *expand("results/figures/{table}.png", table=TABLES),
    "results/figures/training.png",
    "results/figures/samples-train.png",
    "results/figures/samples-verification.png",
    "results/report.html",
    "results/data-report.html",
    "results/data-report.md",
]
# As many threads each as leave no core idle and none shared: a pack of each group can be made at
# once, and of training and verification; and eight teachers or more are ready together.
PACKING_THREADS = max(1, (workflow.cores or 1) // (2 * len(CONFIG.groups)))
TRAINING_THREADS = max(1, (workflow.cores or 1) // 8)


wildcard_constraints:
    table="|".join(ALL_TABLES),
    model="(teachers|students)/.+",
    group="|".join(CONFIG.groups),
    part="train|verification",
    backbone="|".join(CONFIG.backbones),
    set="specialized|baseline|single|none",
    teacher=r"[^/]+",
    adaptor=r"[^/]+",
    loss=r"[^/]+",
    seed=r"-?\d+",


def teacher_packs(wildcards):
    return expand(
        "results/packs/train/{group}.h5",
        group=CONFIG.training_groups(wildcards.teacher),
    )


def selection_packs(selection, groups):
    """The packs whose pairs choose an epoch."""
    if not selection.needs_pairs:
        return []
    part = "heldout" if selection.rule == "heldout" else "verification"
    return expand("results/packs/{part}/{group}.h5", part=part, group=groups)


def teacher_selection(wildcards):
    groups = CONFIG.selection_groups(wildcards.teacher)
    return selection_packs(CONFIG.teachers.selection, groups)


def student_selection(wildcards):
    return selection_packs(CONFIG.students.selection, CONFIG.groups)


def learns_unlabelled(loss):
    return loss != "none" and CONFIG.students.losses[loss].images == "unlabelled"


def student_packs(wildcards):
    return UNLABELLED_PACK if learns_unlabelled(wildcards.loss) else TRAIN_PACKS


def set_teachers(wildcards):
    return expand(
        "results/teachers/{{backbone}}/{{set}}/{teacher}/seed{{seed}}/model.safetensors",
        teacher=CONFIG.teachers_of(wildcards.set),
    )


def student_cache(wildcards):
    if wildcards.set == "none":
        return []
    if learns_unlabelled(wildcards.loss):
        return "results/embeddings/{backbone}/{set}/unlabelled/seed{seed}.h5"
    return "results/embeddings/{backbone}/{set}/seed{seed}.h5"


def student_adaptor(wildcards):
    if wildcards.adaptor not in CONFIG.adaptors.architectures:
        return []
    return "results/adaptors/{backbone}/{set}/{adaptor}/seed{seed}/model.safetensors"


def table_models(table):
    """The folders of a table's models, in the order of its rows."""
    backbone, loss = TABLES[table]
    if loss is None:
        models = [
            f"teachers/{backbone}/{set_}/{teacher}"
            for set_ in CONFIG.sets()
            for teacher in CONFIG.teachers_of(set_)
        ]
    else:
        models = expand(
            f"students/{backbone}/{{set}}/{{adaptor}}/{loss}",
            set=SETS,
            adaptor=CONFIG.adaptors.architectures,
        )
        if CONFIG.controls:
            models.append(f"students/{CONFIG.students.backbone}/none/none/none")
            models.append(f"students/{backbone}/single/direct/{loss}")
    return expand("results/{model}/seed{seed}", model=models, seed=CONFIG.seeds)


def table_metrics(wildcards):
    table = wildcards.table.removesuffix("-shared-threshold")
    return [f"{model}/metrics.json" for model in table_models(table)]


def every_model(file):
    """A file of every model that some table shows, each once."""
    models = [model for table in TABLES for model in table_models(table)]
    return [f"{model}/{file}" for model in dict.fromkeys(models)]


def synthesize_settings(wildcards):
    return CONFIG.synthesize_settings().dump()


def train_pack_settings(wildcards):
    return CONFIG.train_pack_settings(wildcards.group).dump()


def verification_pack_settings(wildcards):
    return CONFIG.verification_pack_settings(wildcards.group).dump()


def unlabelled_pack_settings(wildcards):
    return CONFIG.unlabelled_pack_settings().dump()


def check_settings(wildcards):
    return CONFIG.check_settings().dump()


def baseline_split_settings(wildcards):
    return CONFIG.split_settings("baseline").dump()


def undivided_split_settings(wildcards):
    return CONFIG.split_settings("specialized").dump()


def teacher_settings(wildcards):
    return CONFIG.teacher_settings(wildcards.backbone).dump()


def cache_settings(wildcards):
    return CONFIG.cache.dump()


def adaptor_settings(wildcards):
    return CONFIG.adaptor_settings(wildcards.adaptor).dump()


def student_settings(wildcards):
    return CONFIG.student_settings(wildcards.loss).dump()


def evaluation_settings(wildcards):
    return CONFIG.evaluation.dump()


def table_settings(wildcards):
    table = wildcards.table.removesuffix("-shared-threshold")
    threshold = "own" if table == wildcards.table else "shared"
    return CONFIG.table_settings(*TABLES[table], threshold).dump()


def page_settings(wildcards):
    return CONFIG.page_settings().dump()


# A dry run says what the experiment takes, where `mstkd bench` has measured this machine.
if workflow.output_settings.dryrun and Path("results/bench.json").exists():
    from mstkd.bench.estimate import dry_run_line

    print(
        dry_run_line(CONFIG, Path("results/bench.json"), Path("results/packs")),
        file=sys.stderr,
    )
