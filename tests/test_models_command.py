"""What a person types to use a model: answers, files, exit codes, and faults in one line."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from foreignnetworks import AdaFace, DualLayer, trained
from networks import save_teacher, subject
from PIL import Image
from typer.testing import CliRunner

import mstkd
from mstkd.cli.app import app
from mstkd.evaluation.auditing.audit import audit

MSTKD = Path(sys.executable).with_name("mstkd")


@pytest.fixture
def here(tmp_path, monkeypatch, packs, verification_packs):
    """Two models, packs of pairs and two faces, where a person types."""
    for name, seed in (("one", 1), ("two", 2)):
        saved = save_teacher(tmp_path / "made", subject("T-A"), packs, weights_seed=seed)
        shutil.copytree(saved.parent, tmp_path / name)
    shutil.copytree(verification_packs[0].parent, tmp_path / "pairs")
    random = np.random.default_rng(0)
    (tmp_path / "faces").mkdir()
    for name in ("a.png", "b.png"):
        pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words, code=0):
    told = CliRunner().invoke(app, [str(word) for word in words])
    assert told.exit_code == code, (told.output, told.exception)
    return told.stdout


def fault(*words):
    told = CliRunner().invoke(app, [str(word) for word in words])
    assert told.exit_code == 2, told.output
    lines = told.stderr.splitlines()
    [line] = [one for one in lines if one.startswith("mstkd: error: ")]
    return line


def test_embed_writes_what_an_audit_reads(here):
    told = typed("embed", "faces", "faces/b.png", "--model", "one", "--output", "e.npz")
    assert told == "e.npz; 3 embeddings of 8 dimensions\n"
    with np.load("e.npz", allow_pickle=False) as found:
        assert list(found["images"]) == ["faces/a.png", "faces/b.png", "faces/b.png"]
        expected = mstkd.load("one").embed(["faces/a.png", "faces/b.png", "faces/b.png"])
        assert np.array_equal(found["embeddings"], expected)
    rows = ["image1,image2,group,identity1,identity2,same"]
    names = []
    for person in range(4):
        for number in range(2):
            pixels = np.random.default_rng(10 * person + number).integers(0, 256, (16, 16, 3))
            names.append(f"people/{person}-{number}.png")
            Path("people").mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(names[-1])
    for person in range(4):
        other = (person + 1) % 4
        rows.append(f"people/{person}-0.png,people/{person}-1.png,A,{person},{person},1")
        rows.append(f"people/{person}-0.png,people/{other}-0.png,A,{person},{other},0")
    Path("pairs.csv").write_text("\n".join(rows) + "\n")
    typed("embed", "people", "--model", "one", "--output", "people.npz")
    typed(
        *("audit", "--embeddings", "people.npz", "--pairs", "pairs.csv", "--output", "audit"),
        *("--folds", "2"),
    )
    assert Path("audit/measures.csv").exists()


@pytest.mark.parametrize("kind", ["bmp", "tif", "pgm"])
def test_further_images_are_read_where_they_are_asked_for(here, kind):
    """Named one by one or in a folder; the embeddings are those of the same pixels in PNG."""
    Path("others").mkdir()
    for name in "ab":
        grey = Image.open(f"faces/{name}.png").convert("L")
        grey.save(f"faces/{name}.png")
        grey.save(f"others/{name}.{kind}")
    more = ("--more-suffixes", f".{kind}")
    made = ("--model", "one", "--output")
    typed("embed", "faces", "faces/b.png", *made, "png.npz")
    typed("embed", "others", f"others/b.{kind}", *made, "others.npz", *more)
    with np.load("png.npz") as plain, np.load("others.npz") as found:
        assert np.array_equal(plain["embeddings"], found["embeddings"])
        assert found["images"].tolist() == [f"others/{name}.{kind}" for name in "abb"]
    assert "found no image" in fault("embed", "others", *made, "e.npz")
    told = f"; data.more_suffixes: [.{kind}] or --more-suffixes .{kind} reads such images"
    assert fault("embed", f"others/a.{kind}", *made, "e.npz") == (
        f"mstkd: error: others/a.{kind}: found not a JPEG, PNG or WebP image; "
        f"expected an aligned face of 16 x 16 pixels{told}"
    )
    pair = (f"others/a.{kind}", f"others/b.{kind}", "--model", "one", "--threshold", "-1")
    assert fault("verify", *pair).endswith(told)
    assert typed("verify", *pair, *more).startswith("one person: ")
    assert fault("info", "one", "--face", f"others/a.{kind}").endswith(told)
    typed("info", "one", "--face", f"others/a.{kind}", *more)


def test_pairs_of_further_images_are_read_where_they_are_asked_for(here):
    rows = []
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(here / f"{number}.bmp")
    for number in range(0, 24, 4):
        for one, other, same in ((0, 1, 1), (2, 3, 1), (0, 2, 0), (1, 3, 0)):
            ends = f"{number + one}.bmp,{number + other}.bmp"
            persons = f"p{(number + one) // 2},p{(number + other) // 2}"
            rows.append(f"{ends},{same},A,{number // 4},{persons}")
    header = "path1,path2,same,group,fold,identity1,identity2"
    Path("pairs.csv").write_text("\n".join([header, *rows]) + "\n")
    for words in (("compare", "one", "two"), ("calibrate", "one", "--fmr", "0.9")):
        arguments = (*words, "--pairs", "pairs.csv")
        refused = CliRunner().invoke(app, list(arguments))
        assert "0.bmp: not a JPEG, PNG or WebP image\n" in refused.stderr
        typed(*arguments, "--more-suffixes", ".bmp")


def test_endings_that_no_decoder_reads_are_refused_in_python_too(here):
    with pytest.raises(mstkd.InputError, match=r"load: more_suffixes\.0: found '\.gif'"):
        mstkd.load("one", more_suffixes=[".gif"])


def test_verify_exits_as_it_decides(here):
    pair = ("faces/a.png", "faces/b.png")
    similarity = mstkd.load("one").verify(*pair).similarity
    told = typed("verify", *pair, "--model", "one", code=3)
    assert told == (
        f"similarity {similarity:.4f}; no threshold is known: mstkd calibrate sets one, "
        "or --threshold\n"
    )
    assert typed("verify", *pair, "--model", "one", "--threshold", "-1").startswith("one person: ")
    told = typed("verify", *pair, "--model", "one", "--threshold", "1", code=1)
    assert told.startswith("two people: similarity ")
    told = json.loads(
        typed("verify", *pair, "--model", "one", "--threshold", "1", "--json", code=1)
    )
    assert told == {
        "similarity": pytest.approx(similarity),
        "threshold": 1.0,
        "same": False,
        "errors": {},
    }


def test_a_threshold_of_another_use_is_to_be_set_anew(here):
    """With the mirror image or without: `export --no-mirror` says how."""
    calibrate = ("calibrate", "one", "--pairs", "pairs", "--fmr", "0.9")
    typed(*calibrate)
    exported = ("export", "one", "--output", "m.pt2", "--no-mirror")
    assert fault(*exported) == (
        "mstkd: error: one/model.safetensors: calibration: found mirror=True, rgb, -1..1; "
        "expected mirror=False, rgb, -1..1, as it is loaded; "
        "mstkd calibrate --no-mirror sets a threshold for that"
    )
    typed(*calibrate, "--no-mirror")
    assert typed(*exported).startswith("m.pt2; ")


def test_a_calibrated_model_decides_and_says_how_often_wrongly(here):
    told = typed("calibrate", "one", "--pairs", "pairs", "--fmr", "0.9")
    found = mstkd.load("one").calibration()
    assert told.startswith(f"threshold {found.threshold:.4f} (")
    assert told.endswith("one/model.calibration.json\n")
    pair = ("faces/a.png", "faces/b.png")
    same = mstkd.load("one").verify(*pair).same
    told = typed("verify", *pair, "--model", "one", "--json", code=0 if same else 1)
    errors = json.loads(told)["errors"]
    assert set(errors) == {"A", "B"}
    assert errors["A"]["fmr"] == found.groups["A"].fmr.model_dump()
    assert "threshold " in typed("info", "one")
    told = json.loads(typed("calibrate", "one", "--pairs", "pairs", "--fmr", "0.95", "--json"))
    assert told["target_fmr"] == 0.95
    assert mstkd.load("one").calibration().threshold == told["threshold"]
    assert "one/model.calibration.json" in typed("provenance", "one/model.calibration.json")
    assert fault("calibrate", "one", "--pairs", "pairs", "--fmr", "0.01").endswith(
        "an FMR of 0.01: found 12 impostor pairs, of which 0.12 would match; expected 1,000, "
        "for 10 false matches"
    )


def test_compare_says_what_an_audit_of_both_says(here):
    told = typed("compare", "one", "two", "--pairs", "pairs")
    tables = {
        name: mstkd.load(name).score(sorted(Path("pairs").glob("*.h5"))).table
        for name in ("one", "two")
    }
    expected = audit(tables)
    rows = expected.comparisons[expected.comparisons["at"] == "own"]
    value = rows[rows["measure"] == "global_accuracy"]["value"].item()
    assert "one less two: global accuracy" in told
    [line] = [one for one in told.splitlines() if one.startswith("global accuracy")]
    assert f"{abs(value):.2f} (" in line
    assert [one.split()[0] for one in told.splitlines()[3:5]] == ["A", "B"]
    found = json.loads(typed("compare", "one", "two", "--pairs", "pairs", "--json"))
    assert len(found["comparisons"]) == len(expected.comparisons)
    assert found["measures"][0]["value"] == pytest.approx(expected.measures["value"][0])


def test_export_and_what_int8_costs(here):
    assert typed("export", "one", "--output", "one.onnx").startswith("one.onnx; ")
    told = json.loads(typed("export", "one", "--output", "one.pt2", "--json"))
    assert told["card"]["name"] == "T-A"
    told = typed("export", "one", "--output", "small.onnx", "--int8", "--pairs", "pairs")
    assert "int8 less float32: global accuracy" in told
    assert {"A", "B", "STD"} <= {line.split()[0] for line in told.splitlines()[3:] if line}
    assert "found no --pairs" in fault("export", "one", "--output", "x.onnx", "--int8")
    assert not Path("x.onnx").exists()
    told = json.loads(typed("compare", "one", "one.onnx", "--pairs", "pairs", "--json"))
    assert {row["value"] for row in told["comparisons"] if row["measure"] == "accuracy"} == {0}
    # What was exported is audited as any model is.
    typed(*("audit", "--model", "one.onnx", "--pairs", "pairs", "--output", "audit", "--folds", 2))
    assert "\none.onnx,A,accuracy,own," in Path("audit/measures.csv").read_text()


def test_info_says_what_a_model_is_and_how_its_colours_matter(here):
    told = typed("info", "one")
    assert told.startswith("name         T-A, teacher\nnetwork      iresnet of 1-1-1-1 blocks\n")
    assert "images       16 x 16 pixels, shown rgb -1..1\n" in told
    told = typed("info", "one", "--face", "faces/a.png")
    assert "rgb -1..1               1.0000    as is said\n" in told
    assert "\nbgr -1..1  " in told
    told = json.loads(typed("info", "one", "--pairs", "pairs", "--json"))
    assert told["calibration"] is None
    assert told["model"]["image_size"] == 16
    assert len(told["shown"]) == 8
    assert all(0 <= one["auc"] <= 1 for one in told["shown"])


def test_a_checkpoint_is_imported_and_then_used_as_any_model(here):
    torch.save({"state_dict": trained(AdaFace(side=16)).state_dict()}, "adaface.ckpt")
    line = fault("embed", "faces", "--model", "adaface.ckpt", "--output", "e.npz")
    assert "found no adaface.json beside it; expected colours=" in line
    told = typed(
        *("import-model", "adaface.ckpt", "--colours", "bgr", "--output", "theirs"),
        *("--pairs", "pairs"),
    )
    assert told.startswith("theirs/model.safetensors: iresnet of 2-1-3-1 blocks\n")
    assert "shown bgr -1..1" in told
    assert "\nrgb -1..1  " in told
    expected = mstkd.load("adaface.ckpt", colours="bgr").embed(["faces/a.png"])
    assert np.array_equal(mstkd.load("theirs").embed(["faces/a.png"]), expected)
    typed("compare", "theirs", "one", "--pairs", "pairs")
    typed(*("audit", "--model", "theirs", "--pairs", "pairs", "--output", "audit", "--folds", 2))
    assert "import-model" in typed("provenance", "theirs/model.safetensors")
    assert "colours: found 'grb'" in fault(
        "import-model", "adaface.ckpt", "--colours", "grb", "--output", "x"
    )


def test_an_imported_adaptor_says_what_was_left_out(here):
    torch.save(trained(DualLayer()).state_dict(), "adaptor.pth")
    told = typed("import-model", "adaptor.pth", "--colours", "rgb", "--output", "fused")
    assert told.startswith("fused/model.safetensors: adaptor of 4 teachers, DuL or DLDP\n")
    assert "left out: key_vector, value_vector, attention.in_proj_weight" in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "nothing"), "nothing: found no such model"),
        (("verify", "faces/a.png", "none.png", "--model", "one"), "none.png: found No such file"),
        (("embed", "faces", "--model", "one", "--output", "e.csv"), "e.csv: found .csv; expected"),
        (("embed", "one", "--model", "one", "--output", "e.npz"), "one"),
        (("compare", "one", "one", "--pairs", "pairs"), "found the same file twice"),
        (("compare", "one", "two", "--pairs", "none"), "none: found no such file or folder"),
        (("export", "one", "--output", "one.pt"), "one.pt: found .pt; expected .onnx or .pt2"),
    ],
)
def test_a_fault_is_one_line(here, words, message):
    assert message in fault(*words)


def test_the_command_itself_says_its_decision_by_its_exit_code(here):
    words = ("verify", "faces/a.png", "faces/a.png", "--model", "one", "--threshold", "0.9")
    told = subprocess.run([MSTKD, *words], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("one person: similarity 1.0000")


# ---------------------------------------------------------------- what the documents show

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def blocks(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return [one for one in BLOCK.findall(text) if "mstkd.load(" in one]


@pytest.mark.parametrize("name", ["README.md", "docs/models.md"])
def test_what_the_documents_show_runs(here, name, capsys):
    shutil.copytree("one", "results/students/small/specialized/SL/EAF-KD/seed0")
    shutil.copytree("pairs", "results/packs/verification")
    for face in ("a", "b"):
        Image.open(f"faces/{face}.png").save(f"{face}.jpg")
    [block] = blocks(name)
    told = {}
    # The tests' few pairs set no threshold for so low a rate, nor make ten folds.
    exec(block.replace("fmr=0.05", "fmr=0.9"), told)
    assert told["vectors"].shape == (2, 8)
    assert "T-A" in capsys.readouterr().out


def test_the_commands_that_the_documents_show_can_be_typed():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:\| `)?mstkd (.+?)(?:`.*)?$", text, re.M)
    assert len(lines) == 9
    commands = typer.main.get_command(app)
    context = typer.Context(commands, info_name="mstkd")
    for line in lines:
        name, *arguments = shlex.split(line)
        commands.get_command(context, name).make_context(name, arguments)
