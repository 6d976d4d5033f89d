"""Steps killed at moments drawn by chance: a few of each; kills.py does as many as one likes."""

import pytest
from kills import KILLED, kill_steps
from power_loss import small_parts

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_step_ends_as_one_that_nobody_killed(tmp_path, name):
    with small_parts():
        count = kill_steps(name, tmp_path / "killed", kills=3, seed=0)
    assert not count.faults, "\n".join(count.faults)
    assert sum(count.kills.values()) >= 3 and count.ends
