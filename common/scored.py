"""The consumer of scored groups, for the learner and for an evaluation's collector.

Both issue tickets and wait for their groups. Groups that come back are read from the stream, decoded and checked here.
Groups that do not come back are made again from their tickets, since (run seed, ticket) decides a group::

    the ticket is gone from Redis           Redis has lost its data: the ticket is put there again, uncounted
    no work stream names the group          its entry or payload was damaged: it is made again, a failure
    its payload cannot be used              the entry is turned away, so that no stream names the group: see above
    a worker holds it past its clock        it is announced again, a failure; whichever result comes first counts
    ``broker.max_attempts`` failures        it is given up with its reason, and a dead letter is written
    the reply that named it was lost        its entry is pending under our name: it is taken in now
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .clocks import GroupClocks, Late
from .config import Config
from .errors import DecodeError
from .queue.entries import Awaited, LetterKind, ScoredEntry, decode_part
from .queue.learner import LearnerQueue
from .turns import check_observed
from .types import Responses, Scores, Ticket, VerdictKind
from .wording import counted

log = logging.getLogger(__name__)

MEND_S = 2.0  # seconds between two comparisons of the awaited groups with what Redis holds
READ = 64  # most entries that are read together, with their payloads
Payload = tuple[bytes | None, bytes | None]  # a group's responses and scores; one that is missing is None


class ScoredConsumer:
    """Reads what is scored, and has what is lost made again. Its user keeps the groups, and decides what becomes of
    those that come back and of those that are given up."""

    def __init__(
        self,
        queue: LearnerQueue,
        config: Config,
        *,
        give_up: Callable[[Ticket, str], object],
        overdue: Callable[[Ticket, Late], object] = lambda *_: None,
    ) -> None:
        """``give_up`` is called with the ticket of a group that has failed too often, and the reason. It has to forget
        the group and its payload. ``overdue`` is called with a ticket that is announced again, and with who held it."""
        self.queue, self.clocks = queue, GroupClocks(config)
        self._max_attempts, self._give_up, self._overdue = config.broker.max_attempts, give_up, overdue
        self._mended_at = -MEND_S

    def read(self, block_s: float) -> list[tuple[ScoredEntry, Payload]]:
        """Newly scored entries with their payloads. Waits up to ``block_s`` seconds, as ``LearnerQueue.scored``
        does."""
        return self.with_payloads(self.queue.scored(count=READ, block_s=block_s))

    def with_payloads(self, entries: Sequence[ScoredEntry]) -> list[tuple[ScoredEntry, Payload]]:
        """Each entry with its group's payload, still encoded, so that a broken one does not hold up the others."""
        payloads = self.queue.scored_payloads([entry.group_id for entry in entries]) if entries else []
        return list(zip(entries, payloads, strict=True))

    def refuse(self, entry: ScoredEntry, why: DecodeError) -> None:
        """Turn away a group whose payload cannot be used. No stream names it then, so ``mend``, which is due at once,
        has it made again."""
        log.warning("group %s cannot be used: %s", entry.group_id, why, extra={"ticket": entry.group_id})
        self.queue.dead_letter(LetterKind.DAMAGED, "scored", entry.group_id, str(why))
        self.queue.turn_away(entry)
        self._mended_at = -MEND_S

    @property
    def due(self) -> bool:
        """Whether it is time for ``mend``."""
        return time.monotonic() - self._mended_at >= MEND_S

    def mend(
        self, waiting: Mapping[str, Awaited], unsettled: Iterable[ScoredEntry], *, less: bool = False
    ) -> list[tuple[ScoredEntry, Payload]]:
        """Have lost groups made again. ``waiting`` has the groups that have not come back, by group id. Returns entries
        that Redis delivered to us in a reply that never arrived: all that are pending under our name beside the
        ``unsettled`` ones. ``less``: Redis may lack what was written last."""
        left = dict(waiting)
        gone, unnamed = self.queue.astray(list(left))
        self.queue.issue(*[left[group_id].ticket for group_id in gone])
        if gone:
            log.warning(
                "%s gone from Redis, and issued again", counted(len(gone), "live ticket was", "live tickets were")
            )
        for group_id in unnamed:
            if self._may_fail(left, group_id, "lost or damaged on its way {}"):
                log.warning("group %s was lost or damaged on its way: made again", group_id, extra={"ticket": group_id})
                self.queue.withdraw([group_id])
                self.queue.issue(left[group_id].ticket)
        tickets = {group_id: group.ticket for group_id, group in left.items()}
        for late in self.clocks.look(*self.queue.leases.held(), tickets.get):
            self._announce_again(left, late)
        self.queue.leases.begin_future()
        self._mended_at = time.monotonic()
        known = {entry.entry_id for entry in unsettled if entry.entry_id is not None}
        return self.with_payloads(self.queue.unread(known, less=less))

    def _announce_again(self, left: dict[str, Awaited], late: Late) -> None:
        """Announce the same ticket again, for another worker. A refund for its age would favour short responses, and at
        a bound of 0 another ticket would be trained in its place."""
        group_id, worker = late.lease.group_id, late.lease.worker
        if group_id not in left or not self.queue.leases.announce_again(late.lease):
            return  # it was given up just now, or handed over
        where = {"ticket": group_id}
        log.error("group %s did not come back from %s within %.0f s", group_id, worker, late.held_s, extra=where)
        self._overdue(left[group_id].ticket, late)
        self._may_fail(left, group_id, "did not come back within its time: {} overdue, lost or damaged")

    def _may_fail(self, left: dict[str, Awaited], group_id: str, reason: str) -> bool:
        """Count a failure of a group. Returns False if it was one too many and the group is given up."""
        group = left[group_id]
        group.failures += 1
        if group.failures < self._max_attempts:
            return True
        del left[group_id]
        why = reason.format(counted(group.failures, "time"))
        self.queue.dead_letter(LetterKind.LOST, "scored", group_id, why)
        self._give_up(group.ticket, why)
        return False


def parts_of(ticket: Ticket, payload: Payload) -> tuple[Responses, Scores]:
    """A scored group's responses and scores; ``DecodeError`` if they are missing or not those of ``ticket``."""
    body, graded = payload
    if body is None or graded is None:
        raise DecodeError("its payload is not there")
    scores = decode_part(Scores, graded, ticket.group_id)
    responses = responses_of(ticket, body)
    if len(scores.verdicts) != ticket.group_size:
        raise DecodeError(f"{len(scores.verdicts)} verdicts, expected {ticket.group_size}")
    if scores.graded != responses.fingerprint:
        raise DecodeError("its verdicts are of other responses")
    if any((verdict.kind is VerdictKind.SCORED) != (verdict.score is not None) for verdict in scores.verdicts):
        raise DecodeError("a verdict that is 'scored' without a score, or has one and is not")
    return responses, scores


def responses_of(ticket: Ticket, body: bytes | None) -> Responses:
    """The responses in ``body``; ``DecodeError`` if there are none, or they are not those of ``ticket``."""
    if body is None:
        raise DecodeError("its responses are not there")
    responses = decode_part(Responses, body, ticket.group_id)
    lengths_S, total = responses.lengths_S.astype(np.int64), len(responses.tokens_T)
    counts = {len(lengths_S), len(responses.finished_S)}
    if counts != {ticket.group_size}:
        raise DecodeError(f"{min(counts)} responses, expected {ticket.group_size}")
    if lengths_S.sum() != total or len(responses.logprobs_T) != total or lengths_S.min() < 1:
        raise DecodeError(f"lengths {lengths_S.tolist()} do not add up to {total} tokens")
    if lengths_S.max() > ticket.max_new_tokens:
        raise DecodeError(f"a response of {lengths_S.max()} tokens where {ticket.max_new_tokens} is the limit")
    check_observed(responses.observed, lengths_S)
    rewards_S = responses.environment_S
    if len(rewards_S) not in (0, ticket.group_size) or not np.isfinite(rewards_S).all():
        raise DecodeError(f"rewards of the environment {rewards_S.tolist()} for {ticket.group_size} responses")
    return responses
