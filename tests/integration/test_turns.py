"""Whole runs in conversation with a calculator, through the real command line."""

import signal
from pathlib import Path

import numpy as np
import pytest
from leeway_rl.common.ledger import read

from tests.integration.running import last_checksum, leeway, metrics, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PRESET = ("--preset", "tiny-calculator")
SMALL = [
    *PRESET,
    *("--set", "train.steps=4", "--set", "train.groups_per_step=4", "--set", "train.group_size=4"),
    *("--set", "broker.lease_s=60"),  # what an environment fails does not wait for it
]
PATIENT = ("--set", "broker.max_attempts=10")  # several deaths may meet one group
DEATHS = [7, 40, 41, 60]


TRAIN = "leeway up --preset tiny-calculator"
PROVE = "leeway prove on-policy --preset tiny-calculator --steps 3 --rollout-workers 2 --verifier-workers 2"


def fragile(folder: Path, deaths: list[int]) -> list[str]:
    """The calculator that dies at these turns, counted in ``folder``."""
    use = f"environment.use={Path(__file__).with_name('fragile.py')}:Fragile"
    options = f"environment.options={{counted={str(folder / 'turns')!r},deaths={deaths}}}"
    return ["--set", use, "--set", options]


def up(run: str, *settings: str, cwd: Path, timeout: float = 500) -> Path:
    """A run to its end; its folder. Its audit passes, and some groups have observed tokens in the ledger."""
    done = leeway("up", "--run", run, *settings, cwd=cwd, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    audited = leeway("audit", run, cwd=cwd)
    assert audited.returncode == 0, audited.stderr
    folder = cwd / "runs" / run
    assert any("observed" in line for line in read(folder / "ledger.jsonl") if line["event"] == "trained")
    return folder


def failed_turns(folder: Path) -> int:
    """How many groups the rollout workers' logs tell of whose environment failed."""
    return sum(log.read_text().count("its process was lost") for log in (folder / "logs").glob("rollout*.log"))


def test_conversations_in_many_processes_are_bit_for_bit_those_of_one(tmp_path):
    _, *words = PROVE.split()
    done = leeway(*words, *SMALL[len(PRESET) :], cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal, bit for bit" in done.stdout


def test_a_killed_environment_costs_time_alone(tmp_path):
    """At a bound of 0 the weights are those of a run whose environments live: no response was lost or scored by it."""
    at_once = (*PATIENT, "--set", "flow.max_staleness=0")
    (tmp_path / "hurt").mkdir()
    calm = up("calm", *SMALL, *fragile(tmp_path, []), *at_once, cwd=tmp_path)
    hurt = up("hurt", *SMALL, *fragile(tmp_path / "hurt", DEATHS), *at_once, cwd=tmp_path)
    assert failed_turns(calm) == 0
    assert failed_turns(hurt) >= 3
    assert last_checksum(hurt) == last_checksum(calm)
    assert {line["refunds/poison"] for line in metrics(hurt)} == {0}


@pytest.mark.parametrize(("overflow", "ranks"), [("wait", 1), ("mask", 2)])
def test_the_audit_passes_under_staleness_while_environments_are_killed(tmp_path, overflow, ranks):
    """It does so under one learner rank, and under two that share the conversations."""
    settings = ["--set", f"flow.overflow={overflow}", "--set", "rollout.workers=2", "--set", "train.steps=6"]
    settings += ["--set", "train.ranks=2", "--set", "train.zero_stage=1"] * (ranks == 2)
    folder = up(overflow, *SMALL, *PATIENT, *fragile(tmp_path, DEATHS), *settings, cwd=tmp_path)
    assert failed_turns(folder) >= 3
    steps = metrics(folder)
    assert [line["refunds/poison"] for line in steps] == [0] * 6
    assert max(line["staleness/head_max"] for line in steps) >= 1
    fresh = [line["logprob/abs_diff_mean/staleness_0"] for line in steps if "tokens/staleness_0" in line]
    assert max(fresh) <= 1e-5, "the learner reads a conversation as the sampler has"


def test_an_environment_that_always_fails_gives_its_groups_up_in_its_own_words(tmp_path, wait_until):
    at_once = ("--set", "broker.drain_s=2")  # what is under way at the end would be tried for a minute
    running = start("up", "--run", "none", *SMALL, *fragile(tmp_path, [*range(10_000)]), *at_once, cwd=tmp_path)
    folder = tmp_path / "runs/none"
    ledger = folder / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and "poison" in ledger.read_text(), "a refund", 300)
    letters = leeway("dead-letters", "list", "none", cwd=tmp_path)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=600)
    assert "generation failed 3 times" in letters.stdout, letters.stdout + letters.stderr
    assert "its process was lost" in letters.stdout


@pytest.mark.vllm
def test_vllm_samples_conversations_and_its_log_probabilities_agree(tmp_path):
    vllm = ["--set", "rollout.engine=vllm", "--set", "rollout.concurrency=2", "--set", "flow.max_staleness=0"]
    folder = up("vllm", *SMALL, *vllm, cwd=tmp_path)
    lines = metrics(folder)
    assert max(line["logprob/abs_diff_mean"] for line in lines) <= 0.05
    assert max(line["generated/turns_mean"] for line in lines) > 1


def test_the_model_learns_to_call_the_calculator(tmp_path):
    folder = up("learns", *TRAIN.split()[2:], "--set", "train.steps=24", cwd=tmp_path)
    steps = metrics(folder)
    reward, called = ([line[name] for line in steps] for name in ("reward/mean", "generated/solved_in_turns"))
    assert called[0] <= 0.2, "it can add without"
    assert np.mean(called[-5:]) > 0.5
    assert np.mean(reward[-5:]) > np.mean(reward[:5]) + 0.1
