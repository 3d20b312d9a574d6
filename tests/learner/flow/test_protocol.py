"""The life of tickets as a model: hypothesis plays learners, workers, operators, crashes and a Redis that loses
everything, in any order, against the real streams and the learner's real books.

A lease runs out when a rule says so (the entry's idle time is set), and no test waits for it. A learner dies between
two rules, or inside one at its k-th request or line. Whatever has happened, in the end a fair schedule of live workers
brings the run to its last step, the audit passes, and Redis holds nothing of a group any more.

LEEWAY_TEST_HISTORIES=1000 plays more and longer histories.
"""

import json
import os
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from leeway_rl.common import scored
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.common.types import VerdictKind
from leeway_rl.leeway.proving.audit import audit

from tests.installations import copied, fail_over
from tests.learner.flow.pieces import Learner, silence
from tests.roles import Roles
from tests.samples import some_responses, some_scores

MIXED, DULL = (VerdictKind.CORRECT, VerdictKind.WRONG), (VerdictKind.CORRECT, VerdictKind.CORRECT)
STREAMS = st.sampled_from([WorkStream.PROMPTS, WorkStream.RESPONSES])
LEASE_S = 1e6
HISTORIES = int(os.environ.get("LEEWAY_TEST_HISTORIES", "15"))
STEPS = 40 if HISTORIES < 100 else 80
"""Of a history."""
PLAYED = Counter()


class Died(BaseException):
    """The learner's process is no more."""


class Dying:
    """Makes a learner die before its k-th write to the ledger or request to Redis from now on, and stay dead."""

    def __init__(self) -> None:
        self.left, self.pool = None, None

    def spend(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Died

    def install(self, patch):
        write, command, pipeline = Ledger.write, redis.Redis.execute_command, redis.client.Pipeline.execute

        def spending(client, call, *words, **named):
            if client.connection_pool is self.pool:
                self.spend()
            return call(client, *words, **named)

        def write_line(ledger, *words, **named):
            self.spend()
            write(ledger, *words, **named)

        patch.setattr(Ledger, "write", write_line)
        patch.setattr(redis.Redis, "execute_command", lambda c, *w, **n: spending(c, command, *w, **n))
        patch.setattr(redis.client.Pipeline, "execute", lambda c, *w, **n: spending(c, pipeline, *w, **n))


class Protocol(RuleBasedStateMachine):
    """Two rollout workers, two verifiers, at most one learner, an operator, and bad luck."""

    url = None

    @initialize(
        bound=st.integers(0, 2),
        overflow=st.sampled_from(["wait", "wait", "drop", "mask", "soft"]),
        change=st.sampled_from(["finish", "refund"]),
        stages=st.booleans(),
    )
    def create(self, bound, overflow, change, stages):
        self.folder, self.run = Path(tempfile.mkdtemp()), f"model-{uuid.uuid4().hex[:12]}"
        self.patch, self.dying = pytest.MonkeyPatch(), Dying()
        self.dying.install(self.patch)
        self.patch.setattr(scored, "MEND_S", 0.0)
        self.config = compose(
            ["tiny"],
            [
                *("train.groups_per_step=2", "train.group_size=2", "train.steps=4"),
                *(f"flow.max_staleness={bound}", f"flow.overflow={overflow}", f"flow.stage_change={change}"),
                *("flow.staleness_period=2", "flow.staleness_price=0", "flow.entropy_price=0"),
                *(["stages=[{from_step=2,groups_per_step=1,online_filter=true}]"] if stages else []),
            ],
        )
        self.workers = {
            stream: [Roles(Connection(self.url, self.run, worker=f"{stream}-{n}")) for n in range(2)]
            for stream in (WorkStream.PROMPTS, WorkStream.RESPONSES)
        }
        self.desk = DeskQueue(Connection(self.url, self.run))
        self.desk.record.store_config(dump(self.config))
        self.held = {stream: [] for stream in self.workers}
        """(job, its ticket) of everything that was ever taken: a zombie may hand over any of it again."""
        self.learner = self.saved = self.copy = None
        self.newest = {}
        """Newest version published, by incarnation."""
        self.trained = {}
        """Groups trained, by step, as far as no rollback took them back."""
        self.whole, self.taken_in = True, set()
        """Redis has lost nothing since the learner last looked; groups that were ready when it lost something."""
        self.start(None)

    # --- the learner ----------------------------------------------------------------------------------------------

    def alive(self):
        return self.learner is not None

    def learning(self):
        return self.alive() and self.learner.intake.book.version < self.config.train.steps

    def act(self, work, dies_after):
        """Something that the learner does, in which it may die."""
        self.dying.left, self.dying.pool = dies_after, self.learner.bus.redis.connection_pool
        try:
            work()
        except Died:
            PLAYED["died inside"] += 1
            self.crash()
        finally:
            self.dying.left = None

    @precondition(lambda self: not self.alive())
    @rule(dies_after=st.none() | st.integers(0, 12))
    def start(self, dies_after):
        self.desk.record.store_config(dump(self.config))  # as leeway up does
        self.learner = Learner(self.url, self.run, self.config, self.folder, self.saved)
        kept = 0 if self.saved is None else self.saved["version"]
        self.trained = {step: groups for step, groups in self.trained.items() if step < kept}
        self.act(self.learner.begin, dies_after)
        if self.alive():
            self.publish_now()
            self.whole = True

    @precondition(alive)
    @rule()
    def crash(self):
        PLAYED["crash"] += 1
        self.learner.close()
        self.learner = None

    @precondition(alive)
    @rule(dies_after=st.none() | st.none() | st.integers(0, 12))
    def turn(self, dies_after):
        def work():
            self.learner.intake.turn(0)
            self.whole = True

        self.act(work, dies_after)

    @precondition(lambda self: self.learning() and self.learner.batch is None)
    @rule(dies_after=st.none() | st.none() | st.integers(0, 6))
    def take_batch(self, dies_after):
        def work():
            self.learner.batch = self.learner.intake.next_batch(0.0)

        self.act(work, dies_after)

    def unpublished(self):
        """The newest step's version is on its way."""
        return self.alive() and self.learner.intake.lifecycle.unpublished

    @precondition(lambda self: self.alive() and self.learner.batch is not None and not self.unpublished())
    @rule(dies_after=st.none() | st.none() | st.integers(0, 12))
    def train(self, dies_after):
        """Close the books on the step. The version comes later, and a batch may be taken before."""
        version = self.learner.intake.book.version

        def work():
            groups = self.learner.batch
            self.learner.intake.trained(groups, ess=0.9)
            self.trained[version] = [group.ticket.ticket for group in groups]
            self.learner.batch = None
            PLAYED["step"] += 1

        self.act(work, dies_after)

    @precondition(unpublished)
    @rule(dies_after=st.none() | st.none() | st.integers(0, 12))
    def publish(self, dies_after):
        """The manifest stands, and perhaps nobody hears of it."""
        self.learner.published = self.learner.intake.book.version
        self.publish_now()
        self.act(lambda: self.learner.intake.published("0"), dies_after)

    def publish_now(self):
        self.newest[self.learner.intake.incarnation] = self.learner.published

    @precondition(lambda self: self.alive() and self.learner.batch is None and not self.unpublished())
    @rule(dies_after=st.none() | st.integers(0, 6))
    def checkpoint(self, dies_after):
        def work():
            state = json.loads(json.dumps(self.learner.intake.snapshot()))
            self.learner.ledger.sync()
            self.dying.spend()
            self.saved = state
            self.learner.ledger.write("checkpoint", step=state["version"])
            self.learner.intake.checkpointed()
            PLAYED["checkpoint"] += 1

        self.act(work, dies_after)

    # --- the workers ----------------------------------------------------------------------------------------------

    @rule(stream=STREAMS, who=st.integers(0, 1))
    def take_one(self, stream, who):
        self.take(stream, who)

    @rule(prompts=st.integers(0, 4), responses=st.integers(0, 4), who=st.integers(0, 1))
    def work(self, prompts, responses, who):
        """Some groups go their way without trouble."""
        for _ in range(prompts):
            if self.take(WorkStream.PROMPTS, who):
                self.respond(0, 0, "hand")
        for _ in range(responses):
            if self.take(WorkStream.RESPONSES, who):
                self.score(0, MIXED)

    def take(self, stream, who):
        """Take one entry, one whose lease has run out first; a worker looks at once what it is to do."""
        roles = self.workers[stream][who]
        worker = roles.on(stream)
        worker.reclaimed_at = -LEASE_S
        before = len(self.held[stream])
        for job in worker.take(count=1, block_s=0, lease_s=LEASE_S):
            PLAYED[f"{stream} taken"] += 1
            PLAYED["reclaimed"] += job.attempt > 1
            if job.attempt > self.config.broker.max_attempts:
                worker.give_up(job, "it failed too often")
                continue
            found = worker.ticket(job) if stream == WorkStream.PROMPTS else worker.responses(job)
            if found is None:
                worker.drop(job)
                continue
            self.held[stream].append((roles, job, found if stream == WorkStream.PROMPTS else found[0]))
        return len(self.held[stream]) > before

    def picked(self, stream, number):
        """Something that was taken at some time, mostly of late."""
        held = self.held[stream]
        return held[max(0, len(held) - 1 - number)]

    @precondition(lambda self: self.held[WorkStream.PROMPTS])
    @rule(number=st.integers(0, 6), younger=st.integers(0, 2), then=st.sampled_from(["hand", "hand", "give up"]))
    def respond(self, number, younger, then):
        """Hand responses over, for the first time or again, sampled by any version that was there."""
        worker, job, ticket = self.picked(WorkStream.PROMPTS, number)
        newest = self.newest.get(ticket.incarnation, ticket.min_version)
        if then == "give up":
            worker.on(job.stream).give_up(job, "no luck")
            return
        version = max(ticket.min_version, newest - younger)
        PLAYED[f"responses {worker.rollout.hand_over(job, some_responses(ticket, version=version))}"] += 1

    @precondition(lambda self: self.held[WorkStream.RESPONSES])
    @rule(number=st.integers(0, 6), then=st.sampled_from([MIXED, MIXED, MIXED, DULL, None]))
    def score(self, number, then):
        worker, job, ticket = self.picked(WorkStream.RESPONSES, number)
        if then is None:
            worker.on(job.stream).give_up(job, "verifier error")
            return
        PLAYED[f"scores {worker.verifier.hand_over(job, some_scores(ticket, then))}"] += 1

    @precondition(lambda self: any(self.held.values()))
    @rule(stream=STREAMS, number=st.integers(0, 6), back=st.booleans(), then=st.none() | st.integers(0, 1))
    def lease_ends(self, stream, number, back, then=None):
        """The worker is silent for its lease, or gives it back; then another may look for such entries."""
        if not self.held[stream]:
            return
        worker, job, _ = self.picked(stream, number)
        if back:
            worker.on(job.stream).give_back([job])
        else:
            silence(self.desk, job)
        if then is not None:
            self.take(stream, then)

    # --- others ---------------------------------------------------------------------------------------------------

    @rule(sure=st.integers(0, 9))
    def redis_is_emptied(self, sure):
        if sure == 7:  # seldom: it takes the traces of everything else with it
            PLAYED["emptied"] += 1
            self.lose()
            self.desk.clean()

    def lose(self):
        """Redis loses something. What the learner has taken in it holds itself, and puts back no payload of it."""
        self.whole = False
        if self.alive() and self.learner.intake is not None:
            held = self.learner.intake.book.live.items()
            self.taken_in |= {f"{number}-{self.learner.intake.incarnation}" for number, live in held if live.ready}

    @rule()
    def replica_copies(self):
        """A replica has what Redis holds now; what comes after has not reached it yet."""
        self.copy = copied(self.desk)

    @precondition(lambda self: self.copy is not None)
    @rule(sure=st.integers(0, 3))
    def failover(self, sure):
        """The replica takes over: whatever was acknowledged since its copy is lost."""
        if sure == 3:
            PLAYED["failed over"] += 1
            self.lose()
            fail_over(self.desk, self.copy, *([self.learner.bus] if self.alive() else []))
            self.copy = None

    @rule(
        control=st.one_of(
            st.tuples(st.just("max_staleness"), st.sampled_from(["0", "1", "2", "auto"])),
            st.tuples(st.just("overflow"), st.sampled_from(["wait", "drop", "mask", "soft"])),
            st.tuples(st.just("pipeline_depth"), st.sampled_from(["auto", "2", "3", "9"])),
            st.tuples(st.just("paused"), st.sampled_from("01")),
        )
    )
    def turn_control(self, control):
        self.desk.set_control(*control)

    @rule()
    def retry_dead_letters(self):
        self.desk.retry({letter["g"] for letter in self.desk.dead_letters()})

    # --- what holds -----------------------------------------------------------------------------------------------

    @invariant()
    def no_group_is_trained_twice(self):
        everything = [number for groups in self.trained.values() for number in groups]
        assert len(everything) == len(set(everything)), self.trained

    @invariant()
    def no_live_ticket_is_lost(self):
        """It is ready, or on a stream (waiting, or under some worker's name), or a dead letter tells the learner."""
        if not self.alive() or not self.whole:
            return
        keys, client = self.desk.keys, self.desk.connection.redis
        places = [keys.prompts, keys.responses, keys.scored]
        there = {fields[b"g"].decode() for key in places for _, fields in client.xrange(key)}
        letters = client.xrange(keys.dead_letters, min=f"({self.learner.bus.learner.letter_id}")
        there |= {fields[b"g"].decode() for _, fields in letters}
        intake = self.learner.intake
        for number, live in intake.book.live.items():
            group_id = f"{number}-{intake.incarnation}"
            assert live.ready or group_id in there, f"ticket {number} is lost"
            kept = group_id in self.taken_in or len(self.desk.payload_sizes(group_id)) == 3
            assert not live.ready or kept, f"ticket {number}'s payload is lost"

    def teardown(self):
        if not hasattr(self, "desk"):
            return
        try:
            self.run_to_the_end()
        finally:
            if self.alive():
                self.learner.close()
            self.desk.clean()
            for bus in [self.desk, *(bus for buses in self.workers.values() for bus in buses)]:
                bus.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    def run_to_the_end(self):
        """A fair schedule: everybody alive has a turn, every lease runs out at some time. Then the books close."""
        self.desk.set_control("paused", "0")
        if not self.alive():
            self.start(None)
        for turn in range(60):
            for stream, finish in ((WorkStream.PROMPTS, self.respond), (WorkStream.RESPONSES, self.score)):
                for number in range(len(self.held[stream]) if turn == 0 else 0):
                    self.lease_ends(stream, number, False)
                while self.take(stream, turn % 2):
                    finish(0, 0, "hand") if stream == WorkStream.PROMPTS else finish(0, MIXED)
            if self.unpublished():
                self.publish(None)
            self.turn(None)
            self.turn(None)
            if not self.learning():
                break
            if self.learner.batch is None:
                self.take_batch(None)
            if self.learner.batch is not None:
                self.train(None)
                self.publish(None)
                self.checkpoint(None)
        assert not self.learning(), f"it does not go on: {self.learner.intake.waiting_for()}"
        self.checkpoint(None)
        self.learner.intake.close_books()
        account = audit(self.folder / "ledger.jsonl")
        assert account.trained == len({number for groups in self.trained.values() for number in groups})
        event(f"incarnations {min(account.incarnation, 6)}")
        client, groups = self.desk.connection.redis, f"{self.desk.keys.prefix}group:*"
        left = {key.decode() for key in client.scan_iter(match=groups, count=1000)}
        assert not left, "Redis still holds groups that nobody will ask for"


@pytest.fixture(autouse=True)
def figures():
    yield
    print(", ".join(f"{name} {count:,}" for name, count in sorted(PLAYED.items())))


@pytest.mark.timeout(7200)
def test_no_history_loses_a_ticket_or_trains_one_twice_and_every_run_can_end(redis_url):
    Protocol.url = redis_url
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    chosen = settings(
        max_examples=HISTORIES, stateful_step_count=STEPS, deadline=None, suppress_health_check=quiet, database=None
    )
    run_state_machine_as_test(Protocol, settings=chosen)
