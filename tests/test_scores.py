"""Tables of scored pairs: what is read is what was written, and each fault is told in one line."""

import csv
import gzip
import tracemalloc

import h5py
import numpy as np
import pandas as pd
import pytest

from mstkd.data.formats.columns import first_names, read_text_columns
from mstkd.data.formats.pairlists import identity_of_image
from mstkd.errors import InputError
from mstkd.evaluation.fairness import measures_of_rates
from mstkd.evaluation.foreign import is_rates, read_rates
from mstkd.evaluation.scorefiles import as_frame, read_scores, write_scores
from mstkd.evaluation.scores import (
    Attribute,
    ScoreTable,
    on_pairs_of,
    same_pairs,
    stratified_folds,
)
from mstkd.evaluation.verification import fold_of_pairs


def frame(pairs=40, groups=("north", "south"), seed=0, **columns):
    """Pairs of each group, half of them genuine, in two folds; genuine ones score higher."""
    random = np.random.default_rng(seed)
    number = np.arange(pairs * len(groups))
    group = np.repeat(groups, pairs)
    same = number % 2 == 0
    one, other = number * 2, np.where(same, number * 2, number * 2 + 1)
    table = pd.DataFrame(
        {
            "group": group,
            "identity1": [f"id{n:03}" for n in one],
            "identity2": [f"id{n:03}" for n in other],
            "same": same.astype(int),
            "similarity": random.normal(np.where(same, 0.6, 0.1), 0.15),
            "fold": number % pairs * 2 // pairs,
            "image1": [f"{n}a.jpg" for n in number],
            "image2": [f"{n}b.jpg" for n in number],
        }
    )
    return table.assign(**columns)


def written(tmp_path, table, name="scores.csv"):
    path = tmp_path / name
    table.to_csv(path, index=False)
    return path


def fault(path, **options):
    """The one line that tells what is wrong."""
    with pytest.raises(InputError) as caught:
        read_scores(path, **options)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message.removeprefix(str(path))


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", ["scores.csv", "scores.csv.gz", "scores.h5"])
def test_what_is_written_is_read(tmp_path, name):
    sides = {"sex1": ["f", "m"] * 40, "sex2": ["f", "f", "m", "m"] * 20}
    given = frame(camera=["x", "y", "z", "NA"] * 20, **sides)
    given.loc[3, ["identity1", "identity2", "image1"]] = ["nan", "007", 'ü, "quoted".jpg']
    first = read_scores(written(tmp_path, given, "given.csv"))
    write_scores(first, tmp_path / name)
    again = read_scores(tmp_path / name)
    assert again.similarity.tolist() == given["similarity"].tolist()  # to the last bit
    pd.testing.assert_frame_equal(as_frame(again), as_frame(first))
    columns = as_frame(again)
    for column in given.columns:
        assert columns[column].tolist() == given[column].tolist(), column
    assert again.groups == ("north", "south")
    for name in ("identity1", "image2"):
        assert getattr(again, name).dtype == np.int32
    assert again.group1.dtype == again.fold.dtype == np.int16


def test_the_bytes_depend_on_the_table_alone(tmp_path):
    table = read_scores(written(tmp_path, frame()))
    for name in ("a.csv.gz", "b.csv.gz", "a.h5", "b.h5"):
        write_scores(table, tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with pytest.raises(ValueError, match="ends in neither"):
        write_scores(table, tmp_path / "scores.txt")


def test_pairs_across_groups_keep_both_groups(tmp_path):
    given = frame().rename(columns={"group": "group1"})
    given.insert(1, "group2", np.where(given.index % 4 == 1, "south", given["group1"]))
    table = read_scores(written(tmp_path, given))
    assert (~table.within).sum() == 10
    write_scores(table, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert "group" not in file and "group1" in file
    assert as_frame(read_scores(tmp_path / "out.h5"))["group2"].tolist() == given["group2"].tolist()


def test_spaces_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    text = frame().to_csv(index=False)
    head, *rest = text.splitlines()
    path = tmp_path / "scores.csv"
    loose = "\r\n\r\n".join([head.replace(",", ", "), *(row.replace(",", " , ") for row in rest)])
    path.write_bytes(b"\xef\xbb\xbf" + loose.encode())
    assert as_frame(read_scores(path)).to_csv(index=False) == text


def test_a_table_of_wrong_arrays_is_refused(tmp_path):
    table = read_scores(written(tmp_path, frame()))
    arrays = {name: getattr(table, name) for name in table.__dataclass_fields__}
    wrong = {
        "similarity": table.similarity.astype(np.float32),
        "fold": table.fold[:-1],
        "groups": ("north",),
        "identity2": table.identity2 + 1000,
        "image2": None,
        "attributes": {"sex": Attribute(table.image1, table.image2 * 0 + 9, ("f",))},
    }
    for name, value in wrong.items():
        with pytest.raises(ValueError):
            ScoreTable(**arrays | {name: value})


# ---------------------------------------------------------------- what may be left out


def test_folds_of_rfws_order_where_there_are_none():
    same = np.tile(np.repeat([True, False], 30), 10)  # ten folds, genuine pairs first in each
    group = np.repeat([0, 1], 600)
    folds = stratified_folds(np.tile(same, 2), group, group, 10)
    assert folds.tolist() == [*fold_of_pairs(600, 10), *fold_of_pairs(600, 10)]


def test_folds_have_both_kinds_whatever_the_order(tmp_path):
    given = frame(pairs=50).drop(columns="fold").sort_values("same", kind="stable")
    table = read_scores(written(tmp_path, given))
    for group in (0, 1):
        for same in (False, True):
            counts = np.bincount(table.fold[(table.group1 == group) & (table.same == same)])
            assert counts.tolist() == [3] * 5 + [2] * 5
    assert read_scores(written(tmp_path, given), folds=4).folds == 4


def test_folds_of_any_numbers_are_numbered_anew(tmp_path):
    table = read_scores(written(tmp_path, frame(fold=([7] * 20 + [1] * 20) * 2)))
    assert table.fold.tolist() == ([1] * 20 + [0] * 20) * 2


def test_three_hundred_folds(tmp_path):
    """A byte would wrap around at 128."""
    table = read_scores(written(tmp_path, frame(pairs=600, fold=np.arange(1200) % 300)))
    assert table.folds == 300 and table.fold.max() == 299
    write_scores(table, tmp_path / "s.h5")
    assert read_scores(tmp_path / "s.h5").fold.tolist() == (np.arange(1200) % 300).tolist()


def test_identities_by_the_images_and_same_by_the_identities(tmp_path):
    given = frame().drop(columns=["identity1", "identity2"])
    given["image1"] = [f"faces/id{n}/a.jpg" for n in given.index]
    given["image2"] = [f"faces/id{n + (n % 2)}/b.jpg" for n in given.index]
    table = read_scores(written(tmp_path, given.drop(columns="same")))
    assert table.same.tolist() == (given["same"] == 1).tolist()
    assert read_scores(written(tmp_path, given)).identities[:3] == ("id0", "id1", "id2")
    given.loc[4, "same"] = 0
    message = fault(written(tmp_path, given))
    assert message.startswith(":6: found same 0 of the identities 'id4' and 'id4', by the images'")


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("m.0a/0003.jpg", "m.0a"),
        ("data/B/m.0a/m.0a_0001.jpg", "m.0a"),
        ("m.0hh41q__0001.jpg", "m.0hh41q_"),
        ("m.03_80b_0002.jpg", "m.03_80b"),
        ("c:\\faces\\ann\\1.png", "ann"),
        ("ann.jpg", "ann"),
        ("ann_b", "ann_b"),
    ],
)
def test_identity_of_an_image(name, identity):
    assert identity_of_image(name) == identity


def test_groups_of_columns_and_of_their_product(tmp_path):
    given = frame(sex1=(["f"] * 2 + ["m"] * 2) * 20, sex2=(["f"] * 2 + ["m"] * 2) * 20)
    path = written(tmp_path, given)
    table = read_scores(path, group=["group", "sex"])
    assert table.groups == ("north/f", "north/m", "south/f", "south/m")
    assert np.bincount(table.group1).tolist() == [20] * 4
    assert read_scores(path, group=["sex"]).groups == ("f", "m")
    assert read_scores(path, group=[]).groups == ("all",)
    write_scores(read_scores(path), tmp_path / "s.h5")
    assert read_scores(tmp_path / "s.h5", group=[]).groups == ("all",)
    assert as_frame(read_scores(tmp_path / "s.h5", group=["group", "sex"])).equals(as_frame(table))
    # Of its own column of groups a table grouped otherwise keeps nothing.
    assert "group" not in read_scores(path, group=["sex"]).attributes
    assert "did you mean 'sex'" in fault(tmp_path / "s.h5", group=["sox"])
    assert "a column ses, or ses1 and ses2; did you mean" in fault(path, group=["ses"])


def test_without_groups_all_pairs_are_one(tmp_path):
    given = frame().drop(columns="group")
    table = read_scores(written(tmp_path, given))
    assert table.groups == ("all",) and table.within.all()
    misspelt = fault(written(tmp_path, frame().rename(columns={"group": "gruop"})))
    assert misspelt.endswith("expected a column group; did you mean 'gruop'?")
    assert "a column group, or group1 and group2" in fault(
        written(tmp_path, given), group=["group"]
    )


# ---------------------------------------------------------------- scores of other kinds


def test_kinds_of_score(tmp_path):
    given = frame()
    cosine = given.pop("similarity").clip(-1, 1)
    squared = 2 - 2 * cosine
    for column, kind, expected in (
        (squared, None, -squared),
        (squared, "squared-euclidean", cosine),
        (np.sqrt(squared), "euclidean", cosine),
    ):
        path = written(tmp_path, given.assign(distance=column))
        np.testing.assert_allclose(read_scores(path, kind=kind).similarity, expected, atol=1e-15)
    path = written(tmp_path, given.assign(vgg=cosine, resnet=squared))
    assert read_scores(path, score="vgg", kind="similarity").similarity.tolist() == cosine.tolist()
    table = read_scores(path, score="resnet", kind="distance")
    assert table.similarity.tolist() == (-squared).tolist() and "vgg" in table.attributes
    assert "expected their kind: similarity, distance" in fault(path, score="vgg")
    assert "did you mean 'vgg'" in fault(path, score="vggg")
    assert "expected a column similarity, or one distance" in fault(path)
    assert "both similarity and distance" in fault(
        written(tmp_path, given.assign(similarity=cosine, distance=squared))
    )


def test_a_distance_under_a_similaritys_name_is_refused(tmp_path):
    given = frame()
    given["similarity"] = 1 - given["similarity"]
    message = fault(written(tmp_path, given))
    assert message.startswith(": column 'similarity': found means of genuine and impostor pairs 0.")
    assert "read as a similarity; expected the genuine above" in message
    given = frame().rename(columns={"similarity": "distance"})
    message = fault(written(tmp_path, given))
    assert "read as a distance; expected the genuine below" in message
    assert len(read_scores(tmp_path / "scores.csv", score="distance", kind="similarity")) == 80


def test_a_system_at_chance_is_not_taken_for_a_distance(tmp_path):
    given = frame()
    given["similarity"] = np.random.default_rng(2).normal(size=80)
    genuine = given["same"] == 1
    given.loc[genuine, "similarity"] -= given["similarity"][genuine].mean() + 0.05
    given.loc[~genuine, "similarity"] -= given["similarity"][~genuine].mean()
    assert len(read_scores(written(tmp_path, given))) == 80


# ---------------------------------------------------------------- peers' files


def test_a_list_of_paths_labels_and_distances(tmp_path):
    given = frame().rename(
        columns={"image1": "path1", "image2": "path2", "same": "label", "similarity": "distance"}
    )
    given["distance"] = 1 - given["distance"]
    table = read_scores(written(tmp_path, given))
    assert table.similarity.tolist() == (-given["distance"]).tolist()
    assert table.images[:2] == ("0a.jpg", "0b.jpg")


def favfa(tmp_path):
    """As FaVFA distributes them: distances by pair, attributes by pair, in another order."""
    cosines = frame()
    images = {
        "img_1": [f"m.{n}_0001.jpg" for n in cosines.index],
        "img_2": [f"m.{n + n % 2 * 500}_0002.jpg" for n in cosines.index],
    }
    results = pd.DataFrame(images | {"dist": np.sqrt(2 - 2 * cosines["similarity"])})
    about = pd.DataFrame(
        images
        | {
            "y_true": cosines["same"],
            "gender": ["Female x Female", "Female x Male"] * 20 + ["Male x Male"] * 40,
            "ethnicity": [f"{name} x {name}" for name in cosines["group"]],
            "segment_1": cosines["group"] + " 1",
            "segment_2": cosines["group"] + " 2",
            "angle": ["", "3.5"] * 40,
        }
    )
    return (
        cosines,
        written(tmp_path, results, "model.csv"),
        written(tmp_path, about.sample(frac=1, random_state=0), "rfw.csv"),
    )


def test_favfas_distances_with_its_attributes(tmp_path):
    cosines, results, about = favfa(tmp_path)
    table = read_scores(results, attributes=about, group=["ethnicity"], kind="euclidean")
    np.testing.assert_allclose(table.similarity, cosines["similarity"], atol=1e-12)
    assert table.groups == ("north", "south")
    assert table.same.tolist() == (cosines["same"] == 1).tolist()
    columns = as_frame(table)
    assert columns["gender2"][:2].tolist() == ["Female", "Male"]
    assert columns["segment1"][0] == "north 1" and columns["segment2"][0] == "north 2"
    by_gender = read_scores(results, attributes=about, group=[], kind="euclidean")
    assert by_gender.grouped_by(["gender"]).within.sum() == 60


def test_attributes_by_image(tmp_path):
    given = frame()
    images = [*given["image1"], *given["image2"]]
    about = pd.DataFrame(
        {
            "image": images,
            "identity": [*given["identity1"], *given["identity2"]],
            "group": [*given["group"]] * 2,
            "age": [str(n) for n in range(160)],
        }
    )
    scores = written(tmp_path, given[["image1", "image2", "similarity", "same", "fold"]])
    table = read_scores(scores, attributes=written(tmp_path, about, "about.csv"))
    columns = as_frame(table)
    for name in ("group", "identity1", "identity2"):
        assert columns[name].tolist() == given[name].tolist()
    assert columns["age2"].tolist() == [str(n) for n in range(80, 160)]
    message = fault(
        scores, attributes=written(tmp_path, about[about["image"] != "3b.jpg"], "a.csv")
    )
    assert message.startswith(":5: found '3b.jpg', which ") and "a.csv has not" in message
    twice = written(tmp_path, pd.concat([about, about[:1]]), "b.csv")
    with pytest.raises(InputError, match=r"b.csv:162: found '0a.jpg' again, as on line 2"):
        read_scores(scores, attributes=twice)
    with pytest.raises(InputError, match="expected image, or image1 and image2"):
        read_scores(scores, attributes=written(tmp_path, about[["age"]], "c.csv"))


# ---------------------------------------------------------------- rates without scores

RATES = """system,group,fmr,fnmr,source
one,A,0.001,0.02,report
one,B,0.004,0.03,report
two,B,0.002,0.01,report
two,A,0.002,0.01,report
"""


def test_measures_follow_from_rates_alone(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text(RATES)
    rates = read_rates(path)
    assert (rates.systems, rates.groups) == (("one", "two"), ("A", "B"))
    assert rates.fmr.tolist() == [[0.001, 0.004], [0.002, 0.002]]
    assert rates.fnmr.tolist() == [[0.02, 0.03], [0.01, 0.01]]
    found = measures_of_rates(rates.fmr, rates.fnmr)
    assert found["fmr_max_min"].tolist() == [4, 1]
    assert found["fmr_max_geomean"].tolist() == pytest.approx([2, 1])
    assert found["ir"].tolist() == pytest.approx([(4 * 1.5) ** 0.5, 1])
    assert found["fdr"].tolist() == pytest.approx([1 - 0.003 / 2 - 0.01 / 2, 1])
    assert found["garbe"].tolist() == pytest.approx([0.3 + 0.1, 0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.004", "0.4%", ":3: found '0.4%' in the column 'fmr'; expected a finite number"),
        ("0.03", "3.0", ":3: found '3.0' in the column 'fnmr'; expected a fraction, 0 to 1"),
        ("two,A", "two,B", ":5: found 'two' and 'B' again, as on line 4"),
        ("two,A", "two,C", ": found no rates of 'one' for group 'C'; expected every group"),
        ("fnmr", "fnr", ":1: found the columns system, group, fmr, fnr, source; expected fnmr"),
        ("one,B", "one,", ":3: found the column 'group' empty"),
    ],
)
def test_faults_of_rates(tmp_path, old, new, message):
    path = tmp_path / "rates.csv"
    path.write_text(RATES.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_rates(path)
    assert str(caught.value).removeprefix(str(path)).startswith(message)


def test_rates_of_one_group_compare_nothing(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("system,group,fmr,fnmr\none,A,0.1,0.1\n")
    with pytest.raises(InputError, match="found one group, 'A'; expected two or more"):
        read_rates(path)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (5, "similarity", "nan", ":7: found 'nan' in the column 'similarity'; expected a finite"),
        (5, "similarity", "0.5x", ":7: found '0.5x' in the column 'similarity'"),
        (5, "similarity", "inf", ":7: found 'inf'"),
        (0, "similarity", "", ":2: found the column 'similarity' empty"),
        (2, "same", "maybe", ":4: found 'maybe' in the column 'same'; expected 1 or 0"),
        (
            2,
            "same",
            "0",
            ":4: found same 0 of the identities 'id004' and 'id004'; expected 1",
        ),
        (1, "group", "", ":3: found the column 'group' empty; expected a value in every row"),
        (9, "identity2", " ", ":11: found the column 'identity2' empty"),
        (3, "fold", "-1", ":5: found '-1' in the column 'fold'; expected a whole number"),
        (3, "fold", "1.5", ":5: found '1.5' in the column 'fold'"),
        (3, "image2", "3a.jpg", ":5: found the image '3a.jpg' paired with itself"),
        (
            79,
            "group",
            "west",
            ": found no genuine pairs within group 'west'; expected pairs",
        ),
    ],
)
def test_faults_of_a_field(tmp_path, row, column, value, message):
    given = frame().astype(str)
    given.loc[row, column] = value
    assert fault(written(tmp_path, given)).startswith(message)


def test_a_pair_twice(tmp_path):
    given = frame()
    turned = given.loc[[7]].rename(columns={"image1": "image2", "image2": "image1"})
    message = fault(written(tmp_path, pd.concat([given, turned])))
    assert message.startswith(":82: found the pair of line 9 again (1 such rows)")
    bare = given.drop(columns=["image1", "image2"])
    message = fault(written(tmp_path, pd.concat([bare, bare.loc[[7]]])))
    assert message.startswith(":82: found the pair of line 9 again")
    # Of scores rounded to two digits, two pairs of the same persons may well share one.
    rounded = bare.round({"similarity": 2})
    assert len(read_scores(written(tmp_path, pd.concat([rounded, rounded.loc[[7]]])))) == 81


def test_faults_of_the_whole(tmp_path):
    given = frame()
    one_class = fault(written(tmp_path, given[given["same"] == 1]))
    assert one_class == ": found genuine pairs only; expected genuine and impostor pairs"
    lacking = given[(given["group"] == "north") | (given["same"] == 1)]
    assert "no impostor pairs within group 'south'" in fault(written(tmp_path, lacking))
    constant = fault(written(tmp_path, given.assign(similarity=0.5)))
    assert constant.startswith(": column 'similarity': found 0.5 for every pair")
    folds = fault(written(tmp_path, given.assign(fold=np.arange(80))))
    assert folds.startswith(": column 'fold': found 80 folds for 40 pairs of group 'north'")
    assert "one fold, 3" in fault(written(tmp_path, given.assign(fold=3)))
    without = written(tmp_path, given.drop(columns="fold"))
    few = fault(without, folds=21)
    assert few.startswith(": found 20 impostor pairs of group 'north'; expected 21 at least")
    assert "identity1 and identity2" in fault(written(tmp_path, given.drop(columns="identity2")))
    bare = given.drop(columns=["identity1", "identity2", "image1", "image2"])
    assert "expected identity1 and identity2, or image1" in fault(written(tmp_path, bare))
    twice = given.assign(label=given["same"])
    assert "'same' and 'label', which mean the same" in fault(written(tmp_path, twice))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": found an empty file"),
        (b"group,same\n", ": found no rows"),
        (b"group,,same\n1,2,3\n", ":1: found a column without a name"),
        (b"group,same,group\n1,2,3\n", ":1: found the column 'group' twice"),
        (b"a,b\n1,2\n\n1\n", ":4: found 1 fields; expected 2: a, b"),
        (b"a,b\n1,2,3\n", ":2: found 3 fields"),
        (b'a,b\n1,"2\n', ":2: found unexpected end of data; expected CSV"),
        (b"a,b\n1,\xff\n", ": found byte 6 is not UTF-8"),
        (b"a,b\n1,\x00\n", ": found a zero byte"),
    ],
)
def test_faults_of_csv(tmp_path, data, message):
    path = tmp_path / "scores.csv"
    path.write_bytes(data)
    assert fault(path).startswith(message)


def test_a_gzip_bomb_is_not_unpacked_whole(tmp_path):
    bomb = tmp_path / "scores.csv.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b"A,p,p,1,0.5\n" * 87_000)  # 1 MB
    allowed = (100 << 20) + 100 * bomb.stat().st_size
    assert allowed < 300e6
    tracemalloc.start()
    try:
        told = fault(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"found more than {allowed:,} bytes, unpacked" in told
    assert told.endswith("expected 100 MiB and 100 times the file at most")
    assert peak < 2.5 * allowed


def test_what_a_list_is_of_is_seen_by_its_first_line_packed_or_not(tmp_path):
    plain, packed = tmp_path / "list.csv", tmp_path / "list.csv.gz"
    for header in ("\ufeffsystem, group,fmr,fnmr", "image1,image2,same", '"first\nline",x'):
        text = f"{header}\nx,north,0.1,0.2\n".encode()
        plain.write_bytes(text)
        packed.write_bytes(gzip.compress(text))
        expected = next(csv.reader([header.lstrip("\ufeff").replace(" ", "")]))
        assert first_names(plain) == first_names(packed) == expected
        assert is_rates(packed) == is_rates(plain) == ("fmr" in expected)
    plain.write_bytes(b"x" * 1_000_000)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert first_names(plain) == first_names(packed) == ["x" * (1 << 16)]
    packed.write_bytes(b"x")
    assert first_names(packed) == first_names(tmp_path) == []


def test_short_rows_take_little_more_than_their_text(tmp_path):
    """A gzip file of 100 kB may hold 50 million of them."""
    path = tmp_path / "scores.csv"
    path.write_bytes(b"similarity\n" + b"1\n" * 100_000)
    tracemalloc.start()
    try:
        assert len(read_text_columns(path)) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25 * path.stat().st_size


def test_faults_of_files(tmp_path):
    assert "no such file" in fault(tmp_path / "none.csv")
    assert "readable file" in fault(tmp_path)
    cut = tmp_path / "scores.csv.gz"
    cut.write_bytes(gzip.compress(frame().to_csv(index=False).encode())[:-20])
    assert "expected a whole gzip file" in fault(cut)
    cut.write_bytes(b"group,same\n")
    assert "expected a whole gzip file" in fault(cut)
    path = tmp_path / "s.h5"
    write_scores(read_scores(written(tmp_path, frame())), path)
    with h5py.File(path, "r+") as file:
        file["similarity"][3] += 1e-9
    told = fault(path)
    assert "found a damaged file (other contents than were written)" in told
    assert told.endswith(f"expected a whole table of scores; rm {path} and run again")
    with h5py.File(path, "w") as file:
        file["similarity"] = np.zeros(3)
    assert "found HDF5 of format None" in fault(path)


# ---------------------------------------------------------------- several systems


def test_systems_are_compared_on_the_same_pairs(tmp_path):
    given = frame()
    other = given.assign(similarity=given["similarity"] + 0.01).sample(frac=1, random_state=1)
    turned = other.rename(
        columns={
            "image1": "image2",
            "image2": "image1",
            "identity1": "identity2",
            "identity2": "identity1",
        }
    )
    first = read_scores(written(tmp_path, given))
    second = read_scores(written(tmp_path, turned.drop(columns="fold")))
    assert not same_pairs(first, second)
    matched = on_pairs_of(first, second, "second.csv")
    assert same_pairs(first, matched) and matched.fold.tolist() == first.fold.tolist()
    np.testing.assert_allclose(matched.similarity, first.similarity + 0.01)


def test_mixed_lists_are_refused(tmp_path):
    given = frame()
    first = read_scores(written(tmp_path, given))
    changed = given.copy()
    changed.loc[4, "image2"] = "another.jpg"
    for other, message in (
        (changed, "found 80 pairs; of the first system's 80, 1 missing"),
        (given[:-2], "found 78 pairs; of the first system's 80, 2 missing"),
    ):
        second = read_scores(written(tmp_path, other))
        assert not same_pairs(first, second)
        with pytest.raises(InputError, match=f"second.csv: {message}; expected the same pairs"):
            on_pairs_of(first, second, "second.csv")
    bare = given.drop(columns=["image1", "image2"]).assign(
        identity1=given["same"].map(str), identity2=1
    )
    bare["identity2"] = bare["identity1"].where(given["same"] == 1, "x")
    third = read_scores(written(tmp_path, bare))
    fourth = read_scores(written(tmp_path, bare.iloc[::-1]))
    assert same_pairs(third, third)
    with pytest.raises(InputError, match="pairs in another order, and no names of images"):
        on_pairs_of(third, fourth, "fourth.csv")
