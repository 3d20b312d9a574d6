"""A run whose hours are spent ends in order, and goes on with more of them as if it had never ended."""

import shutil
import subprocess
import sys
from contextlib import suppress
from math import cos, radians
from pathlib import Path

import pytest
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.ledger import last
from leeway_rl.common.queue.connection import RedisError

from tests.integration.running import SMALL, environment, last_checksum, leeway, metrics, pause, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = ("train.warmup_steps=3", "train.schedule=cosine", "train.final_share=0.0", "flow.max_staleness=0")
MORE = "leeway up my-run --resume --set train.hours=2"
"""docs/how-to/hours.md."""
STEPS = 28
BY_HAND = [1 / 3, 2 / 3, 1.0, *(0.5 + 0.5 * cos(radians(7.5 * each)) for each in range(25))]
"""Of the training steps: a warm-up over three, and half a cosine over the others."""


def test_a_run_ends_by_its_hours_and_with_more_of_them_ends_with_the_weights_of_one_process(tmp_path, wait_until):
    settings = [word for setting in (*SCHEDULE, f"train.steps={STEPS}") for word in ("--set", setting)]
    for hours in ("0.001", "0.0025", "0.01"):  # whichever is enough for the first step here
        home = tmp_path / hours
        home.mkdir()
        first = start("up", "--run", "my-run", *SMALL, *settings, "--set", f"train.hours={hours}", cwd=home)
        folder = home / "runs/my-run"
        wait_until(lambda at=folder, run=first: metrics(at) or run.poll() is not None, "the first step", 300)
        with suppress(BrokerError, RedisError), pause(folder):  # however fast its steps are; or its server has left
            first.wait(600)
        said, _ = first.communicate(timeout=600)
        end = last(folder / "ledger.jsonl")
        if end["version"]:
            break
    assert first.returncode == 0, said
    assert end["event"] == "end"
    assert 0 < end["version"] < STEPS
    assert float(hours) <= end["hours"] < 0.05
    assert f"has spent its train.hours = {hours} at step {end['version']} of {STEPS}" in said
    assert "audit passed: " in leeway("audit", "my-run", cwd=home).stdout

    again = leeway("up", "my-run", "--resume", cwd=home)
    assert again.returncode == 0
    assert "--resume --set train.hours=… with more of them goes on" in again.stdout
    assert last(folder / "ledger.jsonl") == end

    shutil.rmtree(folder / "redis")  # with it goes the pause
    more = leeway(*MORE.split()[1:], cwd=home)
    assert more.returncode == 0, more.stdout + more.stderr
    assert "hours" not in last(folder / "ledger.jsonl")
    assert leeway("audit", "my-run", cwd=home).returncode == 0
    assert [line["learning_rate"] for line in metrics(folder)] == pytest.approx([1e-4 * each for each in BY_HAND])
    plain = [sys.executable, str(ROOT / "examples/one_process.py"), "--steps", str(STEPS), *SMALL, *settings]
    said = subprocess.run(plain, capture_output=True, text=True, check=True, env=environment(), timeout=600).stdout
    assert said.split()[-1] == last_checksum(folder)
