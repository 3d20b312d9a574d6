"""Rank 0 alone decides how long the others wait: no time-out of tensors ends them, and its death does at once."""

import signal

import pytest
from leeway_rl.learner import checkpoint
from leeway_rl.learner.ranks import RankLost
from two_ranks import begin, end, on_two_ranks

pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_ranks_live_while_rank_0_sleeps_past_the_time_out_of_tensors(model_path, tmp_path):
    """It sleeps while it publishes, while it waits for a batch, and while it writes each checkpoint."""
    on_two_ranks("asleep_on_ranks.py", model_path, tmp_path, "sleeps")
    assert checkpoint.newest(tmp_path / "checkpoints") == tmp_path / "checkpoints/step-000002"


@pytest.mark.parametrize("what", ["dies-waiting", "dies-training"])
def test_a_rank_whose_rank_0_is_dead_ends_with_a_word(model_path, tmp_path, what):
    """Without a launcher, which would end it as well."""
    logs = [tmp_path / f"rank-{rank}.log" for rank in (0, 1)]
    ranks = begin("asleep_on_ranks.py", [model_path, tmp_path, what], logs)
    try:
        for rank, code, within_s in ((0, -signal.SIGKILL, 300), (1, RankLost.exit_code, 60)):
            ranks[rank].join(within_s)
            assert ranks[rank].exitcode == code, logs[rank].read_text()
        assert "RankLost: another rank of the learner ended without a word" in logs[1].read_text().splitlines()[-1]
    finally:
        end(ranks)
