"""Every history of a small run, step by step; and some of them on the real streams, books and ledger."""

import json
import os
import random
from collections import deque
from contextlib import suppress

import pytest
import redis
from leeway_rl.common import scored
from leeway_rl.common.codec import decode
from leeway_rl.common.config import compose, dump
from leeway_rl.common.queue.entries import GROUP, Job, WorkStream
from leeway_rl.common.types import Scores, VerdictKind
from leeway_rl.leeway.proving.audit import audit

from tests.learner.flow.pieces import Learner, silence
from tests.learner.flow.ticket_model import RESPONSES, Rules, State
from tests.samples import some_responses, some_scores

LARGE = "LEEWAY_TEST_HISTORIES" in os.environ
NONE = {"crashes": 0, "empties": 0, "deaths": 0, "given_up": 0, "dull": 0}
SMALL = [
    (0, {"crashes": 1, "deaths": 1}),
    (0, {"empties": 1, "dull": 1}),
    (1, {"crashes": 1}),
    (1, {"given_up": 1}),
]
MORE = [
    (0, {"crashes": 1, "empties": 1, "given_up": 1}),
    (0, {"crashes": 2, "given_up": 1, "dull": 1}),
]
"""Minutes."""
STREAMS = list(WorkStream)
KINDS = {False: (VerdictKind.CORRECT, VerdictKind.WRONG), True: (VerdictKind.CORRECT, VerdictKind.CORRECT)}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("bound", "troubles"), SMALL + (MORE if LARGE else []))
def test_from_every_state_the_run_can_end_and_no_state_has_trained_a_ticket_twice(bound, troubles):
    rules, start = Rules(steps=2, bound=bound), State(**NONE | troubles)
    before, waiting = {start: []}, deque([start])
    while waiting:
        state = waiting.popleft()
        assert len(set(state.trained)) == len(state.trained) == state.version, state
        for _, after in rules.steps_from(state):
            if after not in before:
                before[after] = []
                waiting.append(after)
            before[after].append(state)
    can_end = {state for state in before if state.alive and state.version == rules.steps}
    waiting.extend(can_end)
    while waiting:
        fresh = set(before[waiting.popleft()]) - can_end
        can_end |= fresh
        waiting.extend(fresh)
    steps = sum(map(len, before.values()))
    print(f"bound {bound}, {troubles}: {len(before):,} states, {steps:,} steps between them")
    assert next((state for state in before if state not in can_end), None) is None, "a state without a way on"


class Real:
    """The same steps on the real thing."""

    def __init__(self, make_bus, folder, bound):
        self.workers, self.desk, self.folder = [make_bus("w0"), make_bus("w1")], make_bus("desk"), folder
        steps = ["train.steps=2", "train.groups_per_step=1", "train.group_size=2", "broker.max_attempts=99"]
        self.config = compose(["tiny"], [*steps, f"flow.max_staleness={bound}", f"flow.pipeline_depth={bound + 1}"])
        self.saved, self.held = None, {}
        self.resume()

    def do(self, name, *arguments):
        getattr(self, name.replace(" ", "_"))(*arguments)

    def resume(self):
        self.desk.record.store_config(dump(self.config))
        self.learner = Learner(self.desk.url, self.desk.run, self.config, self.folder, self.saved)
        self.learner.begin()

    def crash(self):
        self.learner.close()
        self.learner = None

    def turn(self):
        self.learner.intake.turn(0)

    def train(self):
        groups = self.learner.intake.next_batch(0.0)
        self.learner.intake.trained(groups)
        self.learner.intake.published("0")

    def checkpoint(self):
        self.saved = json.loads(json.dumps(self.learner.intake.snapshot()))
        self.learner.ledger.write("checkpoint", step=self.saved["version"])
        self.learner.intake.checkpointed()

    def empty(self):
        self.desk.desk.clean()

    def take(self, who, stream, group, _):
        worker, key = self.workers[who].on(STREAMS[stream]), self.desk.keys.prefix + STREAMS[stream]
        worker.reclaimed_at, wanted = -1e9, f"{group[0]}-{group[1]}"
        for entry_id, fields in self.desk.redis.xrange(key):
            if fields[b"g"].decode() == wanted:  # where nobody holds it, this changes nothing
                silence(self.desk, Job(stream=STREAMS[stream], entry_id=entry_id.decode(), group_id=wanted, attempt=1))
        (job,) = worker.take(count=1, block_s=0, lease_s=1e6)
        assert job.group_id == wanted
        if stream == RESPONSES:
            found = worker.responses(job)
            ticket = None if found is None else found[0]
        else:
            ticket = worker.ticket(job)
        if ticket is None:
            worker.drop(job)
        else:
            self.held[who] = (job, ticket)

    def hand(self, who, dull):
        job, ticket = self.held[who]
        if job.stream == WorkStream.PROMPTS:
            self.workers[who].rollout.hand_over(job, some_responses(ticket, version=ticket.min_version))
        else:
            self.workers[who].verifier.hand_over(job, some_scores(ticket, KINDS[dull]))

    def give_up(self, who):
        job, _ = self.held[who]
        self.workers[who].on(job.stream).give_up(job, "no luck")

    def die(self, who):
        """Its name stays in Redis; who starts in its place is called the same here."""

    def looks(self):
        """As ``expected`` says it of a model's state."""
        client, keys = self.desk.redis, self.desk.keys
        streams = []
        for stream in STREAMS:
            key = self.desk.keys.prefix + stream
            holders = {}
            with suppress(redis.exceptions.ResponseError):  # nobody has looked since Redis was emptied
                pending = client.xpending_range(key, GROUP, "-", "+", 100)
                holders = {each["message_id"]: each["consumer"].decode()[:2] for each in pending}
            entries = [(fields[b"g"].decode(), holders.get(entry_id, "")) for entry_id, fields in client.xrange(key)]
            streams.append([(group, "L" if holder == "le" else holder) for group, holder in entries])
        parts = set()
        for key in client.scan_iter(match=keys.prefix + "group:*", count=1000):
            group, part = key.decode().split(":")[-2:]
            number = ["ticket", "responses", "scores"].index(part)
            scores = decode(Scores, client.get(key)) if part == "scores" else None
            parts.add((group, number + (scores is not None and len(set(scores.verdicts)) == 1)))
        book = self.learner and self.learner.intake.book
        live = book and [(number, live.ready) for number, live in book.live.items()]
        return streams, parts, book and (book.version, book.next_ticket, live)


def expected(state):
    """What a model's state is like from outside."""
    streams = [[(f"{group[0]}-{group[1]}", holder) for group, _, holder in stream] for stream in state.streams]
    parts = {(f"{group[0]}-{group[1]}", part) for group, part in state.parts}
    book = (state.version, state.next_ticket, list(state.live)) if state.alive else None
    return streams, parts, book


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(60 if LARGE else 12))
def test_what_the_model_says_the_code_does(number, make_bus, tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "MEND_S", 0.0)
    dice = random.Random(number)
    bound = number % 2
    rules, state = Rules(steps=2, bound=bound), State(crashes=2, empties=1, deaths=2, given_up=2, dull=2)
    real, done = Real(make_bus, tmp_path, bound), []
    for _ in range(60):
        if state.alive and state.version == rules.steps:
            break
        steps = list(rules.steps_from(state))
        onward = [each for each in steps if each[0][0] in ("take", "hand", "turn", "train")]
        action, state = dice.choice(onward if onward and dice.random() < 0.75 else steps)
        done.append(action)
        real.do(*action)
        assert real.looks() == expected(state), done
    if real.learner is None:
        real.resume()
    account = audit(tmp_path / "ledger.jsonl", unfinished=True)
    real.learner.close()
    assert (account.version, account.trained) == (real.learner.intake.book.version,) * 2
