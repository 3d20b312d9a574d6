"""The sentence names the right culprit."""

import io

import pytest
from leeway_rl.common.types import Heartbeat
from leeway_rl.leeway.status import Snapshot, diagnose, render
from rich.console import Console

NOW = 1_000_000.0


def beat(role, activity, *, version=3, since=NOW - 40):
    return Heartbeat(
        role=role,
        worker=f"{role}-1",
        version=version,
        activity=activity,
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
        | state,
        workers=list(workers),
        lost=lost or {},
        queued={"prompts": prompts, "responses": responses, "scored": scored, "dead_letters": 0},
        under_way={"prompts": taken, "responses": taken, "scored": 0},
    )


WAITS = beat("learner", "waiting for 4 of 4 groups, ticket 12 the oldest")
GENERATES, GRADES = beat("rollout", "generating"), beat("verifier", "grading")
IDLE = beat("rollout", "waiting for prompts")


@pytest.mark.parametrize(
    ("now", "stalled", "words"),
    [
        (snapshot(GENERATES), True, "no learner is alive"),
        (snapshot(GENERATES, lost={"learner/x": NOW - 60}), True, "the last was lost 60 s ago"),
        (snapshot(WAITS, GRADES, prompts=4), True, "4 tickets wait for a rollout worker and none is alive"),
        (snapshot(WAITS, GENERATES, responses=2), True, "2 groups wait for a verifier and none is alive"),
        (snapshot(WAITS, GENERATES, GRADES, prompts=4, taken=3), False, "rollout works on 3 of 4 tickets"),
        (snapshot(WAITS, IDLE, GRADES, responses=2, taken=1), False, "the verifiers work on 1 of 2 groups"),
        (
            snapshot(WAITS, beat("rollout", "waiting for version 3"), GRADES, prompts=4),
            False,
            "every rollout worker is waiting for version 3",
        ),
        (snapshot(beat("learner", "training step 3"), IDLE, GRADES), False, "rollout waits for the learner"),
        (snapshot(beat("learner", "training step 3"), GENERATES, GRADES), False, "nobody waits"),
        (snapshot(WAITS, IDLE, GRADES), False, "the run may be paused"),
        (snapshot(phase="finished"), False, "the run is finished at step 3"),
    ],
)
def test_the_diagnosis_follows_the_flow_to_who_does_not_deliver(now, stalled, words):
    found = diagnose(now)
    assert words in found.sentence
    assert found.stalled is stalled


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
