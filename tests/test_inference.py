"""Models as a program asks them: embeddings, decisions, and the same numbers as the pipeline's."""

import doctest
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from foreignnetworks import AdaFace, ArcFace, SingleLayer, trained
from networks import save_teacher, subject
from PIL import Image
from torch.nn import functional

import mstkd
from mstkd.artifacts.records import Metrics, read_record
from mstkd.config import EvaluationSettings, InputSettings
from mstkd.config import inference as config
from mstkd.data.pack import open_pack
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import evaluate
from mstkd.inference import loading
from mstkd.inference import model as asked
from mstkd.inference.guesses import doubt, every_guess
from mstkd.inference.model import Card, FaceModel
from mstkd.models.weights import load_backbone

SIZE = 16


@pytest.fixture
def weights(tmp_path, packs):
    return save_teacher(tmp_path, subject("T-A"), packs)


@pytest.fixture
def model(weights):
    return mstkd.load(weights, device="cpu")


def faces(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def by_hand(weights, images, *, mirror):
    """Unit embeddings in float64, from the network alone."""
    network = load_backbone(weights)[0].double()
    seen = torch.from_numpy(images.transpose(0, 3, 1, 2) / 127.5 - 1)
    with torch.no_grad():
        found = network(seen) + (network(seen.flip(3)) if mirror else 0)
    return functional.normalize(found).numpy()


@pytest.mark.parametrize("mirror", [True, False])
def test_embeddings_are_the_networks_of_unit_length(weights, mirror):
    model = mstkd.load(weights, mirror=mirror, device="cpu")
    found = model.embed(faces(9))
    assert (found.dtype, found.shape) == (np.float32, (9, 8))
    np.testing.assert_allclose(found, by_hand(weights, faces(9), mirror=mirror), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 9, 100])
def test_no_embedding_depends_on_the_batch(model, batch):
    np.testing.assert_allclose(
        model.embed(faces(9), batch=batch), model.embed(faces(9)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(InputError, match="batch: found 0; expected at least 1"):
        model.embed(faces(9), batch=0)


def test_progress_is_told_when_it_is_asked_for(model, capsys):
    model.embed(faces(9), batch=4)
    assert capsys.readouterr().err == ""
    model.embed(faces(9), batch=4, progress=True)
    assert "embed: 9 of 9 images" in capsys.readouterr().err


def test_a_face_without_direction_is_named(model):
    with torch.no_grad():
        for part in model.network._extractor.network.features.parameters():
            part.zero_()
    with pytest.raises(InputError, match=r"images\[0\]: found an embedding without direction"):
        model.embed(faces(2))


def test_verification_is_the_cosine_and_a_decision_only_with_a_threshold(model, tmp_path):
    one, other = faces(2)
    vectors = model.embed(faces(2)).astype(float)
    expected = float(vectors[0] @ vectors[1])
    found = model.verify(one, other)
    assert found.similarity == pytest.approx(expected, abs=1e-6)
    assert (found.threshold, found.same, found.errors) == (None, None, {})
    assert model.verify(one, other, threshold=expected - 1e-3).same is True
    assert model.verify(one, other, threshold=expected + 1e-3).same is False
    for nothing in (np.nan, np.inf):  # no score is above or below it
        with pytest.raises(InputError, match=r"threshold: found (nan|inf); expected a finite"):
            model.verify(one, other, threshold=nothing)
    Image.fromarray(one).save(tmp_path / "one.png")
    assert model.verify(tmp_path / "one.png", one).similarity == pytest.approx(1)
    with pytest.raises(InputError, match="images: found 2 and 1; expected one and one"):
        model.verify(faces(2), one)


def test_evaluation_gives_the_numbers_of_the_pipeline(model, weights, verification_packs, tmp_path):
    scores, metrics = tmp_path / "scores.h5", tmp_path / "metrics.json"
    evaluate(
        EvaluationSettings(folds=2),
        model=weights,
        packs=verification_packs,
        scores=scores,
        metrics=metrics,
        device="cpu",
    )
    own = read_record(Metrics, metrics).own_threshold
    found = model.evaluate(verification_packs[0].parent, folds=2).measures
    rows = found[(found["measure"] == "accuracy") & (found["at"] == "own")]
    accuracies = {group: score.accuracy for group, score in own.groups.items()}
    assert dict(zip(rows["group"], rows["value"], strict=True)) == pytest.approx(accuracies)
    # From images in folders too, which are packed for it; and with what is asked beside.
    for group in "AB":
        folder = tmp_path / "rfw"
        source = verification_packs[0].parent
        shutil.copytree(source / "data" / group, folder / "data" / group)
        shutil.copytree(source / "txts" / group, folder / "txts" / group)
    again = model.evaluate(folder, folds=2, thresholds=[0.25]).measures
    assert "threshold=0.25" in set(again["at"])
    same = again[(again["measure"] == "accuracy") & (again["at"] == "own")]
    assert np.array_equal(same["value"], rows["value"])
    assert sorted(path.name for path in folder.iterdir()) == ["data", "txts"]


def test_a_pack_of_another_size_is_refused(tmp_path, packs, verification_packs):
    other = save_teacher(tmp_path, subject("T-A"), packs, size=32)
    with pytest.raises(InputError, match="found 16 pixels; expected 32 pixels"):
        mstkd.load(other, device="cpu").evaluate(verification_packs[0])


def test_pairs_of_no_group_are_refused(model, tmp_path):
    for name in ("data", "txts"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty: found something else; expected a verification"):
        model.evaluate(tmp_path / "empty")


# ---------------------------------------------------------------- what is loaded


def test_a_model_is_found_by_its_weights_its_folder_and_its_name(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results/teachers/tiny"
    shutil.copytree(tmp_path / "specialized", results / "specialized")
    names = ("teachers/tiny/specialized/T-A", "teachers/tiny/specialized/T-A/seed0")
    for name in (weights, str(weights), weights.parent, weights.parent.parent, *names):
        model = mstkd.load(name, device="cpu")
        assert model.card.name == "T-A"
    assert model.path == results.relative_to(tmp_path) / "specialized/T-A/seed0/model.safetensors"
    shutil.copytree(results / "specialized/T-A/seed0", results / "specialized/T-A/seed1")
    with pytest.raises(InputError, match="found seed0, seed1; expected one of them"):
        mstkd.load(names[0])
    with pytest.raises(InputError, match="nothing: found no such model; expected weights"):
        mstkd.load("nothing")


def test_the_card_says_what_a_model_is(model, weights, packs):
    _, record = load_backbone(weights)
    assert model.card == Card(
        name="T-A",
        kind="teacher",
        architecture="iresnet of 1-1-1-1 blocks",
        image_size=SIZE,
        embedding_dim=8,
        parameters=sum(one.numel() for one in load_backbone(weights)[0].parameters()),
        sha256=record.weights_sha256,
        seen=InputSettings(colours="rgb", normalisation="-1..1"),
        trained_on={pack.group: pack.sha256 for pack in map(open_pack, packs)},
        teacher_set="specialized",
    )


def test_a_foreign_checkpoint_is_loaded_as_it_is_said_to_be(tmp_path):
    theirs, path = trained(AdaFace()), tmp_path / "adaface.ckpt"
    torch.save({"state_dict": theirs.state_dict()}, path)
    model = mstkd.load(path, colours="bgr", mirror=False, device="cpu")
    images = faces(4, 32)
    seen = torch.from_numpy(images[..., ::-1].transpose(0, 3, 1, 2) / 127.5 - 1)
    with torch.no_grad():
        expected, _ = theirs.double()(seen)
    np.testing.assert_allclose(model.embed(images), expected.numpy(), atol=1e-5)
    assert (model.card.kind, model.card.seen.colours) == ("foreign", "bgr")
    # The other order is seen, and what shows it on request is what loading with it gives.
    other = mstkd.load(path, colours="rgb", mirror=False, device="cpu").embed(images)
    assert np.vecdot(other, model.embed(images)).max() < 0.99
    shown = model.shown(InputSettings(colours="rgb"))
    np.testing.assert_allclose(shown.embed(images), other, atol=1e-6)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, r"found no adaface.json beside it; expected colours='rgb' or 'bgr', as it was"),
        ({"normalisation": "0..1"}, "expected colours='rgb' or 'bgr'"),
        ({"colours": "gbr"}, "colours: found 'gbr'; expected .*'rgb' or 'bgr'"),
        ({"colours": "rgb", "normalisation": "7"}, "normalisation: found '7'; expected .*MEAN/STD"),
    ],
)
def test_of_a_foreign_checkpoint_colours_have_to_be_said(tmp_path, said, message):
    path = tmp_path / "adaface.ckpt"
    torch.save(trained(AdaFace()).state_dict(), path)
    with pytest.raises(InputError, match=message):
        mstkd.load(path, **said)


def test_what_a_record_says_is_not_said_again(weights):
    with pytest.raises(InputError, match=r"found colours; expected neither: model.json says"):
        mstkd.load(weights, colours="rgb")


def test_an_adaptor_embeds_no_images(tmp_path):
    torch.save(trained(SingleLayer()).state_dict(), tmp_path / "adaptor.pth")
    with pytest.raises(InputError, match="found an adaptor of 4 teachers, SL; expected a network"):
        mstkd.load(tmp_path / "adaptor.pth", colours="rgb")


def test_loading_leaves_the_threads_of_a_program_alone(weights):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        mstkd.load(weights, device="cpu")
        assert torch.get_num_threads() == 3
        mstkd.load(weights, device="cpu", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_package_and_its_commands_load_nothing_heavy():
    heavy = "{'torch', 'numpy', 'onnx', 'onnxruntime', 'h5py', 'pandas'} & {*sys.modules}"
    code = f"import sys, mstkd, mstkd.cli.models; assert not {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", [config, loading, asked])
def test_examples_in_docstrings(module, weights, tmp_path, monkeypatch):
    for path in weights.parent.iterdir():
        shutil.copy(path, tmp_path)
    for name, pixels in zip("ab", faces(2), strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    tried = doctest.testmod(module, extraglobs={"model": mstkd.load("model.safetensors")})
    assert tried.attempted > 0
    assert tried.failed == 0


# ---------------------------------------------------------------- wrong guesses


class RedAlone:
    """A network that knows people by their red, of images in [-1, 1]; the rest misleads it."""

    def __init__(self, seen=None):
        self.seen = seen or InputSettings()

    def embed(self, images, rows, *, mirror):
        pixels = np.concatenate([images[one] for one in rows]).astype(float)
        mean, std = (np.array(one) for one in config.mean_and_std(self.seen.normalisation))
        seen = (pixels - mean) / std
        seen = seen[..., ::-1] if self.seen.colours == "bgr" else seen
        red = seen[..., 0]
        return np.tanh(red - 2 * np.abs(red) * (red > 1)).reshape(len(red), -1).astype(np.float32)

    def shown(self, seen):
        return RedAlone(seen)


def known_by_red(folder, people=12, images=4):
    """A folder in RFW's layout, in which red is a person's own and all else is chance."""
    random, lines = np.random.default_rng(0), []
    for person in range(people):
        own = random.integers(0, 256, (SIZE, SIZE))
        name = f"m.{person}"
        (folder / "data/A" / name).mkdir(parents=True)
        for number in range(1, images + 1):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3))
            pixels[..., 0] = np.clip(own + random.normal(0, 25, own.shape), 0, 255)
            path = folder / "data/A" / name / f"{name}_{number:04}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        for number in range(1, images):
            lines += [f"{name}\t{number}\t{number + 1}"]
            lines += [f"{name}\t{number}\tm.{(person + 1) % people}\t{number}"]
    (folder / "txts/A").mkdir(parents=True)
    (folder / "txts/A/A_pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def red_model(colours):
    card = Card(
        name="red",
        kind="foreign",
        architecture="",
        image_size=SIZE,
        embedding_dim=SIZE**2,
        parameters=None,
        sha256="",
        seen=InputSettings(colours=colours),
        trained_on={},
    )
    return FaceModel(Path("red.pth"), card, RedAlone(card.seen))


def test_a_wrong_order_of_colours_is_seen_on_pairs_and_a_right_one_raises_no_doubt(tmp_path):
    pairs = known_by_red(tmp_path)
    right, wrong = (every_guess(red_model(one), pairs=pairs) for one in ("rgb", "bgr"))
    assert doubt(right) is None
    told = doubt(wrong)
    assert told is not None
    assert told.startswith("the model may want other images: shown rgb -1..1 its AUC is 1.0")
    assert [one.seen.colours for one in wrong[:2]] == ["bgr", "rgb"]
    assert len(right) == 2 * len(config.NORMALISATIONS)
    # What is told of a way is what the model itself is measured to be when it is shown so.
    measures = red_model("rgb").evaluate(pairs).measures
    auc = measures[(measures["measure"] == "auc") & (measures["at"] == "shared")]["value"]
    assert right[0].auc == wrong[1].auc == pytest.approx(auc.item())
    assert right[0].similarity == pytest.approx(1)
    assert wrong[1].similarity == pytest.approx(right[1].similarity)
    assert abs(wrong[1].similarity) < 0.2


def test_a_face_alone_shows_how_far_its_embedding_hangs_on_the_colours(tmp_path):
    theirs, path = trained(ArcFace()), tmp_path / "backbone.pth"
    torch.save(theirs.state_dict(), path)
    Image.fromarray(faces(1, 32)[0]).save(tmp_path / "face.png")
    Image.fromarray(faces(1, 32)[0][..., ::-1]).save(tmp_path / "swapped.png")
    model = mstkd.load(path, colours="rgb", device="cpu")
    said, swapped, *_ = every_guess(model, faces=[tmp_path / "face.png"])
    vectors = model.embed([tmp_path / "face.png", tmp_path / "swapped.png"])
    assert said.similarity == pytest.approx(1)
    assert swapped.seen == InputSettings(colours="bgr")
    assert swapped.similarity == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert math.isnan(said.auc)
    assert doubt([said, swapped]) is None  # nothing says which is right
