"""The page over tables of scored pairs: its numbers, and whom and what it answers."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from networks import TEACHERS, save_adaptor, save_teachers, subject
from PIL import Image
from processes import STUCK_SECONDS, read_line, started
from scipy import stats
from typer.testing import CliRunner
from werkzeug.test import Client

from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.artifacts.sources import provenance_of
from mstkd.cli.app import app
from mstkd.config import AuditSettings, EvaluationSettings
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import open_cache
from mstkd.errors import InputError
from mstkd.evaluation.fused import trace_adaptors
from mstkd.evaluation.scorefiles import read_scores, write_hdf5
from mstkd.models.weights import save_model
from mstkd.view import found
from mstkd.view.app import View
from mstkd.view.found import score_tables
from mstkd.view.looked import HARDEST, even_thresholds

SETTINGS = AuditSettings(folds=2)
MSTKD = Path(sys.executable).with_name("mstkd")


def drawn(people: int = 40, *, group: str = "A", seed: int = 0) -> list[dict[str, object]]:
    """A genuine and an impostor pair for every two people, none of whom is in two pairs."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for number in range(people):
        for same in (1, 0):
            one = f"{group}{number}-{same}"
            other = one if same else f"{one}-other"
            score = random.normal(0.6 if same else 0.1, 0.2)
            rows.append(
                {"group": group, "identity1": one, "identity2": other, "same": same}
                | {"similarity": round(float(np.clip(score, -1, 1)), 4)}
                | {"image1": f"{one}/a.png", "image2": f"{other}/b.png"}
            )
    return rows


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = (",".join(f'"{value}"' for value in row.values()) for row in rows)
    path.write_text("\n".join([",".join(rows[0]), *quoted]) + "\n", encoding="utf-8")
    return path


class Asking:
    """A browser that knows the token."""

    def __init__(self, folder: Path, *, images: Path | None = None, more=None, **settings) -> None:
        self.view = View(folder, SETTINGS.model_copy(update=settings), images, more)
        self._client = Client(self.view)

    def get(self, address: str, *, method: str = "GET", **headers):
        headers = {"Host": "127.0.0.1:5000"} | headers
        return self._client.open(address, method=method, headers=headers)

    def own(self, address: str = "", **options):
        return self.get(f"/{self.view.token}/{address}", **options)

    def told(self, address: str):
        answer = self.own(address)
        assert answer.status_code == 200, answer.text
        return answer.json

    def fault(self, address: str) -> str:
        answer = self.own(address)
        assert answer.status_code == 422, answer.text
        text = answer.json["fault"]
        assert "\n" not in text
        return text

    def picture(self, address: str) -> np.ndarray:
        answer = self.own(address)
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "image/png"
        return np.asarray(Image.open(io.BytesIO(answer.data)))


# ---------------------------------------------------------------- numbers


@pytest.fixture
def audited(tmp_path):
    """A folder with a table of two groups."""
    rows = [*drawn(), *drawn(30, group="B", seed=1)]
    write_csv(tmp_path / "some/scores.csv", rows)
    return tmp_path, rows


def test_rates_are_those_of_counting(audited):
    folder, rows = audited
    told = Asking(folder).told("tables/0")
    assert [one["name"] for one in told["groups"]] == ["A", "B"]
    assert len(told["fmr"]) == len(told["fnmr"]) == 3
    for row, groups in enumerate(("A", "B", "AB")):
        here = [one for one in rows if one["group"] in groups]
        genuine = [one["similarity"] for one in here if one["same"]]
        impostor = [one["similarity"] for one in here if not one["same"]]
        for place, threshold in enumerate(told["thresholds"]):
            accepted = sum(one >= threshold for one in impostor) / len(impostor)
            missed = sum(one < threshold for one in genuine) / len(genuine)
            assert told["fmr"][row][place] == pytest.approx(accepted, abs=1e-12)
            assert told["fnmr"][row][place] == pytest.approx(missed, abs=1e-12)
    assert (told["fmr"][2][0], told["fnmr"][2][0]) == (1, 0)
    assert (told["fmr"][2][-1], told["fnmr"][2][-1]) == (0, 1)
    first = told["first"]
    assert told["fmr"][2][first] <= 0.01 < told["fmr"][2][first - 1]
    # Ten false matches of 70 pairs can be told of no FMR below.
    assert [one["fmr"] for one in told["marks"]] == [0.01]


def test_intervals_of_people_who_are_in_one_pair_are_wilsons(audited):
    folder, rows = audited
    told = Asking(folder).told("tables/0/rates?threshold=0.3")
    for kind, same in (("fmr", 0), ("fnmr", 1)):
        for row, groups in enumerate(("A", "B", "AB")):
            wrong = [
                (one["similarity"] >= 0.3) != bool(same)
                for one in rows
                if one["group"] in groups and one["same"] == same
            ]
            rate, low, high = told[kind][row]
            expected = stats.binomtest(sum(wrong), len(wrong)).proportion_ci(method="wilson")
            assert rate == pytest.approx(np.mean(wrong), abs=1e-12)
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_the_hardest_pairs_are_told_in_order(audited):
    folder, rows = audited
    told = Asking(folder).told("tables/0")
    for group in told["groups"]:
        for kind, same, sign in (("genuine", 1, 1), ("impostor", 0, -1)):
            here = [
                (sign * row["similarity"], place)
                for place, row in enumerate(rows)
                if row["group"] == group["name"] and row["same"] == same
            ]
            assert group[kind] == len(here)
            hardest = group["hardest"][kind]
            assert [one["row"] for one in hardest] == [place for _, place in sorted(here)[:HARDEST]]
            one, row = hardest[0], rows[hardest[0]["row"]]
            assert one["similarity"] == row["similarity"]
            assert one["people"] == [row["identity1"], row["identity2"]]
            assert one["images"] == [row["image1"], row["image2"]]


def test_pairs_across_groups_are_counted_and_left_out(tmp_path):
    rows = [{**row, "group1": row["group"], "group2": row["group"]} for row in drawn()]
    rows += [{**rows[1], "group2": "B", "identity1": "x", "image1": "x/x.png"}]
    rows += [{**row, "group1": "B", "group2": "B"} for row in drawn(10, group="B")]
    for row in rows:
        row.pop("group")
    rows[80]["similarity"] = 1.0
    write_csv(tmp_path / "scores.csv", rows)
    told = Asking(tmp_path).told("tables/0")
    assert told["across"] == 1
    assert told["groups"][0]["impostor"] == 40
    assert told["thresholds"][-1] < 1.0


def test_groups_are_made_of_the_columns_asked_for(tmp_path):
    rows = [{**row, "sex": "fm"[place // 2 % 2]} for place, row in enumerate(drawn())]
    write_csv(tmp_path / "scores.csv", rows)
    told = Asking(tmp_path, group=("group", "sex")).told("tables/0")
    assert [one["name"] for one in told["groups"]] == ["A/f", "A/m"]
    assert "a column" in Asking(tmp_path, group=("age",)).fault("tables/0")


def test_more_groups_than_one_can_look_at_are_refused(tmp_path):
    rows = [row for number in range(65) for row in drawn(2, group=f"g{number}", seed=number)]
    write_csv(tmp_path / "scores.csv", rows)
    assert "65 groups; expected 64 at most" in Asking(tmp_path).fault("tables/0")


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *((-1.0, 1.0), (0.2, 0.2000001), (-3e5, -1e-3), (0, 1e300), (1, 1 + 2e-16)),
        *((-1e308, 1e308), (0.1, 0.1), (5e-324, 1e-320), (0.0, 0.999)),
    ],
)
def test_thresholds_lie_around_all_scores_in_few_steps(low, high):
    found = even_thresholds(np.array([high, low]))
    assert found[0] <= low <= high < found[-1]
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()
    assert len(found) <= 2_100
    if (low, high) == (-1.0, 1.0):
        assert found.tolist() == [float(f"{place}e-3") for place in range(-1000, 1003, 2)]


# ---------------------------------------------------------------- which tables


def test_tables_are_known_by_what_they_hold(tmp_path):
    rows = drawn(4)
    for name in ("b.csv", "deep/er/c.csv", ".hidden/d.csv", "deep/.e/f.csv"):
        write_csv(tmp_path / name, rows)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    write_csv(tmp_path / "with-distances.csv", [{"p1": 1, "p2": 2, "dist": 0.5, "label": 1}])
    table = read_scores(tmp_path / "b.csv", folds=2)
    for name in ("model/scores.h5", "other.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_hdf5(table, tmp_path / name)
    # What is none:
    write_csv(tmp_path / "rates.csv", [{"system": "x", "group": "A", "fmr": 0.1, "fnmr": 0.2}])
    write_csv(tmp_path / "own.csv", [{"x": 1, "cos": 0.1}])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "not.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "not.h5").write_bytes(b"no HDF5")
    (tmp_path / "long.csv").write_bytes(b"similarity" * 100_000)
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "linked").symlink_to(tmp_path / "deep")
    names = [one.name for one in score_tables(tmp_path, SETTINGS)]
    assert names == [
        *("a.csv.gz", "b.csv", "deep/er/c.csv", "model", "other.h5", "with-distances.csv")
    ]
    asked = SETTINGS.model_copy(update={"score": "cos"})
    assert "own.csv" in [one.name for one in score_tables(tmp_path, asked)]


def test_packs_and_caches_are_no_tables(tmp_path, verification_packs):
    shutil.copy(verification_packs[0], tmp_path)
    with pytest.raises(InputError, match="no table of scored pairs"):
        score_tables(tmp_path, SETTINGS)


def test_too_many_tables_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(found, "MOST", 2)
    for name in "abc":
        write_csv(tmp_path / f"{name}.csv", drawn(4))
    with pytest.raises(InputError, match="more than 2 tables"):
        score_tables(tmp_path, SETTINGS)


def test_a_damaged_table_is_one_line_and_the_others_are_there(tmp_path):
    write_csv(tmp_path / "a.csv", drawn(4))
    table = read_scores(tmp_path / "a.csv", folds=2)
    for name in ("flipped", "cut", "empty"):
        (tmp_path / name).mkdir()
        write_hdf5(table, tmp_path / name / "scores.h5")
        data = bytearray((tmp_path / name / "scores.h5").read_bytes())
        data[data.index(np.float64(table.similarity[0]).tobytes())] ^= 1
        changed = {"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[name]
        (tmp_path / name / "scores.h5").write_bytes(changed)
    write_csv(tmp_path / "z.csv", [{**drawn(4)[0], "similarity": "high"}])
    asking = Asking(tmp_path)
    names = [one.name for one in asking.view._tables]
    assert names == ["a.csv", "cut", "empty", "flipped", "z.csv"]
    assert "'high' in the column 'similarity'" in asking.fault("tables/4")
    for number in (1, 2, 3):
        assert "scores.h5: found" in asking.fault(f"tables/{number}")
    assert asking.told("tables/0")["groups"][0]["name"] == "A"


@pytest.mark.parametrize("words", ["", "Unable to allocate 8 GiB"])
def test_a_table_that_does_not_fit_into_memory_is_told(audited, monkeypatch, words):
    def read(*_, **__):
        raise MemoryError(*filter(None, [words]))

    monkeypatch.setattr("mstkd.view.app.read_scores", read)
    told = words or "it is used up"
    assert Asking(audited[0]).fault("tables/0") == f"too little memory ({told})"


def test_a_table_that_changes_is_read_again(tmp_path):
    path = write_csv(tmp_path / "scores.csv", drawn(4))
    asking = Asking(tmp_path)
    assert asking.told("tables/0")["groups"][0]["genuine"] == 4
    write_csv(path, drawn(5))
    assert asking.told("tables/0")["groups"][0]["genuine"] == 5
    path.unlink()
    assert "No such file" in asking.fault("tables/0")


# ---------------------------------------------------------------- whom it answers


def test_a_page_is_answered(audited):
    answer = Asking(audited[0]).own()
    assert answer.status_code == 200
    assert "some/scores.csv" in answer.text


def test_a_wrong_token_is_told_as_little_as_a_wrong_address(audited):
    asking = Asking(audited[0])
    token = asking.view.token
    assert len(token) >= 32 and Asking(audited[0]).view.token != token
    nothing = asking.own("nothing")
    assert nothing.status_code == 404
    for wrong in (token[:-1], f"{token}a", token.swapcase(), "", "é", "%00", "x" * 60_000):
        for address in ("", "view.js", "tables/0", "tables/0/pairs/0/0.png"):
            answer = asking.get(f"/{wrong}/{address}")
            assert (answer.status_code, answer.data) == (404, nothing.data)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost", "localhost:65535"])
def test_this_machine_is_answered_on_any_port(audited, host):
    assert Asking(audited[0]).own(Host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:5000"),
        *("127.0.0.2", "0.0.0.0", "[::1]", "localhost.", "127.0.0.1@evil.example", ""),
    ],
)
def test_another_host_is_not(audited, host):
    """A page of evil.example whose name was bound to 127.0.0.1 names evil.example as the host."""
    answer = Asking(audited[0]).own(Host=host)
    assert (answer.status_code, answer.data) == (403, b"another host than this machine\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"])
def test_other_methods_are_not(audited, method):
    answer = Asking(audited[0]).own("tables/0", method=method)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_is_answered_without_a_body(audited):
    asking = Asking(audited[0])
    for address in ("tables/0", "view.js", "nothing"):
        head, whole = (asking.own(address, method=method) for method in ("HEAD", "GET"))
        assert head.data == b"" and head.status_code == whole.status_code
        assert head.headers["Content-Length"] == str(len(whole.data))


@pytest.mark.parametrize(
    "address",
    [
        *("../some/scores.csv", "some/scores.csv", "..%2f..%2fetc/passwd", "%2e%2e/etc/passwd"),
        *("tables/../../some/scores.csv", "tables//0", "/etc/passwd", "//etc/passwd", "view.html"),
        *("tables/1", "tables/-1", "tables/0x0", "tables/9" + "9" * 5_000, "app.py", "view.js/"),
        *("tables/0/pairs/140", "tables/0/pairs/140/0.png", "tables/0/pairs/0/2.png"),
        *("tables/0/rates", "tables/0/rates?threshold=nan", "tables/0/rates?threshold=inf"),
        *("tables/0/rates?threshold=x", "tables/0/rates?threshold=__import__('os')"),
    ],
)
def test_nothing_else_lies_below_the_token(audited, address):
    answer = Asking(audited[0]).own(address)
    assert (answer.status_code, answer.data) == (404, b"no such page\n")


def test_every_answer_forbids_what_a_page_could_do_elsewhere(audited):
    asking = Asking(audited[0])
    answers = [asking.own(address) for address in ("", "view.js", "tables/0", "nothing")]
    answers += [asking.own(method="POST"), asking.own(Host="evil.example")]
    answers += [asking.own("tables/0/pairs/0/0.png")]
    for answer in answers:
        told = answer.headers["Content-Security-Policy"]
        policy = dict(part.strip().split(" ", 1) for part in told.split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == policy["img-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in told
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers
    # A nonce is of one answer.
    first, second = (asking.own().headers["Content-Security-Policy"] for _ in range(2))
    assert first != second


def test_the_page_asks_nobody_else(audited):
    text = Asking(audited[0]).own().text
    assert "http:" not in text and "https:" not in text
    script = Asking(audited[0]).own("view.js").text
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert sink not in script


def test_names_are_escaped(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    rows = [{**row, "group": evil} for row in drawn()]
    rows[0] |= {"identity1": "a\u202eb", "identity2": "a\u202eb", "similarity": -1}
    write_csv(tmp_path / f"{evil}.csv", rows)
    asking = Asking(tmp_path)
    page = asking.own().text
    assert evil not in page and "&lt;img src=x onerror=alert(1)&gt;.csv" in page
    answer = asking.own("tables/0")
    assert answer.mimetype == "application/json"
    assert answer.json["groups"][0]["name"] == evil  # `view.js` makes a text node of it
    assert "\u202e" not in json.dumps(answer.json, ensure_ascii=False)
    assert answer.json["groups"][0]["hardest"]["genuine"][0]["people"][0] == "a\\u202eb"


# ---------------------------------------------------------------- pictures


def save_face(path: Path, seed: int = 0, size: int = 16) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def pictured(tmp_path):
    """A table beside a folder of the pictures it names, and one of a stranger's."""
    rows = drawn(4)
    names = ["ok.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", "folder/a.png"]
    names += ["pipe.png", "gone.png", "text.png", "large.png", "a\0b.png", "round.png"]
    for number, name in enumerate(names):
        rows[number // 2] |= {f"image{number % 2 + 1}": name.replace("\0", "")}
    write_csv(tmp_path / "results/scores.csv", rows)
    images = tmp_path / "images"
    pixels = save_face(images / "ok.png")
    save_face(tmp_path / "secret.png")
    save_face(tmp_path / "elsewhere/a.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    (images / "round.png").symlink_to("round.png")
    os.mkfifo(images / "pipe.png")
    (images / "text.png").write_text("root:x:0:0")
    save_face(images / "large.png", size=500)
    return tmp_path, names, pixels


def test_pictures_of_a_folder_are_those_that_lie_in_it(pictured):
    folder, names, pixels = pictured
    asking = Asking(folder / "results", images=folder / "images")
    assert asking.told("tables/0")["pictureless"] is None

    def address(name: str) -> str:
        number = names.index(name)
        return f"tables/0/pairs/{number // 2}/{number % 2}.png"

    np.testing.assert_array_equal(asking.picture(address("ok.png")), pixels)
    assert max(asking.picture(address("large.png")).shape) == 224
    secret = str(folder / "secret.png")
    for name in ("../secret.png", secret, "link.png", "folder/a.png"):
        assert "found a file that lies elsewhere" in asking.fault(address(name))
    for name in ("pipe.png", "gone.png"):
        assert "found no such file" in asking.fault(address(name))
    fault = asking.fault(address("text.png"))
    assert "not a JPEG, PNG or WebP image" in fault and "0:0" not in fault
    asking.fault(address("round.png"))


def test_pictures_of_further_formats_are_shown_where_they_are_asked_for(tmp_path):
    rows = drawn(4)
    rows[0] |= {"image1": "a.bmp"}
    write_csv(tmp_path / "results/scores.csv", rows)
    pixels = save_face(tmp_path / "images/a.png")
    Image.fromarray(pixels).save(tmp_path / "images/a.bmp")
    address = "tables/0/pairs/0/0.png"
    given = {"images": tmp_path / "images"}
    fault = Asking(tmp_path / "results", **given).fault(address)
    assert "not a JPEG, PNG or WebP image" in fault and "--more-suffixes .bmp reads" in fault
    asking = Asking(tmp_path / "results", more=(".bmp",), **given)
    np.testing.assert_array_equal(asking.picture(address), pixels)


def test_the_command_hands_them_on(tmp_path, monkeypatch):
    asked = []

    def view(*given):
        asked.append(given)
        raise InputError("x", found="y", expected="z")

    monkeypatch.setattr("mstkd.view.serving.View", view)
    CliRunner().invoke(app, ["view", str(tmp_path), "--more-suffixes", ".bmp,.tif"])
    assert asked == [(tmp_path, SETTINGS, None, (".bmp", ".tif"))]


def test_without_a_folder_of_pictures_none_is_read(pictured):
    folder, *_ = pictured
    asking = Asking(folder / "results")
    assert "--images" in asking.told("tables/0")["pictureless"]
    assert "--images" in asking.fault("tables/0/pairs/0/0.png")
    with pytest.raises(InputError, match="expected a folder of images"):
        View(folder / "results", SETTINGS, folder / "nowhere")


# ---------------------------------------------------------------- results of an experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, packs, verification_packs):
    """Results with packs, teachers, their cache, an adaptor, a student of it; all scored."""
    folder = tmp_path_factory.mktemp("view") / "results"
    (folder / "packs").mkdir(parents=True)
    tested = [Path(shutil.copy(path, folder / "packs")) for path in verification_packs]
    teachers, cache = save_teachers(folder, packs)
    adaptor = save_adaptor(folder / "adaptors", "DuL", cache)
    trace_adaptors(
        EvaluationSettings(folds=2),
        teachers=teachers,
        adaptors=[adaptor],
        packs=tested,
        cache=cache,
        outputs=[adaptor.with_name("metrics.json")],
        output=folder / "tracing.json",
        device="cpu",
    )
    table = read_scores(adaptor.with_name("scores.h5"))
    student = save_student(folder / "students/DuL/seed0/model.safetensors", adaptor, cache)
    write_scored(student, table, tested)
    write_scored(teachers[0], table, tested)
    return folder


def write_scored(weights: Path, table, tested) -> None:
    """Scores beside the weights that they are said to be of."""
    own = read_record(ModelRecord, weights.with_suffix(".json")).weights_sha256
    read = {weights: own} | {path: open_pack(path).sha256 for path in tested}
    scores = weights.with_name("scores.h5")
    write_hdf5(table, scores, provenance_of("evaluate", None, read, scores))


def save_student(student: Path, adaptor: Path, cache: Path) -> Path:
    taught = read_record(ModelRecord, adaptor.with_name("model.json")).weights_sha256
    made_of = open_cache(cache).sha256
    save_model(
        student,
        state={"weight": torch.zeros(1)},
        history=[{"epoch": 1}],
        subject=subject("DuL", kind="student", loss="a-KD"),
        settings={},
        image_size=16,
        inputs={"embeddings": made_of, "adaptor": taught},
        chosen_epoch=1,
        chosen_by="the only epoch",
        sources={cache: made_of, adaptor: taught},
    )
    return student


@pytest.fixture
def moved(experiment, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(experiment, tmp_path / "results")
    return tmp_path / "results"


ADAPTOR, TEACHER, STUDENT = 0, 1, 2
NAMES = ["adaptors/DuL/seed0", "specialized/T-A/seed0", "students/DuL/seed0"]


def test_models_are_listed_by_where_they_lie(experiment):
    page = Asking(experiment).own().text
    for number, name in enumerate(NAMES):
        assert f'<option value="{number}">{name}</option>' in page
    assert page.count("<option") == 3


def test_pictures_of_packs_are_those_of_the_pairs(experiment, pixels):
    asking = Asking(experiment)
    assert asking.told(f"tables/{STUDENT}")["pictureless"] is None
    for number, group in enumerate("AB"):
        path = experiment / f"packs/{group}.h5"
        pack, faces = open_pack(path), pixels(path)
        for pair in (0, 5, 11):
            for side in (0, 1):
                shown = asking.picture(f"tables/{STUDENT}/pairs/{12 * number + pair}/{side}.png")
                np.testing.assert_array_equal(shown, faces[pack.pairs[pair, side]])


def test_a_clicked_pair_shows_whose_its_fused_similarity_is(experiment):
    asking = Asking(experiment)
    scores = read_scores(experiment / NAMES[ADAPTOR] / "scores.h5")
    for pair in (0, 4, 17):
        told = asking.told(f"tables/{ADAPTOR}/pairs/{pair}")
        assert told["similarity"] == pytest.approx(scores.similarity[pair], abs=1e-5)
        assert [one["name"] for one in told["teachers"]] == [*TEACHERS, "none"]
        for kind in ("part", "shapley"):
            total = sum(one[kind] for one in told["teachers"])
            assert total == pytest.approx(told["similarity"], abs=1e-9)
        for side in (0, 1):
            assert sum(one["faces"][side] for one in told["teachers"]) == pytest.approx(1)
        assert asking.told(f"tables/{STUDENT}/pairs/{pair}") == told


def test_what_has_no_teachers_says_so(experiment, tmp_path):
    asking = Asking(experiment)
    assert "found those of a teacher; expected the scores of a student" in asking.fault(
        f"tables/{TEACHER}/pairs/0"
    )
    write_csv(tmp_path / "scores.csv", drawn())
    assert "no model.json beside it" in Asking(tmp_path).fault("tables/0/pairs/0")


def test_scores_of_other_weights_are_not_traced(moved):
    student = moved / NAMES[STUDENT]
    shutil.copy(moved / NAMES[TEACHER] / "scores.h5", student)
    assert "scores of other weights" in Asking(moved).fault(f"tables/{STUDENT}/pairs/0")


def test_another_pack_than_was_scored_is_not_shown(moved):
    shutil.copy(moved / "packs/B.h5", moved / "packs/A.h5")
    asking = Asking(moved)
    assert "found another pack" in asking.told(f"tables/{STUDENT}")["pictureless"]
    assert "found another pack" in asking.fault(f"tables/{STUDENT}/pairs/0/0.png")
    (moved / "packs/A.h5").unlink()
    assert "no such file" in Asking(moved).told(f"tables/{STUDENT}")["pictureless"]


def test_packs_elsewhere_are_read_only_below_a_folder_that_was_named(moved):
    elsewhere = moved.parent / "elsewhere"
    (moved / "packs").rename(elsewhere)
    (moved / "packs").symlink_to(elsewhere)
    asking = Asking(moved)
    assert "found a file that lies elsewhere" in asking.told(f"tables/{STUDENT}")["pictureless"]
    assert "found a file that lies elsewhere" in asking.fault(f"tables/{STUDENT}/pairs/0/0.png")
    named = Asking(moved, images=elsewhere)
    assert named.told(f"tables/{STUDENT}")["pictureless"] is None
    assert named.picture(f"tables/{STUDENT}/pairs/0/0.png").shape == (16, 16, 3)


def test_records_lead_to_no_file_outside(moved):
    """What they name outside is a pipe: whoever opens that to read waits for ever."""
    outside = moved.parent / "outside"
    outside.mkdir()
    for name in ("model.safetensors", "model.json", "cache.h5"):
        os.mkfifo(outside / name)
    record_path = moved / NAMES[STUDENT] / "model.json"
    record = read_record(ModelRecord, record_path)
    for hash_, name in (("adaptor", "model.safetensors"), ("embeddings", "cache.h5")):
        sources = [
            one.model_copy(update={"path": f"../../../../outside/{name}"})
            if one.sha256 == record.inputs[hash_]
            else one
            for one in record.sources
        ]
        if hash_ == "adaptor":
            record.model_copy(update={"sources": sources}).write(record_path)
            asked = STUDENT
        else:
            adaptor_record = moved / NAMES[ADAPTOR] / "model.json"
            adaptor = read_record(ModelRecord, adaptor_record)
            sources = [
                one.model_copy(update={"path": str(outside / name)}) for one in adaptor.sources
            ]
            adaptor.model_copy(update={"sources": sources}).write(adaptor_record)
            asked = ADAPTOR
        fault = Asking(moved).fault(f"tables/{asked}/pairs/0")
        assert f"outside/{name}: found a file that lies elsewhere" in fault
    record_path.unlink()
    record_path.symlink_to(outside / "model.json")
    assert not record_path.is_file()  # so it is passed over unopened
    assert "no model.json beside it" in Asking(moved).fault(f"tables/{STUDENT}/pairs/0")


@pytest.mark.parametrize("of", [NAMES[ADAPTOR], NAMES[TEACHER]])
def test_a_record_that_is_a_pipe_is_not_waited_for(moved, of):
    record = moved / of / "model.json"
    record.unlink()
    os.mkfifo(record)
    fault = Asking(moved).fault(f"tables/{STUDENT}/pairs/0")
    assert f"{of}/model.json: found no plain file" in fault


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere"], "nowhere: found no such folder; expected a folder of results"),
        (["empty"], "empty: found no table of scored pairs below it; expected scores.h5, or a CSV"),
        (["some", "--images", "nowhere"], "nowhere: found no such folder; expected a folder of im"),
        (["some", "--kind", "odd"], "view: kind: found 'odd'"),
    ],
)
def test_faults_are_one_line(tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "some/scores.csv", drawn(4))
    done = CliRunner().invoke(app, ["view", *options])
    assert done.exit_code == 2
    assert told in done.output.replace(str(tmp_path.resolve()) + "/", "")
    assert done.output.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(audited):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["view", str(audited[0]), "--port", port])
    assert done.exit_code == 2
    assert f"--port: found {port}: " in done.output and done.output.count("\n") == 1


def test_without_werkzeug_it_says_what_to_install(audited):
    code = "import sys; sys.modules['werkzeug'] = None; from mstkd.cli.app import main; main()"
    command = [sys.executable, "-c", code, "view", audited[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = "view: found no werkzeug; expected the extra view: pip install 'mstkd[view]'\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mstkd: error: {expected}"


def listening(port: int) -> list[str]:
    """The addresses, in hexadecimal digits, on which a port of this machine is listened on."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return [
        one[1].split(":")[0] for one in lines if one[1].endswith(f":{port:04X}") and one[3] == "0A"
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_it_serves_this_machine_until_it_is_ended(audited, number, code):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with started([MSTKD, "view", audited[0]], **pipes) as server:
        address = urlsplit(read_line(server.stdout).strip())
        assert address.hostname == "127.0.0.1"
        assert listening(address.port) == ["0100007F"]
        # A connection that says nothing keeps nobody waiting.
        with socket.create_connection((address.hostname, address.port)):
            for host, status in ((address.netloc, 200), ("evil.example", 403)):
                asking = HTTPConnection(address.hostname, address.port)
                asking.request("GET", f"{address.path}tables/0", headers={"Host": host})
                assert asking.getresponse().status == status
                asking.close()
        with socket.create_connection((address.hostname, address.port)) as odd:
            odd.sendall(b"\x1b[31m nonsense\r\n\r\n")
            assert b"400" in odd.recv(1000)
        server.send_signal(number)
        assert server.wait(STUCK_SECONDS) == code
        assert (server.stdout.read(), server.stderr.read()) == (b"", b"")
