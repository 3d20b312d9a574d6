"""``leeway data run`` killed at any moment, its grader under way: the same command again ends with the same bytes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.running import command, environment, leeway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RECIPE = str(Path(__file__).parents[2] / "examples" / "data" / "recipe.toml")
KILLS = int(os.environ.get("LEEWAY_TEST_KILLS", "2"))


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    began = time.monotonic()
    whole = leeway("data", "run", RECIPE, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    took_s, rng = time.monotonic() - began, random.Random(11)
    due = (tmp_path / "whole" / "data.parquet").read_bytes()
    for number in range(KILLS):
        out = f"killed-{number}"
        words = command("data", "run", RECIPE, "--out", out)
        with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment()) as process:
            time.sleep(rng.uniform(0.3, 0.95) * took_s)  # what is tested is when it dies
            process.send_signal(signal.SIGKILL)
        while (again := leeway("data", "run", RECIPE, "--out", out, cwd=tmp_path)).returncode == 3:
            assert "another process writes there" in again.stderr, "its grader has not left yet"
        assert again.returncode == 0, again.stderr
        assert (tmp_path / out / "data.parquet").read_bytes() == due
