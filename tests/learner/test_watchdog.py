"""Rank 0 alone decides how long the others wait: no time-out of tensors ends them, and its death does at once."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from leeway_rl.learner import checkpoint
from leeway_rl.learner.ranks import RankLost
from two_ranks import HERE, on_two_ranks

pytestmark = pytest.mark.timeout(400)


@pytest.mark.slow
def test_ranks_live_while_rank_0_sleeps_past_the_time_out_of_tensors(model_path, tmp_path):
    """It sleeps while it publishes, while it waits for a batch, and while it writes each checkpoint."""
    on_two_ranks("asleep_on_ranks.py", model_path, tmp_path, "sleeps", timeout_s=380)
    assert checkpoint.newest(tmp_path / "checkpoints") == tmp_path / "checkpoints/step-000002"


@pytest.mark.parametrize("what", ["dies-waiting", "dies-training"])
def test_a_rank_whose_rank_0_is_dead_ends_with_a_word(model_path, tmp_path, what):
    """Without a launcher, which would end it as well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(HERE / "asleep_on_ranks.py"), model_path, str(tmp_path), what]
    logs = [tmp_path / f"rank-{rank}.log" for rank in (0, 1)]
    ranks = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as file:
                ranks.append(subprocess.Popen(words, env=os.environ | common | {"RANK": str(rank)}, stderr=file))
        assert ranks[0].wait(300) == -signal.SIGKILL, logs[0].read_text()
        assert ranks[1].wait(60) == RankLost.exit_code, logs[1].read_text()
        assert "RankLost: another rank of the learner ended without a word" in logs[1].read_text().splitlines()[-1]
    finally:
        for each in ranks:
            each.kill()
            each.wait()
