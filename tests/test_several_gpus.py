"""A job that computes on several GPUs gets all of them or none."""

import contextlib
import subprocess
import sys

import pytest
from processes import STUCK_SECONDS, started

from mstkd.compute.devices import own_together
from mstkd.compute.leases import Gpu, take, take_together

GPUS = [Gpu(number, letter * 4) for number, letter in enumerate("abc")]
TOGETHER = """
import sys
from pathlib import Path
from mstkd.compute.leases import Gpu, take_together
gpus = [Gpu(number, letter * 4) for number, letter in enumerate("abc")]
for _ in range(200):
    leases = take_together(gpus, 2, directory=Path(sys.argv[1]), seconds_between_tries=0.001)
    assert len({lease.gpu for lease in leases}) == 2
    for lease in leases:
        lease.release()
"""


class WaitedError(Exception):
    """Stands for a wait that would never end."""


@pytest.fixture
def _no_wait(monkeypatch):
    def sleep(seconds):
        raise WaitedError

    monkeypatch.setattr("mstkd.compute.leases.time.sleep", sleep)


def release(leases):
    for lease in leases:
        lease.release()


@pytest.mark.usefixtures("_no_wait")
def test_all_or_none(tmp_path):
    held = take(GPUS[1:2], directory=tmp_path / "locks")
    leases = take_together(GPUS, 2, directory=tmp_path / "locks")
    assert [lease.gpu for lease in leases] == [GPUS[0], GPUS[2]]
    release(leases)
    with pytest.raises(WaitedError):
        take_together(GPUS, 3, directory=tmp_path / "locks")
    # It keeps none of those that it found free while it waits.
    release([take(GPUS, directory=tmp_path / "locks") for _ in range(2)])
    held.release()
    release(take_together(GPUS, 3, directory=tmp_path / "locks"))


@pytest.mark.usefixtures("_no_wait")
def test_where_jobs_share_a_gpu_the_ranks_of_one_do_not(tmp_path):
    jobs = [take_together(GPUS[:2], 2, directory=tmp_path / "locks", jobs=2) for _ in range(2)]
    assert [[lease.gpu for lease in leases] for leases in jobs] == [GPUS[:2]] * 2
    with pytest.raises(WaitedError):
        take(GPUS[:2], directory=tmp_path / "locks", jobs=2)
    for leases in jobs:
        release(leases)


def test_two_that_want_several_do_not_wait_for_each_other(tmp_path):
    """Three GPUs and two jobs of two: one at a time, and neither for ever."""
    command = [sys.executable, "-c", TOGETHER, str(tmp_path / "locks")]
    with contextlib.ExitStack() as ended:
        jobs = [ended.enter_context(started(command, stderr=subprocess.DEVNULL)) for _ in range(2)]
        assert [job.wait(STUCK_SECONDS) for job in jobs] == [0, 0]


@pytest.mark.usefixtures("_no_wait")
def test_two_jobs_in_one_allocation_share_its_gpus_out(tmp_path):
    environment = {"SLURM_JOB_ID": "1", "SLURM_STEP_GPUS": "0,1,2"}
    options = {"directory": tmp_path / "locks", "environment": environment}
    leases = own_together(GPUS, 2, **options)
    assert [lease.gpu for lease in leases] == GPUS[:2]
    with pytest.raises(WaitedError):
        own_together(GPUS, 2, **options)
    release([*leases, *own_together(GPUS, 1, **options)])


def test_the_one_gpu_of_a_step_is_taken_as_it_is(tmp_path):
    options = {"directory": tmp_path / "locks", "environment": {"SLURM_STEP_GPUS": "7"}}
    (lease,) = own_together(GPUS[:1], 1, **options)
    assert (lease.gpu, lease.descriptors) == (GPUS[0], ())
    assert not (tmp_path / "locks").exists()
