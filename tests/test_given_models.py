"""Teachers and first weights of students that somebody has: not trained, but read from a file."""

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from foreignnetworks import AdaFace, ArcFace, SingleLayer, trained
from imagecounts import a_hundred_of_each
from networks import BACKBONE, DIM, save_teacher, subject
from refusals import refused_in_one_line
from reporting import errors, verification_pairs, write_scored
from runs import ROOT, SNAKEMAKE, TINY, edited, planned, snakemake
from test_model_card import write_student
from test_steps import student_settings
from torch.nn import functional

from mstkd.artifacts.lineage import lineage
from mstkd.artifacts.records import ModelRecord, file_sha256, read_record
from mstkd.artifacts.standing import Asked, Contents, standing
from mstkd.artifacts.told import told_by
from mstkd.bench.work import experiment
from mstkd.config import (
    BackboneSettings,
    CacheSettings,
    ClaimsSettings,
    Config,
    ImportGivenSettings,
    ImportSettings,
    ImportStartSettings,
    ModelCardSettings,
    files,
    validate,
)
from mstkd.config.models import given_teachers
from mstkd.config.schema import json_schema
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.errors import InputError
from mstkd.inference.loading import load
from mstkd.models.imported import import_given, import_model, import_start
from mstkd.models.weights import build_backbone, load_backbone, save_model
from mstkd.report.claims import compute_claims
from mstkd.report.model_card import render_model_card
from mstkd.report.origin import origin
from mstkd.training.student import train_student

SIDE = 16
ARCFACE = {"blocks": (1, 1, 1, 1), "widths": (4, 4, 4, 4), "dim": DIM, "side": SIDE}
ADAFACE = {"blocks": (1, 2, 1, 1), "widths": (4, 5, 6, 7), "dim": DIM, "side": SIDE}
BGR = {"colours": "bgr", "normalisation": "127.5/128"}


def asked(seen=None, *, key="teachers.from_checkpoint.A", size=SIDE, dim=DIM):
    told = {"key": key, "embedding_dim": dim, "image_size": size, "seen": seen}
    return validate(ImportGivenSettings, told, "settings")


def given(folder, checkpoint, seen, name="T-A", **sizes):
    """What `import_given` writes; gives the path of the weights."""
    output = folder / "specialized" / name / "seed0/model.safetensors"
    settings = asked(seen, **sizes)
    import_given(settings, subject=subject(name), checkpoint=checkpoint, output=output)
    return output


def shown(images, *, bgr, mean=127.5, std=127.5):
    """uint8 (N, H, H, 3) RGB as another program shows them: its own arithmetic, in float64."""
    pixels = images[..., ::-1] if bgr else images
    return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2)))


# ---------------------------------------------------------------- a teacher


def test_the_cache_holds_what_the_given_networks_compute(tmp_path, packs):
    """Of two architectures and programs, each shown images in its own way."""
    one, other = trained(ArcFace(**ARCFACE)), trained(AdaFace(**ADAFACE), seed=1)
    torch.save({f"module.{name}": t for name, t in one.state_dict().items()}, tmp_path / "a.pth")
    torch.save({"state_dict": other.state_dict()}, tmp_path / "b.ckpt")
    teachers = [
        given(tmp_path, tmp_path / "a.pth", BGR),
        given(tmp_path, tmp_path / "b.ckpt", {"colours": "rgb"}, name="T-B"),
    ]
    cache = tmp_path / "cache.h5"
    settings = CacheSettings(dtype="float32")
    cache_embeddings(settings, teachers=teachers, packs=packs, output=cache, device="cpu")
    images = np.concatenate([np.array(open_pack(path).images[:]) for path in packs])
    with torch.no_grad():
        first = functional.normalize(one.double()(shown(images, bgr=True, std=128)))
        second, _ = other.double()(shown(images, bgr=False))
    expected = torch.cat([first, second], dim=1)
    found = torch.from_numpy(open_cache(cache).embeddings).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Shown in another way it would be seen: this test could tell.
    with torch.no_grad():
        wrong = functional.normalize(one(shown(images, bgr=False, std=128)))
    assert (found[:, :DIM] - wrong).abs().max() > 1e-2


def test_a_given_teacher_stands_beside_a_trained_one(tmp_path, packs):
    theirs = trained(ArcFace(**ARCFACE))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    teachers = [
        given(tmp_path, tmp_path / "a.pth", {"colours": "rgb"}),
        save_teacher(tmp_path, subject("T-B"), packs[1:]),
    ]
    cache = tmp_path / "cache.h5"
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=cache, device="cpu")
    assert open_cache(cache).teachers == ("T-A", "T-B")
    # A trained one is still held to the packs that it has seen.
    other = [teachers[0], save_teacher(tmp_path / "other", subject("T-B"), packs[:1])]
    packs_of_b = packs[1:]
    with pytest.raises(InputError, match="a teacher trained on another pack of group A"):
        cache_embeddings(
            CacheSettings(), teachers=other, packs=packs_of_b, output=cache, device="cpu"
        )


def test_the_record_says_what_was_given_and_how_it_is_shown(tmp_path):
    torch.save(trained(AdaFace(**ADAFACE)).state_dict(), tmp_path / "r4.pth")
    output = given(tmp_path, tmp_path / "r4.pth", BGR)
    record = read_record(ModelRecord, output.with_name("model.json"))
    sha256 = file_sha256(tmp_path / "r4.pth")
    assert record.subject == subject("T-A")
    assert record.inputs == {"checkpoint": sha256}
    assert record.settings == asked(BGR).model_dump(mode="json", exclude_none=True)
    assert record.found["colours"] == "bgr"
    assert record.found["backbone"]["blocks"] == list(ADAFACE["blocks"])
    assert (record.chosen_epoch, record.history_sha256) == (0, None)
    assert told_by(output).made.step == "import-given"
    (read,) = [source for one in lineage(output).results for source in one.sources]
    assert (Path(read.path), read.sha256) == (tmp_path / "r4.pth", sha256)
    card = load(output).card
    assert (card.kind, card.architecture) == ("teacher", "iresnet of 1-2-1-1 blocks")
    assert (card.seen.colours, card.seen.normalisation) == ("bgr", "127.5/128")


def test_a_model_of_this_package_says_itself_how_it_is_shown(tmp_path, packs):
    """By its folder or its weights; one that was imported before has colours of its own."""
    mine = save_teacher(tmp_path / "mine", subject("T-X", seed=7), packs[:1])
    for name, path in (("T-A", mine), ("T-B", mine.parent)):
        output = given(tmp_path, path, None, name=name)
        found, expected = (safetensors.torch.load_file(one) for one in (output, mine))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], one) for key, one in expected.items())
        assert load_backbone(output)[1].subject.seed == 0
    torch.save(trained(ArcFace(**ARCFACE)).state_dict(), tmp_path / "a.pth")
    before = tmp_path / "imported/model.safetensors"
    import_model(ImportSettings(colours="bgr"), checkpoint=tmp_path / "a.pth", output=before)
    record = load_backbone(given(tmp_path, before.parent, None))[1]
    assert record.found["colours"] == "bgr"


class Harmful:
    def __reduce__(self):
        return subprocess.call, (["touch", "harmed"],)


def write_harmful(path):
    torch.save({"state_dict": trained(ArcFace(**ARCFACE)).state_dict(), "x": Harmful()}, path)


def write_plain_pickle(path):
    path.write_bytes(pickle.dumps(Harmful()))


def write_half(path):
    state = trained(ArcFace(**ARCFACE)).state_dict()
    state["conv1.weight"] = torch.zeros(4, 3, 5, 5)
    torch.save(state, path)


@pytest.mark.parametrize(
    ("write", "seen", "sizes", "found", "expected"),
    [
        (lambda path: None, BGR, {}, "no such file", "a state dict of an IResNet"),
        (write_harmful, BGR, {}, "objects that are no tensors", "a file of tensors alone"),
        (write_plain_pickle, BGR, {}, "", "a file of tensors alone"),
        (write_half, BGR, {}, "(4, 3, 5, 5)", "(4, 3, 3, 3)"),
        (None, BGR, {"dim": 512}, f"a network of {DIM} dimensions", "512, as embedding_dim"),
        (None, BGR, {"size": 112}, "a network of 16 pixels", "112, as data.image_size"),
        (None, None, {}, "another program's network", "colours, rgb or bgr"),
        (
            lambda path: torch.save(SingleLayer(dim=DIM).state_dict(), path),
            BGR,
            {},
            "an adaptor of 4 teachers",
            "a network of images",
        ),
    ],
)
def test_what_will_not_do_is_refused_in_one_line_with_key_and_file(
    tmp_path, monkeypatch, write, seen, sizes, found, expected
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    if write is None:
        torch.save(trained(ArcFace(**ARCFACE)).state_dict(), path)
    else:
        write(path)
    with pytest.raises(InputError) as error:
        given(tmp_path, path, seen, **sizes)
    assert error.value.where.startswith(f"teachers.from_checkpoint.A: {path}")
    assert error.value.found.startswith(found)
    assert error.value.expected.startswith(expected)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "specialized").exists()


def test_colours_of_a_model_that_says_them_are_refused(tmp_path, packs):
    mine = save_teacher(tmp_path / "mine", subject("T-X"), packs[:1])
    with pytest.raises(InputError, match=r"found colours and .*; expected neither: model\.json"):
        given(tmp_path, mine, {"colours": "rgb"})


# ---------------------------------------------------------------- whether it is still the same


def stands(output, checkpoint, seen):
    settings = asked(seen).model_dump(mode="json", exclude_none=True)
    what = Asked("import-given", settings, [[checkpoint]], subject("T-A").model_dump())
    return standing(output, what, Contents())


@pytest.mark.parametrize("name", ["a.pth", "model.safetensors"])
def test_the_content_of_the_file_decides(tmp_path, name):
    """Whatever it is called: other programs call theirs as we do."""
    checkpoint, state = tmp_path / name, trained(ArcFace(**ARCFACE)).state_dict()

    def write():
        if checkpoint.suffix == ".pth":
            torch.save(state, checkpoint)
        else:
            safetensors.torch.save_file(state, checkpoint)

    write()
    output = given(tmp_path, checkpoint, BGR)
    assert stands(output, checkpoint, BGR).state == "current"
    os.utime(checkpoint, (2e9, 2e9))
    assert stands(output, checkpoint, BGR).state == "current"
    assert "seen.colours" in stands(output, checkpoint, {**BGR, "colours": "rgb"}).why
    state["fc.bias"] += 1
    write()
    assert stands(output, checkpoint, BGR).why == f"made from another {checkpoint}"


def test_a_model_that_was_imported_again_in_other_colours_is_another(tmp_path):
    """Its weights have the same bytes, and its record says the colours."""
    torch.save(trained(ArcFace(**ARCFACE)).state_dict(), tmp_path / "a.pth")
    before = tmp_path / "imported/model.safetensors"

    def imported(colours):
        settings = ImportSettings(colours=colours)
        import_model(settings, checkpoint=tmp_path / "a.pth", output=before)
        return before.read_bytes()

    weights = imported("rgb")
    output = given(tmp_path, before, None)
    assert stands(output, before, None).state == "current"
    assert imported("bgr") == weights
    assert "when that was of other settings" in stands(output, before, None).why


# ---------------------------------------------------------------- students


def start(folder, checkpoint, seen, backbone=None):
    output = folder / "given/student/model.safetensors"
    told = asked(seen, key="students.from_checkpoint").model_dump() | {
        "backbone": backbone or BACKBONE.model_dump()
    }
    settings = validate(ImportStartSettings, told, "settings")
    import_start(settings, checkpoint=checkpoint, output=output)
    return output


def student(folder, packs, first):
    """A student of the labels alone after two epochs at a rate of nearly nothing."""
    settings = student_settings(kd_weight=0.0).model_dump()
    settings["optimiser"] |= {"lr": 1e-30}
    settings["selection"] = {"rule": "last"}
    train_student(
        type(student_settings()).model_validate(settings),
        subject=subject("none", kind="student", set_="none", loss="none"),
        packs=packs,
        start=first,
        output=folder / "model.safetensors",
        device="cpu",
    )
    return load_backbone(folder / "model.safetensors")


def test_students_start_from_the_given_weights_and_say_so(tmp_path, packs):
    theirs = trained(ArcFace(**ARCFACE))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    first = start(tmp_path, tmp_path / "a.pth", {"colours": "rgb"})
    (tmp_path / "new").mkdir()
    (tmp_path / "given").mkdir(exist_ok=True)
    network, record = student(tmp_path / "given", packs, first)
    fresh, plain = student(tmp_path / "new", packs, None)
    ours = dict(network.named_parameters())
    assert all(torch.equal(ours[name], one) for name, one in theirs.named_parameters())
    assert not torch.equal(ours["conv1.weight"], dict(fresh.named_parameters())["conv1.weight"])
    assert record.inputs["start weights"] == file_sha256(first)
    assert "start weights" not in plain.inputs
    assert [Path(one.path).name for one in record.sources][-1] == "model.safetensors"
    assert record.settings == plain.settings
    steps = [one.step for one in lineage(tmp_path / "given/model.safetensors").results]
    assert "import-start" in steps


def test_first_weights_that_were_shown_bgr_compute_the_same_of_rgb(tmp_path, packs):
    theirs = trained(ArcFace(**ARCFACE))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    network, record = load_backbone(start(tmp_path, tmp_path / "a.pth", {"colours": "bgr"}))
    assert not {"colours", "normalisation"} & record.settings.keys()
    images = np.array(open_pack(packs[0]).images[:])
    with torch.no_grad():
        expected = theirs.double()(shown(images, bgr=True))
        found = network(shown(images, bgr=False).float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_first_weights_of_another_network_are_refused(tmp_path):
    torch.save(trained(ArcFace(**ARCFACE)).state_dict(), tmp_path / "a.pth")
    where = f"students.from_checkpoint: {tmp_path / 'a.pth'}"
    with pytest.raises(InputError) as error:
        start(tmp_path, tmp_path / "a.pth", {"colours": "rgb"}, {"architecture": "iresnet18"})
    assert str(error.value) == (
        f"{where}: found iresnet of 1-1-1-1 blocks; expected iresnet18, as students.backbone has it"
    )
    with pytest.raises(InputError) as error:
        start(tmp_path, tmp_path / "a.pth", {"colours": "rgb", "normalisation": "0..1"})
    assert str(error.value) == (
        f"{where}: found normalisation 0..1; expected -1..1, as images are shown to students"
    )


def test_a_record_of_a_network_that_cannot_be_turned_is_one_line(tmp_path):
    told = {"architecture": "mobilefacenet"}
    network = build_backbone(validate(BackboneSettings, told, ""), embedding_dim=DIM, image_size=32)
    weights = tmp_path / "model.safetensors"
    save_model(
        weights,
        state=network.state_dict(),
        history=(),
        subject=subject("T-A"),
        settings={"backbone": told, "embedding_dim": DIM, "colours": "bgr"},
        image_size=32,
        inputs={},
        chosen_epoch=0,
        chosen_by="the last epoch",
    )
    made = {"key": "students.from_checkpoint", "embedding_dim": DIM, "image_size": 32}
    settings = validate(ImportStartSettings, made | {"backbone": told}, "settings")
    with refused_in_one_line("found mobilefacenet, to which its record says images are shown BGR"):
        import_start(settings, checkpoint=weights, output=tmp_path / "start/model.safetensors")


# ---------------------------------------------------------------- the config

PLAIN = {
    "groups": ["A", "B"],
    "data": {"synthetic": {}},
    "backbones": {"small": {"blocks": [1, 1, 1, 1]}, "other": {"blocks": [2, 1, 1, 1]}},
    "teachers": {"backbones": ["small"]},
    "students": {"backbone": "small", "losses": {"a-KD": {}}},
}


def config(**edits):
    told = {key.replace("__", "."): value for key, value in edits.items()}
    return validate(Config, edited(PLAIN, told), "config")


def test_a_config_without_is_what_it_was():
    made = config()
    assert "from_checkpoint" not in made.as_yaml()
    for settings in (made.claims_settings(), made.page_settings(), made.model_card_settings()):
        assert "given" not in settings.dump() + made.claims_settings().dump()
    assert files.trained_with_seed_open(made, name="x") == files.with_seed_open(made, name="x")
    assert files.student_start(made) == []


def test_teachers_are_given_by_group_or_by_name():
    made = config(
        teachers__from_checkpoint={
            "B": "models/b",
            "BT-1": {"path": "x.pth", **BGR},
            "T-all": {"path": "y.pth", "colours": "rgb"},
        }
    )
    assert given_teachers(made) == {
        ("specialized", "T-B"): "B",
        ("baseline", "BT-1"): "BT-1",
        ("single", "T-all"): "T-all",
    }
    settings = made.import_given_settings("baseline", "BT-1")
    assert (settings.key, settings.seen.colours) == ("teachers.from_checkpoint.BT-1", "bgr")
    assert made.import_given_settings("single", "T-all").seen.normalisation == "-1..1"
    assert made.import_given_settings("specialized", "T-B").seen is None
    assert files.given_checkpoint(made, "specialized", "T-B") == "models/b"
    who = {"backbone": "small", "set": "specialized", "name": "T-B"}
    assert made.settings_of("train-teacher", **who) is None
    assert made.settings_of("import-given", **who) is not None
    assert made.settings_of("import-given", **who | {"name": "T-A"}) is None
    trained_ones = files.trained_with_seed_open(made, name="history.csv")
    rest = set(files.with_seed_open(made, name="history.csv")) - set(trained_ones)
    assert {path.split("/")[4] for path in rest} == {"T-B", "BT-1", "T-all"}
    again = validate(Config, json.loads(made.model_dump_json(exclude_none=True)), "config")
    assert again == made


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (
            {"teachers__from_checkpoint": {"X": "x.pth"}},
            "teachers.from_checkpoint: 'X' is not one of A, B, BT-1, BT-2, T-all",
        ),
        (
            {"teachers__from_checkpoint": {"T-all": "x.pth"}, "controls": False},
            "teachers.from_checkpoint: 'T-all' is not one of A, B, BT-1, BT-2",
        ),
        (
            {"teachers__from_checkpoint": {"A": {"path": "x.pth", "normalisation": "0..1"}}},
            "teachers.from_checkpoint.A: found path, normalisation; expected colours, rgb or bgr",
        ),
        (
            {"teachers__from_checkpoint": {"A": {"path": "x.pth", "colours": "red"}}},
            "teachers.from_checkpoint.A.colours: found 'red'",
        ),
        (
            {"teachers__from_checkpoint": {"A": {"path": "x.pth", "file": 1}}},
            "teachers.from_checkpoint.A.file: found unknown key 'file'",
        ),
        ({"teachers__from_checkpoint": {"A": 3}}, "teachers.from_checkpoint.A: found 3"),
        ({"teachers__from_checkpoint": {}}, "teachers.from_checkpoint: found {}"),
        (
            {"teachers__from_checkpoint": {"A": "a.pth"}, "teachers__foreign_share": 0.5},
            "teachers.foreign_share: 0 where a specialized teacher is given",
        ),
        (
            {"teachers__from_checkpoint": {"A": "a"}, "teachers__head": {"margin": [0.3, 0.5]}},
            "teachers.from_checkpoint: one value of head.margin, of which what is given has none",
        ),
        (
            {"teachers__from_checkpoint": {"A": "a"}, "teachers__backbones": ["small", "other"]},
            "teachers.from_checkpoint: one value of backbones, of which",
        ),
        (
            {"students__from_checkpoint": "a", "students__backbone": ["small", "other"]},
            "students.from_checkpoint: one students.backbone, whose weights are given",
        ),
        (
            {"groups": ["BT-1", "B"], "teachers__from_checkpoint": {"BT-1": "a"}},
            "another name for the group 'BT-1': it means the specialized T-BT-1 and the baseline",
        ),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(edits, told):
    with refused_in_one_line(told):
        config(**edits)


def test_a_group_may_be_called_as_the_single_teacher_that_is_given():
    made = config(groups=["all", "B"], teachers__from_checkpoint={"T-all": "a"})
    assert given_teachers(made) == {("single", "T-all"): "T-all"}


def test_editors_are_told_that_a_path_alone_will_do_and_no_list():
    schema = json_schema()
    (told,) = [
        next(iter(one["patternProperties"].values()))
        for one in schema["$defs"]["Teachers"]["properties"]["from_checkpoint"]["anyOf"]
        if one.get("type") == "object"
    ]
    assert {"type": "string", "format": "path"} in told["anyOf"]
    assert schema["$defs"]["GivenModel"]["properties"]["path"]["type"] == "string"


def test_nothing_is_reckoned_for_the_training_of_what_is_given():
    counts = a_hundred_of_each("AB")
    names = {"A": "a", "B": "b", "BT-2": "c"}
    both = (config(), config(teachers__from_checkpoint=names))
    one, other = ({load.part: load for load in experiment(made, counts)} for made in both)
    assert (one["small teachers"].jobs, other["small teachers"].jobs) == (5, 2)
    assert other["small teachers"].images / one["small teachers"].images == 3 / 6
    assert one["small caches"] == other["small caches"]
    assert one["small teachers' evaluation"] == other["small teachers' evaluation"]


# ---------------------------------------------------------------- what is told of it


def test_the_report_says_which_teachers_were_not_trained_here(tmp_path):
    pairs = verification_pairs(("A", "B"), identities=12, pairs=60)
    wrong = errors(pairs, {"A": 90, "B": 80}, seed=1)
    of_teacher = {"kind": "teacher", "loss": None}
    metrics = [
        write_scored(tmp_path, pairs, wrong, set="specialized", name="T-A", **of_teacher),
        write_scored(tmp_path, pairs, wrong, set="specialized", name="T-B", **of_teacher),
        write_scored(tmp_path, pairs, wrong, set="none", name="none", loss="none"),
    ]
    teachers = {"specialized": ("T-A",)}
    settings = ClaimsSettings(
        draws=100, chosen_on_test=("teachers", "students"), given=teachers, started=True
    )
    claims = compute_claims(settings, metrics=metrics, output=tmp_path / "claims.json")
    assert claims.caution.startswith(
        "The epoch of each teacher that was trained here and each student was chosen"
    )
    assert "not trained here: specialized T-A. Which groups" in claims.caution
    assert "All students start from weights that were given" in claims.caution
    models = dict(origin(claims, None, teachers))["Models"]
    assert models == "1 trained student, 1 given teacher and 1 trained teacher, seed 0."
    made = config(teachers__from_checkpoint={"A": "a", "BT-2": "b"})
    names = "small teachers (not trained here: specialized T-A; baseline BT-2)"
    assert made.table_settings("table1").caption.endswith(f"of the {names}.")
    assert made.error_rate_settings("table2").caption.endswith(f"a-KD students of {names}.")
    assert made.claims_settings().chosen_on_test == ("teachers", "students")
    every = dict.fromkeys(("A", "B", "BT-1", "BT-2", "T-all"), "x")
    assert config(teachers__from_checkpoint=every).claims_settings().chosen_on_test == ("students",)


@pytest.mark.parametrize(
    ("names", "told", "chosen"),
    [
        (("T-A",), True, "of this student and of its teachers that were trained here was chosen"),
        (("T-A", "T-B"), True, "The epoch of this student was chosen"),
        ((), False, "The epoch of this student and of its teachers was chosen"),
    ],
)
def test_the_card_says_which_teachers_of_the_student_were_not_trained(
    tmp_path, names, told, chosen
):
    model, metrics = write_student(tmp_path, groups=("A", "B"))
    teachers = {"specialized": names, "baseline": ("BT-1",)} if names else {"baseline": ("BT-1",)}
    settings = ModelCardSettings(
        draws=100, procedural=False, chosen_on_test=("teachers", "students"), given=teachers
    )
    card = tmp_path / "README.md"
    render_model_card(settings, model=model, metrics=metrics, output=card)
    text = card.read_text()
    assert (f"not trained here: specialized {', '.join(names)}." in text) == told
    assert "BT-1" not in text.partition("<!--")[0]
    assert chosen in text
    assert "start from weights" not in text
    record = read_record(ModelRecord, model)
    record.model_copy(update={"inputs": {**record.inputs, "start weights": "2" * 64}}).write(model)
    render_model_card(settings, model=model, metrics=metrics, output=card)
    assert "All students start from weights that were given" in card.read_text()


@pytest.mark.parametrize(
    ("set_", "fused", "told", "chosen"),
    [
        ("specialized", "B.C", None, "of this student and of its teachers was chosen"),
        ("specialized", "A.C", "specialized T-A", "and of its teachers that were trained here was"),
        ("specialized", "A", "specialized T-A", "The epoch of this student was chosen"),
        ("baseline", "B.C", "baseline BT-2, BT-3", "The epoch of this student was chosen"),
        ("baseline", "A.B", "baseline BT-2", "and of its teachers that were trained here was"),
    ],
)
def test_the_card_of_a_student_of_some_teachers_speaks_of_these_alone(
    tmp_path, set_, fused, told, chosen
):
    name = f"SL+fused={fused}"
    model, metrics = write_student(tmp_path, groups=("A", "B", "C"), set=set_, name=name)
    settings = ModelCardSettings(
        draws=100,
        procedural=False,
        chosen_on_test=("teachers", "students"),
        given={"specialized": ("T-A",), "baseline": ("BT-2", "BT-3")},
    )
    card = tmp_path / "README.md"
    render_model_card(settings, model=model, metrics=metrics, output=card)
    text = card.read_text()
    assert (f"not trained here: {told}. Which" in text) == (told is not None)
    assert ("not trained here" in text.partition("<!--")[0]) == (told is not None)
    assert chosen in text


@pytest.mark.parametrize("kind", ["adaptor", "imported"])
def test_a_record_of_a_given_model_that_is_none_is_one_line(tmp_path, kind):
    model, _ = write_student(tmp_path, groups=("A", "B"))
    record = read_record(ModelRecord, model)
    subject = record.subject.model_copy(update={"kind": kind})
    record.model_copy(update={"subject": subject, "found": {}}).write(model)
    with pytest.raises(InputError, match=f"and this is of kind {kind}; expected model.json"):
        told_by(model)


# ---------------------------------------------------------------- runs

CACHE = "results/embeddings/tiny/specialized/seed{}.h5"
TINY_DIM = TINY["embedding_dim"]


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.slow
@pytest.mark.workflow
def test_a_cache_of_given_teachers_alone(tmp_path):
    """Nothing is trained for it; the file's content reruns it, and no other setting does."""
    shape = {"widths": (4, 5, 6, 7), "dim": TINY_DIM, "side": SIDE}
    networks = trained(ArcFace((1, 1, 2, 1), **shape)), trained(AdaFace((1, 2, 1, 1), **shape), 1)
    (tmp_path / "models").mkdir()
    paths = [tmp_path / "models/a.pth", tmp_path / "models/b.ckpt"]
    for path, network in zip(paths, networks, strict=True):
        torch.save({f"backbone.{n}": t for n, t in network.state_dict().items()}, path)
    names = {
        "A": {"path": "models/a.pth", "colours": "rgb", "normalisation": "0..1"},
        "B": {"path": str(paths[1]), "colours": "bgr"},
    }
    made = edited(TINY, {"teachers.from_checkpoint": names, "cache": {"dtype": "float32"}})
    target = CACHE.format(0)
    jobs = planned(tmp_path, made, target)
    assert jobs == {"synthesize": 1, "pack_train": 2, "import_given": 2, "cache_embeddings": 1}
    snakemake(tmp_path, made, target)
    packs = [open_pack(tmp_path / f"results/packs/train/{group}.h5") for group in "AB"]
    images = np.concatenate([np.array(pack.images[:]) for pack in packs])
    with torch.no_grad():
        first = functional.normalize(
            networks[0].double()(shown(images, bgr=False, mean=0, std=255))
        )
        second, _ = networks[1].double()(shown(images, bgr=True))
    expected = torch.cat([first, second], dim=1)
    found = torch.from_numpy(open_cache(tmp_path / target).embeddings).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    os.utime(paths[0])
    os.utime(paths[1], (1, 1))
    assert planned(tmp_path, made, target) == {}
    other = edited(made, {"teachers.optimiser.epochs": 9, "adaptors.optimiser.epochs": 9})
    assert planned(tmp_path, other, target) == {}
    again = {"import_given": 1, "cache_embeddings": 1}
    shifted = edited(made, {"teachers.from_checkpoint.A.normalisation": "-1..1"})
    assert planned(tmp_path, shifted, target) == again
    # The same teachers beside those of every seed.
    assert planned(tmp_path, made | {"seeds": [0, 1]}, CACHE.format(1)) == {
        "import_given": 2,
        "cache_embeddings": 1,
    }
    weights = next((tmp_path / "results/teachers").rglob("T-A/seed0/model.safetensors"))
    kept = weights.rename(weights.with_name("kept"))
    assert planned(tmp_path, made, target) == {}, "only finished files hang on it"
    before = paths[0].read_bytes()
    state = networks[0].float().state_dict()
    state["fc.bias"] += 1
    torch.save(state, paths[0])
    assert planned(tmp_path, made, target) == again
    kept.rename(weights)
    assert planned(tmp_path, made, target) == again
    paths[0].unlink()
    told = snakemake(tmp_path, made, target, check=False)
    (line,) = [one for one in told.stderr.splitlines() if one.startswith("mstkd: error:")]
    assert "teachers.from_checkpoint.A: models/a.pth: found no such file; expected" in line
    paths[0].write_bytes(before)
    # Snakemake removed what the failed job would have made anew.
    snakemake(tmp_path, made, target)
    assert planned(tmp_path, made, target) == {}


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.slow
@pytest.mark.workflow
def test_a_whole_run_with_models_that_are_given(tmp_path):
    """Some of each set, and the students' first weights; what is left is trained as ever."""
    shape = {"widths": (4, 4, 8, 8), "dim": TINY_DIM, "side": SIDE}
    torch.save(trained(ArcFace((1, 1, 1, 1), **shape)).state_dict(), tmp_path / "a.pth")
    told = {"path": "a.pth", "colours": "bgr"}
    made = edited(
        TINY,
        {
            "teachers.from_checkpoint": {"A": told, "BT-2": {**told, "normalisation": "0..1"}},
            "students.from_checkpoint": {**told},
            "adaptors.architectures": {"SL": {}},
            "students.losses": {"a-KD": {}},
            "controls": False,
        },
    )
    jobs = planned(tmp_path, made)
    assert (jobs["import_given"], jobs["import_start"], jobs["train_teacher"]) == (2, 1, 2)
    assert jobs["split_specialized"] == 1
    for folder in ("Snakefile", "workflow"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    snakemake(tmp_path, made)
    assert planned(tmp_path, made) == {}
    results = tmp_path / "results"
    page = " ".join((results / "report.html").read_text().split())
    assert "not trained here: specialized T-A; baseline BT-2. Which groups" in page
    assert "2 trained students, 2 given teachers and 2 trained teachers, seed 0." in page
    assert "had been made by the config beside it" in page
    assert "All students start from weights that were given" in page
    student = results / "students/tiny/baseline/SL/a-KD/seed0"
    assert "not trained here: baseline BT-2." in (student / "README.md").read_text()
    chain = {one.step for one in lineage(student / "model.safetensors").results}
    assert {"import-given", "import-start", "train-teacher"} <= chain
    assert not list(results.rglob("T-A/seed0/history.csv"))
    check = [SNAKEMAKE.with_name("mstkd"), "check", "--configfile", "edited.yaml", "--deep"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to be done" in done.stdout
    # A teacher that is to be trained after all is no longer what lies there.
    alone = edited(made, {"teachers.from_checkpoint": {"A": told}})
    after = planned(tmp_path, alone)
    assert after["train_teacher"] == 1
    assert not {"import_given", "import_start"} & after.keys()
    # Other first weights train the students anew, and nothing else.
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    state = torch.load(tmp_path / "b.pth", weights_only=True)
    state["fc.bias"] += 1
    torch.save(state, tmp_path / "b.pth")
    moved = edited(made, {"students.from_checkpoint": {**told, "path": "b.pth"}})
    after = planned(tmp_path, moved)
    assert (after["import_start"], after["train_student"]) == (1, 2)
    assert not {"import_given", "train_teacher", "cache_embeddings", "train_adaptor"} & after.keys()
    (tmp_path / "a.pth").unlink()
    done = subprocess.run([*check[:-1]], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "made from a.pth, which is gone" in done.stdout
