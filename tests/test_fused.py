"""The step `trace-adaptors`: spaces scored as a plain computation does, and shares that add up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from networks import DIM, TEACHERS, save_adaptor, save_teachers, subject
from PIL import Image
from typer.testing import CliRunner

from mstkd.artifacts.records import Metrics, ModelRecord, read_record
from mstkd.artifacts.told import told_by
from mstkd.cli.app import app
from mstkd.config import CacheSettings, EvaluationSettings
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.errors import InputError
from mstkd.evaluation.fused import trace_adaptors
from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.shares import Share, TracedImages, Tracing
from mstkd.evaluation.traced import find_fusion, trace_images
from mstkd.models.adaptors import ADAPTORS
from mstkd.models.weights import load_backbone, save_model


@pytest.fixture(scope="module")
def made(tmp_path_factory, packs):
    """Weights of two teachers, and their cache."""
    return save_teachers(tmp_path_factory.mktemp("fused"), packs)


def traced(folder, made, adaptors, packs, **changed):
    teachers, cache = made
    outputs = [path.with_name("metrics.json") for path in adaptors]
    given = {"teachers": teachers, "adaptors": adaptors, "packs": packs, "cache": cache}
    given |= {"outputs": outputs, "output": folder / "tracing.json", "device": "cpu"}
    trace_adaptors(EvaluationSettings(folds=2), **{**given, **changed})
    return outputs, read_record(Tracing, folder / "tracing.json")


def plain_blocks(teachers, pack):
    images = torch.from_numpy(np.array(pack.images)).permute(0, 3, 1, 2).double() / 127.5 - 1
    blocks = []
    for path in teachers:
        model = load_backbone(path)[0].double()
        with torch.no_grad():
            both = model(images) + model(images.flip(3))
        blocks.append(both / both.norm(dim=1, keepdim=True))
    return torch.cat(blocks, dim=1)


def shares_of(tracing: Tracing, **chosen) -> list[Share]:
    return [one for one in tracing.shares if all(getattr(one, k) == v for k, v in chosen.items())]


def test_a_fused_space_is_scored_as_a_plain_computation_does(tmp_path, made, verification_packs):
    adaptors = [save_adaptor(tmp_path, name, made[1]) for name in ("SL", "DuL")]
    (_, metrics), tracing = traced(tmp_path, made, adaptors, verification_packs)
    network = ADAPTORS["DuL"](2, DIM)
    torch.manual_seed(7)
    network = ADAPTORS["DuL"](2, DIM).double().eval()
    expected = []
    for path in verification_packs:
        pack = open_pack(path)
        with torch.no_grad():
            fused = network(plain_blocks(made[0], pack)).numpy()
        fused /= np.linalg.norm(fused, axis=1, keepdims=True)
        expected.append((fused[pack.pairs[:, 0]] * fused[pack.pairs[:, 1]]).sum(axis=1))
    table = read_scores(metrics.with_name("scores.h5"))
    np.testing.assert_allclose(table.similarity, np.concatenate(expected), atol=1e-5)
    record = read_record(Metrics, metrics)
    assert record.subject == subject("DuL", kind="adaptor")
    weights = read_record(ModelRecord, adaptors[1].with_name("model.json")).weights_sha256
    assert record.weights_sha256 == weights
    assert list(record.own_threshold.groups) == tracing.groups == ["A", "B"]
    told = told_by(metrics)
    assert told.made.step == "trace-adaptors"
    assert len(told.made.sources) == 2 + 2 + 2 + 1
    assert tracing.adaptors == ["SL", "DuL"] and tracing.teachers == list(TEACHERS)


def test_shares_add_up_and_are_means_over_faces(tmp_path, made, verification_packs):
    adaptors = [save_adaptor(tmp_path, name, made[1]) for name in ADAPTORS]
    outputs, tracing = traced(tmp_path, made, adaptors, verification_packs)
    sums: dict[tuple[str, ...], float] = {}
    for one in tracing.shares:
        assert one.value is None or one.low <= one.value <= one.high
        key = (one.adaptor, one.measure, one.method, one.group)
        sums[key] = sums.get(key, 0) + (one.value if one.value is not None else np.nan)
    assert len(sums) == 3 * 4 * 2 * 2
    for (name, measure, _, group), total in sums.items():
        table = read_scores(outputs[tracing.adaptors.index(name)].with_name("scores.h5"))
        here = table.group1 == table.groups.index(group)
        genuine = table.similarity[here & table.same].mean()
        impostor = table.similarity[here & ~table.same].mean()
        apart = 1.0 if genuine > impostor else np.nan
        expected = {"genuine": genuine, "impostor": impostor, "separation": apart}
        assert total == pytest.approx(expected.get(measure, 1.0), abs=1e-5, nan_ok=True)
    torch.manual_seed(7)
    network = ADAPTORS["SL"](2, DIM).double()
    blocks = plain_blocks(made[0], open_pack(verification_packs[1]))
    with torch.no_grad():
        fused = network(blocks)
        term = blocks[:, :DIM] @ network.fc.weight[:, :DIM].T
    expected = ((term * fused).sum(1) / (fused * fused).sum(1)).mean().item()
    chosen = {"adaptor": "SL", "measure": "embedding", "method": "projection", "group": "B"}
    assert shares_of(tracing, teacher="T-A", **chosen)[0].value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("planted", [0, 1])
@pytest.mark.parametrize("name", ["SL", "DuL"])
def test_an_adaptor_that_reads_one_teacher_is_traced_to_it(
    tmp_path, made, verification_packs, name, planted
):
    adaptor = save_adaptor(tmp_path, name, made[1], planted=planted)
    _, tracing = traced(tmp_path, made, [adaptor], verification_packs)
    own = shares_of(tracing, measure="embedding", method="projection", teacher=TEACHERS[planted])
    assert [one.value for one in own] == pytest.approx([1, 1], abs=1e-9)
    other = shares_of(tracing, teacher=TEACHERS[1 - planted])
    assert max(abs(one.value) for one in other if one.value is not None) < 1e-9
    separation = shares_of(tracing, measure="separation", teacher=TEACHERS[planted])
    known = [one.value for one in separation if one.value is not None]
    assert known == pytest.approx([1] * len(known), abs=1e-9)


def test_what_does_not_belong_together_is_refused(tmp_path, made, packs, verification_packs):
    teachers, cache = made
    adaptor = save_adaptor(tmp_path, "SL", cache)

    def refusal(**changed):
        with pytest.raises(InputError) as error:
            traced(tmp_path, made, [adaptor], verification_packs, **changed)
        return str(error.value)

    assert "found T-B, T-A; expected T-A, T-B" in refusal(teachers=teachers[::-1])
    other = tmp_path / "other.h5"
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=other, device="cpu")
    assert "an adaptor of other embeddings" in refusal(cache=other)
    assert "--outputs: found 0 files; expected 1, one an adaptor" in refusal(outputs=[])
    assert not (tmp_path / "tracing.json").exists()
    assert not adaptor.with_name("scores.h5").exists()


# ---------------------------------------------------------------- images of one's own


@pytest.fixture
def taught(tmp_path, made):
    """A folder with an adaptor, and a student that says it was taught by it; and two faces."""
    cache = made[1]
    adaptor = save_adaptor(tmp_path, "DuL", cache)
    student = tmp_path / "student/seed0/model.safetensors"
    record = read_record(ModelRecord, adaptor.with_name("model.json"))
    save_model(
        student,
        state={"weight": torch.zeros(1)},
        history=[{"epoch": 1}],
        subject=subject("DuL", kind="student", loss="a-KD"),
        settings={},
        image_size=16,
        inputs={"embeddings": open_cache(cache).sha256, "adaptor": record.weights_sha256},
        chosen_epoch=1,
        chosen_by="the only epoch",
        sources={cache: open_cache(cache).sha256, adaptor: record.weights_sha256},
    )
    faces = [tmp_path / f"{name}.png" for name in ("one", "other")]
    for number, path in enumerate(faces):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return student, adaptor, faces


def test_a_students_record_leads_to_what_it_was_taught_from(taught, made):
    student, adaptor, _ = taught
    teachers, cache = made
    for found in (find_fusion(student=student), find_fusion(adaptor=adaptor)):
        assert [path.resolve() for path in found.teachers] == teachers
        assert (found.adaptor.resolve(), found.cache.resolve()) == (adaptor, cache)


def test_images_are_traced_as_a_plain_computation_does(taught, made):
    student, _, faces = taught
    told = trace_images(faces, find_fusion(student=student), device="cpu")
    torch.manual_seed(7)
    network = ADAPTORS["DuL"](2, DIM).double().eval()
    blocks = []
    for path in made[0]:
        model = load_backbone(path)[0].double()
        both = []
        for face in faces:
            pixels = torch.from_numpy(np.array(Image.open(face))).permute(2, 0, 1)[None]
            images = pixels.double() / 127.5 - 1
            with torch.no_grad():
                both.append(model(images) + model(images.flip(3)))
        blocks.append(torch.nn.functional.normalize(torch.cat(both)))
    blocks = torch.cat(blocks, dim=1)
    fused = network(blocks).detach()
    cosine = torch.nn.functional.cosine_similarity(fused[:1], fused[1:]).item()
    assert told.pair.similarity == pytest.approx(cosine, abs=1e-5)
    for parts in (told.pair.projection, told.pair.shapley):
        assert sum(parts.values()) == pytest.approx(cosine, abs=1e-5)
    for row, one in enumerate(told.images):
        jacobian = torch.autograd.functional.jacobian(network, blocks[row])
        term = jacobian[:, :DIM] @ blocks[row, :DIM]
        share = (term @ fused[row] / (fused[row] @ fused[row])).item()
        assert one.projection["T-A"] == pytest.approx(share, abs=1e-5)
        for parts in (one.projection, one.shapley):
            assert list(parts) == [*TEACHERS, "none"]
            assert sum(parts.values()) == pytest.approx(1)
    alone = trace_images(faces[:1], find_fusion(student=student), device="cpu")
    assert alone.pair is None
    assert alone.images[0].projection == pytest.approx(told.images[0].projection, abs=1e-5)


def test_the_command_tells_shares_and_draws_them(taught, tmp_path):
    student, _, faces = taught

    def told(*options):
        done = CliRunner().invoke(app, ["trace", *map(str, (*faces, *options))])
        return done.exit_code, done.output

    code, text = told("--student", student, "--output", tmp_path / "shares.png", "--device", "cpu")
    assert code == 0 and "one.png: percent, by projection (Shapley value)" in text
    assert told_by(tmp_path / "shares.png").made.step == "trace"
    code, text = told("--student", student, "--json", "--device", "cpu")
    assert [one.image for one in TracedImages.model_validate_json(text).images] == [
        str(face) for face in faces
    ]


def test_faults_of_tracing_images_are_one_line(taught, made, tmp_path):
    student, adaptor, faces = taught

    def fault(*options):
        done = CliRunner().invoke(app, ["trace", *map(str, options), "--device", "cpu"])
        assert done.exit_code == 2, done.output
        return done.output.strip()

    assert fault(faces[0]).endswith("trace: found neither; expected --student or --adaptor")
    both = fault(faces[0], "--student", student, "--adaptor", adaptor)
    assert both.endswith("found both; expected --student or --adaptor")
    Image.new("RGB", (20, 16)).save(tmp_path / "wide.png")
    assert fault(tmp_path / "wide.png", "--adaptor", adaptor).endswith(
        "found 20 x 16; expected an aligned face of 16 x 16 pixels"
    )
    turned = [word for path in made[0][::-1] for word in ("--teachers", path)]
    assert "found T-B, T-A; expected T-A, T-B" in fault(faces[0], "--adaptor", adaptor, *turned)
    moved = tmp_path / "moved/to/DuL/seed0/model.safetensors"
    shutil.copytree(adaptor.parent, moved.parent)
    assert "--cache says where it is" in fault(faces[0], "--adaptor", moved)
    assert "no such file among what it was made from" in fault(faces[0], "--student", adaptor)
