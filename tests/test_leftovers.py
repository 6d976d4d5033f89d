"""What a test leaves behind is found, told and ended: a pytest inside the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import STUCK_SECONDS, read_line, started

# Leaves a process that says so, of another group and soon of another parent.
DAEMON = """
import subprocess, sys
wait = "import os, signal; print('stays', flush=True); os.close(2); signal.pause()"
command = [sys.executable, "-c", wait]
subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True).stderr.read()
"""
INNER = f"""
import os, signal, subprocess, sys
import leftovers, pytest

leftovers.LEAVING_SECONDS = 0.1

def start_daemon():
    subprocess.run([sys.executable, "-c", {DAEMON!r}], check=True)

def test_that_leaves_one():
    start_daemon()

def test_after_it():
    pass

@pytest.fixture(scope="session")
def shared():
    start_daemon()

def test_that_shares_one(shared):
    pass

def test_that_shares_it_again(shared):
    pass

def test_that_kills_pytest():
    start_daemon()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def inner(tmp_path):
    """A function that runs one test or more; all they start writes to the pipe that it reads."""
    (tmp_path / "test_inner.py").write_text(INNER)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "pytest", "-p", "leftovers", "-p", "no:cacheprovider", "-s"]

    def run(*names):
        return subprocess.run(
            [*command, "-q", "--color=no", *(f"test_inner.py::{name}" for name in names)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=STUCK_SECONDS,
            check=False,
        )

    return run


def test_a_process_that_outlives_its_test_is_that_test_s_fault(inner):
    done = inner("test_that_leaves_one", "test_after_it")
    assert "ERROR at teardown of test_that_leaves_one" in done.stdout
    assert "processes are left behind:" in done.stdout and "signal.pause()" in done.stdout
    assert "2 passed, 1 error" in done.stdout


def test_what_tests_share_may_live_until_the_last_of_them(inner):
    done = inner("test_that_shares_one", "test_that_shares_it_again")
    assert "ERROR at teardown of test_that_shares_it_again" in done.stdout
    assert "2 passed, 1 error" in done.stdout


def test_nothing_outlives_a_killed_pytest(inner):
    done = inner("test_that_kills_pytest")  # comes back when no process has the pipe open
    assert done.returncode == -9
    assert "stays" in done.stdout


def test_what_is_started_ends_with_all_that_it_started():
    here, there = os.pipe()
    with open(here, "rb", buffering=0) as pipe:  # noqa: PTH123, a descriptor
        with started([sys.executable, "-c", DAEMON], stdout=there) as process:
            os.close(there)
            assert process.wait(STUCK_SECONDS) == 0
            assert read_line(pipe) == "stays\n"
        assert read_line(pipe) == ""
