"""A run's folder has one ``leeway up``: the second is told who has it and touches nothing; a killed one is followed."""

import os
import signal
import time

import pytest

from tests.integration.running import leeway, metrics, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
SMALL = ["--preset", "tiny", "--set", "train.groups_per_step=4", "--set", "train.group_size=4"]
SMALL += ["--set", "train.steps=200", "--set", "train.checkpoint_every=2"]


def test_a_second_start_of_a_run_is_refused_and_a_killed_one_is_gone_on_with(tmp_path):
    folder = tmp_path / "runs" / "twice"
    first = start("up", *SMALL, "--run", "twice", cwd=tmp_path)
    try:
        until = time.monotonic() + 180
        while len(metrics(folder)) < 3:
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        url = (folder / "redis-url").read_text()
        second = leeway("up", "--run", "twice", "--resume", cwd=tmp_path)
        assert second.returncode == 5, second.stderr
        assert f"run 'twice': process {first.pid} on " in second.stderr
        assert (folder / "redis-url").read_text() == url
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    made, until = len(metrics(folder)), time.monotonic() + 180
    third = start("up", "--run", "twice", "--resume", cwd=tmp_path)  # what the killed one started is leaving
    try:
        while len(metrics(folder)) < made + 3:
            assert third.poll() is None, third.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        third.send_signal(signal.SIGINT)
        third.communicate(timeout=60)
