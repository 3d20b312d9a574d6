"""Puts back what was lost: groups, the run in a Redis that has come back empty, and weights that nobody can read.

``common/scored.py`` has the rule by which groups are made again and given up. This file adds what is the learner's: the
ledger's line, and everything that may be lost beside groups.
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

# Publishes the newest weights again where Redis has lost them, or where the named version cannot be read. Returns
# whether it did.
Repair = Callable[[Stamp | None], bool]


class Reissuing:
    """Puts back what was lost, for one learner incarnation."""

    def __init__(self, lifecycle: Lifecycle, service: Service, config: Config, *, repair: Repair) -> None:
        self._lifecycle, self._service, self._config, self._repair = lifecycle, service, config, repair
        self._queue, self._book = lifecycle.queue, lifecycle.book
        self.scored = ScoredConsumer(self._queue, config, give_up=lifecycle.give_up, overdue=self._write_overdue)

    def restore_run(self, controls: dict[str, str]) -> None:
        """Write back what an empty Redis held and the learner knows, the newest weights included."""
        log.warning("Redis has lost the run: what is live is put there again")
        self._queue.restore_run(dump(self._config), self._lifecycle.incarnation, controls)
        self._repair(None)

    def look_for_weights(self) -> None:
        """Publish the newest weights again where the server that answers now lacks them. Who waits for them would wait
        for ever."""
        if self._repair(None):
            log.warning("Redis has lost the newest weights: they are published again, whole")

    def mend_weights(self, incarnation: int, version: int, worker: str) -> None:
        """Write the newest weights again, whole, because a worker cannot read them; a delta may be damaged, for
        instance."""
        self._queue.weights.forget_unreadable()
        if self._repair(Stamp(incarnation, version)):
            log.warning("%s could not read version %d: it is published again, whole", worker, version)

    def mend_shared(self) -> None:
        """Remove keys that are not the run's own, and publish the weights again where a manifest cannot be read."""
        self._queue.remove_foreign()
        if self._queue.manifest_damaged:
            self._queue.manifest_damaged = False
            self._repair(None)

    def mend_groups(self, *, less: bool) -> list[tuple[ScoredEntry, Payload]]:
        """Have lost live groups made again. Returns the entries, with payloads, that were read for this learner but
        never arrived. ``less`` is that of ``Asked``."""
        live = self._book.live.values()
        waiting = {group.ticket.group_id: group for group in live if group.state is State.ISSUED}
        unsettled = [group.arrival.entry for group in live if group.arrival is not None]
        return self.scored.mend(waiting, [*unsettled, *self._lifecycle.unsettled], less=less)

    def _write_overdue(self, ticket: Ticket, late: Late) -> None:
        number, worker, held_s = ticket.ticket, late.lease.worker, round(late.held_s, 1)
        counts, words = self._lifecycle.counts, f"ticket {number} did not come back from {worker} within {held_s:.0f} s"
        counts.overdue += 1
        counts.overdue_last = words, self._service.now()
        self._lifecycle.ledger.write(
            "overdue", ticket=number, version=self._book.version, worker=worker, seconds=held_s
        )
