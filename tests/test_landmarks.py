from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstkd.data.formats.landmarks import (
    load_detector,
    read_landmarks_csv,
    read_rfw_landmarks,
    write_landmarks_csv,
)
from mstkd.data.sources import Points
from mstkd.errors import InputError

FIRST: Points = ((160.5, 180.0), (239.5, 180.25), (200.0, 221.0), (170.0, 275.9), (232.0, 275.9))
SECOND: Points = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (-7.5, 8.0), (9.0, 1e-3))

RFW = (
    "/test/data/African/m.0xsk8/m.0xsk8_0001.jpg\t0"
    "\t160.5\t180\t239.5\t180.25\t200\t221\t170\t275.9\t232.0\t275.9\n"
    "/test/data/African/m.0z é/m.0z é_0002.jpg\t1\t1\t2\t3\t4\t5\t6\t-7.5\t8\t9\t1e-3\n"
)
RFW_POINTS = {"m.0xsk8/m.0xsk8_0001.jpg": FIRST, "m.0z é/m.0z é_0002.jpg": SECOND}
HEADER = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n"
CSV = HEADER + (
    "African/m.0xsk8/1.jpg,160.5,180,239.5,180.25,200,221,170,275.9,232.0,275.9\n"
    '"Süd, Ost/m 1/2.jpg",1,2,3,4,5,6,-7.5,8,9,1e-3\n'
)
CSV_POINTS = {"African/m.0xsk8/1.jpg": FIRST, "Süd, Ost/m 1/2.jpg": SECOND}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "African_lmk.txt"


def rfw_fault(file: Path, data: str | bytes) -> InputError:
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputError) as error:
        read_rfw_landmarks(file, "African")
    return error.value


def csv_fault(file: Path, data: str | bytes) -> InputError:
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputError) as error:
        read_landmarks_csv(file)
    return error.value


# ---------------------------------------------------------------- RFW


@pytest.mark.parametrize(
    "data",
    [
        RFW.encode(),
        RFW.encode("utf-8-sig"),
        RFW.replace("\n", "\r\n").encode("utf-8-sig"),
        RFW.rstrip().encode(),
        ("\n \t\r\n" + RFW.replace("\n", "\n\n")).encode(),
        RFW.replace("\t0\t", "\t0 \t ").replace("\n", " \n").encode(),
    ],
    ids=["as distributed", "BOM", "BOM and CRLF", "no last end", "blank lines", "more spaces"],
)
def test_rfw_landmarks_by_identity_and_image(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert read_rfw_landmarks(file, "African") == RFW_POINTS


@pytest.mark.parametrize("gap", [" ", "   ", " \t", "\t\t"])
def test_rfw_fields_may_be_parted_by_any_blank(file: Path, gap: str) -> None:
    file.write_text(RFW.splitlines()[0].replace("\t", gap) + "\n")
    assert read_rfw_landmarks(file, "African") == {"m.0xsk8/m.0xsk8_0001.jpg": FIRST}


def test_an_rfw_path_may_be_short(file: Path) -> None:
    file.write_text("m.1/m.1_0001.jpg 0" + " 1.5" * 10)
    assert read_rfw_landmarks(file, "African") == {"m.1/m.1_0001.jpg": ((1.5, 1.5),) * 5}


GOOD = "/test/data/African/m.1/m.1_0001.jpg 0 1 2 3 4 5 6 7 8 9 10\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (GOOD.replace("0001", "0002").replace(" 10", ""), "11 fields"),
        (GOOD.replace("0001", "0002").replace(" 10", " 10 11"), "13 fields"),
        ("m.1/m.1_0002.jpg\n", "1 fields"),
        (GOOD.replace("0001", "0002").replace(" 10", " nan"), "the coordinate 'nan'"),
        (GOOD.replace("0001", "0002").replace(" 1 2", " inf 2"), "the coordinate 'inf'"),
        (GOOD.replace("0001", "0002").replace(" 1 2", " inf -inf"), "the coordinate 'inf'"),
        (GOOD.replace("0001", "0002").replace(" 5", " 1e999"), "the coordinate '1e999'"),
        (GOOD.replace("0001", "0002").replace(" 5", " left"), "the coordinate 'left'"),
        (GOOD.replace("0001", "0002").replace(" 5", " 5,0"), "the coordinate '5,0'"),
        (GOOD.replace("0001", "0002").replace(" 0 ", " 0.5 "), "the label '0.5'"),
        (GOOD, "m.1/m.1_0001.jpg again"),
        (GOOD.replace("/test/data", "/elsewhere"), "m.1/m.1_0001.jpg again"),
        (GOOD.replace("African", "Asian"), "an image of group 'Asian'"),
        (GOOD.replace("/test/data/African/m.1/", "/"), "the path '/m.1_0001.jpg'"),
        (GOOD.replace("m.1/", "/"), "the path '/test/data/African//m.1_0001.jpg'"),
        (b"/test/data/African/m.\xff/m.jpg 0 1 2 3 4 5 6 7 8 9 10", "bytes that are not UTF-8"),
    ],
)
def test_a_line_that_is_no_rfw_landmark_is_named(file: Path, line: Any, found: str) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    fault = rfw_fault(file, GOOD.encode() + b"\n" + data)
    assert fault.where == f"{file}:3"
    assert fault.found == found


def test_finite_coordinates_whose_sum_is_not_are_read(file: Path) -> None:
    file.write_text("m.1/1.jpg 0" + " 1.7e308" * 10)
    assert read_rfw_landmarks(file, "African")["m.1/1.jpg"] == ((1.7e308, 1.7e308),) * 5


# ---------------------------------------------------------------- CSV


@pytest.mark.parametrize(
    "data",
    [
        CSV.encode(),
        CSV.encode("utf-8-sig"),
        CSV.replace("\n", "\r\n").encode("utf-8-sig"),
        CSV.rstrip().encode(),
        ("\n  \r\n" + CSV.replace("\n", "\n\n")).encode(),
    ],
    ids=["plain", "BOM", "BOM and CRLF", "no last end", "blank lines"],
)
def test_landmarks_of_a_csv_file_by_path(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert read_landmarks_csv(file) == CSV_POINTS


ROW = "A/m.1/1.jpg,1,2,3,4,5,6,7,8,9,10\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (ROW.replace("/1.jpg", "/2.jpg").replace(",10", ""), "10 fields"),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",10", ",10,11"), "12 fields"),
        (ROW.replace("/1.jpg", "/2,jpg"), "12 fields"),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",", ";"), "1 fields"),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",10", ",NaN"), "the coordinate 'NaN'"),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",1,", ",-Infinity,"), "the coordinate "),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",5", ","), "the coordinate ''"),
        (ROW.replace("/1.jpg", "/2.jpg").replace(",5", ",x"), "the coordinate 'x'"),
        (ROW, "A/m.1/1.jpg again"),
        ('"A/m.1/1.jpg"' + ROW[11:], "A/m.1/1.jpg again"),
        ("/" + ROW, "the path '/A/m.1/1.jpg'"),
        (ROW[11:], "the path ''"),
        (" " + ROW[11:], "the path ' '"),
        ('"A/2.jpg" ' + ROW[11:], "',' expected after '\"'"),
        ('"A/2.jpg,1,2', "unexpected end of data"),
        ("A/\r2.jpg" + ROW[11:], "new-line character seen in unquoted field"),
        ("x" * 200_000 + ROW[11:], "field larger than field limit"),
        (b"A/\xe9/2.jpg,1,2,3,4,5,6,7,8,9,10", "bytes that are not UTF-8"),
    ],
)
def test_a_line_that_is_no_row_of_landmarks_is_named(file: Path, line: Any, found: str) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    fault = csv_fault(file, (HEADER + ROW).encode() + b"\r\n" + data)
    assert fault.where == f"{file}:4"
    assert fault.found.startswith(found)


@pytest.mark.parametrize(
    "header",
    ["path,x1,y1", "path,y1,x1,x2,y2,x3,y3,x4,y4,x5,y5", ROW.rstrip(), HEADER.upper().rstrip()],
)
def test_another_header_is_refused(file: Path, header: str) -> None:
    fault = csv_fault(file, "\n" + header + "\n" + ROW)
    assert str(fault) == f"{file}:2: found {header}; expected {HEADER.rstrip()}"


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("data", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_refused(file: Path, data: bytes) -> None:
    for fault in (rfw_fault(file, data), csv_fault(file, data)):
        assert (fault.where, fault.found) == (str(file), "no landmarks")


def test_a_header_alone_is_refused(file: Path) -> None:
    assert csv_fault(file, HEADER).found == "no landmarks"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, found in ((tmp_path / "none", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError) as error:
            read_rfw_landmarks(path, "African")
        assert (error.value.where, error.value.found) == (str(path), found)
        with pytest.raises(InputError) as error:
            read_landmarks_csv(path)
        assert (error.value.where, error.value.found) == (str(path), found)


def mutations(text: str) -> st.SearchStrategy[bytes]:
    """Any bytes, and a sound file with some of its bytes replaced."""
    data = text.encode()

    def change(edits: list[tuple[int, bytes]]) -> bytes:
        changed = data
        for place, new in edits:
            changed = changed[:place] + new + changed[place + len(new) // 2 :]
        return changed

    pieces = st.sampled_from(
        [b"\n", b"\t", b",", b'"', b"\r", b"nan", b"\xff", b"\x00", b"/", b"9"]
    )
    edits = st.tuples(st.integers(0, len(data)), pieces | st.binary(max_size=3))
    return st.binary() | st.lists(edits, max_size=4).map(change)


def check_points(points: dict[str, Points]) -> None:
    assert points
    for key, five in points.items():
        assert key.strip()
        assert [len(point) for point in five] == [2] * 5
        assert all(type(v) is float and math.isfinite(v) for point in five for v in point)


@given(mutations(RFW))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_rfw_landmarks_or_a_fault_of_input(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed_lmk.txt"
    file.write_bytes(data)
    try:
        points = read_rfw_landmarks(file, "African")
    except InputError as error:
        assert error.where.startswith(str(file))
    else:
        check_points(points)


@given(mutations(CSV))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_landmarks_csv_or_a_fault_of_input(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    file.write_bytes(data)
    try:
        points = read_landmarks_csv(file)
    except InputError as error:
        assert error.where.startswith(str(file))
    else:
        check_points(points)


# ---------------------------------------------------------------- writing

COORDINATES = st.floats(allow_nan=False, allow_infinity=False)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name.strip() and not name.startswith("/")
)


@given(
    st.dictionaries(
        PATHS, st.tuples(*[st.tuples(COORDINATES, COORDINATES)] * 5), min_size=1, max_size=4
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, landmarks: dict[str, Points]
) -> None:
    file = tmp_path_factory.getbasetemp() / "written.csv"
    write_landmarks_csv(file, landmarks.items())
    assert read_landmarks_csv(file) == landmarks


def test_the_written_file_is_plain_csv(file: Path) -> None:
    rows = [("A/1/1.jpg", np.arange(10, dtype=np.float32).reshape(5, 2) / 4), ("B/2/é.jpg", SECOND)]
    write_landmarks_csv(file, rows)
    assert file.read_bytes().decode() == (
        HEADER + '"A/1/1.jpg",0.0,0.25,0.5,0.75,1.0,1.25,1.5,1.75,2.0,2.25\n'
        '"B/2/é.jpg",1.0,2.0,3.0,4.0,5.0,6.0,-7.5,8.0,9.0,0.001\n'
    )


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (("A/1.jpg", FIRST), "A/1.jpg again"),
        (("A/2.jpg", FIRST[:4]), "8 numbers"),
        (("A/2.jpg", (*FIRST, (1.0, 2.0))), "12 numbers"),
        (("A/2.jpg", (*FIRST[:4], (1.0, math.nan))), "the coordinate 'nan'"),
        (("A/2.jpg", (*FIRST[:4], (-math.inf, 1.0))), "the coordinate '-inf'"),
        (("", FIRST), "the path ''"),
        (("/A/2.jpg", FIRST), "the path '/A/2.jpg'"),
        (("A/\udcff.jpg", FIRST), r"the name 'A/\udcff.jpg'"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    file: Path, row: tuple[str, Points], found: str
) -> None:
    file.write_text("old")
    with pytest.raises(InputError) as error:
        write_landmarks_csv(file, [("A/1.jpg", FIRST), row])
    assert error.value.where.startswith(str(file))
    assert error.value.found == found
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_rows_are_not_written(file: Path) -> None:
    with pytest.raises(InputError, match="found no landmarks"):
        write_landmarks_csv(file, [])
    assert not any(file.parent.iterdir())


def test_a_detector_that_dies_leaves_the_old_file(file: Path) -> None:
    def rows() -> Iterator[tuple[str, Points]]:
        yield "A/1.jpg", FIRST
        raise RuntimeError("out of memory")

    file.write_text("old")
    with pytest.raises(RuntimeError):
        write_landmarks_csv(file, rows())
    assert file.read_text() == "old"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


# ---------------------------------------------------------------- detectors


def make_detector() -> Any:
    """What the entry point of a plug-in names."""
    return lambda pixels: FIRST if pixels.any() else None


def make_nothing() -> None:
    return None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points that a test pretends are installed; one of another group is."""
    points = [EntryPoint("other", "json:loads", "console_scripts")]

    def select(**wanted: str) -> EntryPoints:
        return EntryPoints(points).select(**wanted)

    monkeypatch.setattr("mstkd.data.formats.landmarks.entry_points", select)
    return points


def plug_in(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "mstkd.detectors")


def test_a_detector_is_found_by_name(installed: list[EntryPoint]) -> None:
    installed += [plug_in("zero", "json:loads"), plug_in("ours", f"{__name__}:make_detector")]
    detect = load_detector("ours")
    assert detect(np.ones((4, 5, 3), np.uint8)) == FIRST
    assert detect(np.zeros((4, 5, 3), np.uint8)) is None


def test_an_unknown_detector_names_those_installed(installed: list[EntryPoint]) -> None:
    installed += [plug_in("zeta", "json:loads"), plug_in("alpha", "json:loads")]
    with pytest.raises(InputError) as error:
        load_detector("ours")
    assert str(error.value) == (
        "detector 'ours': found no such plug-in; expected one of those installed: alpha, zeta"
    )


@pytest.mark.usefixtures("installed")
def test_without_plug_ins_the_message_says_so() -> None:
    with pytest.raises(InputError, match=r"group mstkd\.detectors; none is installed"):
        load_detector("other")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("nowhere_at_all:make", "No module named 'nowhere_at_all'"),
        (f"{__name__}:gone", f"module '{__name__}' has no attribute 'gone'"),
        (f"{__name__}:make_nothing", "a NoneType"),
    ],
)
def test_a_plug_in_that_does_not_load(installed: list[EntryPoint], value: str, found: str) -> None:
    installed.append(plug_in("ours", value))
    with pytest.raises(InputError) as error:
        load_detector("ours")
    assert (error.value.where, error.value.found) == ("detector 'ours'", found)


def test_two_plug_ins_of_one_name_are_refused(installed: list[EntryPoint]) -> None:
    installed += [plug_in("ours", "b:make"), plug_in("ours", "a:make")]
    with pytest.raises(InputError, match="found two plug-ins: a:make, b:make"):
        load_detector("ours")


def test_entry_points_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pretended-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pretended\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[mstkd.detectors]\nmine = pretended_faces:make\n")
    (tmp_path / "pretended_faces.py").write_text("def make():\n    return lambda pixels: None\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_detector("mine")(np.zeros((1, 1, 3), np.uint8)) is None
