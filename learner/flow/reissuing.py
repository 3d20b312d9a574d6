"""What is lost comes back: groups, the run in a Redis that has come back empty, weights that nobody can read.

How groups are made again, and when they are given up, is the rule of ``common/scored.py``. Here is what the learner
adds to it: the ledger's line, and all that may be lost beside groups.
"""

import logging
from collections.abc import Callable

from ...common.clocks import Late
from ...common.config import Config, dump
from ...common.queue.entries import ScoredEntry
from ...common.scored import Payload, ScoredConsumer
from ...common.service import Service
from ...common.types import Ticket
from ...common.weights import Stamp
from .lifecycle import Lifecycle
from .tickets import State

log = logging.getLogger(__name__)

# Publishes the newest weights again where Redis has lost them, or where the version that is named cannot be read;
# returns whether that was so.
Repair = Callable[[Stamp | None], bool]


class Reissuing:
    """Puts back what was lost, for one learner incarnation."""

    def __init__(self, lifecycle: Lifecycle, service: Service, config: Config, *, repair: Repair) -> None:
        self._lifecycle, self._service, self._config, self._repair = lifecycle, service, config, repair
        self._queue, self._book = lifecycle.queue, lifecycle.book
        self.scored = ScoredConsumer(self._queue, config, give_up=lifecycle.give_up, overdue=self._write_overdue)

    def restore_run(self, controls: dict[str, str]) -> None:
        """Redis is disposable: what it held and we know goes back there, the newest weights included."""
        log.warning("Redis has lost the run: what is live is put there again")
        self._queue.restore_run(dump(self._config), self._lifecycle.incarnation, controls)
        self._repair(None)

    def mend_weights(self, incarnation: int, version: int, worker: str) -> None:
        """A worker cannot read the newest weights, a damaged delta for instance: they are written again, whole."""
        self._queue.weights.forget_unreadable()
        if self._repair(Stamp(incarnation, version)):
            log.warning("%s could not read version %d: it is published again, whole", worker, version)

    def mend_shared(self) -> None:
        """Remove keys that cannot be ours, and publish again where a manifest of the weights cannot be read."""
        self._queue.remove_foreign()
        if self._queue.manifest_damaged:
            self._queue.manifest_damaged = False
            self._repair(None)

    def mend_groups(self) -> list[tuple[ScoredEntry, Payload]]:
        """Have made again what was lost of the live groups; returns what was read for us and never arrived."""
        live = self._book.live.values()
        waiting = {group.ticket.group_id: group for group in live if group.state is State.ISSUED}
        unsettled = [group.arrival.entry for group in live if group.arrival is not None]
        return self.scored.mend(waiting, [*unsettled, *self._lifecycle.unsettled])

    def _write_overdue(self, ticket: Ticket, late: Late) -> None:
        number, worker, held_s = ticket.ticket, late.lease.worker, round(late.held_s, 1)
        counts, words = self._lifecycle.counts, f"ticket {number} did not come back from {worker} within {held_s:.0f} s"
        counts.overdue += 1
        counts.overdue_last = words, self._service.now()
        self._lifecycle.ledger.write(
            "overdue", ticket=number, version=self._book.version, worker=worker, seconds=held_s
        )
