"""Decides what becomes of an entry of the scored stream: which group it is, and whether that can be trained on.

Sound groups go on to the books (``lifecycle.py``). Damaged groups are refused and made again (``common/scored.py``).
"""

import logging

import numpy as np

from ...common.errors import DecodeError, RunExistsError
from ...common.queue.entries import LetterKind, ScoredEntry
from ...common.scored import Payload, ScoredConsumer, parts_of
from ...common.types import Responses, Scores, Ticket, VerdictKind
from ..packing import ScoredGroup
from .lifecycle import Lifecycle
from .staleness import check_spans
from .tickets import Arrival

log = logging.getLogger(__name__)

LEAST_LOGPROB = -1000.0
"""Nats. No token with a lower log-probability is ever drawn. Engines write lower numbers where they have none (vLLM
writes -9999)."""


class TakingIn:
    """Takes in scored groups for one learner incarnation."""

    def __init__(self, lifecycle: Lifecycle, scored: ScoredConsumer) -> None:
        self._lifecycle, self._scored, self._incarnation = lifecycle, scored, lifecycle.incarnation
        self._queue, self._book, self._counts = lifecycle.queue, lifecycle.book, lifecycle.counts

    def take_in(self, entry: ScoredEntry, payload: Payload) -> None:
        """Take in one entry. ``RunExistsError`` where it shows that a newer learner has taken over the run."""
        number, incarnation = (int(part) for part in entry.group_id.split("-"))
        if incarnation > self._incarnation:
            if self._queue.holds(entry.group_id):
                # Nothing of it is settled first, since it is the newer learner's.
                raise superseded(self._incarnation, incarnation)
            why = "an entry that names a group nobody has issued"
            self._queue.dead_letter(LetterKind.DAMAGED, "scored", entry.group_id, why)
            self._queue.turn_away(entry)
        elif incarnation != self._incarnation or number not in self._book.live:
            self._counts.orphaned += incarnation != self._incarnation
            self._queue.settle([entry])
        elif self._book.live[number].ready:
            self._queue.turn_away(entry)  # it is a duplicate, and the payload is still needed
        elif entry.failed is not None:
            log.warning("ticket %d given up: %s", number, entry.failed, extra={"ticket": entry.group_id})
            self._lifecycle.give_up(self._book.live[number].ticket, entry.failed)
        else:
            self._take_in_payload(entry, self._book.live[number].ticket, payload)

    def _take_in_payload(self, entry: ScoredEntry, ticket: Ticket, payload: Payload) -> None:
        try:
            responses, scores = parts_of(ticket, payload)
            self._refuse_untrainable(ticket, responses, scores)
        except DecodeError as error:
            self._scored.refuse(entry, error)
            return
        group = ScoredGroup(ticket=ticket, responses=responses, rewards_S=scores.rewards_S)
        self._lifecycle.arrived(Arrival(entry=entry, group=group, verdicts=scores.verdicts))

    def _refuse_untrainable(self, ticket: Ticket, responses: Responses, scores: Scores) -> None:
        """Raise ``DecodeError`` where a group belongs to its ticket but a step may not train on it."""
        # The step is closed here before its version is published, so no worker has a later one. One more is let pass.
        newest = ticket.min_version if self._book.inject_lag > 0 else self._book.version + 1
        lengths_S = responses.lengths_S.astype(np.int64)
        wrong = check_spans(
            responses.spans,
            lengths_S,
            min_version=ticket.min_version,
            newest_version=newest,
            observed=responses.observed,
        )
        if wrong is not None:
            raise DecodeError(wrong)
        sampled_T = responses.sampled_T
        logprobs_T = responses.logprobs_T[sampled_T]
        if not np.isfinite(logprobs_T).all() or logprobs_T.max() > 1e-3 or logprobs_T.min() < LEAST_LOGPROB:
            self._counts.nonfinite += 1
            raise DecodeError(f"a behaviour log-probability that is not between {LEAST_LOGPROB:g} and 0")
        if not np.isnan(responses.logprobs_T[~sampled_T]).all():
            raise DecodeError("a behaviour log-probability of an observed token, which nobody has sampled")
        if any(verdict.kind is VerdictKind.ERROR for verdict in scores.verdicts):
            raise DecodeError("a verdict 'error' cannot be trained on")


def superseded(incarnation: int, by: int) -> RunExistsError:
    """The error that ends a learner whose run a newer learner has taken over."""
    return RunExistsError(
        f"incarnation {incarnation} of the learner was superseded by {by}: another learner trains this run; this one "
        "leaves"
    )
