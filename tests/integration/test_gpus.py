"""Real processes on a machine that seems to have GPUs (``nvidia-smi`` is made up): what each sees, and who is refused.
torch finds none of them, so all compute on the CPU, as ``placement = "auto"`` allows."""

import json
import os
import subprocess
from contextlib import suppress

import psutil
import pytest
from leeway_rl.leeway.running.server import free_port

from tests.gpus import with_gpus
from tests.integration.running import SMALL, command, environment, kill, leeway, metrics, paused, role_pids

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RANKS = ["--set", "train.ranks=2", "--set", "train.zero_stage=1"]


def start(words, cwd, **variables):
    return subprocess.Popen(
        command(*words),
        cwd=cwd,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def visible(run, role, cwd):
    """What ``CUDA_VISIBLE_DEVICES`` is in each process of a role."""
    found = []
    for pid in role_pids(run, role, cwd):
        with suppress(psutil.NoSuchProcess):  # it was leaving
            if variables := psutil.Process(pid).environ():  # one that leaves has none any more
                found.append(variables.get("CUDA_VISIBLE_DEVICES"))
    return found


def test_the_processes_of_a_run_see_their_own_gpus_and_those_that_are_started_again_the_same(tmp_path, wait_until):
    path, folder = with_gpus(tmp_path / "bin", 2), tmp_path / "runs/placed"
    running = start(["up", "--run", "placed", *SMALL, *RANKS, "--set", "train.steps=12"], tmp_path, PATH=path)
    try:
        wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
        with paused(folder):
            assert visible("placed", "learner", tmp_path) == ["0,1"] * 3  # torchrun and its two ranks
            assert visible("placed", "rollout", tmp_path) == [""]  # the torch engine computes on the CPU
            assert visible("placed", "verifier", tmp_path)[0] == ""
            for role in ("learner", "rollout"):
                before = role_pids("placed", role, tmp_path)
                kill(before[0])
                wait_until(
                    lambda role=role, before=before: set(role_pids("placed", role, tmp_path)) - set(before),
                    f"the {role} is started again",
                    120,
                )
                assert set(visible("placed", role, tmp_path)) == {"0,1" if role == "learner" else ""}
        said, _ = running.communicate(timeout=600)
        assert running.returncode == 0, said
    finally:
        running.kill()
        running.communicate()
    assert leeway("audit", "placed", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("gpus", "words", "said"),
    [
        (1, RANKS, "train.ranks = 2 asks for 2 GPUs; this machine has 1; train.ranks = 1 fits"),
        (1, ["--set", "rollout.engine=vllm"], "this machine has 1, of which the learner has 1; none fits"),
        (0, ["--preset", "skywork-or1-7b"], "train.ranks = 4 asks for 4 GPUs; this machine has none"),
    ],
)
def test_what_the_machine_has_not_is_refused_before_anything_starts(tmp_path, gpus, words, said):
    path = with_gpus(tmp_path / "bin", gpus)
    refused = start(["up", "--run", "greedy", *SMALL[:2], *words], tmp_path, PATH=path)
    told, _ = refused.communicate(timeout=600)
    assert (refused.returncode, len(told.splitlines())) == (2, 1), told
    assert said in told
    assert not (tmp_path / "runs").exists()


def test_two_nodes_of_the_learner_meet_at_the_first(tmp_path, redis_url):
    """Both nodes are this machine."""
    run, path = f"nodes-{os.getpid()}", with_gpus(tmp_path / "bin", 2)
    made = leeway("create", run, *SMALL, *RANKS, "--set", "train.steps=2", "--redis-url", redis_url, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    first = ["--nodes", "2", "--first-node", f"127.0.0.1:{free_port()}"]
    processes = [
        start([role, run, "--redis-url", redis_url, *more], tmp_path, PATH=path, CUDA_VISIBLE_DEVICES=gpu)
        for role, gpu, more in (
            ("rollout", "", []),
            ("verifier", "", []),
            ("learner", "0", [*first, "--node", "1"]),
            ("learner", "1", [*first, "--node", "2"]),
        )
    ]
    try:
        told = [process.communicate(timeout=600)[0] for process in reversed(processes)]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0, 0], told
    folder = tmp_path / "runs" / run
    newest = max((folder / "checkpoints").iterdir())
    assert json.loads((newest / "complete.json").read_text())["layout"] == {"zero_stage": 1, "ranks": 2}
