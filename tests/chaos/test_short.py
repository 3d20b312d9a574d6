"""A short run under faults of every kind ends with the weights of an undisturbed one; the long one is make chaos."""

import json

import pytest
from leeway_rl.leeway.chaos.faults import FAULTS

from tests.integration.running import SMALL, last_checksum, leeway, metrics, paused, role_pids, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STRICT = [
    *SMALL,
    *("--set", "train.steps=24", "--set", "train.checkpoint_every=4", "--set", "flow.max_staleness=0"),
    *("--set", "broker.lease_s=2", "--set", "broker.heartbeat_s=0.5", "--set", "broker.max_attempts=10"),
    *("--set", "broker.generation_s=6", "--set", "broker.drain_s=6"),
]
LONG = {"redis-freeze", "stop-grader"}
"""Half a minute each; the status test freezes Redis, the long run does both."""


def test_under_faults_a_strict_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    calm = leeway("up", "--run", "calm", *STRICT, cwd=tmp_path)
    assert calm.returncode == 0, calm.stdout + calm.stderr
    only = [word for name in FAULTS if name not in LONG for word in ("--only", name)]
    words = ["chaos", "hurt", *STRICT, "--faults", "30", "--every-s", "0.1", "--per-step", "1.3", "--seed", "3", *only]
    hurt = leeway(*words, cwd=tmp_path, timeout=750)
    folder = tmp_path / "runs/hurt"
    said = hurt.stdout + hurt.stderr + (tmp_path / "runs/hurt.chaos/up.log").read_text()
    assert hurt.returncode == 0, said
    lines = [json.loads(line) for line in (folder / "chaos.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "strikes" for line in lines) >= 10, said
    assert last_checksum(folder) == last_checksum(tmp_path / "runs/calm"), said
    audited = leeway("audit", "hurt", cwd=tmp_path)
    assert audited.returncode == 0, audited.stderr
    assert [line["step"] for line in metrics(folder)][-1] == 23
    assert not any(role_pids("hurt", role, tmp_path) for role in ("learner", "rollout", "verifier"))


def test_a_run_that_is_under_way_is_rehearsed_on_and_what_came_too_late_is_named(tmp_path, wait_until):
    running = start("up", "--run", "live", *SMALL, "--set", "train.steps=36", cwd=tmp_path)
    folder = tmp_path / "runs/live"
    wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
    words = ["chaos", "live", "--faults", "3", "--every-s", "0.5"]
    kinds = ["--only", "kill", "--only", "payload-flipped", "--only", "net-cut"]
    with paused(folder):
        rehearsal = start(*words, *kinds, cwd=tmp_path)
        wait_until(lambda: (folder / "chaos.jsonl").exists() or rehearsal.poll() is not None, "it is under way", 300)
    told, _ = rehearsal.communicate(timeout=600)
    assert rehearsal.returncode == 0, told
    assert "without proxy: it has to be there before the run starts" in told
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 0, said
    assert leeway("audit", "live", cwd=tmp_path).returncode == 0
    for words, code in ((["live"], 3), (["nothing"], 3), (["live", "--only", "earthquake"], 2)):
        refused = leeway("chaos", *words, cwd=tmp_path)
        assert (refused.returncode, "Traceback" in refused.stderr) == (code, False), refused.stderr
