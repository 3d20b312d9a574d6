"""A learner in pieces, without a model, for tests that decide what happens next; and a lease that ends at once."""

from __future__ import annotations

import uuid
from contextlib import suppress

import numpy as np
import redis
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import GIVEN_BACK_MS, GROUP
from leeway_rl.common.service import Service
from leeway_rl.learner.flow.curriculum import Curriculum
from leeway_rl.learner.flow.intake import Intake
from leeway_rl.learner.flow.prompts import Prompt, PromptSource
from leeway_rl.learner.startup import make_book, open_ledger

from tests.roles import Roles

PROMPTS = [
    Prompt(prompt_id=f"p:{n}", tokens_P=np.array([3, n], np.uint32), ability="math", ground_truth=("4",))
    for n in range(4)
]


class Learner:
    """What ``learn`` does, a piece at a time and without a model."""

    def __init__(self, url, run, config, folder, state):
        self.bus = Roles(Connection(url, run, worker=f"learner-{uuid.uuid4().hex[:6]}"))
        self.config, self.ledger, self.published = config, Ledger(folder / "ledger.jsonl"), -1
        self.state, self.batch, self.intake = state, None, None
        self.repair = lambda unreadable: False

    def begin(self):
        book = make_book(self.config, self.state)
        incarnation = self.bus.learner.raise_incarnation(at_least=self.ledger.incarnation + 1)
        open_ledger(self.ledger, self.bus.learner, self.config, book, self.state, incarnation)
        self.bus.learner.clear_work()
        service = Service(self.bus, "learner", lease_s=5, heartbeat_s=5)
        curriculum = Curriculum(self.config, PromptSource(PROMPTS))
        self.intake = Intake(
            self.bus.learner,
            service,
            book,
            curriculum,
            self.ledger,
            self.config,
            incarnation=incarnation,
            repair=lambda unreadable: self.repair(unreadable),
        )
        if self.state is not None:
            self.intake.restore(self.state)
        self.published = book.version
        self.intake.lifecycle.issue_again()

    def close(self):
        self.ledger.close()  # a killed learner leaves the same lines: none is ever in Python's buffer
        self.bus.close()


def silence(bus, job):
    """The lease of ``job`` ends, whoever holds it: its entry has been idle for long."""
    key = bus.keys.prefix + job.stream
    with suppress(redis.exceptions.ResponseError):  # the stream went with the data
        for pending in bus.connection.redis.xpending_range(key, GROUP, job.entry_id, job.entry_id, 1):
            owner, count = pending["consumer"], pending["times_delivered"]
            known = {"idle": GIVEN_BACK_MS, "retrycount": count, "justid": True}
            bus.connection.redis.xclaim(key, GROUP, owner, 0, [job.entry_id], **known)
