"""Whether a result is what a job would make: told by its record, whatever happened to the file."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from mstkd.artifacts.provenance import beside, sidecar
from mstkd.artifacts.records import ModelRecord, Provenance, Source, Subject, file_sha256
from mstkd.artifacts.sources import descent, descents, descents_of, provenance_of, source_list
from mstkd.artifacts.standing import Asked, Contents, standing
from mstkd.config import SplitSettings


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
    given = SplitSettings(**{"seed": 1, **settings}).model_dump(mode="json", exclude_none=True)
    return Asked(step, given, [read], {})


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


def test_a_source_that_is_gone_counts_as_what_is_asked_of_it_now(made):
    """`a.csv` says nothing of itself, so its content stands for what made it."""
    output, read = made
    content = file_sha256(read[0])
    read[0].unlink()

    def found(descent):
        what = dataclasses.replace(asked(read), descent_of={str(read[0]): descent}.get)
        return standing(output, what, Contents())

    assert found(content).state == "current"
    assert found("another").why == f"made from {read[0]}, which is gone and was of other settings"
    assert "nobody knows if it would be the same" in found(None).why


@pytest.fixture
def chain(tmp_path):
    """A split, made from a pack, and what was made from the split."""

    def write(seed):
        pack, split, end = (tmp_path / name for name in ("pack.csv", "split.csv", "end.csv"))
        pack.write_text("pack")
        for path, text, source in ((split, "same\n", pack), (end, "end\n", split)):
            made = provenance_of("split", SplitSettings(seed=seed), hashes([source]), path)
            path.write_text(text)
            sidecar(path).write_text(beside(text, made))
        return split, end

    return write


def test_what_was_asked_of_a_source_counts_where_its_content_is_the_same(chain):
    split, end = chain(seed=1)
    assert standing(end, asked([split]), Contents()).state == "current"
    kept = end.read_text(), sidecar(end).read_text()
    chain(seed=2)  # another split of the same content
    end.write_text(kept[0])
    sidecar(end).write_text(kept[1])
    found = standing(end, asked([split]), Contents())
    assert found.why == f"made from {split} when that was of other settings"
    older = json.loads(kept[1])
    del older["sources"][0]["descents"]  # as before there were any
    sidecar(end).write_text(beside(kept[0], Provenance.model_validate(older)))
    assert standing(end, asked([split]), Contents()).state == "current"


def test_a_descent_is_of_step_settings_and_of_all_above(chain):
    split, _ = chain(seed=1)
    pack = file_sha256(split.with_name("pack.csv"))
    settings = {"seed": 1, "recipe": SplitSettings(seed=1).recipe}
    assert descents_of(split) == [descent("split", settings, {"pack.csv": pack})]
    differ = [
        descent("split", {**settings, "seed": 2}, {"pack.csv": pack}),
        descent("evaluate", settings, {"pack.csv": pack}),
        descent("split", settings, {"pack.csv": "another"}),
        descent("split", settings, {"other.csv": pack}),
    ]
    assert len({*differ, *descents_of(split)}) == 5


def test_what_was_left_to_the_machine_has_two_descents(tmp_path):
    def made(precision, came_to, above):
        source = Source(path="../teacher", sha256="t", descents=above)
        settings = {"precision": precision}
        return Provenance(
            step="train-student", settings=settings, sources=[source], precision=came_to
        )

    left, came_to = descents(made("auto", "float32", ["auto", "float32"]))
    assert descents(made("float32", "float32", ["float32"])) == [came_to]
    assert descents(made("auto", "bfloat16", ["auto", "bfloat16"]))[0] == left
    assert descents(made("auto", "bfloat16", ["auto", "bfloat16"]))[1] != came_to
    packed = made("auto", None, []).model_copy(update={"step": "pack-train"})
    assert descents(packed) == []


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


@pytest.fixture
def model(tmp_path):
    """The files of an adaptor made from a cache, and what was asked for."""
    read = tmp_path / "cache.csv"
    read.write_text("cache")
    folder = tmp_path / "SL"
    folder.mkdir()
    for name in ("model.safetensors", "history.csv"):
        (folder / name).write_text(name)
    record = ModelRecord(
        subject=Subject(kind="adaptor", backbone="b", set="baseline", name="SL", seed=3),
        settings={"embedding_dim": 8},
        image_size=None,
        inputs={},
        weights_sha256=file_sha256(folder / "model.safetensors"),
        history_sha256=file_sha256(folder / "history.csv"),
        chosen_epoch=1,
        chosen_by="it",
        sources=source_list(hashes([read]), folder / "model.json"),
    )
    (folder / "model.json").write_text(record.text())
    subject = {"backbone": "b", "set": "baseline", "name": "SL", "seed": "3"}
    return folder, Asked("train-adaptor", {"embedding_dim": 8}, [[read]], subject)


def states(folder, what):
    contents = Contents()
    names = ("model.safetensors", "model.json", "history.csv")
    return [standing(folder / name, what, contents).state for name in names]


def test_a_models_record_speaks_for_weights_and_history(model):
    folder, what = model
    assert states(folder, what) == ["current"] * 3
    for changes in ({"settings": {"embedding_dim": 9}}, {"subject": {**what.subject, "seed": "4"}}):
        assert states(folder, dataclasses.replace(what, **changes)) == ["stale"] * 3
    Path(what.read[0][0]).write_text("another cache")
    assert states(folder, what) == ["stale"] * 3


def test_an_edited_history_is_damaged_alone_and_an_edited_record_spoils_its_model(model):
    folder, what = model
    history = folder / "history.csv"
    history.write_text("edited")
    assert states(folder, what) == ["current", "current", "damaged"]
    history.write_text("history.csv")
    record = folder / "model.json"
    text = record.read_text()
    record.write_text(text.replace('"chosen_by": "it"', '"chosen_by": "us"'))
    assert states(folder, what) == ["damaged"] * 3
    record.write_text("{")
    assert states(folder, what) == ["damaged"] * 3
    record.unlink()
    assert states(folder, what) == ["damaged", "missing", "damaged"]


def test_the_hash_of_weights_is_what_their_record_says_unless_that_is_damaged(model):
    folder, _ = model
    weights = folder / "model.safetensors"
    assert Contents().of(str(weights)) == file_sha256(weights)
    record = folder / "model.json"
    record.write_text(record.read_text().replace("baseline", "specialized"))
    assert Contents().of(str(weights)) is None


def test_compile_off_and_auto_are_one_setting(made):
    output, read = made
    off = {"seed": 1, "recipe": 1, "engine": {"compile": "off"}}
    record = provenance_of("split", None, hashes(read), output)
    record = record.model_copy(update={"settings": off})
    sidecar(output).write_text(beside(output.read_text(), record))
    for compile_, state in (("auto", "current"), ("default", "stale")):
        wanted = Asked("split", {**off, "engine": {"compile": compile_}}, [read], {})
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
    now = Asked("split", settings(wanted), [read], {})
    found = standing(output, now, Contents())
    assert found.state == state
    assert found.state == "current" or found.why == (
        f'engine.precision "{recorded}", now "{wanted}"'
    )
