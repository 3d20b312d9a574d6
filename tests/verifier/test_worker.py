"""The verifier loop over a real server: several groups at once, timeouts, failures."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from leeway_rl.common.config import Config, Data, Model, Train, Verifier
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.common.service import Service
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier import process_seat
from leeway_rl.verifier.pool import GradeItem, GraderPool
from leeway_rl.verifier.process_seat import Child
from leeway_rl.verifier.worker import VerifierWorker

from tests.roles import Roles

from ..samples import a_ticket, some_responses

ENDLESS, RIGHT, WRONG = r"\boxed{9^{9^{9^9}}}", r"\boxed{\sqrt[3]{64}}", r"\boxed{5}"


@contextmanager
def worker(
    make_bus: Callable[..., Roles], pool: GraderPool, texts: dict[int, str], **settings: object
) -> Iterator[Service]:
    """A verifier at work in a thread; ``texts`` has what a token stands for."""
    bus = make_bus("verifier-1")
    config = Config(
        model=Model(path=""),
        data=Data(path=""),
        train=Train(steps=1, groups_per_step=1, group_size=2, max_response_tokens=8),
        verifier=Verifier(**settings),  # type: ignore[arg-type]
    )
    with Service(bus.verifier, "verifier", lease_s=10, heartbeat_s=1) as service:
        looped = VerifierWorker(bus.verifier, service, pool, lambda tokens: texts.get(tokens[0], ""), config)
        thread = threading.Thread(target=looped.run)
        thread.start()
        try:
            yield service
        finally:
            service.stopping.set()
            thread.join()


def hand_in(bus: Roles, number: int) -> str:
    """Two responses, of which the first begins with token 1 and the second with token 4."""
    ticket = a_ticket(number)
    bus.learner.issue(ticket)
    (job,) = bus.rollout.take(count=1, block_s=1, lease_s=10)
    bus.rollout.hand_over(job, some_responses(ticket))
    return ticket.group_id


@pytest.fixture(scope="module")
def pool() -> Iterator[GraderPool]:
    with GraderPool(1, timeout_s=4.0) as pool:
        pool.grade([GradeItem(ability="math", response=RIGHT, golds=("4",), finished=True)])
        yield pool


def test_a_slow_group_does_not_hold_up_the_next_and_its_timeout_is_a_reward_of_0(
    make_bus, wait_until, monkeypatch
) -> None:
    bus, texts, over = make_bus(), {1: ENDLESS, 4: RIGHT}, threading.Event()

    class Endless(Child):
        """A process whose clock is ours where it works without end."""

        def ask(self, line, timeout_s, overtime):
            if b"9^{9^" not in line:
                return super().ask(line, timeout_s, overtime)
            self._link.sendall(line)
            overtime()
            assert over.wait(200)
            raise TimeoutError

    monkeypatch.setattr(process_seat, "Child", Endless)
    slow = hand_in(bus, 1)
    with GraderPool(1) as pool, worker(make_bus, pool, texts):
        wait_until(lambda: bus.overview.under_way(WorkStream.RESPONSES), "the slow group is taken")
        wait_until(lambda: len(pool.pids()) == 2, "a second process works beside the slow one")
        texts[1] = WRONG
        quick = hand_in(bus, 2)
        wait_until(lambda: bus.overview.depths()["scored"] == 1, "the quick group is graded")
        over.set()
        wait_until(lambda: bus.overview.depths()["scored"] == 2, "both groups are graded")
    entries = bus.learner.scored(count=8, block_s=1)
    assert [entry.group_id for entry in entries] == [quick, slow]
    assert [entry.failed for entry in entries] == [None, None]
    verdicts = [bus.learner.scored_group(entry.group_id)[2].verdicts for entry in entries]
    assert [[verdict.kind for verdict in group] for group in verdicts] == [
        [VerdictKind.WRONG, VerdictKind.CORRECT],
        [VerdictKind.TIMEOUT, VerdictKind.CORRECT],
    ]
    assert bus.learner.scored_group(slow)[2].rewards_S.tolist() == [0.0, 1.0]
    assert {"wrong": "1", "timeout": "1", "correct": "2"}.items() <= _summed(bus.overview.tallies()).items()


def test_a_timeout_refunds_the_group_where_that_is_asked_for(make_bus, pool, wait_until, never_starved) -> None:
    bus = make_bus()
    hand_in(bus, 1)
    with worker(make_bus, pool, {1: ENDLESS, 4: RIGHT}, on_timeout="refund"):
        wait_until(lambda: bus.overview.depths()["dead_letters"] == 1, "the group is given up")
    (entry,) = bus.learner.scored(count=8, block_s=1)
    assert entry.failed == "verifier timeout: killed after 4 s"


def test_a_failure_of_the_verifier_is_tried_again_then_refunds_the_group_and_is_counted_once(
    make_bus, wait_until, monkeypatch
) -> None:
    started = []
    monkeypatch.setattr(process_seat, "Child", lambda bytes_: started.append(1) or Child(bytes_))
    bus = make_bus()
    hand_in(bus, 1)
    with GraderPool(1, memory_bytes=1 << 24, attempts=3) as broken, worker(make_bus, broken, {1: RIGHT, 4: WRONG}):
        wait_until(lambda: bus.overview.depths()["dead_letters"] == 1, "the group is given up")
    (entry,) = bus.learner.scored(count=8, block_s=1)
    assert entry.failed.startswith("verifier error: the grading process did not start")
    assert entry.failed.endswith("tried 3 times")
    tally = _summed(bus.overview.tallies())
    assert tally["error"] == "1"
    assert len(started) <= 3 + 2, "one failing response is graded three times in all; each seat may have another ready"
    assert "did not start" in bus.overview.tallies()[0].get("why", "") + bus.overview.tallies()[1].get("why", "")


def _summed(minutes: list[dict[str, str]]) -> dict[str, str]:
    kinds = {kind for minute in minutes for kind in minute if kind != "why"}
    return {kind: str(sum(int(minute.get(kind, 0)) for minute in minutes)) for kind in kinds}


def test_a_worker_that_cannot_grade_an_ability_ends_with_the_reason_and_keeps_the_group(make_bus, pool) -> None:
    bus = make_bus()
    ticket = a_ticket(7, ability="astrology")
    bus.learner.issue(ticket)
    (job,) = bus.rollout.take(count=1, block_s=1, lease_s=10)
    bus.rollout.hand_over(job, some_responses(ticket))
    config = Config(
        model=Model(path=""),
        data=Data(path=""),
        train=Train(steps=1, groups_per_step=1, group_size=2, max_response_tokens=8),
    )
    own = make_bus("verifier-2")
    unknown = pytest.raises(ConfigError, match='no grader for ability "astrology"')
    with Service(own.verifier, "verifier", lease_s=10, heartbeat_s=1) as service, unknown:
        VerifierWorker(own.verifier, service, pool, lambda tokens: "", config).run()
    assert bus.overview.depths()["responses"] == 1
    assert bus.overview.depths()["dead_letters"] == 0


def test_a_redis_that_is_away_at_the_hand_over_ends_the_worker_and_is_no_failure_of_the_group(
    make_bus, pool, monkeypatch, caplog
) -> None:
    """Any other error costs the group an attempt."""
    bus = make_bus()
    hand_in(bus, 1)
    config = Config(
        model=Model(path=""),
        data=Data(path=""),
        train=Train(steps=1, groups_per_step=1, group_size=2, max_response_tokens=8),
    )
    own = make_bus("verifier-2")

    def away(*_: object, **__: object) -> None:
        raise redis.exceptions.TimeoutError("Timeout reading from socket")

    monkeypatch.setattr(own.verifier, "hand_over_and_take", away)
    with (
        pytest.raises(redis.exceptions.TimeoutError),
        Service(own.verifier, "verifier", lease_s=10, heartbeat_s=1) as service,
    ):
        VerifierWorker(own.verifier, service, pool, lambda tokens: RIGHT, config).run()
    assert not [record for record in caplog.records if "failed at attempt" in record.getMessage()]
