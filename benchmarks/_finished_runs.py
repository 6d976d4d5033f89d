"""Finished runs of any size on the disk, without training anything.

The jobs of the data and of the report are run; in between, what models' jobs would write is written
by the package's own functions, in the order of the jobs, and Snakemake is told that they ended.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.provenance import beside, embedded, sidecar
from mstkd.artifacts.records import (
    ModelRecord,
    Provenance,
    Subject,
    file_sha256,
)
from mstkd.artifacts.sources import source_list
from mstkd.artifacts.standing import Asked, Contents
from mstkd.embeddings.cache import write_cache
from mstkd.evaluation.auditing.all_impostors import uncounted
from mstkd.evaluation.evaluate import metrics_of
from mstkd.evaluation.scorefiles import write_hdf5
from mstkd.evaluation.scores import ScoreTable
from mstkd.evaluation.shares import Share, Tracing
from mstkd.models.kept import keep
from mstkd.models.weights import events_folder, history_path, record_path
from mstkd.workflow.reruns import asked, is_ours

OURS = Path(__file__).parent.parent / "Snakefile"
BARE = Path(__file__).parent / "bare" / "Snakefile"
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
MARGINS = [0.3, 0.5]
LOSSES: dict[str, dict[str, Any]] = {
    "a-KD": {},
    "EAF-KD": {},
    **{f"a-KD-{weight}": {"kd_weight": weight, "classification": False} for weight in (1, 10, 100)},
}
EDITED = "a-KD-10"  # the loss whose lambda is edited
IMAGES, COLUMNS = 32, 16  # of a cache
HISTORY = "epoch,loss,accuracy\n1,2.5,60.0\n2,1.5,70.0\n"


def our_config(seeds: int, kd_weight: float = 10) -> dict[str, Any]:
    """Two groups, two margins of the teachers, one adaptor and five losses, no controls."""
    faces = {"identities": 4, "images_per_identity": 4, "verification_identities": 20}
    faces |= {"verification_images": 3, "folds": 10, "pairs_per_fold": 4}
    return {
        "groups": ["A", "B"],
        "seeds": list(range(seeds)),
        "data": {"image_size": 16, "synthetic": faces},
        "backbones": {"small": {"blocks": [1, 1, 1, 1]}},
        "teachers": {"backbones": ["small"], "head": {"margin": MARGINS}},
        "adaptors": {"architectures": {"SL": {}}},
        "students": {
            "backbone": "small",
            "losses": {**LOSSES, EDITED: {**LOSSES[EDITED], "kd_weight": kd_weight}},
        },
        "controls": False,
    }


def bare_config(seeds: int, kd_weight: float = 10) -> dict[str, Any]:
    """The same for the bare workflow, with settings as long as ours."""
    ours = our_config(seeds, kd_weight)
    return {
        "groups": ours["groups"],
        "seeds": ours["seeds"],
        "margins": MARGINS,
        "losses": ours["students"]["losses"],
        "data": ours["data"],
        "splits": {"seed": 0},
        "training": {f"setting{number}": number for number in range(50)},
    }


def command(snakefile: Path, folder: Path, *options: str) -> list[str]:
    """The plain command on a folder's config."""
    made = [SNAKEMAKE, "--snakefile", snakefile, "--directory", folder, "--quiet", "rules"]
    return [*map(str, made), "--configfile", str(folder / "config.yaml"), "--cores", "2", *options]


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def made(folder: Path, seeds: int, make: Callable[[Path, int], int]) -> int:
    """A finished run in a folder, made unless it is there; how many jobs it has."""
    told = folder / "jobs.txt"
    if not told.exists():
        folder.mkdir(parents=True)
        told.write_text(str(make(folder, seeds)))
    return int(told.read_text())


def make_ours(folder: Path, seeds: int) -> int:
    """A finished run of our workflow; how many jobs it has."""
    write_config(folder, our_config(seeds))
    data = ["results/data-findings.json", "results/splits/baseline/BT-1.csv"]
    data += [f"results/splits/specialized/T-{group}.csv" for group in our_config(1)["groups"]]
    data += ["results/figures/samples-train.png", "results/figures/samples-verification.png"]
    subprocess.run(command(OURS, folder, *data), check=True, capture_output=True)
    contents = Contents()
    jobs = _write_jobs(OURS, folder, lambda job: _write_model(job, contents))
    subprocess.run(command(OURS, folder), check=True, capture_output=True)
    return jobs


def make_bare(folder: Path, seeds: int) -> int:
    """A finished run of the bare workflow; how many jobs it has."""
    write_config(folder, bare_config(seeds))
    return _write_jobs(BARE, folder, _write_names)


def _write_jobs(snakefile: Path, folder: Path, write: Callable[[Any], bool]) -> int:
    """Have the files of a workflow's jobs written; how many jobs there are."""
    with contextlib.chdir(folder), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        loaded = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[folder / "config.yaml"]),
            snakefile=snakefile,
            workdir=folder,
        )
        loaded.dag().execute_workflow(executor="dryrun")
        workflow = loaded._workflow
        for level in workflow.dag.toposorted():
            for job in level:
                if job.output and write(job):
                    for beside in map(Path, filter(None, [*job.log, job.benchmark])):
                        beside.parent.mkdir(parents=True, exist_ok=True)
                        beside.write_text("")
                    workflow.async_run(workflow.persistence.finished(job))
        return len(set(workflow.dag.jobs))


def _write_names(job: Any) -> bool:
    for output in map(Path, job.output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(str(output))
    return True


# ---------------------------------------------------------------- what models' jobs write


def _write_model(job: Any, contents: Contents) -> bool:
    """The outputs of a job of a model, as they are asked for; False for other jobs."""
    if not is_ours(job):
        return False
    outputs = {Path(output): what for output, what in asked(job)}
    for first, what in outputs.items():
        first.parent.mkdir(parents=True, exist_ok=True)
        read = {Path(path): str(contents.of(path)) for kind in what.read for path in kind}
        if what.step == "cache-embeddings":
            _write_cache(first, what, read)
        elif what.step == "evaluate":
            _write_evaluation(*outputs, what, read)
        elif what.step == "trace-adaptors":
            _write_tracing(list(outputs), what, read)
        elif what.step.startswith("train-"):
            _write_weights(first, what, read)
        elif what.step == "render-model-card":
            first.write_text(embedded(f"# {first}\n", _made(first, what, read), ".md"))
        elif what.step == "score-impostors":
            _write_impostors(first, what, read)
        else:
            return False
        return True
    return False


def _write_weights(output: Path, what: Asked, read: dict[Path, str]) -> None:
    output.write_text(f"weights of {output}")
    history_path(output).write_text(HISTORY)
    record = ModelRecord(
        subject=Subject.model_validate({"kind": what.step.removeprefix("train-"), **what.subject}),
        settings=dict(what.settings),
        image_size=None if what.step == "train-adaptor" else 16,
        inputs={path.stem: sha256 for path, sha256 in read.items()},
        weights_sha256=file_sha256(output),
        history_sha256=file_sha256(history_path(output)),
        chosen_epoch=2,
        chosen_by="accuracy on the pairs, 70.00 %",
        sources=source_list(read, output),
    )
    record_path(output).write_text(record.text())
    events_folder(output).mkdir(exist_ok=True)
    (events_folder(output) / "events.out.tfevents").write_text("")
    keep(output)


def _made(output: Path, what: Asked, read: dict[Path, str]) -> Provenance:
    sources = source_list(read, output)
    return Provenance(step=what.step, settings=dict(what.settings), sources=sources)


def _write_cache(output: Path, what: Asked, read: dict[Path, str]) -> None:
    told = dict.fromkeys(("teachers", "weights", "packs", "subject"), "[]")
    write_cache(
        output,
        {**told, ATTRIBUTE: attribute(_made(output, what, read))},
        np.arange(IMAGES, dtype=np.int64),
        [np.full((IMAGES, COLUMNS), hash(output) % 100, np.float32)],
        sizes=[IMAGES],
        columns=COLUMNS,
        dtype="float16",
    )


def _write_evaluation(scores: Path, metrics: Path, what: Asked, read: dict[Path, str]) -> None:
    model = ModelRecord.model_validate_json(metrics.with_name("model.json").read_bytes())
    table = _scores(np.random.default_rng(list(str(metrics).encode())))
    write_hdf5(table, scores, _made(scores, what, read))
    metrics.write_text(metrics_of(table, model, _made(metrics, what, read)).text())


def _write_tracing(outputs: Sequence[Path], what: Asked, read: dict[Path, str]) -> None:
    """The tracing, then metrics.json of each adaptor, then scores.h5 of each."""
    output, *of_adaptors = outputs
    half = len(of_adaptors) // 2
    for metrics, scores in zip(of_adaptors[:half], of_adaptors[half:], strict=True):
        _write_evaluation(scores, metrics, what, read)
    names: dict[str, Any] = {"adaptor": "SL", "method": "projection"}
    names |= {"value": 0.5, "low": 0.4, "high": 0.6}
    shares = [
        Share(**names, measure=measure, group=group, teacher=teacher)
        for measure in ("embedding", "separation")
        for group in ("A", "B")
        for teacher in ("T-1", "T-2")
    ]
    counts = {"A": 20, "B": 20}
    Tracing(
        backbone=str(what.subject["backbone"]),
        set=str(what.subject["set"]),
        seed=int(str(what.subject["seed"])),
        groups=["A", "B"],
        teachers=["T-1", "T-2"],
        adaptors=["SL"],
        faces=counts,
        identities=counts,
        pairs=counts,
        absent="the mean block",
        shares=shares,
        provenance=_made(output, what, read),
    ).write(output)


def _write_impostors(output: Path, what: Asked, read: dict[Path, str]) -> None:
    """Of each model that no rate can be told."""
    rows = []
    for weights in map(Path, what.read[0]):
        record = ModelRecord.model_validate_json(record_path(weights).read_bytes())
        for row in uncounted("", (), (0.01,), "too few"):
            rows.append({**record.subject.model_dump(), **row._asdict()})
    text = pd.DataFrame(rows).drop(columns="system").to_csv(index=False)
    output.write_text(text)
    sidecar(output).write_text(beside(text, _made(output, what, read)))


def _scores(random: np.random.Generator) -> ScoreTable:
    """Two groups of 120 pairs, half of them genuine, of 20 persons each."""
    pair = np.arange(240, dtype=np.int32)
    group = (pair // 120).astype(np.int16)
    same = pair % 2 == 0
    first = group * 20 + pair % 20
    second = np.where(same, first, group * 20 + (pair * 7 + 3) % 20)
    same = first == second
    return ScoreTable(
        similarity=np.clip(random.normal(0.6 * same, 0.3), -1, 1),
        same=same,
        fold=(pair % 120 // 12).astype(np.int16),
        group1=group,
        group2=group,
        groups=("A", "B"),
        identity1=first.astype(np.int32),
        identity2=second.astype(np.int32),
        identities=tuple(f"person {number}" for number in range(40)),
    )
