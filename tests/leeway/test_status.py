"""The sentence names the right culprit."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from leeway_rl.common import address
from leeway_rl.common.activity import Activity, Doing, to_json
from leeway_rl.common.diagnosis import Diagnosis, Snapshot, alarms, diagnose, look, stopped_here
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.profiles import Answer
from leeway_rl.common.profiles import to_json as to_text
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.service import Service
from leeway_rl.common.step_line import hardware_text
from leeway_rl.common.types import Heartbeat, Verdict, VerdictKind
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.looking.status import ALARM, render, show
from leeway_rl.leeway.looking.status_json import Situation, of_folder, of_look
from leeway_rl.leeway.running.server import EmbeddedServer, free_port
from rich.console import Console
from typer.testing import CliRunner

from tests.roles import Roles

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = 1_000_000.0


def beat(role, kind, *, version=3, since=NOW - 40, **about):
    return Heartbeat(
        role=role,
        worker=f"{role}-1",
        version=version,
        doing=Doing(kind, **about),
        since=since,
        done=4,
        tokens=500,
        busy_s=50.0,
        started=NOW - 100,
    )


def snapshot(*workers, phase="training", lost=None, prompts=0, responses=0, scored=0, taken=0, **state):
    return Snapshot(
        run="r",
        at=NOW,
        state={"phase": phase, "step": "3", "steps": "9", "version": "3", "live": "4", "ready": "0"}
        | {"max_staleness": "1"}
        | {name: str(value) for name, value in state.items()},
        workers=list(workers),
        lost=lost or {},
        queued={"prompts": prompts, "responses": responses, "scored": scored, "dead_letters": 0},
        under_way={"prompts": taken, "responses": taken, "scored": taken},
    )


def held(queued, taken, *, lost, stream="prompts"):
    """A stream of which living and dead workers hold some."""
    idle = [beat("rollout", Activity.WAITING_FOR_PROMPTS), beat("verifier", Activity.WAITING_FOR_RESPONSES)]
    now = snapshot(
        beat("learner", Activity.WAITING_FOR_GROUPS, lacking=4, due=4), *idle, **{stream: queued}, taken=taken
    )
    return replace(now, held_by_lost={stream: lost})


WAITS = beat("learner", Activity.WAITING_FOR_GROUPS, lacking=4, due=4, ticket=12)
GENERATES, GRADES = beat("rollout", Activity.GENERATING), beat("verifier", Activity.GRADING)
IDLE = beat("rollout", Activity.WAITING_FOR_PROMPTS)
TRAINS = beat("learner", Activity.TRAINING, step=3)
LOADS = replace(beat("learner", Activity.LOADING_MODEL, version=-1), started=NOW - 20)
FOLLOWS = replace(TRAINS, worker="learner-2")
BEHIND = replace(GENERATES, doing=Doing(Activity.WAITING_FOR_VERSION, version=3))
BLIND = replace(GENERATES, doing=replace(BEHIND.doing, unreadable="no such file"))


@pytest.mark.parametrize(
    ("now", "stalled", "words"),
    [
        (snapshot(GENERATES), True, "no learner is alive"),
        (snapshot(GENERATES, lost={"learner/x": NOW - 60}), True, "the last was lost 60 s ago"),
        (snapshot(WAITS, GRADES, prompts=4), True, "4 tickets wait for a rollout worker and none is alive"),
        (snapshot(WAITS, GENERATES, responses=2), True, "2 groups wait for a verifier and none is alive"),
        (snapshot(WAITS, GENERATES, GRADES, prompts=4, taken=3), False, "rollout works on 3 of 4 tickets"),
        (snapshot(WAITS, IDLE, GRADES, responses=2, taken=1), False, "the verifier works on 1 of 2 groups"),
        (
            snapshot(WAITS, BEHIND, GRADES, prompts=4),
            False,
            "every rollout worker is waiting for version 3",
        ),
        (snapshot(WAITS, BLIND, GRADES, prompts=4), True, "read the newest weights: no such file"),
        (
            snapshot(beat("learner", Activity.WAITING_FOR_DISK, path="d"), IDLE),
            True,
            "has been waiting for room for 40 s: the disk under d is full; make room there, and it goes on by itself",
        ),
        (replace(snapshot(WAITS), redis="Redis is out of memory"), True, "Redis is out of memory"),
        (
            replace(snapshot(WAITS, GRADES, prompts=4, lost={"rollout/h-7-0": NOW - 9}), stopped={"rollout/h-7-0": 7}),
            True,
            "none is alive (the last was lost 9 s ago); the rollout worker's process 7 is on this machine and stopped",
        ),
        (
            replace(snapshot(WAITS, GRADES, responses=1), stopped={"verifier/verifier-1": 7}),  # not missed yet
            True,
            "1 group waits for a verifier and none is at work; the verifier's process 7 is on this machine and stopped",
        ),
        (
            replace(
                snapshot(WAITS, GRADES, replace(GRADES, worker="vm-2"), responses=9, taken=2),
                stopped={"verifier/verifier-1": 7, "verifier/vm-3": 8},
                lost={"verifier/vm-3": NOW - 9},
            ),
            False,
            "the verifiers work on 2 of 9 groups; the verifier's processes 7, 8 are on this machine and stopped: kill "
            "-CONT 7 8",
        ),
        (
            replace(snapshot(TRAINS, GENERATES), stopped={"learner/learner-1": 7}),
            True,
            "no learner is at work: nobody issues tickets or trains; the learner's process 7 is on this machine",
        ),
        (
            snapshot(WAITS, GRADES, prompts=1),
            True,
            "1 ticket waits for a rollout worker and none is alive; leeway up starts another by itself, and without it "
            "leeway rollout r does",
        ),
        (snapshot(TRAINS, IDLE, GRADES), False, "rollout waits for the learner"),
        (snapshot(TRAINS, GENERATES, GRADES), False, "nobody waits"),
        (snapshot(WAITS, IDLE, GRADES), False, "no ticket is out: the learner is about to issue"),
        (replace(snapshot(WAITS, IDLE, GRADES), paused=True), False, "the run is paused; leeway resume goes on"),
        (
            replace(snapshot(WAITS, IDLE, GRADES, scored=3, taken=3), paused=True),  # kept until the next checkpoint
            False,
            "the run is paused; leeway resume goes on",
        ),
        (snapshot(WAITS, IDLE, GRADES, scored=3, taken=1), False, "scored groups are on their way"),
        (snapshot(WAITS, IDLE, GRADES, stalled="nothing has moved for 30 min"), True, "nothing has moved for 30 min"),
        (snapshot(phase="finished"), False, "the run is finished at step 3"),
        (snapshot(phase="stopped", at=NOW - 9), False, "the run is stopped at step 3"),
        (snapshot(beat("learner", Activity.STOPPED), phase="stopped", at=NOW - 9), False, "is stopped at step 3"),
        (snapshot(LOADS, phase="stopped", at=NOW - 60), False, "the learner has been loading the model for 40 s"),
        (snapshot(LOADS, phase="starting", at=NOW - 20), False, "the learner has been loading the model for 40 s"),
        (snapshot(phase="starting", at=NOW - 3), False, "the learner has been starting for 3 s"),
        (snapshot(phase="starting", at=NOW - 300), True, "no learner has come yet: nobody issues tickets"),
        (snapshot(phase="starting", lost={"learner/x": NOW - 9}), True, "no learner is alive (the last was lost 9 s"),
        (replace(snapshot(), state={}), True, "no learner has come yet"),
        (held(1, 1, lost=1), False, "1 of 1 ticket is held by a worker that is gone until its lease ends"),
        (held(4, 3, lost=2), False, "works on 1 of 4 tickets; 2 more are held by a worker that is gone until their"),
        (held(2, 2, lost=2, stream="responses"), False, "2 of 2 groups are held by a worker that is gone"),
        (held(4, 3, lost=0), False, "rollout works on 3 of 4 tickets"),
        (snapshot(beat("learner", Activity.UNKNOWN), GENERATES), False, "the learner runs another build of Leeway"),
        (snapshot(WAITS, beat("rollout", Activity.UNKNOWN), prompts=4, taken=4), False, "rollout works on 4 of 4"),
        (snapshot(FOLLOWS, WAITS, GENERATES, prompts=4, leader="learner-1"), False, "waiting for 4 of 4 groups"),
        (snapshot(FOLLOWS, leader="learner-1", lost={"learner/learner-1": NOW - 9}), True, "no learner is alive (the"),
        (
            snapshot(beat("learner", Activity.WAITING_FOR_REDIS_MEMORY), IDLE),
            True,
            "Redis is out of memory and refuses every write",
        ),
        (
            snapshot(WAITS, beat("rollout", Activity.WAITING_FOR_REDIS_MEMORY), prompts=4),
            True,
            "the rollout cannot hand over and tries again",
        ),
    ],
)
def test_the_diagnosis_follows_the_flow_to_who_does_not_deliver(now, stalled, words):
    found = diagnose(now)
    assert words in found.sentence
    assert found.stalled is stalled


def test_a_stall_is_told_with_the_times_of_the_look_and_not_of_the_learners_alarm():
    alarm = "the learner has been waiting for 4 of 4 groups for 10 s: 2 groups wait for a verifier and none is alive"
    found = diagnose(snapshot(WAITS, responses=2, stalled=alarm))
    assert found == diagnose(snapshot(WAITS, responses=2))
    assert found.stalled
    assert "for 40 s" in found.sentence


def test_the_screen_shows_the_sentence_the_workers_and_the_lost():
    from rich.console import Console

    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(snapshot(WAITS, GENERATES, GRADES, prompts=2, lost={"rollout/gone": NOW - 30})))
    console.file.close()
    text = console.export_text()
    for words in ("step 3 of 9", "generating", "gone", "lost", "rollout works on"):
        assert words in text


def test_the_screen_names_the_stage_of_a_run_that_has_several():
    shown = io.StringIO()
    Console(file=shown, width=160).print(render(snapshot(WAITS, stage="1", stages="3")))
    assert "step 3 of 9   stage 2 of 3   version 3" in shown.getvalue()


@pytest.mark.parametrize(("asked", "words"), [("auto", "max_staleness 1 (auto)   depth"), ("1", "max_staleness 1   ")])
def test_the_screen_says_where_a_bound_chooses_itself(asked, words):
    shown = io.StringIO()
    Console(file=shown, width=160).print(render(snapshot(WAITS, asked_bound=asked)))
    assert words in shown.getvalue()


HARDWARE = {"throughput/mfu": 0.41, "throughput/learner_tokens_per_s_per_gpu": 1234.5}
HARDWARE |= {"memory/device_peak_bytes": 61.2e9, "memory/host_peak_bytes": 9e9, "memory/rollout_bytes": 7e9}


def test_a_line_of_the_screen_is_on_the_hardware():
    shown = io.StringIO()
    now = snapshot(WAITS, hardware=hardware_text(HARDWARE | {"reward/mean": 0.5}))
    Console(file=shown, width=160).print(render(now))
    learner = "learner MFU 41.0%, 1,234.5 tokens/s a device, 61.2 GB of the device, 9 GB of the host"
    assert f"{learner}   rollout 7 GB of the host" in shown.getvalue()
    assert of_look(now, diagnose(now))["state"]["hardware"] == HARDWARE


@pytest.mark.parametrize("said", ["", "{", "[]", '{"throughput/mfu": "much", "other": 1}'])
def test_a_word_on_the_hardware_that_cannot_be_read_is_left_out(said):
    now, shown = snapshot(WAITS, hardware=said), io.StringIO()
    Console(file=shown, width=160).print(render(now))
    assert "tokens/s a device" not in shown.getvalue()
    assert not of_look(now, diagnose(now))["state"]["hardware"]


def test_a_machine_reads_what_has_become_of_a_profile():
    answer = Answer(id="a", phase="done", steps=2, step=7, path="/p", table="/t")
    state = of_look(snapshot(WAITS, profile=to_text(answer)), Diagnosis(stalled=False, sentence=""))["state"]
    assert (state["profile"]["phase"], state["profile"]["path"]) == ("done", "/p")
    assert of_look(snapshot(WAITS, profile="{"), Diagnosis(stalled=False, sentence=""))["state"]["profile"] is None


def minute(**verdicts):
    return {kind: str(number) for kind, number in verdicts.items()}


QUIET = [minute(correct=50, wrong=50)] * 60


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([], None),
        (QUIET, None),
        ([minute(correct=80, error=5, why="the grading process was lost")] * 10 + QUIET[10:], "5.9% of the responses"),
        ([minute(correct=80, error=5, why="lost")] * 10 + QUIET[10:], r"(0.0% before that): lost"),
        ([minute(correct=97, error=3)] * 60, None),  # no rise
        ([minute(correct=80, error=20)] * 60, "20.0%"),  # no rise, and far too many
        ([minute(correct=1, error=1)], None),  # too few to say
        ([minute(correct=80, timeout=20)] * 60, None),  # the responses' own
    ],
)
def test_a_rising_error_rate_of_the_verifiers_is_an_alarm(verdicts, words):
    now = replace(snapshot(WAITS, GENERATES, GRADES), verdicts=verdicts)
    found = diagnose(now)
    assert not found.stalled
    assert (words in found.alarms[0]) if words else (found.alarms == [])


@pytest.mark.parametrize(("alike", "words"), [((64, "0"), "the golds"), ((64, "1"), "too easy"), ((63, "0"), None)])
def test_every_reward_alike_for_long_is_an_alarm(alike, words):
    now = replace(snapshot(WAITS, GENERATES, GRADES), alike=alike)
    found = diagnose(now).alarms
    assert (words in found[0] and "last 64 groups got reward" in found[0]) if words else (found == [])
    assert diagnose(replace(now, state={"phase": "finished", "step": "3"})).alarms == []


@pytest.mark.parametrize(
    ("poisoned", "words"), [("8", "the last 8 groups were all refunded as poison (no luck)"), ("7", None)]
)
def test_poison_everywhere_is_an_alarm(poisoned, words):
    found = alarms(snapshot(WAITS, GENERATES, GRADES, poisoned=poisoned, poison="no luck"))
    assert (words in found[0]) if words else (found == [])


NAMED = "from leeway_rl.common.service import worker_name; print(worker_name(), flush=True); input()"


def test_a_stopped_process_of_this_machine_is_found_by_its_workers_name_and_no_stranger_with_its_id():
    child = subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        name = f"rollout/{child.stdout.readline().strip()}"
        of_another = f"{name[:-5]}12345"  # another machine's with the same host name, or the one that had the id before
        assert stopped_here([name, of_another, "rollout/elsewhere-1-1", "learner/x"]) == {}
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert stopped_here([name, of_another]) == {name: child.pid}
    finally:
        child.kill()
        child.communicate()


def test_alarms_from_the_verdicts_that_workers_count(bus):
    def verdicts(*kinds):
        return [Verdict(kind=kind, reason="no processor", seconds=0.0) for kind in kinds]

    bus.record.store_config("")
    bus.verifier.tally(verdicts(VerdictKind.CORRECT, VerdictKind.WRONG))
    for _ in range(70):
        bus.verifier.tally(verdicts(VerdictKind.WRONG, VerdictKind.TIMEOUT))
    assert bus.overview.alike() == (70, "0")
    bus.verifier.tally(verdicts(*[VerdictKind.ERROR] * 20))
    assert bus.overview.alike() == (70, "0"), "a failure of ours says nothing about the reward"
    assert sum(int(each.get("error", 0)) for each in bus.overview.tallies()[:2]) == 20
    found = alarms(look(bus.desk))
    assert any("12.3% of the responses" in alarm and "no processor" in alarm for alarm in found)
    assert any("last 70 groups got reward 0" in alarm for alarm in found)
    bus.verifier.tally(verdicts(VerdictKind.CORRECT, VerdictKind.WRONG))
    assert bus.overview.alike() == (0, "")


def test_in_a_pipe_a_sentence_is_one_line_and_a_worker_too(redis_url, make_bus, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-machine-with-a-long-name-31337-0123abcd"
    bus = make_bus(name)
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=1, steps=2, max_staleness=1, pipeline_depth=32, live=0, ready=0)
    learner = replace(beat("learner", Activity.TRAINING, step=1), worker=name, since=time.time(), started=time.time())
    bus.learner.beat(learner, 60.0)
    show(redis_url, bus.run, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert any(re.fullmatch("the learner has been training step 1 for .+; nobody waits", line) for line in lines)
    assert any(line.startswith(f"learner  {name}") and "training step 1 " in line for line in lines)
    assert any(line.startswith("prompts 0") and line.endswith("dead letters 0") for line in lines)


def test_an_alarm_has_an_exit_code_of_its_own(redis_url, bus, capsys):
    bus.record.store_config("")
    bus.record.set_state(phase="training", step=1, steps=2)
    bus.learner.beat(replace(beat("learner", Activity.TRAINING, step=1), since=time.time(), started=time.time()), 60.0)
    assert show(redis_url, bus.run, as_json=True) == 0
    for _ in range(64):
        bus.verifier.tally([Verdict(kind=VerdictKind.CORRECT, reason="", seconds=0.0)] * 2)
    capsys.readouterr()
    assert show(redis_url, bus.run, as_json=True) == ALARM
    shown = json.loads(capsys.readouterr().out)
    assert "reward 1" in shown["alarms"][0]


def test_what_a_dead_worker_holds_is_not_worked_on(make_bus):
    dead, alive = make_bus("gone"), make_bus("here")
    for ticket in range(3):
        alive.redis.xadd(alive.keys.prompts, {"g": f"{ticket}-1"})
    dead.rollout.take(count=2, block_s=0.0, lease_s=60)
    alive.rollout.take(count=1, block_s=0.0, lease_s=60)
    alive.learner.beat(replace(GENERATES, worker="here"), 60.0)
    now = look(alive.desk)
    assert (now.under_way["prompts"], now.held_by_lost["prompts"]) == (3, 2)


def test_one_idle_thread_does_not_speak_for_a_worker_whose_other_threads_work(bus):
    service = Service(bus.rollout, "rollout", lease_s=60, heartbeat_s=60)
    idle, works = Doing(Activity.WAITING_FOR_PROMPTS), Doing(Activity.GENERATING)
    service.idling(idle)
    assert service.heartbeat().doing == idle
    with service.working(works):
        service.idling(idle)
        assert service.heartbeat().doing == works
    service.idling(idle)
    assert service.heartbeat().doing == idle


def test_a_payload_too_large_for_redis_is_told_of_although_small_writes_pass(tmp_path, wait_until):
    with EmbeddedServer(tmp_path) as server:
        learner, desk = Roles(Connection(server.url, "r", worker="l-1")), Roles(Connection(server.url, "r"))
        desk.record.set_state(phase="training", step=3, steps=9, leader="l-1")
        used = int(desk.redis.info("memory")["used_memory"])
        desk.redis.config_set("maxmemory", used + (4 << 20))
        with Service(learner.learner, "learner", lease_s=60, heartbeat_s=0.1) as service:
            service.doing(Doing(Activity.TRAINING, step=3))
            publishing = threading.Thread(
                target=learner.weights.put_value, args=(4, 1, "keyframe:0:0", b"x" * (64 << 20))
            )
            publishing.start()
            try:
                told = (
                    "Redis is out of memory and refuses every write: give it more (CONFIG SET maxmemory); the learner"
                )
                wait_until(lambda: told in diagnose(look(desk.desk)).sentence, "it is told")
            finally:
                desk.redis.config_set("maxmemory", 0)
                publishing.join()
            wait_until(lambda: "training step 3" in diagnose(look(desk.desk)).sentence, "it is over")
        learner.close()
        desk.close()


@pytest.mark.parametrize("alias", ["environment", "option"])
def test_without_a_name_the_newest_run_of_the_redis_that_was_said_is_meant(tmp_path, capsys, monkeypatch, alias):
    (tmp_path / "runs/local").mkdir(parents=True)
    (tmp_path / "runs/local/config.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer(tmp_path / "redis") as server:
        monkeypatch.setenv("LEEWAY_REDIS_URL", server.url)
        words = ["--redis-url", server.url] if alias == "option" else []
        monkeypatch.delenv("LEEWAY_REDIS_URL", raising=False) if words else None
        code, shown = asked(capsys, *words)
        assert (code, shown["situation"], shown["run"]) == (4, "no_run", None)
        assert "holds no run" in shown["sentence"]
        for number, run in enumerate(("older", "newest", "older-too")):
            bus = Roles(Connection(server.url, run))
            bus.record.store_config("")
            bus.record.set_state(phase="stopped", step=number, at=NOW + (10 if run == "newest" else number))
            bus.close()
        code, shown = asked(capsys, *words)
        assert (code, shown["run"], shown["situation"], shown["state"]["step"]) == (0, "newest", "stopped", 1)


def asked(capsys, *words):
    """(exit code, the object that is printed)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        app(["status", "--json", *words])
    return left.value.code, json.loads(capsys.readouterr().out)


KINDS = {
    "run": (str, None),
    "at": (float,),
    "situation": (str,),
    "stalled": (bool,),
    "sentence": (str,),
    "alarms": (list,),
    "state": (dict,),
    "node": (dict, None),
    "workers": (list, None),
    "lost": (dict, None),
    "queued": (dict, None),
    "under_way": (dict, None),
    "held_by_lost": (dict, None),
    "verdicts": (list, None),
    "alike": (dict, None),
    "paused": (bool, None),
    "redis": (str, None),
    "stopped": (dict, None),
}
RUNNING = snapshot(WAITS, GENERATES, prompts=2, at=NOW, ready=0, doing=to_json(WAITS.doing), stage=0, stages=1)


@pytest.mark.parametrize(
    ("now", "situation"),
    [
        (replace(RUNNING, verdicts=[minute(correct=3, error=1, why="lost")], alike=(3, "0.5")), "running"),
        (snapshot(GENERATES), "stalled"),
        (snapshot(phase="finished"), "finished"),
        (snapshot(phase="stopped"), "stopped"),
        (replace(snapshot(), state={}), "stalled"),
        (None, "no_server"),
    ],
)
def test_the_object_for_machines_has_the_same_keys_and_kinds_in_every_situation(now, situation):
    if now is None:
        shown = of_folder(None, Situation.NO_SERVER, "no Redis", {}, stalled=True)
    else:
        shown = of_look(now, diagnose(now))
    shown = json.loads(json.dumps(shown))
    assert shown["situation"] == situation
    assert list(shown) == list(KINDS)
    for name, kinds in KINDS.items():
        assert type(shown[name]) in [kind if kind is not None else type(None) for kind in kinds], name
    numbers = {"step", "steps", "stage", "stages", "version", "live", "ready", "max_staleness", "at", "poisoned"}
    assert {type(shown["state"][name]) for name in numbers} <= {int, float, type(None)}
    if now is not None and now.verdicts:
        assert shown["verdicts"] == [{"correct": 3, "error": 1, "why": "lost"}]
        assert shown["alike"] == {"groups": 3, "reward": 0.5}


def test_a_machine_reads_what_a_role_does_and_a_person_the_same_in_words():
    shown = json.loads(json.dumps(of_look(RUNNING, diagnose(RUNNING))))
    said = "waiting for 4 of 4 groups, ticket 12 the oldest"
    assert (shown["workers"][0]["activity"], shown["state"]["waiting"]) == (said, said)
    assert shown["workers"][0]["doing"] == shown["state"]["doing"]
    doing = {name: value for name, value in shown["state"]["doing"].items() if value is not None}
    assert doing == {"kind": "waiting_for_groups", "lacking": 4, "due": 4, "ticket": 12}


@pytest.mark.parametrize("said", ["", "{", "[]", '{"kind": "dancing"}', '{"kind": "training", "step": "x"}', "\udcff"])
def test_a_learners_word_that_cannot_be_read_is_unknown_and_harms_nobody(said):
    shown = of_look(replace(RUNNING, state=RUNNING.state | {"doing": said}), diagnose(RUNNING))
    assert shown["state"]["doing"] is None or shown["state"]["doing"]["kind"] == "unknown"


def test_the_page_has_the_object():
    described = (ROOT / "docs/reference/status.md").read_text()
    names = set(re.findall(r"`(\w+)`", described))
    shown = of_look(RUNNING, diagnose(RUNNING))
    said = {*shown, *shown["state"], *shown["workers"][0], *shown["queued"], *shown["alike"]}
    assert {*said, *shown["state"]["doing"], *Situation, *Activity} <= names


def test_checkpoints_that_are_not_copied_are_an_alarm_also_when_the_run_is_over():
    trouble = "checkpoints are not copied to s3://bucket/my-run: it is full; the newest copy is of step 20"
    at_work = snapshot(beat("learner", Activity.TRAINING, step=3), uncopied=trouble)
    assert diagnose(at_work).alarms == [trouble]
    finished = replace(at_work, workers=[], state=at_work.state | {"phase": "finished"})
    assert (diagnose(finished).alarms, diagnose(finished).sentence[:19]) == ([trouble], "the run is finished")
    assert diagnose(replace(finished, state=finished.state | {"uncopied": ""})).alarms == []


def test_an_early_warning_of_the_learner_is_an_alarm():
    warned = snapshot(beat("learner", Activity.TRAINING, step=3), early_warning="the data are too far off-policy: 0.25")
    assert alarms(warned) == ["the data are too far off-policy: 0.25"]
    assert alarms(replace(warned, state=warned.state | {"early_warning": ""})) == []


@pytest.mark.parametrize("words", [["set", "max-staleness", "2"], ["pause"], ["dead-letters", "list"]])
def test_whoever_steers_a_run_whose_own_server_has_left_is_told_how_to_go_on(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine/redis").mkdir(parents=True)
    (tmp_path / "runs/mine/config.toml").touch()
    address.keep(f"redis://127.0.0.1:{free_port()}/0", tmp_path / "runs/mine/redis-url")
    with pytest.raises(BrokerError, match=r"nobody works on run mine and its server has left: .* --run mine --resume"):
        CliRunner().invoke(app, [*words, "--run", "mine"], catch_exceptions=False)
