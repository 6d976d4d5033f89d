"""The command line: one line for a user's fault, list options, the log, and no torch for help."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from networks import BACKBONE, subject, teacher_settings
from PIL import Image
from reporting import errors, verification_pairs, write_metrics, write_scored
from typer.testing import CliRunner

from mstkd.cli.app import app
from mstkd.cli.steps import STEPS
from mstkd.compute.ranks import ALONE
from mstkd.config import (
    LossSettings,
    NamedStudent,
    SelectionSettings,
    StudentOptimiser,
    StudentSettings,
    StudentsSettings,
)

ROOT = Path(__file__).parent.parent
MSTKD = Path(sys.executable).with_name("mstkd")
COMMANDS = typer.main.get_command(app)
CONTEXT = typer.Context(COMMANDS, info_name="mstkd")


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


def test_no_page_of_help_loads_torch_or_numpy():
    code = f"""
import sys
from typer.testing import CliRunner
from mstkd.cli.app import app
for command in {["", *COMMANDS.commands]}:
    told = CliRunner().invoke(app, [*command.split(), "--help"])
    assert told.exit_code == 0, told.output
    assert "Usage: " in told.output
heavy = {{"torch", "numpy", "h5py", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_shows_what_a_person_types_first_and_then_the_steps():
    told = mstkd("--help").stdout
    people, steps = told[told.index("─ Commands ─") :].split("─ Steps of the workflow ─")
    assert re.findall(r"^│ ([a-z-]+) ", people, re.M) == [
        *("init", "inspect", "detect-landmarks", "make-pairs", "audit", "trace", "view", "check"),
        *("provenance", "show-tables", "bench", "schema"),
        *("embed", "verify", "compare", "calibrate", "export", "info", "import-model"),
    ]
    assert re.findall(r"^│ ([a-z-]+) ", steps, re.M) == list(STEPS)


@pytest.mark.parametrize("name", sorted(set(COMMANDS.commands) - set(STEPS)))
def test_an_example_in_the_help_of_what_a_person_types_can_be_typed(name):
    command = COMMANDS.get_command(CONTEXT, name)
    summary, *_, example = command.help.split("\n\n")
    assert "Example" not in summary  # the page of all commands shows no more than this
    program, typed, *arguments = example.removeprefix("Example: ").split(" > ")[0].split()
    assert (program, typed) == ("mstkd", name)
    command.make_context(name, arguments)  # or an option is unknown, or one is missing


def given_by_rules():
    """Of every command in the rules: its name and its options."""
    text = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for shell in re.findall(r"shell:\n((?: +\".*\"\n)+)", text):
        line = "".join(re.findall(r'"(.*)"', shell))
        name = re.match(r"mstkd --log {log:q} ([a-z-]+)", line)[1]
        yield pytest.param(name, set(re.findall(r" (--[a-z]+)", line)) - {"--log"}, id=name)


@pytest.mark.parametrize(("name", "given"), [*given_by_rules()])
def test_rules_give_what_a_step_wants_and_nothing_else(name, given):
    options = options_of(name)
    assert given <= set(options)
    assert given >= {option for option, (required, *_) in options.items() if required}


def test_every_step_has_a_rule():
    assert {one.values[0] for one in given_by_rules()} == set(STEPS)


def options_of(name):
    """Required, default, takes several, least: by option."""
    return {
        param.opts[0]: (param.required, param.default or None, param.multiple, param.min)
        for param in COMMANDS.get_command(CONTEXT, name).params
        if param.opts != ["--help"]
    }


def test_options_follow_from_the_parameters_of_a_step():
    required, several, machine = (
        (True, None, False, None),
        (True, None, True, None),
        {
            "--threads": (False, 1, False, 1),
            "--device": (False, "auto", False, None),
            "--ranks": (False, 1, False, 0),
        },
    )
    left_out = (False, None, True, None)
    assert options_of("train-student") == machine | {
        **dict.fromkeys(
            ("--settings", "--output", "--backbone", "--set", "--name", "--loss"), required
        ),
        "--seed": required,
        "--packs": several,
        **dict.fromkeys(("--selection", "--cache", "--mirrored", "--adaptor", "--start"), left_out),
    }
    assert options_of("pack-train") == {
        "--settings": required,
        "--output": required,
        "--threads": (False, 1, False, 1),  # of the function's `workers`
    }
    assert options_of("evaluate")["--metrics"] == required  # one, which is written
    assert options_of("compute-claims") == {
        "--settings": required,
        "--metrics": several,
        "--output": required,
        "--seeds": left_out,
    }


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mstkd train-a", ["train-adaptor"]),
        ("mstkd prov", ["provenance"]),
        ("mstkd train-teacher --se", ["--seed", "--selection", "--set", "--settings"]),
    ],
)
def test_the_shell_completes_commands_and_options(typed, offered):
    environment = os.environ | {
        "_MSTKD_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    told = subprocess.run([MSTKD], env=environment, capture_output=True, text=True, check=False)
    assert sorted(told.stdout.split()) == offered


def test_a_mistyped_step_is_told_its_neighbour():
    told = mstkd("trian-teacher")
    assert told.returncode == 2
    assert "Did you mean 'train-teacher'?" in told.stderr


STUDENT = StudentSettings(
    embedding_dim=8,
    backbone=BACKBONE,
    loss=LossSettings(classification=False),
    optimiser=StudentOptimiser(),
    selection=SelectionSettings(),
)
STUDENTS = StudentsSettings(
    students=tuple(
        NamedStudent(adaptor=adaptor, loss=loss, settings=STUDENT)
        for adaptor, loss in (("SL", "a-KD"), ("DuL", "a-KD"), ("SL", "b-KD"))
    )
)
OF_A_SET = ("--packs", "A.h5", "B.h5", "--backbone", "b", "--set", "baseline", "--seed", "3")


def called(monkeypatch, function, *arguments):
    """What a step's function is called with, by name."""
    calls = []
    monkeypatch.setattr(function, lambda *args, **keywords: calls.append((args, keywords)))
    run = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    [call] = calls
    return call


def test_a_student_gets_what_the_command_line_gives(monkeypatch):
    _, given = called(
        monkeypatch,
        "mstkd.training.student.train_student",
        *("train-student", "--settings", STUDENT.dump(), *OF_A_SET, "--selection", "--adaptor"),
        *("--cache", "c.h5", "--name", "SL", "--loss", "a-KD", "--output", "x.safetensors"),
        *("--threads", 2, "--device", "cpu"),
    )
    assert given == {
        "settings": STUDENT,
        "subject": subject(
            "SL", kind="student", set_="baseline", backbone="b", seed=3, loss="a-KD"
        ),
        "packs": [Path("A.h5"), Path("B.h5")],
        "cache": Path("c.h5"),
        "output": Path("x.safetensors"),
        "threads": 2,
        "device": "cpu",
        "ranks": ALONE,
    }


def test_students_get_their_adaptors_and_outputs_in_the_order_of_the_settings(monkeypatch):
    outputs = [Path(f"{number}.safetensors") for number in range(3)]
    (students,), given = called(
        monkeypatch,
        "mstkd.training.student.train_students",
        *("train-students", "--settings", STUDENTS.dump(), *OF_A_SET, "--cache", "c.h5"),
        *("--adaptors", "SL.safetensors", "DuL.safetensors", "--outputs", *outputs),
    )
    assert [
        (one.subject.name, one.subject.loss, one.adaptor.stem, one.output) for one in students
    ] == [
        ("SL", "a-KD", "SL", outputs[0]),
        ("DuL", "a-KD", "DuL", outputs[1]),
        ("SL", "b-KD", "SL", outputs[2]),
    ]
    assert all((one.subject.set, one.subject.seed) == ("baseline", 3) for one in students)
    assert all(one.settings == STUDENT for one in students)
    assert (given["cache"], given["threads"], given["ranks"]) == (Path("c.h5"), 1, ALONE)
    assert list(given["selection"]) == []


@pytest.mark.parametrize(
    ("step", "settings", "files", "line"),
    [
        (
            "train-student",
            STUDENT,
            "--name SL --loss a-KD --output x.safetensors --cache c.h5 d.h5",
            "--cache: found 2 files; expected at most one",
        ),
        (
            "train-students",
            STUDENTS,
            "--cache c.h5 --adaptors SL DuL --outputs x.safetensors",
            "--outputs: found 1 files; expected 3",
        ),
        (
            "train-students",
            STUDENTS,
            "--cache c.h5 --adaptors SL --outputs x y z",
            "--adaptors: found 1 files; expected 2",
        ),
    ],
)
def test_a_student_has_one_cache_and_students_a_file_each(step, settings, files, line, tmp_path):
    told = mstkd(step, "--settings", settings.dump(), *OF_A_SET, *files.split(), cwd=tmp_path)
    assert (told.returncode, told.stderr) == (2, f"mstkd: error: {line}\n")


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
            ["compute-claims", "--settings", "{}", "--metrics", "none.json", "--output", "b.json"],
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
    pairs = verification_pairs(("A", "B"))
    for number, name in enumerate(("SL", "DuL")):
        for seed in (-1, 20):
            wrong = errors(pairs, {"A": 90, "B": 80}, seed=number)
            write_scored(tmp_path, pairs, wrong, name=name, seed=seed)
    claims = ("compute-claims", "--settings", '{"draws": 100}', "--output", "claims.json")
    paths = [f"student-iresnet34-specialized-{one}-a-KD-seed{{seed}}" for one in ("SL", "DuL")]
    claims = (*claims, "--metrics", *(f"{path}/metrics.json" for path in paths))
    told = mstkd(*claims, "--seeds", -1, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    found = json.loads((tmp_path / "claims.json").read_text())
    assert found["seeds"] == [-1]
    assert [model["subject"]["name"] for model in found["models"]] == 2 * ["SL", "DuL"]
    told = mstkd(*claims, "--seeds", 3, cwd=tmp_path)
    assert "a-KD-seed3/metrics.json: found No such file" in told.stderr
