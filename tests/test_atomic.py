"""Files that appear whole or not at all, and the error that travels whole."""

import pickle

import pytest

from mstkd.artifacts.atomic import replacing, write_json, write_text
from mstkd.errors import InputError


def test_all_files_appear_at_the_end(tmp_path):
    first, second = tmp_path / "new" / "a", tmp_path / "new" / "b"
    with replacing(first, second) as (one, two):
        one.write_text("1")
        two.write_text("2")
        assert not first.exists()
        assert not second.exists()
    assert (first.read_text(), second.read_text()) == ("1", "2")
    assert sorted(path.name for path in first.parent.iterdir()) == ["a", "b"]


def test_a_failure_leaves_the_old_files(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as (part,):
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_never_written_replaces_nothing(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path, other) as (part, _):
        part.write_text("new")
    assert path.read_text() == "old"
    assert not other.exists()


def test_json_refuses_what_json_is_not(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1.5})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1.5\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1.5\n}\n'


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "ä.txt", "λ")
    assert (tmp_path / "ä.txt").read_bytes() == "λ".encode()


def test_an_error_survives_the_way_between_processes():
    error = InputError("file", found=3, expected="four")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "file: found 3; expected four"
    assert (again.where, again.found, again.expected) == ("file", "3", "four")
