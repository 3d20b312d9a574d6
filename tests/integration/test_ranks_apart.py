"""Two learner ranks as on two nodes: each with a disk of its own, by the real command under torchrun."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.running import SMALL, environment, leeway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

RANKS = ["--set", "train.ranks=2", "--set", "train.zero_stage=1", "--set", "broker.drain_s=5"]
SCRIPT = Path(__file__).parent / "learner_rank.py"


def learner(run, url, cwd, *, runs="runs", home=None, timeout=240):
    """Two ranks, to their end; {rank} in ``runs`` and ``home`` is each rank's number."""
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["--", str(SCRIPT), "--run", run, "--redis-url", url, "--runs-dir", runs]
    return subprocess.run(
        [*launcher, *words],
        cwd=cwd,
        env=environment() | {"OMP_NUM_THREADS": "1", "HOME": home or os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def workers(run, url, cwd):
    """One of each."""
    roles = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", f"leeway_rl.{role}", "--run", run, "--redis-url", url],
            cwd=cwd,
            env=environment() | {"OMP_NUM_THREADS": "1"},
        )
        for role in ("rollout", "verifier")
    ]
    try:
        yield
    finally:
        for role in roles:
            role.kill()
            role.wait()


@pytest.fixture
def run(tmp_path, redis_url):
    """A run of two ranks in a Redis, with no process of it; give its id and where it is to be found."""
    name = f"apart-{os.getpid()}-{time.time_ns()}"
    done = leeway("create", "--run", name, *SMALL, *RANKS, "--redis-url", redis_url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    yield name
    leeway("clean", name, "--force", "--redis-url", redis_url, cwd=tmp_path)


def test_ranks_without_a_shared_disk_are_refused_and_named_before_anything_is_begun(tmp_path, run, redis_url):
    with workers(run, redis_url, tmp_path):
        done = learner(run, redis_url, tmp_path, runs=str(tmp_path / "node-{rank}"))
    assert done.returncode != 0
    assert f"rank 1 ({os.uname().nodename}) has {tmp_path}/node-1/{run}, which is another folder" in done.stderr
    assert "one runs folder that all of them share" in done.stderr
    assert "docs/cluster.md" in done.stderr
    assert not list(tmp_path.glob("node-*/*/checkpoints/step-*")), "nothing that could be taken for a checkpoint"
    assert not (tmp_path / "node-0" / run / "ledger.jsonl").exists(), "nothing was begun"
