"""Whether a result is what a job would make: told by its record, whatever happened to the file."""

import os

import pytest

from mstkd.artifacts.provenance import beside, provenance_of, sidecar
from mstkd.artifacts.records import file_sha256
from mstkd.artifacts.standing import Asked, Contents, standing
from mstkd.config import SplitSettings, compared


@pytest.fixture
def made(tmp_path):
    """A CSV made by `split` from two files."""
    read = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in read:
        path.write_text(path.name)
    output = tmp_path / "out/split.csv"
    output.parent.mkdir()
    output.write_text("group,identity\nA,1\n")
    record = provenance_of("split", SplitSettings(seed=1), hashes(read), output)
    sidecar(output).write_text(beside(output.read_text(), record))
    return output, read


def hashes(paths):
    return {path: file_sha256(path) for path in paths}


def asked(read, step="split", **settings):
    given = SplitSettings(**{"seed": 1, **settings}).model_dump(mode="json")
    return Asked(step, given, [read], {}, compared)


def test_what_is_asked_for_is_current(made):
    output, read = made
    assert standing(output, asked(read), Contents()).state == "current"
    os.utime(read[0])
    os.utime(output, (0, 0))
    assert standing(output, asked(read), Contents()).state == "current"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda output, read: asked(read, seed=2), "seed 1, now 2"),
        (lambda output, read: asked(read, step="evaluate"), "made by split, asked of evaluate"),
        (lambda output, read: asked(read[:1]), "b.csv, which is not asked for"),
        (lambda output, read: asked([*read, output.with_name("c.csv")]), "not made from"),
        (lambda output, read: asked(read[::-1]), "in this order"),
        (lambda output, read: read[1].write_text("other") and asked(read), "another"),
    ],
)
def test_what_differs_is_told(made, change, why):
    output, read = made
    found = standing(output, change(output, read), Contents())
    assert found.state == "stale"
    assert why in found.why


def test_a_source_that_is_gone_is_not_missed(made):
    output, read = made
    read[0].unlink()
    assert standing(output, asked(read), Contents()).state == "current"


def test_an_edited_result_is_damaged(made):
    output, read = made
    output.write_text("group,identity\nA,2\n")
    assert standing(output, asked(read), Contents()).state == "damaged"


def test_a_result_without_a_record_is_stale_and_none_is_missing(made):
    output, read = made
    sidecar(output).unlink()
    assert standing(output, asked(read), Contents()).state == "stale"
    output.unlink()
    assert standing(output, asked(read), Contents()).state == "missing"


def test_compile_off_and_auto_are_one_setting(made):
    output, read = made
    off = {"seed": 1, "recipe": 1, "engine": {"compile": "off"}}
    record = provenance_of("split", None, hashes(read), output)
    record = record.model_copy(update={"settings": off})
    sidecar(output).write_text(beside(output.read_text(), record))
    for compile_, state in (("auto", "current"), ("default", "stale")):
        wanted = Asked("split", {**off, "engine": {"compile": compile_}}, [read], {}, compared)
        assert standing(output, wanted, Contents()).state == state


@pytest.mark.parametrize(
    ("recorded", "came_to", "wanted", "state"),
    [
        ("auto", "float32", "auto", "current"),
        ("auto", "float32", "float32", "current"),
        ("auto", "float32", "bfloat16", "stale"),
        ("auto", "bfloat16", "bfloat16", "current"),
        ("auto", "bfloat16", "float32", "stale"),
        ("auto", "bfloat16", "auto", "current"),
        ("auto", None, "float32", "stale"),  # of an older version, which did not say
        # Where the job will run, and what `auto` will come to there, nobody knows here.
        ("float32", "float32", "auto", "stale"),
        ("bfloat16", "bfloat16", "auto", "stale"),
    ],
)
def test_what_auto_came_to_counts_as_asked_for(made, recorded, came_to, wanted, state):
    output, read = made

    def settings(precision):
        return {"recipe": 1, "engine": {"precision": precision}, "name": "auto"}

    record = provenance_of("split", None, hashes(read), output)
    record = record.model_copy(update={"settings": settings(recorded), "precision": came_to})
    sidecar(output).write_text(beside(output.read_text(), record))
    now = Asked("split", settings(wanted), [read], {}, compared)
    found = standing(output, now, Contents())
    assert found.state == state
    assert found.state == "current" or found.why == (
        f'engine.precision "{recorded}", now "{wanted}"'
    )
