"""Whatever lies in Redis, and whoever put it there: the learner's threads go on, and say what they refused."""

import pytest
from leeway_rl.common.diagnosis import diagnose, look

from .test_intake import begin, numbers, play  # noqa: F401

UNREADABLE = [
    ("max_staleness", "abc", "max-staleness = 'abc': auto, or a whole number of versions, 0 or more"),
    ("max_staleness", "-1", "max-staleness = '-1': auto, or a whole number of versions"),
    ("max_staleness", "9" * 5000, "max-staleness = '9999"),
    ("target_entropy", "nan", "target-entropy = 'nan': nats a token, 0 or more"),
    ("target_entropy", "", "target-entropy = '': nats a token"),
    ("pipeline_depth", "0", "pipeline-depth = '0': auto, or how many"),
    ("pipeline_depth", "1", "flow.pipeline_depth = 1 is below train.groups_per_step = 2"),
    ("overflow", "sometimes", "overflow = 'sometimes': one of wait, drop, mask, soft"),
    ("paused", "yes", "paused = 'yes': 0 or 1"),
    ("nonsense", "1", "no live control 'nonsense'"),
    (b"\xff\xfe", b"\x00", "is not text"),
    ("max_staleness", b"\xff", "is not text"),
]


@pytest.mark.parametrize(("field", "value", "why"), UNREADABLE)
def test_a_control_that_cannot_be_read_is_removed_and_the_pump_lives(begin, wait_until, field, value, why):  # noqa: F811
    intake, worker, _ = begin()
    worker.redis.hset(worker.keys.controls, field, value)
    wait_until(lambda: worker.redis.hlen(worker.keys.controls) == 0, "it is removed")
    worker.desk.set_control("target_entropy", "0.7")
    wait_until(lambda: intake.controls.target_entropy == 0.7, "the next turn of the dial counts")
    assert intake.service.failure is None
    (letter,) = worker.desk.dead_letters()
    assert letter["where"] == "controls"
    assert why in letter["reason"]


def test_a_control_turned_again_before_the_bad_value_is_removed_stays(begin):  # noqa: F811
    _, worker, _ = begin()
    worker.desk.set_control("target_entropy", "0.9")
    worker.learner.refuse_control(b"target_entropy", b"abc", "what it was")
    assert worker.overview.controls() == {"target_entropy": "0.9"}


KEYS = ["controls", "retries", "prompts", "responses", "scored", "dead_letters", "incarnation", "config", "unreadable"]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_another_type_is_removed_and_work_goes_on(begin, wait_until, name):  # noqa: F811
    intake, worker, _ = begin()
    key = getattr(worker.keys, name)
    pipe = worker.redis.pipeline(transaction=True)  # or the learner puts it back in between
    pipe.delete(key)
    if worker.keys.types()[key] == "string":
        pipe.lpush(key, "1")
    else:
        pipe.set(key, "1")
    pipe.execute()
    wait_until(lambda: worker.redis.type(key).decode() in (worker.keys.types()[key], "none"), "it is removed")
    worker.learner.ensure_groups()  # as a worker does that finds none
    for ticket in (1, 0):
        play(worker, ticket)
    assert numbers(intake.next_batch(30)) == [0, 1]
    assert intake.service.failure is None


def test_an_incarnation_that_is_no_number_is_put_back(begin, wait_until):  # noqa: F811
    intake, worker, _ = begin()
    worker.redis.set(worker.keys.incarnation, "many")
    wait_until(lambda: worker.redis.get(worker.keys.incarnation) == b"1", "it is put back")
    assert intake.service.failure is None


def test_an_entry_whose_group_was_never_issued_supersedes_nobody(begin, wait_until):  # noqa: F811
    intake, worker, _ = begin()
    worker.redis.xadd(worker.keys.scored, {"g": "0-9"})
    wait_until(lambda: len(worker.desk.dead_letters()) == 1, "the letter")
    wait_until(lambda: worker.overview.depths()["scored"] == 0, "it is turned away")
    for ticket in (0, 1):
        play(worker, ticket)
    assert numbers(intake.next_batch(30)) == [0, 1]


def test_what_the_watch_looks_at_may_hold_anything(bus):
    bus.record.set_state(phase="training", step="many", poisoned="several", stages="x", stalled="")
    bus.redis.hset(bus.keys.state, b"\xff", b"\xfe")
    bus.redis.zadd(bus.keys.workers, {b"\xff\xfe": 5.0, "nobody": 5.0, "rollout/gone": float("-inf")})
    bus.redis.zadd(bus.keys.weight_leases, {"x|y": 1e12, b"\xff": 1e12})
    bus.redis.hset(bus.keys.alike, mapping={"groups": "x", "reward": b"\xff"})
    bus.redis.hset(bus.keys.verdicts(int(bus.now() // 60)), mapping={"error": "x", "why": b"\xff", b"\xfe": "1"})
    bus.redis.hset(bus.keys.retries, b"\xff", b"\xff")
    bus.redis.xadd(bus.keys.dead_letters, {b"\xff": b"\xff"})
    now = look(bus.desk)
    diagnose(now)
    assert (now.workers, now.lost, now.alike[0]) == ([], {}, 0)
    assert bus.weights.leased_versions() == {0}
    assert bus.learner.asked(1).superseded_by is None
    assert bus.learner.clear_work() == 0
