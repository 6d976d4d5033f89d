"""Nothing outlives the test that started it: the fixtures that see to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import processes
import pytest
from processes import kill, marked, new_mark, wait_for

LEAVING_SECONDS = 60.0  # for what is about to end; only a fault waits so long


@pytest.fixture(scope="session")
def mark() -> Iterator[str]:
    """What all processes of these tests carry; those that are left in the end are killed."""
    mark = new_mark()
    resource_tracker.ensure_running()  # Python's own: unmarked, it ends with this process
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", Path(processes.__file__), mark],
        stdin=subprocess.PIPE,
        start_new_session=True,  # what ends the tests' group does not end it
    )
    os.environ[mark] = "1"
    yield mark
    guard.communicate()


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_tests(mark: str) -> Iterator[None]:
    yield
    assert_gone(mark, besides={})


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test(mark: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up before a test's other fixtures and after those that several tests share."""
    shared = marked(mark)
    yield
    # A cluster's jobs come and go beside its tests; they end with it.
    if request.node.get_closest_marker("slurm") is None:
        assert_gone(mark, besides=shared)


def assert_gone(mark: str, *, besides: dict[int, str]) -> None:
    """Fail if some process stays; it is killed then."""

    def left() -> dict[int, str]:
        return {process: words for process, words in marked(mark).items() if process not in besides}

    try:
        wait_for(lambda: not left(), LEAVING_SECONDS)
    except AssertionError:
        stayed = left()
        kill(stayed)
        told = "".join(f"\n  {process}: {words}" for process, words in stayed.items())
        pytest.fail(f"processes are left behind:{told}", pytrace=False)
