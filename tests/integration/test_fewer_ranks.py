"""A run of two ranks goes on under one, by the documented command."""

import json
import shlex
import shutil
import signal

import pytest
from leeway_rl.common.config import parse

from tests.integration.running import SMALL, leeway, metrics, pause, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FEWER = "leeway up my-run --resume --set train.ranks=1"
"""docs/how-to/other-ranks.md."""


def test_a_run_of_two_ranks_goes_on_under_one_and_its_books_are_whole(tmp_path, wait_until):
    ranks = ["--set", "train.ranks=2", "--set", "train.zero_stage=1", "--set", "train.steps=16"]
    running = start("up", "--run", "my-run", *SMALL, *ranks, cwd=tmp_path)
    folder = tmp_path / "runs/my-run"
    wait_until(lambda: len(metrics(folder)) >= 2, "the second step", 300)
    with pause(folder):  # it cannot be through before it is asked
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=600)
    assert running.returncode == 130, said
    shutil.rmtree(folder / "redis")  # with it goes the pause

    refused = leeway(*shlex.split(FEWER)[1:], "--set", "train.learning_rate=1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--set of train.ranks, train.zero_stage, rollout.workers" in refused.stderr
    again = leeway(*shlex.split(FEWER)[1:], cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert leeway("audit", "my-run", cwd=tmp_path).returncode == 0
    assert [line["step"] for line in metrics(folder)] == list(range(16))
    newest = max((folder / "checkpoints").iterdir())
    made = json.loads((newest / "complete.json").read_text())
    assert made["layout"] == {"zero_stage": 1, "ranks": 1}
    assert parse((folder / "config.toml").read_text()).train.ranks == 1
