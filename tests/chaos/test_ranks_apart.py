"""Ranks without a shared disk, by the real commands: the proof that is part of make chaos, as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = Path(__file__).resolve().parents[2] / "tests/proofs/ranks_apart.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_ranks_without_a_shared_disk_are_refused_and_the_run_ends_as_one_left_alone(tmp_path):
    # DeepSpeed, in this process, has put the tests' own ranks into the environment.
    environment = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    command = [sys.executable, "-P", str(PROOF), "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("holds          ") == 6
    assert "incarnations     2," in done.stdout, "a refused start is none"
