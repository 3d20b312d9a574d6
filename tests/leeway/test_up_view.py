"""What ``leeway up`` says in a pipe: steps, what is wrong and that it is over, and why a role is gone."""

import json
import re
import sys
import threading
from types import SimpleNamespace

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.service import Service
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.leeway.running import up
from leeway_rl.leeway.running.supervise import Role

from tests.common.test_step_line import STEP

UNTIL_ASKED = """
import pathlib, sys, time
while not pathlib.Path("leave").exists():
    time.sleep(0.02)
"""


@pytest.fixture
def watched(bus, tmp_path, monkeypatch, capsys):
    """``up``'s view of a run whose learner is a process that stays until it is asked; gives what has been said."""
    monkeypatch.chdir(tmp_path)
    config = compose(["tiny"], [])
    bus.record.store_config(dump(config))
    bus.record.set_state(phase="training", step=0, steps=60)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.write("end", version=60)
    ledger.close()
    role = Role("learner", [sys.executable, "-c", UNTIL_ASKED], tmp_path / "learner.log", threads=1)
    role.start()
    arguments = (bus.url, bus.run, [role], tmp_path, config)
    thread = threading.Thread(target=up.watch, args=arguments)
    lines = []

    def said():
        lines.append("".join(capsys.readouterr()))
        return "".join(lines)

    with Service(bus.learner, "learner", lease_s=60, heartbeat_s=60) as service:
        service.doing(Doing(Activity.WAITING_FOR_GROUPS, lacking=4, due=4))
        service.beat()
        thread.start()
        yield said, role
        (tmp_path / "leave").touch()
        thread.join(100)
        role.process.wait()
    assert not thread.is_alive()


def test_steps_that_are_made_again_are_said_to_be(capsys):
    lines, now = up.Lines(), SimpleNamespace(state={"phase": "finished", "steps": 60})
    for step in (STEP, {**STEP, "step": 4}, {**STEP, "step": 5}):
        lines.show(now, step)
    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in said] == [
        "step 12/60",
        "the learner has gone on from its checkpoint: steps 5 to 12 are made again",
        "step 5/60",
        "step 6/60",
    ]


def test_an_alarm_is_said_at_once_and_once(watched, bus, tmp_path, wait_until):
    said, _ = watched
    for _ in range(64):
        bus.verifier.tally([Verdict(kind=VerdictKind.WRONG, reason="", seconds=0)] * 4)
    wait_until(
        lambda: "alarm: every response of the last 64 groups got reward 0: nothing to learn from" in said(), "it"
    )
    for _ in range(64):
        bus.verifier.tally([Verdict(kind=VerdictKind.WRONG, reason="", seconds=0)] * 4)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    wait_until(lambda: "step 12/60" in said(), "a later look")
    assert said().count("alarm") == 1


def test_a_step_is_said_with_reward_entropy_tokens_and_staleness(watched, tmp_path, wait_until):
    said, _ = watched
    (tmp_path / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    wait_until(lambda: "step 12/60  reward 0.845  entropy 0.141 (target 0.15)  tokens 2,547  staleness" in said(), "it")


def test_a_role_that_was_killed_is_started_again_and_its_end_is_said(watched, wait_until):
    said, role = watched
    role.kill()
    wait_until(lambda: "learner died: it was killed by signal 9 (SIGKILL)" in said(), "the reason")


@pytest.mark.parametrize("preset", ["skywork-or1-1.5b", "mine/skywork-or1-1.5b.toml"])
def test_a_run_is_named_after_the_whole_name_of_its_preset(preset):
    assert re.fullmatch(r"skywork-or1-1\.5b-\d{4}-\d{6}", up.named_after(preset))
