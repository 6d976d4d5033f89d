"""Batches against the pixels they were made of."""

import numpy as np
import pytest
import torch

from mstkd.data.loader import FaceBatches, fits, normalise, prefetched
from mstkd.data.pack import open_pack
from mstkd.data.pixels import PixelImages
from mstkd.errors import InputError

CPU = torch.device("cpu")


def batches_of(packs, split=None, batch_size=8, seed=0, resident=None):
    return FaceBatches(
        [open_pack(path) for path in packs],
        split=split,
        batch_size=batch_size,
        seed=seed,
        device=CPU,
        resident=resident,
    )


def test_normalise_is_mean_half_std_half():
    images = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    expected = (images.double() / 255 - 0.5) / 0.5
    actual = normalise(images)
    torch.testing.assert_close(actual.double().permute(0, 2, 3, 1), expected, atol=1e-6, rtol=0)
    assert actual.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_holds_each_image_once_as_it_is_or_mirrored(packs, pixels):
    everything = np.concatenate([pixels(path) for path in packs])
    rows, mirrored = [], 0
    for batch in batches_of(packs).epoch(0):
        for image, row in zip(batch["images"], batch["rows"], strict=True):
            expected = normalise(torch.from_numpy(everything[row][None]))[0]
            if not torch.equal(image, expected):
                assert torch.equal(image, expected.flip(2))
                mirrored += 1
            rows.append(int(row))
    assert sorted(rows) == list(range(32))
    assert 8 <= mirrored <= 24  # of 32, half on average


def test_labels_number_the_identities_through_all_groups(packs):
    batches = batches_of(packs)
    assert batches.num_classes == 8
    label_of = {}
    for batch in batches.epoch(3):
        label_of |= dict(zip(batch["rows"].tolist(), batch["labels"].tolist(), strict=True))
    # Four images an identity, sorted by name: row // 4 in each group, B after A.
    assert label_of == {row: row // 4 for row in range(32)}


def test_a_split_leaves_out_the_other_identities(packs):
    batches = batches_of(packs, split={"A": ["A3", "A1"], "B": ["B2"]}, batch_size=4)
    assert batches.num_classes == 3
    seen = {
        (row, label)
        for batch in batches.epoch(0)
        for row, label in zip(batch["rows"].tolist(), batch["labels"].tolist(), strict=True)
    }
    expected = {(4 + i, 0) for i in range(4)} | {(12 + i, 1) for i in range(4)}
    assert seen == expected | {(20 + 8 + i, 2) for i in range(4)}


def test_order_and_flips_depend_on_seed_and_epoch_alone(packs):
    def rows(seed, epoch):
        return torch.cat([batch["rows"] for batch in batches_of(packs, seed=seed).epoch(epoch)])

    one = batches_of(packs)
    list(one.epoch(0))
    again = torch.cat([batch["images"] for batch in one.epoch(5)])
    fresh = torch.cat([batch["images"] for batch in batches_of(packs).epoch(5)])
    assert torch.equal(again, fresh)
    assert not torch.equal(rows(0, 0), rows(0, 1))
    assert not torch.equal(rows(0, 0), rows(1, 0))


def test_the_last_smaller_batch_is_dropped(packs):
    batches = batches_of(packs, batch_size=5)
    assert batches.steps == 6
    assert [len(batch["labels"]) for batch in batches.epoch(0)] == [5] * 6


def test_faults(packs):
    with pytest.raises(InputError, match="found no identity 'A9'"):
        batches_of(packs, split={"A": ["A9"]})
    with pytest.raises(InputError, match=r"batch_size: found 64 for 32 images"):
        batches_of(packs, batch_size=64)


def test_the_rest_of_an_epoch_is_that_of_the_whole(packs):
    whole = list(batches_of(packs).epoch(3))
    rest = list(batches_of(packs).epoch(3, 2))
    assert len(rest) == len(whole) - 2
    for expected, batch in zip(whole[2:], rest, strict=True):
        for name, tensor in expected.items():
            assert torch.equal(batch[name], tensor)


def test_images_in_the_devices_memory_give_the_same_batches(packs):
    split = {"A": ["A3", "A1"], "B": ["B2"]}
    for chosen in (None, split):
        options = {"split": chosen, "batch_size": 4}
        for expected, batch in zip(
            batches_of(packs, **options).epoch(2, 1),
            batches_of(packs, **options, resident=True).epoch(2, 1),
            strict=True,
        ):
            for name, tensor in expected.items():
                assert torch.equal(batch[name], tensor)


def test_images_are_loaded_by_slices_where_they_lie_in_a_row(packs, monkeypatch):
    indexed = []
    whole = PixelImages.__getitem__

    def getitem(images, rows):
        indexed.append(rows)
        return whole(images, rows)

    monkeypatch.setattr(PixelImages, "__getitem__", getitem)
    batches_of(packs, resident=True)
    assert indexed == [slice(0, 20), slice(0, 12)]
    indexed.clear()
    batches_of(packs, split={"A": ["A3", "A1"], "B": ["B2"]}, batch_size=4, resident=True)
    assert [np.arange(20)[rows].tolist() for rows in indexed] == [
        [4, 5, 6, 7, 12, 13, 14, 15],
        [8, 9, 10, 11],
    ]
    assert isinstance(indexed[1], slice)


@pytest.mark.parametrize(
    ("needed", "free", "fitting"),
    [(47, 141, True), (47, 80, True), (47, 48, False), (11.7, 24, True), (11.7, 16, False)],
)
def test_images_stay_on_the_device_where_they_leave_room_to_train(needed, free, fitting):
    assert fits(int(needed * 1e9), int(free * 1e9)) == fitting


def test_a_thread_makes_items_in_advance_in_order_and_passes_faults_on():
    made = []

    def items():
        for number in range(7):
            made.append(number)
            yield number
        raise InputError("pack", found="a hole", expected="an image")

    ahead = prefetched(items(), 3)
    assert next(ahead) == 0
    rest = []
    with pytest.raises(InputError, match="a hole"):
        for number in ahead:
            rest.append(number)
    assert rest == list(range(1, 7))
    assert list(prefetched(iter(range(7)), 3)) == list(range(7))
    assert list(prefetched(iter(()), 3)) == []


def test_a_batch_names_its_images(packs):
    batches = batches_of(packs)
    everything = [name for path in packs for name in open_pack(path).image_paths()]
    batch = next(batches.epoch(0))
    assert batches.paths(batch["rows"]) == [everything[row] for row in batch["rows"]]
