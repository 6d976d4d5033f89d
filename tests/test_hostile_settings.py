"""Settings and records of strangers: one line each, in little memory and time."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edits import rewrite
from networks import save_teacher, subject
from reporting import write_metrics

from mstkd.artifacts.lineage import lineage
from mstkd.artifacts.records import Metrics, read_record
from mstkd.config import Config, PackSettings, SplitSettings, read_settings
from mstkd.errors import InputError
from mstkd.models.weights import load_backbone

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 100_000
BOMB = "experiment:\n- &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
FILES = {
    "nested": (f"groups: {DEEP}\n", "nested more than 50 deep"),
    "nested JSON": (f'{{"groups": {DEEP}}}', "nested more than 50 deep"),
    "nested blocks": ("".join(" " * n + "a:\n" for n in range(500)), "nested more than 50 deep"),
    "digits": (f"embedding_dim: {DIGITS}\n", "4300 digits"),
    "no such day": ("experiment: 2026-02-31\n", "day is out of range"),
    "aliases": (BOMB, "x.yaml: experiment: found [['x', 'x'"),
    "itself": ("groups: &a [*a]\n", "groups.0: found [[[...]]]"),
    "long": ("#" * (1 << 22) + "\n#", "4,194,306 bytes"),
    "zero": ('experiment: "a\\0b"\n', "without a zero byte"),
}


@pytest.mark.parametrize(("text", "told"), FILES.values(), ids=FILES)
def test_a_file_of_settings_is_told_in_lines(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(told)) as error:
        read_settings(Config, str(tmp_path / "x.yaml"))
    assert all(len(line) < 2000 for line in str(error.value).splitlines())


def test_aliases_that_people_write_are_read(tmp_path: Path) -> None:
    """One head for teachers, adaptors and students, say."""
    (tmp_path / "x.yaml").write_text("a: &a {seed: 3}\nb: [*a, *a]\nseed: 3\n")
    with pytest.raises(InputError, match="unknown key 'a'"):
        read_settings(SplitSettings, str(tmp_path / "x.yaml"))


def test_an_alias_bomb_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(BOMB)
    code = f"""
import resource
from mstkd.config import Config, read_settings
from mstkd.errors import InputError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_settings(Config, {str(tmp_path / "x.yaml")!r})
except InputError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    kilobytes = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert int(kilobytes) < 50_000


@pytest.mark.parametrize("value", [DEEP, DIGITS, "[", "1e999"])
def test_a_line_of_settings_is_told_in_a_line(value: str) -> None:
    with pytest.raises(InputError, match="--settings") as error:
        read_settings(SplitSettings, f'{{"seed": {value}}}')
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("key", ["root", "exclude", "groups"])
def test_a_zero_byte_is_no_path(key: str) -> None:
    given = {"root": "a", "group": "A", "image_size": 16, "on_bad_image": "error", key: "a\0b"}
    with pytest.raises(InputError, match=rf"{key}: found 'a.x00b'; expected text without a zero"):
        read_settings(PackSettings, json.dumps(given))


# ---------------------------------------------------------------- model.json


def settings(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        if value is None:
            del record["settings"][key]
        else:
            record["settings"][key] = value

    return edit


def image_size(value: int) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(image_size=value)


def blocks(*blocks: int, widths: tuple[int, ...] = (4, 4, 4, 4)) -> dict[str, Any]:
    return {"blocks": blocks, "widths": widths}


MODELS = {
    "no backbone": settings("backbone", None),
    "no dimension": settings("embedding_dim", None),
    "a text": settings("embedding_dim", "8"),
    "a list": settings("embedding_dim", [8]),
    "negative": settings("embedding_dim", -3),
    "a huge dimension": settings("embedding_dim", 10**12),
    "a large dimension": settings("embedding_dim", 65_536),
    "a million blocks": settings("backbone", blocks(1_000_000, 1, 1, 1)),
    "1e18 blocks": settings("backbone", blocks(*[10**18] * 4)),
    "1,000 blocks": settings("backbone", blocks(1_000, 1, 1, 1)),
    "huge widths": settings("backbone", blocks(1, 1, 1, 1, widths=(10**9, 4, 4, 4))),
    "large widths": settings("backbone", blocks(1, 1, 1, 1, widths=(20_000,) * 4)),
    "a huge picture": image_size(16 * 10**9),
    "a large picture": image_size(4_096),
    "no picture": image_size(0),
    "an odd picture": image_size(17),
}


@pytest.mark.parametrize("edit", MODELS.values(), ids=MODELS)
def test_a_network_that_cannot_be_is_not_built(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None]
) -> None:
    path = save_teacher(tmp_path, subject("T-A"), [])
    record = json.loads(path.with_suffix(".json").read_text())
    del record["record_sha256"]
    edit(record)
    path.with_suffix(".json").write_text(json.dumps(record))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as error:
        load_backbone(path)
    assert error.value.where.startswith(str(path.parent / "model."))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


# ---------------------------------------------------------------- metrics.json


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-5", "1e308", "1e999"])
@pytest.mark.parametrize("key", ["accuracy", "global_accuracy", "std", "ser", "fold_accuracies"])
def test_numbers_that_no_evaluation_gives_are_refused(tmp_path: Path, key: str, value: str) -> None:
    path = write_metrics(tmp_path, dict(zip("ABCD", (90.0, 91, 92, 93), strict=True)))
    text = path.read_text()
    found = re.search(rf'"{key}": \[?\s*([-0-9.]+)', text)
    assert found is not None
    rewrite(path, text)
    read_record(Metrics, path)
    rewrite(path, text[: found.start(1)] + value + text[found.end(1) :])
    with pytest.raises(InputError, match=key):
        read_record(Metrics, path)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a": {DEEP}}}',
        f'{{"a": {DIGITS}}}',
        '{"format": "mstkd-metrics", "provenance": 3}',
        '{"format": "mstkd-metrics", "provenance": [3]}',
        '{"format": "mstkd-metrics", "provenance": {"step": "x", "settings": {}, "sources": []}, '
        '"subject": 3}',
    ],
)
def test_a_strangers_json_has_no_descent(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(InputError):
        lineage(tmp_path / "metrics.json")
