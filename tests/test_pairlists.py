"""Lists of pairs in CSV: read, made from folders, packed, and each fault in one line."""

import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mstkd.config import CheckSettings, PackSettings
from mstkd.data.checks.check_data import fold_balance
from mstkd.data.formats.pairlists import pair_list_identities, read_pair_list
from mstkd.data.inspection.inspect import inspect
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_verification
from mstkd.data.pairing import make_pairs
from mstkd.data.readers import trainable
from mstkd.data.sources import FaceImage
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import check_pairs, folds_of

SIZE = 16
HEADER = "path1,path2,same,group"
ROWS = [
    "ann/1.png,ann/2.png,1,north",
    "bob/1.png,eve/1.png,0,north",
    "eve/1.png,eve/2.png,1,north",
    "ann/1.png,bob/1.png,0,north",
    "sam/1.png,sam/2.png,1,south",
    "sam/2.png,tom/1.png,0,south",
]


def draw(root, names):
    random = np.random.default_rng(len(names))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)


@pytest.fixture
def listed(tmp_path):
    """Writes a list beside its images."""
    draw(tmp_path, {field for row in ROWS for field in row.split(",")[:2]})

    def write(rows=ROWS, header=HEADER):
        (tmp_path / "pairs.csv").write_text("\n".join([header, *rows]) + "\n")
        return tmp_path / "pairs.csv"

    return write


def named(found):
    """Pairs by the names of their images, as tuples, in order."""
    return [tuple(found.images[row].name for row in pair) for pair in found.pairs]


def pack(path, group, output):
    settings = PackSettings(root=path, group=group, image_size=SIZE, on_bad_image="error")
    pack_verification(settings, output=output)
    return open_pack(output, "verification")


# ---------------------------------------------------------------- reading


def test_a_list_is_the_pairs_within_a_group(listed):
    found = read_pair_list(listed(), "north")
    assert [image.name for image in found.images] == [
        *("ann/1.png", "ann/2.png", "bob/1.png", "eve/1.png", "eve/2.png")
    ]
    assert [image.identity for image in found.images] == ["ann", "ann", "bob", "eve", "eve"]
    assert named(found) == [tuple(row.split(",")[:2]) for row in ROWS[:4]]
    assert found.same.tolist() == [True, False, True, False]
    assert found.fold is None and found.left_out == 0
    assert found.images[0].source.read_bytes()


def test_pairs_across_groups_are_counted_and_left_out(listed):
    rows = [f"{row},{row.split(',')[3]}" for row in ROWS] + ["ann/1.png,sam/1.png,0,north,south"]
    found = read_pair_list(listed(rows, f"{HEADER},group2"), "north")
    assert len(found.pairs) == 4 and found.left_out == 1


def test_without_folds_any_contiguous_ones_have_both_kinds(listed):
    """And of a list in RFW's order they hold the very pairs that its own would."""
    genuine_first = sorted(ROWS[:4], key=lambda row: -int(row.split(",")[2]))
    found = read_pair_list(listed(genuine_first), "north")
    assert found.same.tolist() == [True, False, True, False]
    assert read_pair_list(listed(ROWS[1::2] + ROWS[::2]), "north").same.tolist() == [1, 0, 1, 0]


def test_folds_of_the_list_are_kept_through_a_pack(listed, tmp_path):
    folds = [20, 3, 3, 20, 20, 3]
    rows = [f"{row},{fold}" for row, fold in zip(ROWS, folds, strict=True)]
    packed = pack(listed(rows, f"{HEADER},fold"), "north", tmp_path / "p.h5")
    assert packed.fold.tolist() == [1, 0, 0, 1]
    assert folds_of(packed, 10).tolist() == [1, 0, 0, 1]
    check_pairs(packed, 10)  # its own folds are two
    assert [one.severity for one in fold_balance(packed, 10)] == ["note"]
    without = pack(listed(), "north", tmp_path / "q.h5")
    assert without.fold is None and folds_of(without, 2).tolist() == [0, 0, 1, 1]
    assert without.sha256 != packed.sha256
    assert CheckSettings().folds == 10
    assert [one.severity for one in fold_balance(without, 10)] == ["fatal"]


def test_peers_names_of_columns_and_identities_of_columns(listed, tmp_path):
    draw(tmp_path, ["0001.png", "0002.png", "0003.png"])
    rows = ["0001.png,0002.png,1,7,7,north,north", "0002.png,0003.png,0,7,9,north,north"]
    found = read_pair_list(listed(rows, "p1,p2,label,id1,id2,group1,group2"), "north")
    assert [image.identity for image in found.images] == ["7", "7", "9"]
    assert found.same.tolist() == [True, False]


def test_identities_of_a_list_can_be_left_out_of_training(listed, tmp_path):
    path = listed()
    assert pair_list_identities(path) == {"ann", "bob", "eve", "sam", "tom"}
    settings = PackSettings(
        root=tmp_path, group="north", image_size=SIZE, on_bad_image="error", exclude=path
    )
    images = [FaceImage(tmp_path / name, name, name) for name in ("ann", "zoe")]
    assert [image.identity for image in trainable(images, settings)] == ["zoe"]


@pytest.mark.parametrize(
    ("row", "new", "message"),
    [
        (0, "ann/1.png,ann/2.png,0,north", ":2: found same 0 of the identities 'ann' and 'ann'"),
        (0, "ann/1.png,ann/9.png,1,north", ":2: found a pair whose image is missing; expected"),
        (1, "/bob/1.png,eve/1.png,0,north", ":3: found the absolute path '/bob/1.png'"),
        (1, "../bob/1.png,eve/1.png,0,north", ":3: found the path '../bob/1.png'"),
        (2, "eve/1.png,eve/1.png,1,north", ":4: found the image 'eve/1.png' paired with itself"),
        (3, "ann/2.png,ann/1.png,1,north", ":5: found the pair of line 2 again"),
        (3, "ann/1.png,bob/1.png,no,north", ":5: found 'no' in the column 'same'"),
        (3, "ann/1.png,bob/1.png,0", ":5: found 3 fields"),
        (3, "ann/1.png,bob/1.png,0,", ":5: found the column 'group' empty"),
    ],
)
def test_faults_of_a_line(listed, row, new, message):
    path = listed([new if number == row else old for number, old in enumerate(ROWS)])
    with pytest.raises(InputError) as caught:
        read_pair_list(path, "north")
    assert str(caught.value).removeprefix(str(path)).startswith(message)


def test_faults_of_a_list(listed):
    for header, group, message in (
        (HEADER, "nroth", "group 'nroth': found pairs within north, south; .* mean 'north'"),
        (
            "path1,path2,same,gruop",
            "north",
            ":1: found the columns .*; expected a CSV with",
        ),
    ):
        with pytest.raises(InputError, match=message):
            read_pair_list(listed(header=header), group)
    folds = [f"{row},{fold}" for row, fold in zip(ROWS, [0, 0, 1, 1, 0, 0], strict=True)]
    path = listed(folds, f"{HEADER},fold")
    with pytest.raises(InputError, match="no pairs of group 'south' in fold 1; expected pairs of"):
        read_pair_list(path, "south")
    with pytest.raises(InputError, match="found 1 folds; expected two or more"):
        read_pair_list(listed([f"{row},4" for row in ROWS], f"{HEADER},fold"), "north")


def test_inspect_tells_groups_and_pairs(listed):
    found = inspect(listed())
    assert found.kind.startswith("verification pairs in a CSV")
    assert [(g.name, g.images, g.identities, g.genuine, g.impostor) for g in found.groups] == [
        ("north", 5, 3, 2, 2),
        ("south", 3, 2, 1, 1),
    ]
    broken = inspect(listed(["ann/1.png,ann/9.png,1,north", *ROWS[1:]]))
    assert [g.name for g in broken.groups] == ["south"]
    assert "a pair whose image is missing" in broken.problems[0]


# ---------------------------------------------------------------- made from folders


@pytest.fixture
def folders(tmp_path):
    root = tmp_path / "faces"
    sizes = {"north": 30, "south": 24}
    draw(
        root,
        [
            f"{g}/{g[0]}{i}/{n}.png"
            for g, size in sizes.items()
            for i in range(size)
            for n in (1, 2, 3)
        ],
    )
    return root


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_pairs_of_folders_are_balanced_and_part_persons(folders):
    output = folders / "pairs.csv"
    make_pairs(folders, output=output, pairs=80, folds=4)
    rows = rows_of(output)
    counts = Counter((row["group"], row["fold"], row["same"]) for row in rows)
    assert len(counts) == 2 * 4 * 2 and set(counts.values()) == {counts["north", "0", "1"]}
    homes = {}
    for row in rows:
        for side in "12":
            person = row[f"identity{side}"]
            assert row[f"path{side}"].startswith(f"{row['group']}/{person}/")
            assert homes.setdefault((row["group"], person), row["fold"]) == row["fold"]
        assert (row["identity1"] == row["identity2"]) == (row["same"] == "1")
    pairs = [frozenset((row["path1"], row["path2"])) for row in rows]
    assert len(set(pairs)) == len(pairs) and {len(pair) for pair in pairs} == {2}


def test_a_seed_decides_the_pairs_and_the_list_is_read_again(folders, tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        make_pairs(folders, output=path, groups=["south"], pairs=24, folds=3, seed=seed)
    texts = [path.read_text() for path in paths]
    assert texts[0] == texts[1] != texts[2]
    found = read_pair_list(paths[0], "south")
    rows = rows_of(paths[0])
    assert named(found) == [(row["path1"], row["path2"]) for row in rows]
    assert found.fold.tolist() == [int(row["fold"]) for row in rows]
    assert rows[0]["path1"].startswith("faces/south/")


def test_every_group_gets_as_many_pairs(folders):
    """As many as the poorer of the two can make."""
    output = folders / "pairs.csv"
    make_pairs(folders, output=output, pairs=6000, folds=4)
    counts = Counter(row["group"] for row in rows_of(output))
    assert counts["north"] == counts["south"] < 6000


def test_faults_of_making_pairs(folders, tmp_path):
    with pytest.raises(InputError, match=r"found 24 identities, 24 of them .*; expected 30"):
        make_pairs(folders, output=folders / "p.csv", folds=15)
    with pytest.raises(InputError, match="did you mean group 'north'"):
        make_pairs(folders, output=folders / "p.csv", groups=["nroth"])
    with pytest.raises(InputError, match=r"expected one in .* or a folder above it"):
        make_pairs(folders, output=tmp_path / "elsewhere/p.csv")
    with pytest.raises(InputError, match="no such folder"):
        make_pairs(tmp_path / "none", output=tmp_path / "p.csv")
    assert not list(tmp_path.rglob("p.csv"))
