"""The one consumer of scored groups, for the learner and for an evaluation's collector.

Both issue tickets and wait for their groups. What comes back is read from the stream, decoded and checked here; what
does not come back is made again from its ticket, since (run seed, ticket) decides a group::

    the ticket is gone from Redis           Redis has lost its data: the ticket is put there again, uncounted
    no work stream names the group          its entry or payload was damaged: it is made again, a failure
    its payload cannot be used              the entry is turned away, so that no stream names the group: see above
    a worker holds it past its clock        it is announced again, a failure; whichever result comes first counts
    ``broker.max_attempts`` failures        it is given up with its reason, and a dead letter is written
    the answer that named it was lost       its entry is pending under our name: it is taken in now
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
from .types import Responses, Scores, Ticket

log = logging.getLogger(__name__)

MEND_S = 2.0  # how often the groups that are waited for are compared with what Redis holds
READ = 64  # entries that are read together, with their payloads
Payload = tuple[bytes | None, bytes | None]  # a group's responses and scores, each None where it is not there


class ScoredConsumer:
    """Reads what is scored and has made again what is not. Who uses it keeps the groups, and decides what becomes of
    those that come back and of those that are given up."""

    def __init__(
        self,
        queue: LearnerQueue,
        config: Config,
        *,
        give_up: Callable[[Ticket, str], object],
        overdue: Callable[[Ticket, Late], object] = lambda *_: None,
    ) -> None:
        """``give_up`` is called with the ticket of a group that has failed too often, and why; it has to forget the
        group and its payload. ``overdue`` is called with one that is announced again, and who held it."""
        self.queue, self.clocks = queue, GroupClocks(config)
        self._max_attempts, self._give_up, self._overdue = config.broker.max_attempts, give_up, overdue
        self._mended_at = -MEND_S

    def read(self, block_s: float) -> list[tuple[ScoredEntry, Payload]]:
        """What is newly scored or given up, waited for as in ``LearnerQueue.scored``."""
        return self.with_payloads(self.queue.scored(count=READ, block_s=block_s))

    def with_payloads(self, entries: Sequence[ScoredEntry]) -> list[tuple[ScoredEntry, Payload]]:
        """Each entry with its group's payload, which is not decoded: a broken one must not hold up the others."""
        payloads = self.queue.scored_payloads([entry.group_id for entry in entries]) if entries else []
        return list(zip(entries, payloads, strict=True))

    def refuse(self, entry: ScoredEntry, why: DecodeError) -> None:
        """Turn away a group whose payload cannot be used. No stream names it then, and ``mend``, which is due at once,
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
        self, waiting: Mapping[str, Awaited], unsettled: Iterable[ScoredEntry]
    ) -> list[tuple[ScoredEntry, Payload]]:
        """Have made again what was lost of ``waiting``, the groups that have not come back, by group id. Returns
        entries that were read for us in an answer that never arrived, which is whatever is pending under our name
        beside the ``unsettled`` ones."""
        left = dict(waiting)
        gone, unnamed = self.queue.astray(list(left))
        self.queue.issue(*[left[group_id].ticket for group_id in gone])
        if gone:
            log.warning("%d live tickets were gone from Redis and are there again", len(gone))
        for group_id in unnamed:
            if self._may_fail(left, group_id, "lost or damaged on its way {} times"):
                log.warning("group %s was lost or damaged on its way: made again", group_id, extra={"ticket": group_id})
                self.queue.withdraw([group_id])
                self.queue.issue(left[group_id].ticket)
        tickets = {group_id: group.ticket for group_id, group in left.items()}
        for late in self.clocks.look(*self.queue.leases.held(), tickets.get):
            self._announce_again(left, late)
        self.queue.leases.begin_future()
        self._mended_at = time.monotonic()
        known = {entry.entry_id for entry in unsettled if entry.entry_id is not None}
        return self.with_payloads(self.queue.unread(known))

    def _announce_again(self, left: dict[str, Awaited], late: Late) -> None:
        """The same ticket again, for another worker: a refund for its age would favour short responses, and at a bound
        of 0 another ticket would be trained in its place."""
        group_id, worker = late.lease.group_id, late.lease.worker
        if group_id not in left or not self.queue.leases.announce_again(late.lease):
            return  # it was given up just now, or handed over
        where = {"ticket": group_id}
        log.error("group %s did not come back from %s within %.0f s", group_id, worker, late.held_s, extra=where)
        self._overdue(left[group_id].ticket, late)
        self._may_fail(left, group_id, "did not come back within its time: {} times overdue, lost or damaged")

    def _may_fail(self, left: dict[str, Awaited], group_id: str, reason: str) -> bool:
        """Count a failure of a group; False where it was one too many and the group is given up."""
        group = left[group_id]
        group.failures += 1
        if group.failures < self._max_attempts:
            return True
        del left[group_id]
        why = reason.format(group.failures)
        self.queue.dead_letter(LetterKind.LOST, "scored", group_id, why)
        self._give_up(group.ticket, why)
        return False


def parts_of(ticket: Ticket, payload: Payload) -> tuple[Responses, Scores]:
    """A scored group's responses and scores; ``DecodeError`` where they are not there or not those of ``ticket``."""
    body, graded = payload
    if body is None or graded is None:
        raise DecodeError("its payload is not there")
    scores = decode_part(Scores, graded, ticket.group_id)
    responses = responses_of(ticket, body)
    if len(scores.verdicts) != ticket.group_size:
        raise DecodeError(f"{len(scores.verdicts)} verdicts where {ticket.group_size} are due")
    if scores.graded != responses.fingerprint:
        raise DecodeError("its verdicts are of other responses")
    return responses, scores


def responses_of(ticket: Ticket, body: bytes | None) -> Responses:
    """The responses in ``body``; ``DecodeError`` where there are none or they are not those of ``ticket``."""
    if body is None:
        raise DecodeError("its responses are not there")
    responses = decode_part(Responses, body, ticket.group_id)
    lengths_S, total = responses.lengths_S.astype(np.int64), len(responses.tokens_T)
    counts = {len(lengths_S), len(responses.finished_S)}
    if counts != {ticket.group_size}:
        raise DecodeError(f"{min(counts)} responses where {ticket.group_size} are due")
    if lengths_S.sum() != total or len(responses.logprobs_T) != total or lengths_S.min() < 1:
        raise DecodeError(f"lengths {lengths_S.tolist()} do not add up to {total} tokens")
    if lengths_S.max() > ticket.max_new_tokens:
        raise DecodeError(f"a response of {lengths_S.max()} tokens where {ticket.max_new_tokens} is the limit")
    return responses
