"""The collector's loop: problems out as tickets, graded responses in and onto the disk. It trains nothing.

::

    prompts ◀── issue ── collector ◀── take in ◀── scored
                             │
                             └──▶ parts/ ──▶ responses.parquet

It stands where the learner stands in training; rollout and verifier workers are the same and see no difference.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..common.activity import Activity, Doing
from ..common.clocks import GroupClocks, Late
from ..common.codec import decode
from ..common.config import Config
from ..common.errors import DecodeError
from ..common.prompts import opens_reasoning
from ..common.queue.entries import ScoredEntry, WorkStream
from ..common.queue.learner import LearnerQueue
from ..common.service import Service
from ..common.types import Responses, Scores, Ticket, VerdictKind
from .responses import ResponseStore

log = logging.getLogger(__name__)

POLL_S = 0.5
MEND_S = 2.0
"""How often the issued tickets are compared with what Redis holds."""
FLUSH_S, FLUSH_RESPONSES = 5.0, 4096
"""Rows are written and acknowledged after so long, or when there are so many."""
AHEAD = 32
"""Tickets on the stream that no worker has taken: enough that none waits, whatever their number."""
UNGRADED = 512
"""Groups that may wait for verifiers; above it nothing is issued, so that Redis does not fill up."""

Decoder = Callable[[list[int]], str]
"""The text of tokens, without special ones."""


class Collector:
    """Issues tickets, writes what comes back, acknowledges what is on disk."""

    def __init__(
        self,
        queue: LearnerQueue,
        service: Service,
        store: ResponseStore,
        text: Decoder,
        config: Config,
        *,
        show: Callable[[int, Counter[str]], None] = lambda done, verdicts: None,
        mend: Callable[[], None] = lambda: None,
    ) -> None:
        """``show`` hears how many problems are on disk or about to be, and the verdicts so far. ``mend`` is called when
        Redis has come back without the run, before any ticket is put there again."""
        self.queue, self.service, self.store, self.text, self.show = queue, service, store, text, show
        self._restore_run = mend
        self._attempts, self._clocks = config.broker.max_attempts, GroupClocks(config)
        self._overdue: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        """Problems without responses, and why; the same command again tries them again."""
        self.verdicts: Counter[str] = Counter()
        self._live: dict[str, Ticket] = {}
        self._rows: list[dict[str, Any]] = []
        self._entries: list[ScoredEntry] = []
        self._written_at = self._mended_at = time.monotonic()

    def collect(self, tickets: list[Ticket]) -> bool:
        """Consumes scored, produces rows on disk; acknowledged when they are there. Dying here loses nothing: the next
        collector finds what is issued under way, and what is scored unacknowledged. False where asked to stop first.
        """
        self._live = {ticket.group_id: ticket for ticket in self.store.lacks(tickets)}
        self._take_over()
        self._live.clear()
        waiting = self.store.lacks(reversed(tickets))
        while waiting or self._live:
            if self.service.stopping.is_set():
                self._write()
                return False
            self._issue(waiting)
            left = len(waiting) + len(self._live)
            self.service.doing(Doing(Activity.WAITING_FOR_PROBLEMS, lacking=left, due=len(tickets)))
            for entry in self.queue.scored(count=64, block_s=POLL_S):
                self._take_in(entry)
            if time.monotonic() - self._mended_at >= MEND_S:
                self._mend()
            if time.monotonic() - self._written_at >= FLUSH_S or len(self._rows) >= FLUSH_RESPONSES:
                self._write()
            self.show(len(tickets) - len(waiting) - len(self._live) - len(self.failed), self.verdicts)
        self._write()
        self.show(len(tickets) - len(self.failed), self.verdicts)
        return True

    def _take_over(self) -> None:
        """What an earlier collector was given and had not written. What it was told had failed is tried again."""
        self.queue.ensure_groups()
        while jobs := self.queue.take(count=64, block_s=0.001, lease_s=0.0):
            for job in jobs:
                self._take_in(ScoredEntry(entry_id=job.entry_id, group_id=job.group_id, failed=None))
            self._write()
        while letters := self.queue.scored(count=64, block_s=0.001):
            self.queue.settle(letters)
        self.failed.clear()

    def _issue(self, waiting: list[Ticket]) -> None:
        depths = self.queue.overview.depths()
        taken = sum(self.queue.overview.under_way(WorkStream.PROMPTS).values())
        room = min(AHEAD - (depths["prompts"] - taken), UNGRADED - depths["responses"])
        tickets = [waiting.pop() for _ in range(min(room, len(waiting)))]
        self._live |= {ticket.group_id: ticket for ticket in tickets}
        self.queue.issue(*tickets)

    def _take_in(self, entry: ScoredEntry) -> None:
        """Turn a group into rows. One that nobody waits for, or that has failed for good, is forgotten at once."""
        ticket = self._live.pop(entry.group_id, None)
        if ticket is None:
            self.queue.settle([entry])
            return
        ((body, scores),) = self.queue.scored_payloads([entry.group_id])
        try:
            if body is None or (entry.failed is None and scores is None):
                raise DecodeError(entry.failed or "its payload is gone from Redis")
            responses = decode(Responses, body)
            graded = None if scores is None else decode(Scores, scores)
            rows = rows_of(ticket, responses, graded, self.text, ungraded=entry.failed or "")
        except DecodeError as error:
            log.warning("problem %s has no responses: %s", ticket.prompt_id, error)
            self.failed[ticket.prompt_id] = str(error)
            self.queue.settle([entry])
            return
        self.verdicts.update(row["verdict"] for row in rows)
        self.service.count(done=1, tokens=len(responses.tokens_T))
        self._rows += rows
        self._entries.append(entry)

    def _write(self) -> None:
        if self._rows:
            self.store.append(self._rows)
        self.queue.settle(self._entries)
        self._rows, self._entries, self._written_at = [], [], time.monotonic()

    def _mend(self) -> None:
        """Redis is disposable: what it has lost goes back. And take in what an answer named that never arrived."""
        if not self.queue.has_run():
            self._restore_run()
        gone, unnamed = self.queue.astray(list(self._live))
        self.queue.withdraw(unnamed)  # an entry or a payload was damaged: it is made again
        self.queue.issue(*[self._live[group_id] for group_id in (*gone, *unnamed)])
        for late in self._clocks.look(*self.queue.leases.held(), self._live.get):
            self._issue_overdue(late)
        for entry in self.queue.unread({entry.entry_id for entry in self._entries if entry.entry_id is not None}):
            self._take_in(entry)
        self._mended_at = time.monotonic()

    def _issue_overdue(self, late: Late) -> None:
        """As the learner does: the same ticket again, and after so many times none. What hangs would hang for ever."""
        group_id, worker = late.lease.group_id, late.lease.worker
        if not self.queue.leases.announce_again(late.lease):
            return
        log.error("group %s did not come back from %s within %.0f s: again", group_id, worker, late.held_s)
        self._overdue[group_id] += 1
        if self._overdue[group_id] >= self._attempts:
            ticket = self._live.pop(group_id)
            self.failed[ticket.prompt_id] = f"did not come back within its time {self._overdue[group_id]} times"
            self.queue.withdraw([group_id])


def rows_of(
    ticket: Ticket, responses: Responses, scores: Scores | None, text: Decoder, *, ungraded: str = ""
) -> list[dict[str, Any]]:
    """A row a response, as ``responses.COLUMNS`` has them; the verdict is ``error`` for the reason ``ungraded`` where
    there are no ``scores``. ``DecodeError`` where the parts do not fit together."""
    lengths_S = responses.lengths_S.astype(np.int64)
    count, ends = ticket.group_size, np.cumsum(lengths_S)
    graded = count if scores is None else len(scores.verdicts)
    if not len(lengths_S) == len(responses.finished_S) == graded == count or ends[-1] != len(responses.tokens_T):
        raise DecodeError(f"{len(lengths_S)} responses, {graded} verdicts, {count} were asked for")
    if scores is not None and scores.graded != responses.fingerprint:
        raise DecodeError("the verdicts are of other responses")
    reasoning_open = opens_reasoning(text(ticket.prompt_tokens_P[-16:].tolist()))
    rows = []
    for index, (end, length) in enumerate(zip(ends, lengths_S, strict=True)):
        verdict = None if scores is None else scores.verdicts[index]
        versions = responses.spans[responses.spans[:, 0] == index, 1]
        rows.append(
            {
                "id": ticket.prompt_id,
                "index": index,
                "response": text(responses.tokens_T[end - length : end].tolist()),
                "tokens": int(length),
                "finished": bool(responses.finished_S[index]),
                "verdict": VerdictKind.ERROR.value if verdict is None else verdict.kind.value,
                "reason": ungraded if verdict is None else verdict.reason,
                "version": int(versions.min()) if len(versions) else ticket.min_version,
                "reasoning_open": reasoning_open,
            }
        )
    return rows
