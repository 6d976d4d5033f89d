"""What an edit of each config key reruns, worked out by Snakemake itself from the rules.

    python tests/rerun_table.py --write

writes the table of docs/reruns.md and the last column of config/README.md's key table;
tests/test_rerun_table.py fails where they differ from the code. Every key is edited once in a
config where it matters; a job reruns if its params, its inputs or its command differ, or if a job
does that it hangs on. That is Snakemake's rule for files that are all there and up to date.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
    StorageSettings,
    WorkflowSettings,
)

from mstkd.config import RFW, Config

ROOT = Path(__file__).parent.parent
README = ROOT / "config/README.md"
TABLE = ROOT / "docs/reruns.md"
RULES = "".join(
    (ROOT / "workflow" / file).read_text()
    for file in re.findall(r'include: "(.*)"', (ROOT / "workflow/Snakefile").read_text())
)
ORDER = re.findall(r"^ *(?:use rule \w+ as|rule) (\w+)", RULES, re.MULTILINE)
EVERY_EDIT = "write_config"  # the config with its defaults, for the report: after every edit
ONE_JOB = ("render_curves", "render_det", "compute_claims", "render_page")  # of all models together
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

# One of a name of its own: what the paper's are called says which they are.
ADAPTORS: dict[str, Any] = {"SL": {}, "DuL": {}, "DLDP": {}, "mine": {"architecture": "DuL"}}
PARTS: dict[str, Any] = {
    "groups": ["A", "B"],
    "backbones": {"small": {"blocks": [1, 1, 1, 1]}, "iresnet18": {}, "spare": {"blocks": [1] * 4}},
    "teachers": {"backbones": ["small"], "head": {"sampling": {}}},
    "adaptors": {"architectures": ADAPTORS, "head": {"sampling": {}}},
    "students": {
        "backbone": "iresnet18",
        "losses": {"a-KD": {}, "EAF-KD": {}},
        "head": {"sampling": {}},
    },
}
GIVEN = {"path": "theirs.pth", "colours": "rgb", "normalisation": "0..1"}
FOLDERS = {
    "train": "train",
    "train_alignment": {"landmarks": "landmarks.csv"},
    "verification": "verification",
    "verification_alignment": {"landmarks": "rfw"},
    "unlabelled": "unlabelled",
    "heldout": {},
    "origin": {"train": {"licence": "as agreed"}},
}
ALIKE = {"identities": 6, "images_per_identity": 4, "informative_factors": 5, "jpeg_quality": 90}
SOURCES: dict[str, dict[str, Any]] = {
    "drawn sources": {
        "synthetic": {},
        "train_identities": 4,
        "train": {
            "plain": {"share": 0.5},
            "other": {"share": 0.5, "synthetic": {"seed": 1, "difficulty": {"A": 2}, **ALIKE}},
        },
    },
    "sources": {
        "train": {
            "real": {"share": 0.5, "path": "train.rec", "groups": "train.lst"},
            "drawn": {"share": 0.5, "path": "drawn"},
        },
        "verification": "verification",
        "heldout": {},
    },
}
# Configs that between them have every key; in each a key is edited that means something there.
CONFIGS: dict[str, dict[str, Any]] = {
    "drawn faces": {**PARTS, "data": {"synthetic": {}}},
    "folders": {
        **PARTS,
        "data": FOLDERS,
        "teachers": {
            "backbones": ["iresnet18"],
            "head": {"sampling": {}},
            "selection": {"rule": "heldout"},
        },
        "students": {
            "backbone": "small",
            "losses": {
                "a-KD": {"images": "unlabelled"},
                "EAF-KD": {},
                "b-KD": {"classification": False},
            },
        },
    },
    "records": {
        **PARTS,
        "groups": list(RFW),
        "data": {"train": "train.rec", "train_groups": "train.lst", "verification": "verification"},
        "backbones": {**PARTS["backbones"], "theirs": {"timm": "resnet18"}},
        "teachers": {**PARTS["teachers"], "from_checkpoint": {"Asian": {**GIVEN}}},
        "students": {**PARTS["students"], "backbone": "theirs", "from_checkpoint": {**GIVEN}},
    },
    **{name: {**PARTS, "data": data} for name, data in SOURCES.items()},
}
# Lists of names are edited by hand: what matters is what is added, or in which order they stand.
ADDED: dict[str, dict[str, Any]] = {
    "groups": {"a new name": ["A", "B", "C"], "the order": ["B", "A"]},
    "seeds": {"one more": [0, 1]},
    "teachers.backbones": {"one more": ["small", "spare"]},
    "teachers.from_checkpoint": {"a teacher": {"A": {"path": "a.pth", "colours": "rgb"}}},
    "adaptors.architectures": {"one more": {**ADAPTORS, "new": {"architecture": "SL"}}},
    "report.columns": {"": ["B", "A"]},
    "students.losses": {"one more": {"a-KD": {}, "EAF-KD": {}, "new": {"classification": True}}},
}


class Job(NamedTuple):
    """One job of a run: what its outputs hang on."""

    rule: str
    told: tuple[str, ...]  # params, inputs and command, whatever is compared
    above: frozenset[str]  # names of the jobs that make its inputs


class Effect(NamedTuple):
    """Jobs by rule: without results yet, changed, hanging on either; and all there are."""

    missing: Counter[str]
    direct: Counter[str]
    below: Counter[str]
    jobs: Counter[str]


def jobs_of(config: Mapping[str, Any]) -> dict[str, Job]:
    """Every job of a whole run by its first output; nothing is run or written."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        file = Path(folder, "config.yaml")
        file.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(configfiles=[file]),
                storage_settings=StorageSettings(),
                workflow_settings=WorkflowSettings(),
                snakefile=ROOT / "Snakefile",
                workdir=Path(folder),
            )
            workflow.dag(DAGSettings(forceall=True)).execute_workflow(executor="dryrun")
            dag = workflow._workflow.dag  # the public interface gives no jobs
            named = {job: str(next(iter(job.output), job.rule.name)) for job in dag.jobs}
            return {
                name: Job(
                    rule=job.rule.name,
                    told=(
                        *sorted(map(repr, job.params)),
                        *map(str, job.input),
                        job.rule.shellcmd or "",
                    ),
                    above=frozenset(named[other] for other in dag.dependencies[job]),
                )
                for job, name in named.items()
                if job.rule.name != "all"
            }


def effect(old: Mapping[str, Job], new: Mapping[str, Job]) -> Effect:
    """What turns the results of one config into those of another."""
    missing = new.keys() - old.keys()
    direct = {name for name in new.keys() & old.keys() if new[name].told != old[name].told}
    reruns: dict[str, bool] = {}

    def does(name: str) -> bool:
        if name not in reruns:
            reruns[name] = name in missing | direct or any(map(does, new[name].above))
        return reruns[name]

    below = {name for name in new if does(name)} - direct - missing
    parts = (missing, direct, below, new)
    return Effect(*(Counter(new[name].rule for name in names) for names in parts))


# ---------------------------------------------------------------- every key, edited


class Edit(NamedTuple):
    """A config in which one key has another value."""

    key: str  # as the documents write it: backbones.<name>.blocks
    note: str  # which edit, where a key has several
    config: dict[str, Any]


def leaves(model: BaseModel, key: str = "", path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Key, path and value of every setting below a section; the steps' own `recipe` left out."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        yield from _leaves(value, f"{key}.{name}".lstrip("."), f"{path}.{name}".lstrip("."))


def _leaves(value: Any, key: str, path: str) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, BaseModel):
        yield from leaves(value, key, path)
    elif isinstance(value, dict) and any(isinstance(entry, BaseModel) for entry in value.values()):
        for name, entry in value.items():
            yield from _leaves(entry, f"{key}.<name>", f"{path}.{name}")
    elif not key.endswith("recipe") and key not in ADDED:
        yield key, path, value


def other_values(value: Any, config: Config, key: str) -> Iterator[Any]:
    """Values that a key might have instead; some will not do."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value * 2, value / 2, value + 1, value + 0.25)
    elif isinstance(value, tuple):
        yield [*value[:-1], value[-1] + 1]
    elif isinstance(value, dict):
        yield dict.fromkeys(config.groups, 2.0)
    else:
        yield from _choices(type(config), key)
        yield from (0.25, 2, [2, 2, 2, 2], "elsewhere", "elsewhere.rec", "elsewhere.csv", "2020")
        yield "imagenet"
        yield from config.backbones
        yield list(config.groups[:1])


def _choices(kind: Any, key: str) -> Iterator[str | bool | list[str]]:
    """The words that a field may hold, and lists of one of them."""
    for part in key.split("."):
        if part == "<name>":
            kind = get_args(kind)[1]
        else:
            models = [one for one in _flat(kind) if isinstance(one, type)]
            owner = next(one for one in models if issubclass(one, BaseModel))
            kind = owner.model_fields[part].annotation
        kind = next((one for one in _flat(kind) if get_origin(one) is dict), kind)
    for one in _flat(kind):
        if get_origin(one) is Literal:
            yield from get_args(one)
        elif one is bool:  # that says nothing where it is off
            yield True
        elif get_origin(one) is tuple:  # of words: one of them
            yield from ([word] for word in get_args(get_args(one)[0])[:1])


def _flat(kind: Any) -> Iterator[Any]:
    """The members of a union, and what is annotated without its annotations."""
    if get_origin(kind) in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _flat(one)
    elif get_origin(kind) is Annotated:
        yield from _flat(get_args(kind)[0])
    else:
        yield kind


def with_value(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The config with one key set, all else as it was; of two shares the other with it."""
    changed = copy.deepcopy(dict(config))
    *parents, last = path.split(".")
    place = changed
    for part in parents:
        above, place = place, place.setdefault(part, {})
    place[last] = value
    if path.startswith("data.train.") and last == "share":
        (other,) = (one for one in above.values() if one is not place)
        other[last] = 1 - value
    return changed


def edits(name: str, already: Container[str]) -> Iterator[Edit]:
    """An edit or more of every key that means something in one of `CONFIGS`.

    Of keys that another config had `already`, only those that mean something else in each.
    """
    config = CONFIGS[name]
    checked = Config.model_validate(config)
    for key, values in ADDED.items():
        for note, value in values.items():
            if key == "groups" and name in ("drawn faces", "folders"):
                yield Edit(key, f"{note}, {name}", with_value(config, key, value))
            elif key not in already:
                yield Edit(key, note, with_value(config, key, value))
    for key, path, value in leaves(checked):
        again = ("data.", "backbones.", "report.published")
        if key in already and not key.startswith("splits." if name in SOURCES else again):
            continue
        for other in other_values(value, checked, key):
            changed = with_value(config, path, other)
            with contextlib.suppress(ValidationError):
                if Config.model_validate(changed) != checked:
                    yield Edit(key, "", changed)
                    break


# ---------------------------------------------------------------- the documents


class Line(NamedTuple):
    """What an edit of one key does in all configs together."""

    key: str
    note: str
    missing: bool  # whether there is anything that has no results yet
    direct: tuple[str, ...]  # "`pack_train`", or "some `train_adaptor`"
    below: tuple[str, ...]
    stays: tuple[str, ...]


def table_lines() -> list[Line]:
    """A line for each key and kind of edit, in the order of the config's sections."""
    found: dict[tuple[str, str], list[Effect]] = {}
    for name, config in CONFIGS.items():
        before = jobs_of(config)
        already = {key for key, _ in found}
        for edit in edits(name, already):
            key = (edit.key, edit.note)
            found.setdefault(key, []).append(effect(before, jobs_of(edit.config)))
    lines = [_line(*key, effects) for key, effects in found.items()]
    sections = list(Config.model_fields)
    return sorted(lines, key=lambda line: sections.index(line.key.split(".")[0]))


def _line(key: str, note: str, effects: list[Effect]) -> Line:
    rules = {rule for one in effects for rule in one.jobs} - {EVERY_EDIT}
    direct, below, stays = [], [], []
    for rule in sorted(rules, key=ORDER.index):
        there = [one for one in effects if rule in one.jobs]
        counts = [one.missing[rule] + one.direct[rule] + one.below[rule] for one in there]
        # Of a key that one entry of several has, the jobs of the other entries stay.
        whole = all(
            count == one.jobs[rule] or (count == 0 and ("<name>" not in key or rule in ONE_JOB))
            for count, one in zip(counts, there, strict=True)
        )
        words = f"`{rule}`" if whole else f"some `{rule}`"
        if any(one.direct[rule] for one in there):
            direct.append(words)
        elif any(one.below[rule] for one in there):
            below.append(words)
        elif not any(one.missing[rule] for one in there):
            stays.append(f"`{rule}`")
    missing = any(one.missing for one in effects)
    return Line(key, note, missing, tuple(direct), tuple(below), tuple(stays))


def cell(line: Line) -> str:
    """What reruns of itself."""
    words = [*(["what is missing"] if line.missing else []), *line.direct]
    return ", ".join(words) or "nothing"


def rerun_rows(lines: list[Line]) -> str:
    """The table of docs/reruns.md; keys of one section that do the same share a row."""
    rows = ["| key | reruns | and what hangs on that | stays |", "|---|---|---|---|"]
    counts = Counter(_section(line.key) for line in lines)
    for (section, *_), group in groupby(lines, lambda line: (_section(line.key), *line[1:])):
        alike = list(group)
        line = alike[0]
        keys = [f"`{section}.*`"] if 1 < len(alike) == counts[section] else _keys(alike)
        if line.note:
            keys = [f"`{line.key}`: {line.note}"]
        cells = (", ".join(keys), cell(line), ", ".join(line.below), ", ".join(line.stays))
        rows.append(f"| {' | '.join(text or '–' for text in cells)} |")
    return "\n".join(rows) + "\n"


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _keys(lines: list[Line]) -> list[str]:
    first, *others = (line.key for line in lines)
    return [f"`{first}`", *(f"`.{key.rpartition('.')[2]}`" for key in others)]


def readme_with_cells(lines: list[Line], text: str) -> str:
    """config/README.md with the last column of its key table as it is worked out here."""

    def replaced(match: re.Match[str]) -> str:
        pattern = re.escape(match["key"]).replace(r"\.\*", r"\..+")
        own = [line for line in lines if re.fullmatch(pattern, line.key)]
        cells = dict.fromkeys(f"{line.note}: {cell(line)}".removeprefix(": ") for line in own)
        return f"{match['rest']} {'; '.join(cells) or '?'} |"

    row = r"^(?P<rest>\| `(?P<key>[^`]+)` \|.*\|)[^|]+\|$"
    return re.sub(row, replaced, text, flags=re.MULTILINE)


def document_with_table(lines: list[Line], text: str) -> str:
    """docs/reruns.md with the table as it is worked out here."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}{rerun_rows(lines)}{END}{rest.partition(END)[2]}"


def main() -> None:
    """Print the table, or write both documents."""
    lines = table_lines()
    if "--write" not in sys.argv:
        print(rerun_rows(lines), end="")
        return
    README.write_text(readme_with_cells(lines, README.read_text()))
    TABLE.write_text(document_with_table(lines, TABLE.read_text()))


if __name__ == "__main__":
    main()
