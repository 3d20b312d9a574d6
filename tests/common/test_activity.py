"""What a role does survives every way it is told, and has its words."""

from dataclasses import replace

import pytest
from leeway_rl.common.activity import Activity, Doing, from_json, to_json
from leeway_rl.common.codec import decode, encode
from leeway_rl.common.service import Service
from leeway_rl.common.types import Heartbeat
from leeway_rl.common.wording import words

BEAT = {"role": "learner", "worker": "w", "version": 3, "since": 1.0, "done": 0, "tokens": 0, "busy_s": 0.0}
HELD = Doing(
    Activity.WAITING_FOR_GROUPS, lacking=2, due=4, ticket=7, worker="rollout-1", held_s=180.0, unreadable="no such file"
)


@pytest.mark.parametrize("doing", [Doing(kind) for kind in Activity] + [HELD])
def test_it_comes_back_from_a_heartbeat_and_from_the_runs_state(doing):
    beat = Heartbeat(**BEAT, doing=doing, started=0.0)
    for back in (decode(Heartbeat, encode(beat)).doing, from_json(to_json(doing))):
        assert (back, back.held_s) == (doing, doing.held_s)


@pytest.mark.parametrize("kind", Activity)
def test_every_activity_has_words(kind):
    about = {"step": 51, "version": 52, "path": "/a/folder", "lacking": 53, "due": 54, "worker": "w"}
    said = words(Doing(kind, **about))
    assert said
    assert "None" not in said
    assert "{" not in said


def test_words_say_what_is_known_and_no_more():
    assert words(HELD) == (
        "waiting for 2 of 4 groups, ticket 7 the oldest, for 3 min with rollout-1; cannot read the newest: no such file"
    )
    assert words(Doing(Activity.TRAINING, step=3)) == "training step 3"
    assert words(Doing(Activity.WAITING_FOR_DISK, path="runs")) == "waiting for room: the disk under runs is full"


def test_a_wait_lasts_while_what_is_waited_for_comes_in_and_a_group_is_held_for_longer(bus, monkeypatch):
    service = Service(bus.learner, "learner", lease_s=60, heartbeat_s=60)
    service.doing(HELD)
    since = service.heartbeat().since
    service.doing(replace(HELD, held_s=240.0))
    assert (service.heartbeat().since, service.heartbeat().doing.held_s) == (since, 240.0)
    service.doing(replace(HELD, lacking=1, ticket=8, worker="rollout-2"))
    assert (service.heartbeat().since, service.heartbeat().doing.lacking) == (since, 1)
    service.doing(Doing(Activity.TRAINING, step=3))
    training = service.heartbeat().since
    assert training > since
    service.doing(Doing(Activity.TRAINING, step=4))
    assert service.heartbeat().since > training
