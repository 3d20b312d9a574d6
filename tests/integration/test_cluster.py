"""The master of a run is killed with SIGKILL while the run goes on: in a Redis Cluster of six nodes, and behind three
Sentinels. At a bound of 0 the run ends with the weights of one process, so nothing was lost and nothing counted
twice."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from leeway_rl.common.ledger import read
from leeway_rl.leeway.proving.audit import audit

from tests.installations import cluster, watched
from tests.integration.running import SMALL, environment, last_checksum, leeway, metrics, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
STRICT = [*SMALL, "--set", "flow.max_staleness=0", "--set", "train.steps=8", "--set", "train.checkpoint_every=100"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The checksum that one process ends with."""
    words = [sys.executable, str(ROOT / "examples/one_process.py"), "--steps", "8", *STRICT]
    done = subprocess.run(
        words, cwd=tmp_path_factory.mktemp("alone"), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"[0-9a-f]{64}", done.stdout)[-1]


def played(url, master, kill, home, wait_until):
    """A run at ``url`` whose master is killed in the middle; its folder."""
    running = start("up", "--run", "hurt", *STRICT, "--redis-url", url, cwd=home)
    folder = home / "runs/hurt"
    try:
        wait_until(lambda: len(metrics(folder)) >= 3, "the third step", 120)
        before = master()
        kill(before)
        wait_until(lambda: len(metrics(folder)) >= 6, "it goes on", 120)
        assert master() != before
        status = leeway("status", "hurt", "--json", cwd=home)
        said, _ = running.communicate(timeout=120)
        assert running.returncode == 0, said
    finally:
        running.kill()
        running.communicate()
    assert json.loads(status.stdout)["situation"] in ("running", "finished"), status.stdout
    assert [line["step"] for line in metrics(folder)] == list(range(8)), "each step once"
    lines = list(read(folder / "ledger.jsonl"))
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(8))
    assert sum(line["event"] == "started" for line in lines) == 1, "the learner lived on"
    assert audit(folder / "ledger.jsonl").version == 8
    assert leeway("audit", "hurt", cwd=home).returncode == 0
    return folder


def test_a_master_of_a_cluster_is_killed_and_the_run_ends_with_the_weights_of_one_process(alone, tmp_path, wait_until):
    with cluster(tmp_path / "redis") as six:
        folder = played(six.url, lambda: six.owner("hurt"), six.kill, tmp_path, wait_until)
        assert last_checksum(folder) == alone
        known = leeway("runs", "--redis-url", six.url, cwd=tmp_path)
        doctor = leeway("doctor", "--redis-url", six.url, "--no-imports", cwd=tmp_path)
        cleaned = leeway("clean", "hurt", "--redis-url", six.url, cwd=tmp_path)
    print(known.stdout, known.stderr, doctor.stdout, cleaned.stdout)
    assert "keys removed" in cleaned.stdout, cleaned.stdout + cleaned.stderr


def test_a_master_behind_sentinels_is_killed_and_the_run_ends_with_the_weights_of_one_process(
    alone, tmp_path, wait_until
):
    with watched(tmp_path / "redis") as pair:
        folder = played(pair.url, pair.master, pair.kill, tmp_path, wait_until)
    assert last_checksum(folder) == alone
