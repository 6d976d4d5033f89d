"""Checkpoints of other programs embed here as they do there, and what is not one is refused."""

import json
import pickle
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from foreignnetworks import (
    BLOCKS,
    DIM,
    SIDE,
    WIDTHS,
    AdaFace,
    ArcFace,
    DualLayer,
    SingleLayer,
    trained,
)
from torch.nn import functional

from mstkd.artifacts.lineage import lineage
from mstkd.artifacts.records import file_sha256
from mstkd.config import ImportSettings, validate
from mstkd.config.inference import NORMALISATIONS, mean_and_std
from mstkd.data.loader import normalise
from mstkd.errors import InputError
from mstkd.models.backbone import folded
from mstkd.models.foreign import read_foreign
from mstkd.models.imported import import_model
from mstkd.models.iresnet import BLOCKS as PUBLISHED
from mstkd.models.weights import load_adaptor, load_backbone


def imported(folder, state, *, name="backbone.pth", colours="rgb", normalisation="-1..1"):
    """What `import_model` writes of a state dict; gives the path of the weights."""
    checkpoint, output = folder / name, folder / "model.safetensors"
    if checkpoint.suffix == ".safetensors":
        safetensors.torch.save_file(state, checkpoint)
    else:
        torch.save(state, checkpoint)
    settings = ImportSettings(colours=colours, normalisation=normalisation)
    import_model(settings, checkpoint=checkpoint, output=output)
    return output


def faces(count=3, side=SIDE, seed=0):
    """uint8 (N, H, H, 3), RGB."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def seen_by(network, images):
    """What a network of this package gives for uint8 images."""
    with torch.no_grad():
        return network(normalise(torch.from_numpy(images)))


def as_theirs(images, *, bgr=False, mean=127.5, std=127.5):
    """Images as another program makes them: its own arithmetic, in float64."""
    pixels = images[..., ::-1] if bgr else images
    mean, std = (np.broadcast_to(np.asarray(one, float), 3) for one in (mean, std))
    if bgr:
        mean, std = mean[::-1], std[::-1]
    return torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2)))


def test_an_arcface_state_dict_embeds_as_where_it_is_from(tmp_path):
    theirs = trained(ArcFace())
    network, record = load_backbone(imported(tmp_path, theirs.state_dict()))
    with torch.no_grad():
        expected = theirs.double()(as_theirs(faces()))
    torch.testing.assert_close(seen_by(network, faces()).double(), expected, rtol=1e-4, atol=1e-5)
    assert (record.image_size, record.settings["embedding_dim"]) == (SIDE, DIM)
    assert record.settings["backbone"] == {"blocks": list(BLOCKS), "widths": list(WIDTHS)}


def test_an_adaface_state_dict_embeds_as_where_it_is_from(tmp_path):
    """A checkpoint of Lightning, with a head and an optimiser beside the network."""
    theirs = trained(AdaFace())
    state = {f"model.{name}": one for name, one in theirs.state_dict().items()}
    state |= {"head.kernel": torch.randn(DIM, 7), "head.t": torch.zeros(1)}
    checkpoint = {"epoch": 3, "state_dict": OrderedDict(state), "optimizer_states": [{"lr": 0.1}]}
    output = imported(tmp_path, checkpoint, name="adaface.ckpt", colours="bgr")
    network, record = load_backbone(output)
    with torch.no_grad():
        units, norms = theirs.double()(as_theirs(faces(), bgr=True))
    found = seen_by(network, faces()).double()
    torch.testing.assert_close(found, units * norms, rtol=1e-4, atol=1e-5)
    assert record.settings["colours"] == "bgr"
    # Folding, by which all embedding is done, keeps what the network is shown.
    in_less = seen_by(folded(network), faces()).double()
    torch.testing.assert_close(in_less, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [ArcFace, AdaFace])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_architecture_is_known_by_its_shapes(tmp_path, network, name):
    with torch.device("meta"):
        state = network(PUBLISHED[name], (64, 128, 256, 512), 512, 112).state_dict()
    # A number stands for each tensor, so that the file is small.
    state = {key: torch.zeros((), dtype=one.dtype).expand(one.shape) for key, one in state.items()}
    torch.save(state, tmp_path / "backbone.pth")
    found = read_foreign(tmp_path / "backbone.pth")
    assert (found.called, found.image_size) == (name, 112)
    assert found.settings == {"backbone": {"architecture": name}, "embedding_dim": 512}


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone.", "_orig_mod."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_whatever_a_network_was_wrapped_in(tmp_path, prefix, suffix):
    state = trained(ArcFace()).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    wrapped = {f"{prefix}{name}": one for name, one in state.items()}
    output = imported(tmp_path, wrapped, name=f"backbone{suffix}")
    assert load_backbone(output)[1].weights_sha256 == file_sha256(output)
    expected = read_foreign(tmp_path / "plain.pth").state
    found = safetensors.torch.load_file(output)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], one) for name, one in expected.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_of_the_same_numbers(tmp_path, dtype):
    state = {
        name: one.to(dtype) if one.is_floating_point() else one
        for name, one in trained(ArcFace()).state_dict().items()
    }
    network, _ = load_backbone(imported(tmp_path, state))
    for name, one in network.state_dict().items():
        assert torch.equal(one, state[name].to(one.dtype)), name
    assert {one.dtype for one in network.state_dict().values()} == {torch.float32, torch.int64}


def test_counters_that_older_versions_did_not_keep_are_not_missed(tmp_path):
    theirs = trained(ArcFace())
    state = {name: one for name, one in theirs.state_dict().items() if "num_batches" not in name}
    network, _ = load_backbone(imported(tmp_path, state))
    with torch.no_grad():
        expected = theirs(as_theirs(faces()).float())
    torch.testing.assert_close(seen_by(network, faces()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("colours", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("normalisation", "mean", "std"),
    [
        ("-1..1", 127.5, 127.5),
        ("0..1", 0, 255),
        ("127.5/128", 127.5, 128),
        ("imagenet", 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])),
        ("100,110,120/50,60,70", (100, 110, 120), (50, 60, 70)),
    ],
)
def test_images_are_shown_as_the_user_says(tmp_path, colours, normalisation, mean, std):
    """Zeros that convolutions add beside an image are zeros of the network's own input too."""
    theirs = trained(ArcFace())
    state = theirs.state_dict()
    network, record = load_backbone(
        imported(tmp_path, state, colours=colours, normalisation=normalisation)
    )
    given = as_theirs(faces(), bgr=colours == "bgr", mean=mean, std=std)
    with torch.no_grad():
        expected = theirs.double()(given)
    torch.testing.assert_close(seen_by(network, faces()).double(), expected, rtol=1e-4, atol=1e-4)
    told = {key: record.settings[key] for key in ("colours", "normalisation")}
    assert told == {"colours": colours, "normalisation": normalisation}
    # What is shown is in the record, and no weight is touched by it.
    found = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], one) for name, one in state.items())


@pytest.mark.parametrize(
    "text", ["", "1", "a/b", "1,2/3", "1/0", "1/-2", "nan/1", "1/inf", "1/2/3"]
)
def test_a_normalisation_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=r"normalisation: found .*imagenet, or MEAN/STD"):
        validate(ImportSettings, {"colours": "rgb", "normalisation": text}, "import-model")
    assert mean_and_std("imagenet") is NORMALISATIONS["imagenet"]


@pytest.mark.parametrize("adaptor", [SingleLayer, DualLayer])
def test_a_published_adaptor_fuses_as_where_it_is_from(tmp_path, adaptor):
    theirs = trained(adaptor())
    output = imported(tmp_path, theirs.state_dict(), name="adaptor.pth")
    network, record = load_adaptor(output, teachers=4)
    blocks = functional.normalize(torch.randn(5, 4, DIM), dim=2).flatten(1)
    with torch.no_grad():
        torch.testing.assert_close(network(blocks), theirs(blocks))
    left_out = read_foreign(tmp_path / "adaptor.pth").left_out
    unused = {"attention.in_proj_weight", "attention.out_proj.bias", "key_vector", "value_vector"}
    assert unused <= set(left_out) if adaptor is DualLayer else left_out == ()
    with pytest.raises(InputError, match=r"settings: backbone: found nothing"):
        load_backbone(output)
    assert record.image_size is None


def test_the_record_says_what_it_is_from(tmp_path):
    output = imported(tmp_path, trained(ArcFace()).state_dict(), name="r18.pth", colours="bgr")
    _, record = load_backbone(output)
    sha256 = file_sha256(tmp_path / "r18.pth")
    assert record.inputs == {"checkpoint": sha256}
    assert (record.subject.kind, record.subject.name) == ("imported", "r18")
    assert record.subject.backbone == "iresnet of 2-1-3-1 blocks"
    assert not (tmp_path / "history.csv").exists()
    told = json.loads(lineage(output).model_dump_json())
    assert "import-model" in json.dumps(told)
    assert sha256 in json.dumps(told)


# ---------------------------------------------------------------- what is refused


def refused(tmp_path, state, name="backbone.pth"):
    with pytest.raises(InputError) as error:
        imported(tmp_path, state, name=name)
    assert not (tmp_path / "model.safetensors").exists()
    assert "\n" not in str(error.value)
    assert error.value.where.startswith(str(tmp_path / name))
    return error.value


def test_missing_and_unexpected_names_are_told(tmp_path):
    state = trained(ArcFace()).state_dict()
    del state["bn2.weight"], state["layer3.1.prelu.weight"]
    state["layer1.0.se_block.fc1.weight"] = torch.zeros(1)
    found = refused(tmp_path, state).found
    assert found == (
        "2 missing: layer3.1.prelu.weight, bn2.weight; 1 unexpected: layer1.0.se_block.fc1.weight"
    )


def test_of_many_names_the_first_are_told_and_the_rest_counted(tmp_path):
    state = trained(ArcFace()).state_dict()
    state = {name: one for name, one in state.items() if not name.startswith("layer3.1")}
    found = refused(tmp_path, state).found
    assert found.startswith("15 missing: layer3.1.bn1.weight, layer3.1.bn1.bias, ")
    assert found.endswith("layer3.1.bn2.running_mean and 7 more; 0 unexpected: none")


def test_a_torchvision_resnet_is_not_taken_for_one(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    found = refused(tmp_path, torchvision.models.resnet18().state_dict()).found
    assert "missing: prelu.weight" in found


def test_an_ir_with_squeeze_and_excitation_is_refused(tmp_path):
    state = trained(AdaFace()).state_dict()
    state["body.0.res_layer.se_block.fc1.weight"] = torch.zeros(1)
    assert "body.0.res_layer.se_block.fc1.weight" in refused(tmp_path, state).found


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda s: s.pop("fc.weight"), "layer1.0.conv1.weight without fc.weight"),
        (lambda s: s.update({"conv1.weight": torch.zeros(4, 3, 5, 5)}), "(4, 3, 5, 5)"),
        (
            lambda s: s["bn2.running_var"].fill_(torch.inf),
            "a number that is not finite, of torch.f",
        ),
        (lambda s: [s.pop(name) for name in list(s)], "no tensors"),
        (
            lambda s: s.update({f"student.{name}": one for name, one in list(s.items())}),
            "2 networks: layer1.0.conv1.weight, student.layer1.0.conv1.weight",
        ),
    ],
)
def test_half_a_network_is_none(tmp_path, edit, found):
    state = trained(ArcFace()).state_dict()
    edit(state)
    assert refused(tmp_path, state).found.startswith(found)


def test_an_adaptor_of_half_a_teacher_is_refused(tmp_path):
    state = {"fc.weight": torch.zeros(8, 20), "fc.bias": torch.zeros(8)}
    assert refused(tmp_path, state).found == "20 columns for 8 dimensions"


class Harmful:
    def __reduce__(self):
        return subprocess.call, (["touch", "harmed"],)


def test_what_is_more_than_tensors_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = refused(tmp_path, {"state_dict": trained(ArcFace()).state_dict(), "x": Harmful()})
    assert "no tensors (commands.call)" in told.found  # as protocol 2 spells subprocess's
    assert "state_dict() by itself" in told.expected
    (tmp_path / "other.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(InputError):
        read_foreign(tmp_path / "other.pth")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_told_in_one_line(tmp_path, suffix):
    state, path = trained(ArcFace()).state_dict(), tmp_path / f"backbone{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    data = path.read_bytes()
    for end in (0, 1, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError) as error:
            read_foreign(path)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match="found no such file"):
        read_foreign(path)
