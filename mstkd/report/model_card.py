"""The model card of a student: Markdown with the YAML header that model hubs read.

Mitchell et al., Model Cards for Model Reporting (FAT* 2019); the header as Hugging Face's hub has
it, whose `model-index` holds what was measured, of each group too. Caveats stand beside the
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mstkd.artifacts.atomic import write_text
from mstkd.artifacts.contents import hashed_contents
from mstkd.artifacts.provenance import embedded, hashed
from mstkd.artifacts.records import START, Metrics, ModelRecord, Subject, read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.config import ModelCardSettings
from mstkd.config.grids import split_variant, told
from mstkd.config.models import taught_by
from mstkd.errors import InputError, anew
from mstkd.evaluation.uncertainty import CONFIDENCE
from mstkd.report.caveats import PRIVATE, PROCEDURAL, STARTED, of_given
from mstkd.report.estimates import models_told
from mstkd.report.formats import markdown_escape
from mstkd.report.judgements import THRESHOLDS, Interval, ModelTold, SpreadTold
from mstkd.report.paper import called, fused_of
from mstkd.report.rounding import UNDEFINED, rounded
from mstkd.report.scored import read_scored, scores_path

TASK = {"type": "face-verification", "name": "Face verification"}
TAGS = ["face-recognition", "face-verification", "knowledge-distillation", "fairness"]
NO_LICENCE = (
    "None was told (report.licence). Without one nobody may use the weights but their owner."
)
USE = """\
```python
import mstkd

model = mstkd.load("model.safetensors")  # with model.json beside it
embeddings = model.embed(["one.jpg", "another.jpg"])  # float32, of unit length
```"""


def render_model_card(
    settings: ModelCardSettings, *, model: Path, metrics: Path, output: Path
) -> None:
    """Write the card of one student, as README.md to lie beside its weights.

    Args:
        settings: decimals, what noise is drawn with, and what else the card must say.
        model: model.json.
        metrics: its metrics.json, with scores.h5 beside it.
        output: a .md file.

    Raises:
        InputError: another suffix, a file that is missing or is not what it must be, or files of
            two models.
    """
    if output.suffix != ".md":
        raise InputError(output, found=output.suffix or "no suffix", expected=".md")
    record = read_record(ModelRecord, model)
    scored = read_scored([metrics])
    run = scored.runs[0]
    if run.weights_sha256 != record.weights_sha256:
        found = f"weights {run.weights_sha256[:12]}"
        expected = anew(f"{record.weights_sha256[:12]}, as {model}", metrics)
        raise InputError(metrics, found=found, expected=expected)
    models = models_told(scored, scored.rates(), settings.draws)
    own, shared = (next(one for one in models if one.threshold == name) for name in THRESHOLDS)
    text = f"---\n{header(settings, record, run, own)}---\n\n" + "\n".join(
        body(settings, record, run, own, shared)
    )
    read = hashed([model, metrics]) | hashed_contents([scores_path(metrics)])
    made = provenance_of("render-model-card", settings, read, output)
    write_text(output, embedded(f"{text}\n", made, ".md"))


# ---------------------------------------------------------------- the header


def header(settings: ModelCardSettings, record: ModelRecord, run: Metrics, own: ModelTold) -> str:
    """What a hub reads, in YAML; of the measures those of the paper's protocol."""
    results = [
        _result(
            f"Verification pairs of group {group}",
            [_metric("accuracy", "Accuracy, percent", run.own_threshold.groups[group].accuracy)],
            limits=(found.low, found.high),
            pairs=run.own_threshold.groups[group].pairs,
            config=group,
        )
        for group, found in own.groups.items()
    ]
    whole, pairs = run.own_threshold, sum(one.pairs for one in run.own_threshold.groups.values())
    spreads = (("std", "STD of the groups, percentage points"), ("ser", "Skewed error ratio"))
    results.append(
        _result(
            "Verification pairs of all groups",
            [_metric("accuracy", "Mean accuracy of the groups, percent", whole.global_accuracy)],
            limits=(own.global_accuracy.low, own.global_accuracy.high),
            pairs=pairs,
        )
    )
    for name, words in spreads:
        spread: SpreadTold = getattr(own, name)
        value = getattr(whole, name)
        if value is None or spread.high is None:
            continue
        noise = {"without_noise": spread.corrected, "even_system": spread.floor}
        results.append(
            _result(
                "Verification pairs of all groups",
                [_metric(name, words, value)],
                limits=(spread.low, spread.high),
                pairs=pairs,
                noise=noise,
            )
        )
    content = {
        **({"license": _line(settings.licence)} if settings.licence else {}),
        "library_name": "mstkd",
        "pipeline_tag": "image-feature-extraction",
        "tags": TAGS,
        "model-index": [{"name": _title(record.subject), "results": results}],
    }
    # A value on one line cannot hold the line of dashes that ends the header.
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6)


def _metric(kind: str, name: str, value: float) -> dict[str, Any]:
    return {"type": kind, "name": name, "value": value}


def _result(
    name: str,
    metrics: list[dict[str, Any]],
    *,
    limits: tuple[float, float],
    pairs: int,
    config: str | None = None,
    noise: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A result of a model index; what has no key there stands in `args`."""
    low, high = limits
    args = {"low": low, "high": high, "confidence": CONFIDENCE, "pairs": pairs, **(noise or {})}
    dataset = {"type": "mstkd-verification", "name": name}
    return {
        "task": dict(TASK),  # of its own, or YAML would refer to the first
        "dataset": dataset | ({} if config is None else {"config": config}),
        "metrics": [{**metric, "args": args} for metric in metrics],
    }


# ---------------------------------------------------------------- the body


def body(
    settings: ModelCardSettings,
    record: ModelRecord,
    run: Metrics,
    own: ModelTold,
    shared: ModelTold,
) -> Iterator[str]:
    """The lines of the card, blocks with an empty line behind each."""
    digits = settings.decimals
    yield f"# {markdown_escape(_title(record.subject))}"
    yield ""
    yield _what(record, run)
    yield ""
    yield "## What it scored"
    yield ""
    yield "| | | 95 % interval | pairs |"
    yield "|---|---:|---:|---:|"
    for group, found in own.groups.items():
        pairs = run.own_threshold.groups[group].pairs
        yield f"| {markdown_escape(group)}, percent | {_numbers(found, digits)} | {pairs:,} |"
    yield f"| mean of the groups, percent | {_numbers(own.global_accuracy, digits)} | |"
    yield f"| STD, percentage points | {_spread(own.std, digits)} | |"
    yield f"| SER, largest error over smallest | {_spread(own.ser, digits)} | |"
    yield ""
    folds = len(next(iter(run.own_threshold.groups.values())).fold_accuracies)
    yield (
        f"Accuracy of face verification over {folds} folds, each judged by the threshold that is "
        "best on the others, each group at its own. With one threshold for all groups the mean is "
        f"{rounded(shared.global_accuracy.value, digits)} and STD "
        f"{rounded(shared.std.value or 0.0, digits)}."
    )
    yield ""
    yield "## What to know of these numbers"
    yield ""
    for caveat in _caveats(settings, record, own, digits):
        yield f"- {caveat}"
    yield ""
    yield "## How it was made"
    yield ""
    yield from _made(record)
    yield ""
    yield "## Use"
    yield ""
    yield USE
    yield ""
    yield (
        "It embeds aligned images of faces; two are compared by the cosine of their embeddings, "
        "each summed with that of the mirrored image. A threshold is to be set on pairs like those "
        "it will meet, and looked at group by group. It was made to study fairness: these numbers "
        "are no ground to identify people with it."
    )
    yield ""
    yield "## Licence"
    yield ""
    yield markdown_escape(_line(settings.licence or NO_LICENCE))


def _title(subject: Subject) -> str:
    return f"{called(subject, with_backbone=True)}, seed {subject.seed}"


def _what(record: ModelRecord, run: Metrics) -> str:
    subject, settings = record.subject, record.settings
    by = f"Made by mstkd {record.package_version}."
    size = f"{record.image_size} × {record.image_size} pixels in"
    if "embedding_dim" in settings:
        size += f", {settings['embedding_dim']:,} numbers out"
    if run.network is not None:
        parameters, products = run.network.parameters, run.network.multiply_adds
        size += f"; {parameters:,} parameters, {products:,} multiplications an image"
    teachers = markdown_escape(str(split_variant(subject.backbone)))
    ways = {
        "none": "trained by the labels alone, with no teacher",
        "single": f"distilled from one teacher ({teachers}) that has seen all groups",
    }
    of_set = f"distilled from the {subject.set} teachers ({teachers}) through the adaptor "
    of_set += markdown_escape(str(split_variant(subject.name)))
    way = ways.get(subject.set, of_set)
    loss = "" if subject.set == "none" else f", loss {markdown_escape(_loss(subject))}"
    return (
        f"A network that embeds images of faces ({size}), {way}{loss}: a student of MST-KD "
        f"(Caldeira, Cardoso, Sequeira and Neto, 2024). {by}"
    )


def _loss(subject: Subject) -> str:
    loss = split_variant(subject.loss or "")
    values = told(loss.values)
    return f"{loss.base} ({values})" if values else loss.base


def _numbers(found: Interval, digits: int) -> str:
    low, high = rounded(found.low, digits), rounded(found.high, digits)
    return f"{rounded(found.value, digits)} | {low} to {high}"


def _spread(found: SpreadTold, digits: int) -> str:
    if found.value is None or found.high is None:
        return f"{UNDEFINED} | {UNDEFINED}"
    return _numbers(Interval(value=found.value, low=found.low, high=found.high), digits)


def _caveats(
    settings: ModelCardSettings, record: ModelRecord, own: ModelTold, digits: int
) -> Iterator[str]:
    yield PROCEDURAL if settings.procedural else PRIVATE
    set_, fused = record.subject.set, fused_of(record.subject)
    teachers = () if set_ == "none" else taught_by(set_, tuple(own.groups), fused)
    every_given = (settings.given or {}).get(set_, ())
    given = tuple(one.name for one in teachers if one.name in every_given)
    if given:
        yield of_given({set_: given})
    if START in record.inputs:
        yield STARTED
    whose = {"students": "this student", "teachers": "its teachers"}
    if given:
        whose["teachers"] += " that were trained here"
        if len(given) == len(teachers):
            del whose["teachers"]
    on_test = [one for one in whose if one in (settings.chosen_on_test or ())]
    if on_test:
        chosen = " and of ".join(whose[one] for one in on_test)
        yield (
            f"The epoch of {chosen} was chosen by looking at the very pairs that are scored here: "
            "accuracies are too high by what the best of several epochs gains by chance, and the "
            "intervals do not allow for it."
        )
    std = own.std
    yield (
        f"STD is pushed up by noise: on these pairs a perfectly even model shows "
        f"{rounded(std.floor, digits)} on average, and up to {rounded(std.floor_high, digits)} in "
        f"19 of 20 cases; without noise it is {rounded(std.corrected, digits)} here. Its interval, "
        "and that of SER, are of what is not noise, so that the plain value may lie outside."
    )
    yield (
        "Intervals take people, not pairs, as units: they say what other people, drawn as these "
        "were, may well show. Of one training with one seed they say nothing of training done anew."
    )


def _made(record: ModelRecord) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    chosen = markdown_escape(_line(record.chosen_by))
    yield f"| epoch kept | {record.chosen_epoch}: {chosen} |"
    yield f"| SHA-256 of the weights | `{record.weights_sha256}` |"
    for name, sha256 in record.inputs.items():
        yield f"| made from {markdown_escape(_line(name))} | `{sha256}` |"
    yield ""
    yield "Settings of its training:"
    yield ""
    # Indented, not fenced: no value can end the block.
    for line in yaml.safe_dump(record.settings, sort_keys=False, allow_unicode=True).splitlines():
        yield f"    {line}"


def _line(text: str) -> str:
    return " ".join(text.split())
