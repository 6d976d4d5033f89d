"""Exported models give what the model gives, at any number of images, and say what they are."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from foreignnetworks import AdaFace, ArcFace, trained
from networks import save_teacher, subject
from onnx import TensorProto, helper, numpy_helper

import mstkd
from mstkd.artifacts.records import Subject
from mstkd.config import BackboneSettings, ImportSettings, InputSettings
from mstkd.errors import InputError
from mstkd.inference import export as exporting
from mstkd.inference.export import OPSET, Exported, export
from mstkd.inference.onnx_network import import_onnx
from mstkd.inference.quantised import export_quantised
from mstkd.inference.written import write_calibration
from mstkd.models.weights import build_backbone, save_model

COUNTS = (1, 2, 7, 64)
CLOSE = 1e-4


def faces(count, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, packs):
    folder = tmp_path_factory.mktemp("exported")
    save_teacher(folder, subject("T-A"), packs)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return mstkd.load(folder / "specialized/T-A", device="cpu")


@pytest.fixture(scope="module")
def exported(folder, model):
    export(model, folder / "model.onnx")
    return folder / "model.onnx"


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("count", COUNTS)
def test_onnx_gives_what_the_model_gives(model, exported, count):
    found = run(exported, faces(count))
    assert (found.dtype, found.shape) == (np.float32, (count, 8))
    # Of this small network rounding moves less; the wrong half of 255 moves more.
    np.testing.assert_allclose(found, model.embed(faces(count)), rtol=0, atol=CLOSE / 100)


def test_an_embedding_is_the_same_alone_and_among_others(exported):
    together = run(exported, faces(64))
    alone = np.concatenate([run(exported, faces(64)[at : at + 1]) for at in range(64)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_every_kind_of_input_is_inside_of_the_graph(tmp_path):
    """Of a model that wants BGR and another range, and without the mirror image."""
    torch.save(trained(AdaFace()).state_dict(), tmp_path / "adaface.ckpt")
    for mirror in (True, False):
        model = mstkd.load(
            tmp_path / "adaface.ckpt",
            colours="bgr",
            normalisation="imagenet",
            mirror=mirror,
            device="cpu",
        )
        export(model, tmp_path / "model.onnx")
        for count in COUNTS:
            images = faces(count, 32)
            found = run(tmp_path / "model.onnx", images)
            np.testing.assert_allclose(found, model.embed(images), rtol=0, atol=CLOSE)
        assert mstkd.load(tmp_path / "model.onnx").mirror == mirror


@pytest.mark.parametrize(
    ("blocks", "counts"),
    [
        pytest.param((2, 2, 2, 2), (3,), id="18"),
        pytest.param((3, 4, 6, 3), COUNTS, marks=pytest.mark.slow, id="34"),
    ],
)
def test_a_published_network_is_exported_at_its_size(tmp_path, blocks, counts):
    """IResNets at 112 pixels, of random weights."""
    theirs = trained(ArcFace(blocks, (64, 128, 256, 512), 512, 112))
    with torch.no_grad():
        for one in theirs.parameters():
            if one.dim() > 1:
                one.mul_(0.1)
    torch.save(theirs.half().state_dict(), tmp_path / "backbone.pth")
    model = mstkd.load(tmp_path / "backbone.pth", colours="rgb", device="cpu")
    assert model.card.architecture == f"iresnet{2 + 2 * sum(blocks)}"
    export(model, tmp_path / "model.onnx")
    for count in counts:
        images = faces(count, 112)
        found, expected = run(tmp_path / "model.onnx", images), model.embed(images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
        assert count == 1 or np.ptp(expected, axis=0).max() > 5 * CLOSE  # images differ


def test_a_graph_says_its_shapes_its_opset_and_what_it_is(model, exported):
    proto = onnx.load(exported)
    onnx.checker.check_model(proto, full_check=True)
    assert [(one.domain, one.version) for one in proto.opset_import if not one.domain] == [
        ("", OPSET)
    ]
    [given], [made] = proto.graph.input, proto.graph.output
    sides = [one.dim_param or one.dim_value for one in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type) == ("images", TensorProto.UINT8)
    assert isinstance(sides[0], str)
    assert sides[1:] == [16, 16, 3]
    assert made.name == "embeddings"
    told = Exported.model_validate_json(
        next(one.value for one in proto.metadata_props if one.key == "mstkd")
    )
    assert told.card == model.card
    assert (told.mirror, told.opset, told.quantised, told.calibration) == (True, OPSET, False, None)
    assert told.card.trained_on  # hashes of the training data
    assert str(exported.parent) not in str(proto)  # nothing of the machine it was made on


def test_a_threshold_travels_with_the_model(folder, model, exported, verification_packs):
    found, path = write_calibration(model, verification_packs[0].parent, fmr=0.9)
    try:
        export(model, folder / "calibrated.onnx")
    finally:
        path.unlink()
    loaded = mstkd.load(folder / "calibrated.onnx")
    assert loaded.calibration() == found.model_copy(update={"record_sha256": None})
    told, expected = (one.verify(*faces(2), threshold=None) for one in (loaded, model))
    assert told.threshold == found.threshold
    assert told.errors == found.groups
    assert told.similarity == pytest.approx(expected.similarity, abs=CLOSE)


def test_an_exported_model_is_loaded_and_asked_as_the_model_itself(
    model, exported, verification_packs
):
    loaded = mstkd.load(exported)
    for count in COUNTS:
        np.testing.assert_allclose(
            loaded.embed(faces(count)), model.embed(faces(count)), atol=CLOSE
        )
    assert loaded.card.kind == "onnx"
    assert loaded.card.trained_on == model.card.trained_on
    same = [one.evaluate(verification_packs[0], folds=2).measures for one in (loaded, model)]
    values = [frame[frame["measure"] == "auc"]["value"].to_numpy() for frame in same]
    np.testing.assert_allclose(*values, atol=1e-6)
    with pytest.raises(InputError, match="found colours; expected neither: the file says them"):
        mstkd.load(exported, colours="rgb")
    with pytest.raises(InputError, match=r"expected rgb and -1..1, which are in the graph"):
        loaded.shown(InputSettings(colours="bgr"))
    with pytest.raises(InputError, match="found an ONNX model; expected one of PyTorch"):
        export(loaded, exported.with_name("again.onnx"))


@pytest.mark.parametrize("count", COUNTS)
def test_a_program_of_torch_export_gives_what_the_model_gives(folder, model, count):
    path = folder / "model.pt2"
    if not path.exists():
        export(model, path)
    extra = {"mstkd.json": ""}
    program = torch.export.load(path, extra_files=extra)
    with torch.no_grad():
        found = program.module()(torch.from_numpy(faces(count))).numpy()
    np.testing.assert_allclose(found, model.embed(faces(count)), rtol=0, atol=CLOSE)
    told = Exported.model_validate_json(extra["mstkd.json"])
    assert (told.card, told.opset) == (model.card, None)


def test_the_model_itself_is_left_as_it_is(model, folder):
    before = model.embed(faces(3))
    export(model, folder / "left.pt2")
    assert np.array_equal(model.embed(faces(3)), before)
    assert not any(one.is_cuda for one in model.network.network.parameters())


@pytest.mark.parametrize("name", ["model.pt", "model", "model.onnx.zip"])
def test_another_suffix_is_refused(model, tmp_path, name):
    with pytest.raises(InputError, match=r"expected .onnx or .pt2"):
        export(model, tmp_path / name)


def test_without_the_extra_one_line_says_what_to_install(model, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"found no package onnx, onnxscript; .*mstkd\[onnx\]"):
        export(model, tmp_path / "model.onnx")
    assert exporting.EXTRA.endswith("pip install 'mstkd[onnx]'")


# ---------------------------------------------------------------- int8


def test_int8_is_smaller_close_and_one_image_at_a_time(folder, tmp_path):
    torch.save(trained(ArcFace(widths=(32, 32, 64, 64))).state_dict(), tmp_path / "backbone.pth")
    model = mstkd.load(tmp_path / "backbone.pth", colours="rgb", device="cpu")
    export(model, tmp_path / "whole.onnx")
    told = export_quantised(model, tmp_path / "small.onnx")
    assert told.quantised is True
    assert told.calibration is None
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < 0.5 * sizes[1]
    kinds = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    assert "ConvInteger" in kinds
    assert "Conv" not in kinds
    small = mstkd.load(tmp_path / "small.onnx")
    cosines = np.vecdot(small.embed(faces(20, 32)), model.embed(faces(20, 32)))
    assert 0.97 < cosines.min() < 1 - 1e-7  # close, and not the same
    alone = np.concatenate([small.embed(one) for one in faces(20, 32)])
    assert np.array_equal(small.embed(faces(20, 32)), alone)


# ---------------------------------------------------------------- other programs' ONNX


def foreign(path, *, batch="N", size=16, channels=3, mixing=False):
    """An ONNX model of another program: a linear map of normalised images (N, 3, H, H)."""
    weight = np.random.default_rng(1).normal(size=(channels * size * size, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input.1"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["one" if mixing else "output"]),
    ]
    if mixing:  # an export that is wrong at larger batches
        nodes += [
            helper.make_node("ReduceMean", ["one"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["one", "mean"], ["less"]),
            helper.make_node("Add", ["less", "one"], ["output"]),
        ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "foreign",
        [value("input.1", TensorProto.FLOAT, [batch, channels, size, size])],
        [value("output", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(weight, "weight")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, path)
    return weight.astype(float)


@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize(
    ("colours", "normalisation", "mean", "std"),
    [("rgb", "127.5/128", 127.5, 128), ("bgr", "0..1", 0, 255)],
)
def test_a_model_of_another_program_is_run_as_it_is_said(
    tmp_path, batch, colours, normalisation, mean, std
):
    weight = foreign(tmp_path / "w600k.onnx", batch=batch)
    model = mstkd.load(tmp_path / "w600k.onnx", colours=colours, normalisation=normalisation)
    images = faces(6)
    for mirror, kept in (
        (True, model),
        (
            False,
            mstkd.load(
                tmp_path / "w600k.onnx", colours=colours, normalisation=normalisation, mirror=False
            ),
        ),
    ):
        expected = 0
        for pixels in (images, images[:, :, ::-1])[: 1 + mirror]:
            seen = (pixels[..., ::-1] if colours == "bgr" else pixels).astype(float)
            flat = ((seen - mean) / std).transpose(0, 3, 1, 2).reshape(6, -1)
            expected = expected + flat @ weight
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(kept.embed(images), expected, atol=1e-5)
    shown = model.shown(InputSettings(colours="rgb", normalisation="imagenet")).embed(images)
    direct = mstkd.load(tmp_path / "w600k.onnx", colours="rgb", normalisation="imagenet")
    assert np.array_equal(shown, direct.embed(images))


def test_what_is_said_is_kept_in_an_imported_model(tmp_path):
    foreign(tmp_path / "w600k.onnx")
    with pytest.raises(
        InputError, match="found an ONNX model of another program; expected colours"
    ):
        mstkd.load(tmp_path / "w600k.onnx")
    settings = ImportSettings(colours="bgr", normalisation="127.5/128")
    import_onnx(settings, checkpoint=tmp_path / "w600k.onnx", output=tmp_path / "ours.onnx")
    for mirror in (True, False):
        ours = mstkd.load(tmp_path / "ours.onnx", mirror=mirror)
        theirs = mstkd.load(
            tmp_path / "w600k.onnx", colours="bgr", normalisation="127.5/128", mirror=mirror
        )
        assert np.array_equal(ours.embed(faces(3)), theirs.embed(faces(3)))
        assert ours.card.seen == InputSettings(colours="bgr", normalisation="127.5/128")
    with pytest.raises(InputError, match="neither: the file says them"):
        mstkd.load(tmp_path / "ours.onnx", colours="rgb")


def test_embeddings_that_hang_on_the_batch_are_refused(tmp_path):
    foreign(tmp_path / "wrong.onnx", mixing=True)
    with pytest.raises(InputError, match=r"in another batch; expected the same alone and among"):
        mstkd.load(tmp_path / "wrong.onnx", colours="rgb")


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda path: path.write_bytes(b""), ""),
        (lambda path: path.write_bytes(b"no model"), ""),
        (lambda path: path.write_bytes(b"\x08\x07"), ""),
        (lambda path: foreign(path, channels=1), "input.1 tensor(float) ['N', 1, 16, 16]; output"),
    ],
)
def test_what_embeds_no_images_is_refused_in_one_line(tmp_path, edit, found):
    path = tmp_path / "model.onnx"
    edit(path)
    with pytest.raises(InputError) as error:
        mstkd.load(path, colours="rgb")
    assert "\n" not in str(error.value)
    assert error.value.where == str(path)
    assert found in error.value.found


def test_metadata_of_a_stranger_is_checked(exported, tmp_path):
    proto = onnx.load(exported)
    for text in ("", "{}", "[]", '{"format": "mstkd-exported"}'):
        helper.set_model_props(proto, {"mstkd": text})
        onnx.save(proto, tmp_path / "model.onnx")
        with pytest.raises(InputError):
            mstkd.load(tmp_path / "model.onnx")
    told = {"mstkd": json.dumps({"format": "mstkd-exported", "inside": 7})}
    helper.set_model_props(proto, told)
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(InputError):
        mstkd.load(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("backbone", "called"),
    [
        ({"architecture": "mobilefacenet"}, "mobilefacenet"),
        ({"timm": "mobilenetv3_small_050"}, "timm's mobilenetv3_small_050"),
    ],
)
def test_other_backbones_too(tmp_path, backbone, called):
    torch.manual_seed(0)
    network = build_backbone(BackboneSettings(**backbone), embedding_dim=8, image_size=32)
    network(torch.rand(64, 3, 32, 32) * 2 - 1)  # some statistics
    save_model(
        tmp_path / "model.safetensors",
        state=network.state_dict(),
        history=[{"epoch": 1}],
        subject=Subject(kind="student", backbone="a", set="none", name="none", loss=None, seed=0),
        settings={"backbone": backbone, "embedding_dim": 8},
        image_size=32,
        inputs={},
        chosen_epoch=1,
        chosen_by="none was",
    )
    model = mstkd.load(tmp_path / "model.safetensors", device="cpu")
    assert model.card.architecture == called
    export(model, tmp_path / "model.onnx")
    for count in COUNTS:
        found = run(tmp_path / "model.onnx", faces(count, 32))
        np.testing.assert_allclose(found, model.embed(faces(count, 32)), atol=CLOSE)
