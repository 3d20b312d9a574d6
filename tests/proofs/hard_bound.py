"""Does the bound hold, and is every ticket accounted for? Random histories through the learner's own rules.

::

    python tests/proofs/hard_bound.py [--histories 10000] [--seed 0]

A history is a run of one to three stages under one overflow policy: random batch sizes and lengths of stages, groups
that come back in random order with tokens of random versions, refunds, and turns of η and of the pipeline depth in
between. What the learner does with a batch is done here: what is expired is refunded, and under ``mask`` the tokens
past the bound are not trained. Each history ends with its last training step or after ``TURNS`` events.

Must hold: no token past the bound is trained under ``wait``, ``drop`` and ``mask``; every ticket is trained once,
refunded once, or live at the end; there is always something that can happen next.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import get_args

import numpy as np
from leeway_rl.benchmarks.measure import Table, parser_of, timed
from leeway_rl.common.config import Overflow
from leeway_rl.learner.flow.staleness import Stages, expired, tokens_past
from leeway_rl.learner.flow.tickets import TicketBook

TURNS = 150
TOKENS = 5
"""Tokens of every group: three of the version it began with, and two of the one it ended with."""


class History:
    """One random run, and what came of its tickets."""

    def __init__(self, overflow: Overflow, rng: random.Random) -> None:
        lengths = [rng.randint(1, 8) for _ in range(rng.randint(1, 3))]
        stages = Stages(
            starts=tuple(sum(lengths[:stage]) for stage in range(len(lengths))),
            groups_per_step=tuple(rng.randint(1, 4) for _ in lengths),
            steps=sum(lengths),
            issue_ahead=rng.random() < 0.5,
        )
        self.rng = rng
        self.book = TicketBook(stages=stages, max_staleness=rng.randint(0, 4), overflow=overflow)
        self.issued_at: dict[int, int] = {}
        self.spans: dict[int, np.ndarray] = {}
        self.ends = Counter[int]()
        """How often each ticket was trained or refunded."""
        self.counts = Counter[str]()

    def run(self) -> Counter[str]:
        """Play the history to its end. Returns counts of what happened; ``broken`` counts what must not happen."""
        for _ in range(TURNS):
            if self.book.version == self.book.stages.steps:
                break
            self._event()
        ended, live, book = set(self.ends), set(self.book.live), self.book
        accounted = max(self.ends.values(), default=1) == 1 and not ended & live
        self.counts["broken"] += not (accounted and ended | live == set(range(book.next_ticket)))
        self.counts["steps"] += book.version
        self.counts["tickets"] += book.next_ticket
        return self.counts

    def _event(self) -> None:
        rng, book = self.rng, self.book
        if rng.random() < 0.04:
            book.max_staleness = rng.randint(0, 4)
        if rng.random() < 0.04:
            book.pipeline_depth, book.auto_depth = rng.choice(["auto", rng.randint(1, 20)]), rng.uniform(0, 6)
        for stage in book.vacancies():
            self.issued_at[book.issue(stage)] = book.version
        under_way = [ticket for ticket, live in book.live.items() if not live.ready]
        if book.batch() is not None and (rng.random() < 0.4 or not under_way):
            self._step()
        elif under_way:
            self._come_back(rng.choice(under_way))
        else:
            self.counts["broken"] += 1  # nothing can happen any more

    def _come_back(self, ticket: int) -> None:
        if self.rng.random() < 0.2:
            self._refund(ticket)
            return
        began, ended = sorted(self.rng.randint(self.issued_at[ticket], self.book.version) for _ in range(2))
        self.spans[ticket] = np.array([[0, began, 0, 3], [0, ended, 3, TOKENS]], dtype=np.uint32)
        self.book.ready(ticket)

    def _refund(self, ticket: int) -> None:
        self.book.refund(ticket)
        self.ends[ticket] += 1
        self.counts["refunded"] += 1

    def _step(self) -> None:
        book, batch = self.book, self.book.batch()
        assert batch is not None
        bound, version = book.max_staleness, book.version
        gone = [t for t in batch if expired(self.spans[t], version, max_staleness=bound, overflow=book.overflow)]
        for ticket in gone:
            self._refund(ticket)
        if gone:
            return
        for ticket in batch:
            past = tokens_past(self.spans[ticket], version, max_staleness=bound)
            oldest = [version - int(sampled_by) > bound for sampled_by in self.spans[ticket][:, 1]]
            self.counts["broken"] += past != 3 * oldest[0] + 2 * oldest[1]
            trained_past = 0 if book.overflow == "mask" else past
            self.counts["masked"] += past - trained_past
            self.counts["past"] += trained_past
            self.counts["broken"] += past == TOKENS and book.overflow == "mask"
            self.ends[ticket] += 1
            self.counts["trained"] += 1
        book.trained(batch)
        for ticket in book.left_behind():
            self._refund(ticket)


def played(policy: Overflow, histories: int, seed: int) -> Counter[str]:
    """Counts of so many random histories under one policy."""
    counts = Counter[str]()
    for number in range(histories):
        counts.update(History(policy, random.Random(f"{seed} {policy} {number}")).run())
    return counts


def main() -> None:
    """Print a line of counts for each policy; exit with 1 if something broke that must hold."""
    parser = parser_of(__doc__, seed=0)
    parser.add_argument("--histories", type=int, default=10_000, help="of each policy")
    given = parser.parse_args()
    columns = ("steps", "tickets", "trained", "refunded", "masked", "past", "broken")
    table = Table("policy", "histories:d", *(f"{name}:9d" for name in columns), "seconds:.1f")
    held = True
    for policy in get_args(Overflow):
        seconds, counts = timed(played, policy, given.histories, given.seed)
        table.line(policy, given.histories, *(counts[name] for name in columns), seconds)
        held &= counts["broken"] == 0 and (policy == "soft" or counts["past"] == 0)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
