"""The cache against a plain double-precision computation, and what it refuses."""

import json

import h5py
import numpy as np
import pytest
import torch
from edits import rewrite
from networks import DIM, save_teacher, subject

from mstkd.config import CacheSettings
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.embeddings.embed import embed_with_mirror
from mstkd.errors import InputError
from mstkd.models.weights import load_backbone

FLOAT32 = CacheSettings(dtype="float32")
CPU = torch.device("cpu")


@pytest.fixture
def teachers(tmp_path, packs):
    made = [save_teacher(tmp_path, subject("T-A"), packs[:1])]
    return [*made, save_teacher(tmp_path, subject("T-B"), packs[1:])]


@pytest.fixture
def cache(tmp_path, teachers, packs):
    path = tmp_path / "cache.h5"
    cache_embeddings(FLOAT32, teachers=teachers, packs=packs, output=path, device="cpu")
    return path


def plain_embedding(path, images):
    """(N, D) in double precision, one image at a time, without our loader."""
    model, _ = load_backbone(path)
    model.double()
    rows = []
    with torch.no_grad():
        for image in images:
            planes = torch.from_numpy(image.astype(np.float64).transpose(2, 0, 1))[None]
            rows.append(model((planes / 255 - 0.5) / 0.5)[0].numpy())
    return np.stack(rows)


def test_blocks_are_unit_embeddings_in_teacher_and_pack_order(cache, teachers, packs, pixels):
    images = np.concatenate([pixels(path) for path in packs])
    embeddings = open_cache(cache).embeddings
    assert embeddings.shape == (32, 2 * DIM)
    for block, teacher in enumerate(teachers):
        expected = plain_embedding(teacher, images)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(
            embeddings[:, block * DIM : (block + 1) * DIM], expected, atol=2e-5
        )


def test_labels_number_all_identities(cache):
    assert open_cache(cache).labels.tolist() == [row // 4 for row in range(32)]


def test_half_precision_rounds_the_same_numbers(tmp_path, cache, teachers, packs):
    path = tmp_path / "half.h5"
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=path, device="cpu")
    half = open_cache(path)
    assert half.embeddings.dtype == np.float16
    np.testing.assert_array_equal(half.embeddings, open_cache(cache).embeddings.astype(np.float16))
    assert half.sha256 != open_cache(cache).sha256


def test_the_order_of_teachers_is_the_order_of_blocks(tmp_path, cache, teachers, packs):
    path = tmp_path / "turned.h5"
    cache_embeddings(FLOAT32, teachers=teachers[::-1], packs=packs, output=path, device="cpu")
    turned, straight = open_cache(path), open_cache(cache)
    assert turned.teachers == ("T-B", "T-A")
    np.testing.assert_array_equal(turned.embeddings[:, :DIM], straight.embeddings[:, DIM:])
    assert turned.sha256 != straight.sha256


def test_mirror_sum_is_of_embeddings_not_normalised(teachers, packs, pixels):
    images = pixels(packs[0])
    model, _ = load_backbone(teachers[0])
    expected = plain_embedding(teachers[0], images)
    expected = expected + plain_embedding(teachers[0], images[:, :, ::-1])
    np.testing.assert_allclose(embed_with_mirror(model, images, CPU), expected, atol=1e-4)


def refused(teachers, packs, tmp_path):
    output = tmp_path / "refused.h5"
    with pytest.raises(InputError) as error:
        cache_embeddings(FLOAT32, teachers=teachers, packs=packs, output=output, device="cpu")
    assert not output.exists()
    return str(error.value)


def test_teachers_that_do_not_belong_together(tmp_path, teachers, packs):
    strangers = {
        "found set baseline": save_teacher(tmp_path, subject("BT-1", set_="baseline"), packs),
        "found seed 1": save_teacher(tmp_path, subject("T-B", seed=1), packs[1:]),
        "found backbone big": save_teacher(
            tmp_path / "big", subject("T-B", backbone="big"), packs[1:]
        ),
        "found 4 dimensions": save_teacher(tmp_path / "narrow", subject("T-B"), packs[1:], dim=4),
    }
    for message, stranger in strangers.items():
        assert message in refused([teachers[0], stranger], packs, tmp_path)
    assert "teacher T-A twice" in refused([teachers[0], teachers[0]], packs, tmp_path)


def test_a_teacher_of_another_pack_is_refused(tmp_path, teachers, packs):
    record = teachers[1].with_suffix(".json")
    changed = json.loads(record.read_text())
    changed["inputs"]["B"] = "0" * 64
    rewrite(record, json.dumps(changed))
    assert "trained on another pack of group B" in refused(teachers, packs, tmp_path)
    assert "trained on another pack of group B" in refused(teachers, packs[:1], tmp_path)


def test_weights_that_do_not_load_are_an_error(tmp_path, teachers, packs):
    teachers[1].write_bytes(teachers[0].read_bytes())
    assert "other weights than its model.json describes" in refused(teachers, packs, tmp_path)
    teachers[1].unlink()
    assert "no such file" in refused(teachers, packs, tmp_path)


def test_a_stale_or_foreign_cache_is_refused(tmp_path, cache, packs):
    opened = [open_pack(path) for path in packs]
    assert open_cache(cache, opened).teachers == ("T-A", "T-B")
    for others in (opened[::-1], opened[:1]):
        with pytest.raises(InputError, match="stale or of other data"):
            open_cache(cache, others)
    with pytest.raises(InputError, match="found another kind of HDF5 file"):
        open_cache(packs[0])
    with h5py.File(cache, "r+") as file:
        del file["labels"]
    with pytest.raises(InputError, match="expected an embedding cache"):
        open_cache(cache)
    cache.write_bytes(b"\x89HDF")
    with pytest.raises(InputError, match="expected an embedding cache"):
        open_cache(cache)
