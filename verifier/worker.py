"""The verifier loop: responses in, verdicts out.

Stateless, any number. A group is graded as a whole; one slow response costs its own clock, not its neighbours'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from ..common.config import Config
from ..common.errors import DecodeError
from ..common.service import Service
from ..common.streams import Bus, HandOver, Job, WorkStream
from ..common.types import Responses, Scores, Ticket, VerdictKind
from .pool import GradeItem, GraderPool

log = logging.getLogger(__name__)

POLL_S = 1.0

NOT_A_GRADE = frozenset({VerdictKind.ERROR, VerdictKind.TIMEOUT})
"""Verdicts on us rather than on the response: tried once more, then the group is given up."""


def grade_items(ticket: Ticket, responses: Responses, decode: Callable[[list[int]], str]) -> list[GradeItem]:
    """What the graders see of each response: its text (special tokens removed), the golds, whether it ended."""
    ends = np.cumsum(responses.lengths_S)
    # Some chat templates open the reasoning inside the prompt; the response then begins in the middle of it.
    reasoning_open = decode(ticket.prompt_tokens_P[-16:].tolist()).rstrip().endswith("<think>")
    return [
        GradeItem(
            ability=ticket.ability,
            response=decode(responses.tokens_T[end - length : end].tolist()),
            golds=ticket.ground_truth,
            finished=bool(finished),
            reasoning_open=reasoning_open,
        )
        for end, length, finished in zip(ends, responses.lengths_S, responses.finished_S, strict=True)
    ]


class VerifierWorker:
    """One loop over a pool of grading processes."""

    def __init__(
        self, bus: Bus, service: Service, pool: GraderPool, decode: Callable[[list[int]], str], config: Config
    ) -> None:
        self.bus, self.service, self.pool, self.decode, self.config = bus, service, pool, decode, config

    def run(self) -> None:
        """Consumes responses, produces scores; acknowledged by the hand-over itself. Dying here leaves the entry
        pending, and another worker takes it when the lease is over."""
        broker = self.config.broker
        while not self.service.stopping.is_set():
            self.service.doing("waiting for responses")
            jobs = self.bus.take(WorkStream.RESPONSES, count=1, block_s=POLL_S, lease_s=broker.lease_s)
            if not jobs and self.service.run_finished():
                return
            for job in jobs:
                if job.attempt > broker.max_attempts:
                    self.bus.give_up(job, f"grading failed {job.attempt - 1} times")
                    continue
                try:
                    with self.service.holding(job), self.service.working("grading"):
                        self._grade(job)
                except DecodeError as error:
                    self.bus.give_up(job, f"responses: {error}")
                except Exception:
                    # Left pending on purpose: the lease ends, and the group is tried again, here or elsewhere.
                    log.exception("group %s failed at attempt %d", job.group_id, job.attempt)

    def _grade(self, job: Job) -> None:
        found = self.bus.responses(job.group_id)
        if found is None:
            self.bus.drop(job)
            return
        items = grade_items(*found, self.decode)
        verdicts = self.pool.grade(items)
        for index, verdict in enumerate(verdicts):
            if verdict.kind in NOT_A_GRADE:
                (verdicts[index],) = self.pool.grade([items[index]])
        failed = [verdict for verdict in verdicts if verdict.kind in NOT_A_GRADE]
        if failed:  # the verifier's own failure is never a reward of 0: the group is refunded
            self.bus.give_up(job, f"verifier {failed[0].kind}: {failed[0].reason}")
            return
        scores = Scores(group_id=job.group_id, verdicts=tuple(verdicts), worker=self.bus.worker)
        if self.bus.hand_over_scores(job, scores) is HandOver.HANDED:
            self.service.count(done=1)
