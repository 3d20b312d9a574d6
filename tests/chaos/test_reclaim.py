"""A dead worker's groups come back from behind hundreds of live leases, in real processes."""

import pytest
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.leeway.chaos.reclaim import reclaim


@pytest.mark.slow
@pytest.mark.parametrize("stream", [WorkStream.PROMPTS, WorkStream.RESPONSES])
def test_fifty_of_fifty_come_back_and_none_of_five_hundred(tmp_path, stream):
    found = reclaim(tmp_path, stream, live=500, dead=50, lease_s=4.0)
    assert (found.back, found.stolen) == (50, 0)
