"""The collector's loop: it issues problems as tickets and writes graded responses to disk. It trains nothing.

::

    prompts ◀── issue ── collector ◀── take in ◀── scored
                             │
                             └──▶ parts/ ──▶ responses.parquet

The collector takes the place that the learner has in training; rollout and verifier workers are the same and see no
difference. It reads and checks what comes back, and has the rest made again, by the learner's own rule
(``common/scored.py``).
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..common.activity import Activity, Doing
from ..common.config import Config
from ..common.errors import DecodeError
from ..common.queue.entries import Awaited, ScoredEntry, WorkStream, as_scored
from ..common.queue.learner import LearnerQueue
from ..common.scored import READ, Payload, ScoredConsumer, parts_of, responses_of
from ..common.service import Service
from ..common.turns import reasoning_open_S, stretches_of, told
from ..common.types import Responses, Scores, Ticket, VerdictKind
from .responses import ResponseStore

log = logging.getLogger(__name__)

POLL_S = 0.5
FLUSH_S, FLUSH_RESPONSES = 5.0, 4096
"""Rows are written, and their entries acknowledged, after so many seconds or once there are so many rows."""
AHEAD = 32
"""How many tickets on the stream no worker has taken: enough for any number of workers to find work."""
UNGRADED = 512
"""How many groups may wait for verifiers. Above it no ticket is issued, so that Redis does not fill up."""

Decoder = Callable[[list[int]], str]
"""Makes text of tokens and leaves special tokens out."""


class Collector:
    """Issues tickets, writes what comes back, and acknowledges what is on disk."""

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
        """``show`` is called with how many problems are on disk or about to be, and the verdicts so far. ``mend`` is
        called when Redis may have come back without the run, or with less of it, before any ticket is put there
        again."""
        self.queue, self.service, self.store, self.text, self.show = queue, service, store, text, show
        self._restore_run = mend
        self._scored = ScoredConsumer(queue, config, give_up=self._give_up)
        self.failed: dict[str, str] = {}
        """Problems without responses, and why. The same command, run again, asks them again."""
        self.verdicts: Counter[str] = Counter()
        self._live: dict[str, Awaited] = {}  # by group id, the groups that are issued and have no rows yet
        self._rows: list[dict[str, Any]] = []
        self._entries: list[ScoredEntry] = []
        self._written_at = time.monotonic()

    def collect(self, tickets: list[Ticket]) -> bool:
        """Consumes ``scored`` and produces rows on disk; entries are acknowledged once their rows are there. A
        collector that dies here loses nothing: the next one finds issued groups under way, and scored groups
        unacknowledged. Returns False where it was asked to stop before the end.
        """
        self._live = {ticket.group_id: Awaited(ticket) for ticket in self.store.lacks(tickets)}
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
            for entry, payload in self._scored.read(POLL_S):
                self._take_in(entry, payload)
            if self._scored.due:
                self._mend()
            if time.monotonic() - self._written_at >= FLUSH_S or len(self._rows) >= FLUSH_RESPONSES:
                self._write()
            self.show(len(tickets) - len(waiting) - len(self._live) - len(self.failed), self.verdicts)
        self._write()
        self.show(len(tickets) - len(self.failed), self.verdicts)
        return True

    def _take_over(self) -> None:
        """Take in what an earlier collector was given and had not written. Groups that had failed are tried again."""
        self.queue.ensure_groups()
        while jobs := self.queue.take(count=READ, block_s=0.001, lease_s=0.0):
            for entry, payload in self._scored.with_payloads(as_scored(jobs)):
                self._take_in(entry, payload)
            self._write()
        while letters := self.queue.scored(count=READ, block_s=0.001):
            self.queue.settle(letters)
        self.failed.clear()

    def _issue(self, waiting: list[Ticket]) -> None:
        depths = self.queue.overview.depths()
        taken = sum(self.queue.overview.under_way(WorkStream.PROMPTS).values())
        room = min(AHEAD - (depths["prompts"] - taken), UNGRADED - depths["responses"])
        tickets = [waiting.pop() for _ in range(min(room, len(waiting)))]
        self._live |= {ticket.group_id: Awaited(ticket) for ticket in tickets}
        self.queue.issue(*tickets)

    def _take_in(self, entry: ScoredEntry, payload: Payload) -> None:
        """Turn a group into rows. A group that nobody waits for is acknowledged at once. Where generation was given up
        there are no rows; where grading was given up, the responses are kept without a grade."""
        if entry.group_id not in self._live:
            self.queue.settle([entry])
            return
        ticket, scores = self._live[entry.group_id].ticket, None
        try:
            if entry.failed is None:
                responses, scores = parts_of(ticket, payload)
            else:
                responses = responses_of(ticket, payload[0])
        except DecodeError as error:
            if entry.failed is None:
                self._scored.refuse(entry, error)
            else:
                self._give_up(ticket, entry.failed)
            return
        rows = rows_of(ticket, responses, scores, self.text, ungraded=entry.failed or "")
        self.verdicts.update(row["verdict"] for row in rows)
        self.service.count(done=1, tokens=int(responses.sampled_S.sum()))
        del self._live[entry.group_id]
        self._rows += rows
        self._entries.append(entry)

    def _give_up(self, ticket: Ticket, why: str) -> None:
        log.warning("problem %s has no responses: %s", ticket.prompt_id, why)
        self.failed[ticket.prompt_id] = why
        del self._live[ticket.group_id]
        self.queue.withdraw([ticket.group_id])

    def _write(self) -> None:
        if self._rows:
            self.store.append(self._rows)
        self.queue.settle(self._entries)
        self._rows, self._entries, self._written_at = [], [], time.monotonic()

    def _mend(self) -> None:
        """Put back what Redis has lost, and have made again what was damaged on its way."""
        less = self.queue.may_have_less()
        if less or not self.queue.has_run():
            self._restore_run()
        for entry, payload in self._scored.mend(self._live, self._entries, less=less):
            self._take_in(entry, payload)


def rows_of(
    ticket: Ticket, responses: Responses, scores: Scores | None, text: Decoder, *, ungraded: str = ""
) -> list[dict[str, Any]]:
    """One row per response, with the columns of ``responses.COLUMNS``. Without ``scores`` the verdict is ``error`` and
    its reason is ``ungraded``."""
    conversations = stretches_of(responses)
    open_S = reasoning_open_S(ticket.prompt_tokens_P, conversations, text)
    rows, sampled, conversing = [], responses.sampled_S.tolist(), len(responses.environment_S) > 0
    for index, stretches in enumerate(conversations):
        verdict = None if scores is None else scores.verdicts[index]
        versions = responses.spans[responses.spans[:, 0] == index, 1]
        rows.append(
            {
                "id": ticket.prompt_id,
                "index": index,
                "response": text(stretches[-1].tokens.tolist()),
                "tokens": sampled[index],
                "finished": bool(responses.finished_S[index]),
                "verdict": VerdictKind.ERROR.value if verdict is None else verdict.kind.value,
                "reason": ungraded if verdict is None else verdict.reason,
                "version": int(versions.min()) if len(versions) else ticket.min_version,
                "reasoning_open": open_S[index],
                "reward": None if verdict is None else verdict.reward,
                "conversation": json.dumps(told(stretches, text)) if conversing else None,
            }
        )
    return rows
