"""Files of strangers: those that were read wrongly once, and some made up; fuzz.py makes more."""

import itertools

import pytest
from fuzz import TARGETS, by_chance, fault_of, kept

TRIES = 40  # of each kind


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_read_wrongly_once_is_refused_in_a_line(tmp_path, name):
    TARGETS[name].seeds(tmp_path)
    for path in kept(name):
        assert fault_of(TARGETS[name], tmp_path, path.read_bytes()) is None, path


@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_gives_a_result_or_a_line(tmp_path, name):
    for number, (_, fault) in enumerate(itertools.islice(by_chance(name, tmp_path, 0), TRIES)):
        assert fault is None, f"file {number} of seed 0: {fault}"


@pytest.mark.parametrize("name", TARGETS)
def test_the_files_that_are_changed_are_good(tmp_path, name):
    target = TARGETS[name]
    for data in target.seeds(tmp_path):
        (tmp_path / target.name).write_bytes(data)
        target.read(tmp_path / target.name)
