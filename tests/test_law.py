"""A few walks of tests/law.py; its main runs as many as one likes."""

import random
import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from law import EVENTS, Walks, World, differing, quick_jobs

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    with quick_jobs():
        yield Walks(tmp_path_factory.mktemp("law"))


# Each event with a number that decides its details: Hypothesis shortens a sequence that fails.
events = st.lists(
    st.tuples(st.sampled_from([event for event, _ in EVENTS]), st.integers(0, 999)),
    min_size=2,
    max_size=5,
)


@seed(0)
@settings(
    max_examples=5,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(events)
def test_whatever_happened_the_plain_command_ends_as_a_fresh_run(walks, events):
    walks.walk([(event, random.Random(number)) for event, number in events])


def test_results_of_another_config_are_seen_without_the_memory_of_snakemake(walks, tmp_path):
    """A finished run of A, jobs of B that finish by themselves, back to A."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    before = world.digests()
    world.choice["students.losses"] = 1
    assert world.run().returncode == 0
    shutil.rmtree(world.folder / ".snakemake")
    world.choice["students.losses"] = 0
    told = world.run()
    assert told.returncode == 0, told.stdout + told.stderr
    assert not differing(world.digests(), before)


def test_a_missing_sibling_hides_no_stale_result(walks, tmp_path):
    """scores.h5 is missed by nobody; metrics.json beside it is of another order of groups."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    shutil.rmtree(world.folder / ".snakemake")
    folder = world.folder / "results/teachers/tiny/specialized/T-B/seed0"
    (folder / "scores.h5").unlink()
    world.choice["groups"] = 1
    plan = world.run("--dry-run")
    assert f"{folder.relative_to(world.folder)}/metrics.json" in plan.stdout
