"""A run's folder has one ``leeway up``: the second is told who has it and touches nothing; a killed one is followed."""

import os
import signal

import pytest

from tests.integration.running import leeway, metrics, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = ["--preset", "tiny", "--set", "train.groups_per_step=4", "--set", "train.group_size=4"]
SMALL += ["--set", "train.steps=100000", "--set", "train.checkpoint_every=2"]


def test_a_second_start_of_a_run_is_refused_and_a_killed_one_is_gone_on_with(tmp_path, wait_until):
    folder = tmp_path / "runs" / "twice"
    first = start("up", *SMALL, "--run", "twice", cwd=tmp_path)
    try:
        wait_until(lambda: len(metrics(folder)) >= 3 or first.poll() is not None, "the third step", 300)
        assert first.poll() is None
        url = (folder / "redis-url").read_text()
        second = leeway("up", "--run", "twice", "--resume", cwd=tmp_path)
        assert second.returncode == 5, second.stderr
        assert f"run 'twice': process {first.pid} on " in second.stderr
        assert (folder / "redis-url").read_text() == url
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    made = len(metrics(folder))
    third = start("up", "--run", "twice", "--resume", cwd=tmp_path)  # what the killed one started is leaving
    try:
        wait_until(lambda: len(metrics(folder)) >= made + 3 or third.poll() is not None, "three steps more", 300)
        assert third.poll() is None, third.stdout.read()
    finally:
        third.send_signal(signal.SIGINT)
        third.communicate(timeout=600)
