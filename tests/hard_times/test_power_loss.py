"""The power fails: some folders of each step; power_loss.py cuts after every call."""

import pytest
from disklog import can_record
from power_loss import STEPS, cut, record_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_record(), reason="needs strace, and a system that lets it look on"),
]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record_runs(list(STEPS), tmp_path_factory.mktemp("recordings"))


@pytest.mark.parametrize("name", STEPS)
def test_a_power_cut_leaves_nothing_that_is_wrong_and_looks_right(recordings, name):
    found = cut(recordings[name], drawn=1, most=12)
    assert not found.faults, "\n".join(found.faults)
    assert found.folders == 12 and found.outcomes["new"] > 0
