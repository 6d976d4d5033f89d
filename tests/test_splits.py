from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mstkd.artifacts.provenance import sidecar
from mstkd.config import PackSettings, SplitSettings
from mstkd.data.packing import pack_train
from mstkd.data.splits import deal, read_split, split
from mstkd.errors import InputError

groups = st.dictionaries(
    st.sampled_from("ABCDEFG"),
    st.sets(st.text("abc0.é, \"'\n", min_size=1, max_size=4), max_size=25).map(sorted),
    max_size=5,
)


@given(groups, st.integers(1, 7), st.integers(0, 3))
def test_splits_are_complete_disjoint_and_balanced(
    names_by_group: dict[str, list[str]], teachers: int, seed: int
) -> None:
    splits = deal(names_by_group, teachers, seed)
    assert len(splits) == teachers
    for group, names in names_by_group.items():
        shares = [own.get(group, []) for own in splits]
        assert sorted(chain.from_iterable(shares)) == names  # each name once
        assert all(share == sorted(share) for share in shares)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    totals = [sum(map(len, own.values())) for own in splits]
    assert max(totals) - min(totals) <= 1
    assert deal(names_by_group, teachers, seed) == splits


@given(groups, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_order_of_groups_and_names_does_not_matter(
    names_by_group: dict[str, list[str]], teachers: int, random: object
) -> None:
    items = [(group, names[::-1]) for group, names in reversed(names_by_group.items())]
    random.shuffle(items)  # type: ignore[attr-defined]
    assert deal(dict(items), teachers, 0) == deal(names_by_group, teachers, 0)


def hands(splits: list[dict[str, list[str]]], group: str) -> set[tuple[str, ...]]:
    return {tuple(own.get(group, ())) for own in splits}


@given(groups, st.integers(1, 5))
def test_the_shuffle_of_a_group_does_not_depend_on_the_others(
    names_by_group: dict[str, list[str]], teachers: int
) -> None:
    together = deal(names_by_group, teachers, 5)
    for group, names in names_by_group.items():  # who shares a teacher, not which teacher
        assert hands(together, group) == hands(deal({group: names}, teachers, 5), group)


def test_seeds_and_groups_shuffle_differently() -> None:
    names = [f"m.{n}" for n in range(40)]
    first, second = deal({"A": names}, 4, 0), deal({"A": names}, 4, 1)
    assert hands(first, "A") != hands(second, "A")
    assert hands(first, "A") != hands(deal({"B": names}, 4, 0), "B")


def test_the_shuffle_stays_what_it_was() -> None:
    """Another shuffle would be another data set: raise the recipe of SplitSettings then."""
    assert deal({"A": "abcde", "B": "fghij"}, 4, 0) == [
        {"A": ["b", "c"], "B": ["i"]},
        {"A": ["d"], "B": ["g", "h"]},
        {"A": ["a"], "B": ["f"]},
        {"A": ["e"], "B": ["j"]},
    ]


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("faces")
    packs = []
    for group, count in (("A", 5), ("B", 6)):
        for number in range(count):
            folder = root / group / f'{group}, "{number}" é'
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(folder / "1.png")
        packs.append(root / f"{group}.h5")
        settings = PackSettings(root=root, group=group, image_size=16, on_bad_image="error")
        pack_train(settings, output=packs[-1])
    return packs


def test_files_hold_what_was_dealt(tmp_path: Path, packs: list[Path]) -> None:
    outputs = [tmp_path / "new" / f"BT-{n}.csv" for n in (1, 2, 3, 4)]
    split(SplitSettings(seed=3), packs=packs, outputs=outputs)
    names = {
        group: [f'{group}, "{n}" é' for n in range(count)] for group, count in (("A", 5), ("B", 6))
    }
    assert [read_split(path) for path in outputs] == deal(names, 4, 3)
    text = outputs[0].read_text()
    assert text.startswith('group,identity\nA,"A, ""')
    assert text.splitlines()[1:] == sorted(text.splitlines()[1:])
    before = [path.read_bytes() for path in outputs]
    split(SplitSettings(seed=3), packs=packs[::-1], outputs=outputs)
    assert [path.read_bytes() for path in outputs] == before
    written = sorted([*outputs, *map(sidecar, outputs)])
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "new", *written]  # nothing left behind


def test_one_output_gets_everything(tmp_path: Path, packs: list[Path]) -> None:
    split(SplitSettings(), packs=packs, outputs=[tmp_path / "all.csv"])
    read = read_split(tmp_path / "all.csv")
    assert {group: len(names) for group, names in read.items()} == {"A": 5, "B": 6}


def test_two_packs_of_a_group_or_too_few_identities(tmp_path: Path, packs: list[Path]) -> None:
    with pytest.raises(InputError, match=r"A.h5: found group A again; expected a pack a group"):
        split(SplitSettings(), packs=[packs[0], packs[0]], outputs=[tmp_path / "1.csv"])
    outputs = [tmp_path / f"{n}.csv" for n in range(6)]
    with pytest.raises(InputError, match="found 5 identities; expected 6 or more to deal"):
        split(SplitSettings(), packs=packs[:1], outputs=outputs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "{path}:1: found an empty file; expected group,identity"),
        (b"identity,group\n", "{path}:1: found identity,group; expected group,identity"),
        (b"group,identity\n", "{path}: found no identities; expected a line for each identity"),
        (b"group,identity\nA,x\nA\n", "{path}:3: found A; expected a group, an identity"),
        (b"group,identity\nA,x,y\n", "{path}:2: found A,x,y; expected a group, an identity"),
        (b"group,identity\nA,\n", "{path}:2: found A,; expected a group, an identity"),
        (
            b"group,identity\nA,x\nB,x\nA,x\n",
            "{path}:4: found identity 'x' of group A again; expected every identity once",
        ),
        (b'group,identity\nA,"x\n', "{path}:2: found unexpected end of data; expected CSV"),
        (b"group,identity\nA,\xff\n", "{path}: found 'utf-8' codec can't decode"),
    ],
)
def test_a_file_that_is_no_split(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_split(path)
    assert str(error.value).startswith(message.format(path=path))


def test_a_missing_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.csv: found no such file; expected a split"):
        read_split(tmp_path / "gone.csv")


def test_a_split_that_is_not_what_was_dealt(tmp_path: Path, packs: list[Path]) -> None:
    output = tmp_path / "split.csv"
    split(SplitSettings(seed=3), packs=packs, outputs=[output])
    text = output.read_text()
    output.write_text(text.replace('"A, ""1"" é"', '"A, ""7"" é"'))
    with pytest.raises(InputError) as error:
        read_split(output)
    assert str(error.value).startswith(f"{output}: found other contents than were written;")
    output.with_name("split.csv.provenance.json").unlink()  # the user's own split
    assert 'A, "7" é' in read_split(output)["A"]


def test_a_split_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(b"\xef\xbb\xbfgroup,identity\r\nB,y\r\nA,x\r\n")
    assert read_split(path) == {"A": ["x"], "B": ["y"]}
