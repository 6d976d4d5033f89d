"""A few walks of tests/law.py; its main runs as many as one likes."""

import random
import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from law import EVENTS, Walks, World, differing, settle
from PIL import Image
from quickjobs import handed_to

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def walks(tmp_path_factory, job_server):
    with handed_to(job_server):
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


def test_shares_of_other_groups_there_and_back_end_as_fresh_runs(walks, tmp_path):
    """Two shares as a list, none again: which packs a teacher reads changes each time."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    before = world.digests()
    for choice in (2, 0):
        world.choice["teachers.foreign_share"] = choice
        settle(world)
        assert not differing(world.digests(), walks.of_fresh_run(world))
    assert not differing(world.digests(), before)


def test_several_sources_there_and_back_end_as_fresh_runs(walks, tmp_path):
    """One more, of whose faces a pack is made too; a file of it that changes; and none again."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    before = world.digests()
    world.choice["data.train"] = 1
    settle(world)
    assert not differing(world.digests(), walks.of_fresh_run(world))
    for image in (world.folder / "faces/other/A").rglob("000.jpg"):
        Image.new("RGB", (16, 16), (200, 10, len(image.parent.name))).save(image)
    plan = world.run("--dry-run")
    assert "faces/other/A changed" in plan.stdout, plan.stdout[-3000:]
    world.choice["data.train"] = 0
    settle(world)
    assert not differing(world.digests(), before)


def test_subsets_of_the_teachers_there_and_back_end_as_fresh_runs(walks, tmp_path):
    """One of a list, and none again: adaptors change their teachers, and names, not their cache."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    before = world.digests()
    for choice in (2, 0):
        world.choice["adaptors.fused"] = choice
        settle(world)
        assert not differing(world.digests(), walks.of_fresh_run(world))
    assert not differing(world.digests(), before)


def test_splits_of_each_seed_there_and_back_end_as_fresh_runs(walks, tmp_path):
    """Other files of the same identities, of the baseline and of a share; and one draw again."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    before = world.digests()
    for share, by_seed in ((1, 1), (0, 0)):
        world.choice.update({"teachers.foreign_share": share, "splits.by_seed": by_seed})
        settle(world)
        assert not differing(world.digests(), walks.of_fresh_run(world))
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


def delete(world, pattern):
    for path in (world.folder / "results").glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def edit_head(world):
    world.choice["teachers.head"] = 1


def replace_image(world):
    image = next((world.folder / "faces/train/A").rglob("*.jpg"))
    Image.new("RGB", (16, 16), (200, 10, 128)).save(image)
    world.changes.append("replaced")


@pytest.mark.parametrize("pattern", ["teachers", "packs", "embeddings", "splits"])
def test_what_is_deleted_is_not_missed_where_it_would_be_the_same(walks, tmp_path, pattern):
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    delete(world, pattern)
    plan = world.run("--dry-run")
    assert "Nothing to be done" in plan.stdout + plan.stderr, plan.stdout[-3000:]


@pytest.mark.parametrize(
    ("pattern", "edit"),
    [
        ("teachers", edit_head),
        ("embeddings", edit_head),
        ("*/tiny/*/*/seed0/*.safetensors", edit_head),
        ("packs", replace_image),
        (".packs", replace_image),
        ("*packs", edit_head),
    ],
)
def test_an_edit_of_what_is_deleted_is_seen(walks, tmp_path, pattern, edit):
    """What was made from it keeps what had been asked of it."""
    world = World(tmp_path / "world")
    shutil.copytree(walks.start, world.folder)
    delete(world, pattern)
    edit(world)
    settle(world)
    assert not differing(world.digests(), walks.of_fresh_run(world))
