"""Faces as a program has them: what is taken, in which order, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from mstkd.data.given import GivenFaces
from mstkd.errors import InputError

SIZE = 16


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def paths(tmp_path, pixels):
    made = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    for path, one in zip(made, pixels, strict=True):
        Image.fromarray(one).save(path)
    return made


def test_paths_arrays_and_tensors_are_the_same_faces(pixels, paths):
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    mixed = [paths[0], str(paths[1]), pixels[2], tensor[3], pixels[4:]]
    for given in (paths, pixels, tensor, list(pixels), list(tensor), mixed, iter(mixed)):
        faces = GivenFaces(given, SIZE)
        assert len(faces) == 5
        assert np.array_equal(faces[0:5], pixels)
        assert np.array_equal(faces[2:4], pixels[2:4])


def test_one_face_is_one(pixels, paths):
    for given in (paths[0], str(paths[0]), pixels[0], torch.from_numpy(pixels[0]).permute(2, 0, 1)):
        assert np.array_equal(GivenFaces(given, SIZE)[0:1], pixels[:1])


def test_files_are_read_when_they_are_asked_for(pixels, paths):
    faces = GivenFaces(paths, SIZE)
    paths[3].write_bytes(b"")
    assert np.array_equal(faces[0:3], pixels[:3])
    with pytest.raises(InputError, match=r"3.png: found an empty file; expected an aligned face"):
        faces[3:4]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.zeros((SIZE, SIZE, 3)), "float64 of shape (16, 16, 3)"),
        (np.zeros((3, SIZE, SIZE), np.uint8), "uint8 of shape (3, 16, 16)"),
        (np.zeros((2, SIZE, SIZE), np.uint8), "uint8 of shape (2, 16, 16)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "uint8 of shape (2, 8, 8, 3)"),
        (torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8), "uint8 of shape (16, 16, 3)"),
        (torch.zeros(3, SIZE, SIZE), "float32 of shape (3, 16, 16)"),
        ([], "none"),
    ],
)
def test_what_may_be_something_else_is_refused(given, found):
    with pytest.raises(InputError) as error:
        GivenFaces(given, SIZE)
    assert error.value.found == found


def test_which_of_several_is_told(pixels):
    with pytest.raises(InputError, match=r"images\[1\]\[0\]: found float64"):
        GivenFaces([pixels[0], [pixels[1].astype(float)]], SIZE)


def test_another_size_is_told_and_nothing_is_resized(tmp_path):
    Image.new("RGB", (20, 16)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match=r"wide.png: found 20 x 16; expected .* 16 x 16 pixels"):
        GivenFaces(tmp_path / "wide.png", SIZE)[0:1]
