"""The command line: one line for a user's fault, list options, the log, and no torch for help."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import teacher_settings
from PIL import Image
from reporting import write_metrics

MSTKD = Path(sys.executable).with_name("mstkd")


def mstkd(*arguments, cwd=None):
    return subprocess.run(
        [MSTKD, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_help_names_every_step_and_loads_no_torch():
    told = mstkd("--help")
    assert told.returncode == 0
    for step in ("synthesize", "pack-train", "train-teacher", "train-student", "render-table"):
        assert step in told.stdout
    code = "import sys, mstkd.cli.app; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version():
    from mstkd import __version__

    assert mstkd("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["split", "--settings", "{", "--packs", "a.h5", "--outputs", "b.csv"],
            "mstkd: error: --settings: found ",
        ),
        (
            ["split", "--settings", '{"sed": 1}', "--packs", "a.h5", "--outputs", "b.csv"],
            "mstkd: error: --settings: sed: found unknown key 'sed'; expected did you mean 'seed'?",
        ),
        (
            ["split", "--settings", "none.yaml", "--packs", "a.h5", "--outputs", "b.csv"],
            "mstkd: error: none.yaml: found no such file; expected a settings file",
        ),
        (
            ["split", "--settings", "{}", "--packs", "none.h5", "--outputs", "b.csv"],
            "mstkd: error: none.h5: ",
        ),
        (
            ["compute-claims", "--metrics", "none.json", "--output", "b.json"],
            "mstkd: error: none.json: found ",
        ),
        (["show-tables", "none.csv"], "mstkd: error: none.csv: found "),
    ],
)
def test_a_fault_is_one_line_and_exit_code_2(arguments, line, tmp_path):
    told = mstkd(*arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith(line)
    assert told.stderr.count("\n") == 1
    assert told.stdout == ""


def test_the_log_takes_all_output_and_errors_show_on_the_terminal_too(tmp_path):
    log = tmp_path / "logs" / "split.log"
    arguments = ["split", "--settings", "{}", "--packs", "none.h5", "--outputs", "b.csv"]
    told = mstkd("--log", log, *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert log.read_text() == told.stderr
    assert "mstkd: error: none.h5" in told.stderr


def test_list_options_take_several_values(tmp_path, packs):
    outputs = [tmp_path / "one.csv", tmp_path / "two.csv"]
    told = mstkd("split", "--outputs", *outputs, "--settings", "{}", "--packs", *packs)
    assert told.returncode == 0, told.stderr
    rows = [line for path in outputs for line in path.read_text().splitlines()[1:]]
    assert sorted(rows) == sorted([*(f"A,A{i}" for i in range(5)), *(f"B,B{i}" for i in range(3))])


def test_a_list_option_without_a_value_counts_as_not_given(tmp_path):
    told = mstkd("split", "--settings", "{}", "--packs", "--outputs", tmp_path / "a.csv")
    assert told.returncode == 2
    assert "--packs" in told.stderr


def test_a_teacher_set_that_is_none(tmp_path, packs):
    arguments = ["train-teacher", "--settings", teacher_settings().dump(), "--packs", *packs]
    arguments += ["--backbone", "b", "--set", "specialised", "--name", "T-A", "--seed", "0"]
    arguments += ["--split", "x.csv"]
    told = mstkd(*arguments, "--output", tmp_path / "model.safetensors")
    assert told.returncode == 2
    assert "--set: found 'specialised'; expected specialized or baseline or single" in told.stderr


def test_inspect_says_what_lies_there_and_exits_by_the_problems(tmp_path):
    for group in ("north", "south"):
        for identity in ("p1", "p2"):
            folder = tmp_path / "faces" / group / f"{group} {identity}"
            folder.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (16, 16), (9 * number, 0, 0)).save(folder / f"{number}.png")
    told = mstkd("inspect", tmp_path / "faces")
    assert told.returncode == 0, told.stderr
    assert "training folder" in told.stdout
    assert "north" in told.stdout
    (tmp_path / "faces/south/south p2/1.png").write_bytes(b"")
    told = mstkd("inspect", tmp_path / "faces")
    assert told.returncode == 1
    assert "south/south p2/1.png" in told.stdout
    told = mstkd("inspect", tmp_path / "none")
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1


def test_detect_landmarks_says_which_plug_ins_there_are(tmp_path):
    told = mstkd("detect-landmarks", tmp_path, "--detector", "x", "--output", tmp_path / "x.csv")
    assert told.returncode == 2
    assert "detector 'x': found no such plug-in" in told.stderr


def test_seeds_are_put_into_paths_models_first(tmp_path):
    """A command that names every file of ten thousand jobs is longer than Linux takes."""
    paths = [f"{name} {{seed}}.json" for name in ("first", "second")]
    for number, name in enumerate(("first", "second")):
        for seed in (-1, 20):
            folds = {"A": np.full(3, 90.0 + number), "B": np.full(3, 80.0 + seed / 20)}
            written = write_metrics(tmp_path, {}, name=name, seed=seed, folds=folds)
            written.rename(tmp_path / f"{name} {seed}.json")
    settings = '{"caption": "A", "groups": ["A", "B"]}'
    told = mstkd(
        *("render-table", "--settings", settings, "--metrics", *paths),
        *("--seeds", -1, 20, "--outputs", "table.csv"),
        cwd=tmp_path,
    )
    assert told.returncode == 0, told.stderr
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert [line.split(",")[1:4] for line in lines[1:]] == [
        ["first", "90.0", "80.475"],
        ["second", "91.0", "80.475"],
    ]
    claims = ("compute-claims", "--metrics", *paths, "--seeds", -1, "--output", "claims.json")
    assert mstkd(*claims, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "claims.json").read_text())["seeds"] == [-1]
    told = mstkd("compute-claims", "--metrics", paths[0], "--seeds", 3, "--output", "c.json")
    assert "first 3.json: found No such file" in told.stderr
