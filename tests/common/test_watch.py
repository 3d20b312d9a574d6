"""The learner's watch names a stall in log, metrics and status; the endpoints show what status shows."""

import logging
import urllib.request
from dataclasses import replace

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.config import Broker, compose
from leeway_rl.common.diagnosis import Movement, Snapshot, stall
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.exporter import HOST, VARIABLE, exporting, run_served_at
from leeway_rl.common.service import Service
from leeway_rl.common.watch import Watch
from leeway_rl.leeway.examining import room
from leeway_rl.leeway.examining.line import State
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.running.server import free_port

from tests.monitoring import series
from tests.samples import a_heartbeat, a_ticket


def beat(role, doing, done=0):
    return a_heartbeat(role, doing=doing, done=done)


def look_at(at, done=0, paused=False, phase="training", prompts=4):
    return Snapshot(
        run="r",
        at=at,
        state={"phase": phase, "step": "3", "steps": "9"},
        workers=[
            beat("learner", Doing(Activity.WAITING_FOR_GROUPS, lacking=4, due=4)),
            beat("rollout", Doing(Activity.GENERATING), done),
            beat("verifier", Doing(Activity.STARTING)),
        ],
        lost={},
        queued={"prompts": prompts, "responses": 0, "scored": 0, "dead_letters": 0},
        under_way={"prompts": 2, "responses": 0, "scored": 0},
        paused=paused,
    )


def test_movement_is_a_step_a_finished_group_or_a_change_in_a_stream():
    movement = Movement()
    looks = [look_at(0), look_at(10), look_at(20, done=1), look_at(30, done=1), look_at(40, done=1, prompts=3)]
    assert [movement.still_s(each) for each in looks] == [0, 10, 0, 10, 0]


def test_what_does_not_move_for_long_is_a_stall_unless_it_is_meant_to():
    assert stall(look_at(0), 99, stall_s=100, absent_s=30) is None
    assert stall(look_at(0), 100, stall_s=100, absent_s=30) == (
        "nothing has moved for 100 s: the learner has been waiting for 4 of 4 groups for 0 s: "
        "rollout works on 2 of 4 tickets"
    )
    alone = replace(look_at(0), workers=[])
    assert stall(alone, 29, stall_s=100, absent_s=30) is None
    assert "no learner is alive" in stall(alone, 30, stall_s=100, absent_s=30)
    assert stall(look_at(0, paused=True), 100, stall_s=100, absent_s=30) is None
    assert stall(look_at(0, phase="finished"), 100, stall_s=100, absent_s=30) is None


@pytest.fixture
def learner(bus):
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=1, steps=2, live=4, ready=1, stalled="")
    bus.record.set_state(max_staleness=0, pipeline_depth=4, incarnation=1)
    with Service(bus.learner, "learner", lease_s=60, heartbeat_s=60) as service:
        service.doing(Doing(Activity.WAITING_FOR_GROUPS, lacking=2, due=2))
        service.count(done=1, tokens=50)
        service.beat()
        yield service


def test_a_stall_is_in_the_log_in_status_and_in_the_metrics_and_goes_when_it_goes(learner, bus, caplog, wait_until):
    bus.learner.issue(a_ticket())
    bus.learner.emit({"role": "learner", "step": 0, "reward/mean": 0.5, "grad_norm": 0.25})
    port = free_port()
    reason = "1 ticket waits for a rollout worker and none is alive"
    with (
        caplog.at_level(logging.INFO),
        Watch(bus.learner, stall_s=600, look_s=0.05, absent_s=0) as watch,
        exporting(learner, Broker(metrics_port=port), watch),
    ):
        wait_until(lambda: bus.state().get("stalled", "") != "", "the stall is told")
        shown = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert status.show(bus.url, bus.run, as_json=True) == status.STALLED
        bus.learner.beat(beat("rollout", Doing(Activity.GENERATING)), 60)
        wait_until(lambda: bus.state()["stalled"] == "", "the stall is over")
    values = {line.partition("{")[0]: line.rpartition(" ")[2] for line in shown.splitlines()}
    assert (values["leeway_done_total"], values["leeway_tokens_total"]) == ("1.0", "50.0")
    assert float(values["leeway_resident_bytes"]) > 1e7
    assert (values["leeway_run_step"], values["leeway_run_live"], values["leeway_stalled"]) == ("1.0", "4.0", "1.0")
    for words in (
        'stream="prompts"',
        'of="learner"',
        'name="reward/mean"',
        'name="grad_norm"',
        "for N s: N ticket waits for a rollout worker and none is alive",
        f'run="{bus.run}"',
    ):
        assert words in shown
    types = dict(line.split()[2:] for line in shown.splitlines() if line.startswith("# TYPE "))
    assert series() <= set(types), "what the dashboard and the alerts ask for"
    told = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("stalled: ") and reason in line for line in told) == 1
    assert "it moves again" in told


def test_no_port_is_no_endpoint_and_a_taken_one_is_named(learner, monkeypatch):
    with exporting(learner, Broker(), None):
        pass
    port = free_port()
    monkeypatch.setenv(VARIABLE, str(port))
    with (
        exporting(learner, Broker(), None),
        pytest.raises(ConfigError, match=f"broker.metrics_port = {port}: cannot serve at 127.0.0.1"),
        exporting(learner, Broker(), None),
    ):
        pass


def test_a_container_serves_outwards_and_the_doctor_knows_its_run(learner, bus, monkeypatch, caplog):
    port = free_port()
    monkeypatch.setenv(VARIABLE, str(port))
    monkeypatch.setenv(HOST, "0.0.0.0")
    with caplog.at_level(logging.INFO), exporting(learner, Broker(), None):
        assert "leeway_done_total" in urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics").read().decode()
        assert run_served_at("0.0.0.0", port) == bus.run
        config = compose(["tiny"], [])
        assert [line.state for line in room.ports(config, ["learner"], whole=False, run=bus.run)] == [State.OK]
        assert [line.state for line in room.ports(config, ["learner"], whole=False, run="another")] == [State.MEND]
        assert [line.state for line in room.ports(config, ["learner"], whole=False)] == [State.MEND]
    assert run_served_at("0.0.0.0", port) is None


def test_the_alarm_of_a_learner_before_does_not_outlive_it(learner, bus, wait_until):
    bus.record.set_state(stalled="nothing has moved for 30 min")
    with Watch(bus.learner, stall_s=600, look_s=0.05, absent_s=0):
        wait_until(lambda: bus.state()["stalled"] == "", "the old word is gone")
