"""The intake: it issues tickets as there is room, takes in scored groups, and keeps the ledger.

::

    prompts ◀── issue ── book ◀── take in ◀── scored
                          │
                          └──▶ next_batch (the training loop takes it)

A thread of its own, the pump, does so while the training loop trains, so that a refund's place is filled at once and no
worker waits for an optimizer step. One lock guards everything that the two threads share.

Each part of a turn of the pump has a file of its own: ``controls.py`` takes up what an operator turns, ``lifecycle.py``
issues groups and makes them ready, trained or refunded, ``taking_in.py`` judges what came back, and ``reissuing.py``
puts back what was lost.
"""

import threading
import time
from typing import Any

from ...common.activity import Activity, Doing
from ...common.config import Config
from ...common.ledger import Ledger
from ...common.queue.connection import RedisError, is_foreign
from ...common.queue.learner import LearnerQueue
from ...common.service import Service
from ..packing import ScoredGroup
from ..samples import Samples
from .auto_bound import Standing
from .controls import LiveControls, OnTurn
from .curriculum import Curriculum
from .lifecycle import Lifecycle
from .reissuing import Reissuing, Repair
from .taking_in import TakingIn, superseded
from .tickets import TicketBook

POLL_S = 0.5
SHARDS = "shards"
"""How the ledger that a checkpoint goes with sums weights: the digest of the digests of their shards."""
TELL_S = 60.0
"""Where one worker has held a group for longer than this, the message about waiting names that worker."""


class Intake:
    """Issues tickets and takes in groups for one learner incarnation."""

    def __init__(
        self,
        queue: LearnerQueue,
        service: Service,
        book: TicketBook,
        curriculum: Curriculum,
        ledger: Ledger,
        config: Config,
        *,
        incarnation: int,
        repair: Repair,
        on_turn: OnTurn = lambda *_: None,
        samples: Samples | None = None,
    ) -> None:
        """``repair`` publishes weights again that Redis has lost or that cannot be read. ``on_turn`` is called when a
        control is turned. ``samples`` is told of groups that come in graded and of groups that leave."""
        self.queue, self.service, self.book, self.ledger, self.incarnation = queue, service, book, ledger, incarnation
        self.config = config
        self.controls = LiveControls(queue, book, ledger, config, on_turn=on_turn)
        self.lifecycle = Lifecycle(
            queue,
            book,
            curriculum,
            ledger,
            config=config,
            incarnation=incarnation,
            samples=samples,
        )
        self.reissuing = Reissuing(self.lifecycle, service, config, repair=repair)
        self.scored = self.reissuing.scored
        self.taking_in = TakingIn(self.lifecycle, self.scored)
        self.counts = self.lifecycle.counts
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._guarded_loop, name="intake", daemon=True)
        self._ended = threading.Event()

    # --- the training loop's side -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Issue again what was live at the checkpoint, and start the pump."""
        self.lifecycle.issue_again()
        self._thread.start()

    def stop(self) -> None:
        """Stop the pump. What is live stays live, and a resume issues it again."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def next_batch(self, timeout_s: float) -> list[ScoredGroup] | None:
        """The next training step's groups in ticket order, or None after ``timeout_s`` seconds. This is the last check
        of the bound before the forward pass."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            if self.lifecycle.pacer.asked(time.monotonic()):
                self.lifecycle.pace()
                self.lifecycle.issue_while_room()
            while not self.service.stopping.is_set():
                if (batch := self.lifecycle.take_batch()) is not None:
                    return batch
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._lock.wait(min(left, POLL_S))
        return None

    def waiting_for(self) -> Doing:
        """What the next batch lacks, and which worker has held its oldest group for long."""
        with self._lock:
            lacking, oldest = self.book.waiting_for()
            late = None if oldest is None else self.scored.clocks.held(self.book.live[oldest].ticket.group_id)
            long = late if late is not None and late.held_s > TELL_S else None
            return Doing(
                Activity.WAITING_FOR_GROUPS,
                lacking=lacking,
                due=self.book.groups_per_step,
                ticket=oldest,
                worker=long and long.lease.worker,
                held_s=long and long.held_s,
            )

    def trained(self, groups: list[ScoredGroup], *, ess: float = 1.0, shortfall: float = 0.0) -> dict[str, float]:
        """Close the books on a training step, whose effective sample size and shortfall of entropy the bound may go by
        (``LiveControls.step_had``). No ticket is issued until its version is ``published``. Returns how the policy did
        before rejection sampling, as metrics by name (``graded.py``)."""
        numbers = [group.ticket.ticket for group in groups]
        with self._lock:
            stage, idling = self.book.stage, self.lifecycle.pacer.idling
            self.lifecycle.trained(numbers)
            cycle, standing = idling.cycle(time.monotonic()), Standing.of(self.book, idling.places)
            self.controls.step_had(ess, shortfall=shortfall, cycle=cycle, standing=standing)
            if self.book.stage != stage:
                self.controls.begin_period()  # its steps are of another length
            self.lifecycle.refund_left_behind()
            return self.lifecycle.graded.reached(max(numbers), stage, self.book.stage)

    def rollout_is(self, workers: int) -> None:
        """So many rollout workers live."""
        with self._lock:
            self.lifecycle.pacer.idling.places = max(1, workers) * self.config.rollout.at_once

    def published(self, checksum: str) -> None:
        """The version of the newest training step, with this ``checksum``, can be had: issue what it makes room for."""
        with self._lock:
            if self.lifecycle.unpublished:  # not so for the version that a learner starts with
                self.lifecycle.published(checksum)
                self.lifecycle.issue_while_room()

    def covered(self) -> int:
        """How many trained groups a checkpoint that is taken now covers, of those that are not acknowledged."""
        with self._lock:
            return len(self.lifecycle.unsettled)

    def checkpointed(self, covered: int | None = None) -> None:
        """Acknowledge the first ``covered`` trained groups (all, by default) and delete their payloads, since a
        checkpoint that is safe on disk covers them."""
        with self._lock:
            entries = self.lifecycle.unsettled
            settled, self.lifecycle.unsettled = entries[:covered], [] if covered is None else entries[covered:]
        self.queue.settle(settled)

    def close_books(self, **why: float) -> None:
        """End the run: refund what no step will train, and write the ledger's last line. ``why``: what the line says of
        a run that ends before its last step."""
        with self._lock:
            for number in list(self.book.live):
                self.lifecycle.refund(number, "run_ended")
            self.ledger.write("end", version=self.book.version, **why)
            self.ledger.sync()

    def snapshot(self) -> dict[str, Any]:
        """The state that a checkpoint keeps, as JSON."""
        with self._lock:
            return {
                "version": self.book.version,
                "next_ticket": self.book.next_ticket,
                "live": {str(number): group.stage for number, group in self.book.live.items()},
                "asked": {str(number): group.ticket.prompt_id for number, group in self.book.live.items()},
                "curriculum": self.lifecycle.curriculum.state(),
                "max_staleness": self.book.max_staleness,
                "asked_bound": self.controls.asked_bound,
                "guard": self.controls.guard.state(),
                "auto_bound": self.controls.auto.state(),
                "overflow": self.book.overflow,
                "pipeline_depth": self.book.pipeline_depth,
                "pacing": self.lifecycle.pacer.state(),
                "retries": self.lifecycle.retries.state(),
                "tokens_expired": self.counts.tokens_expired,
                "progress": self.lifecycle.progress.state(),
                "entropy_target": self.controls.target_entropy,
                "learning_rate": self.controls.learning_rate,
                "refunds": dict(self.counts.refunds),
                "ledger_line": self.ledger.line,
                "incarnation": self.incarnation,
                "checksums": SHARDS,
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``snapshot`` gave. The caller restores the book itself (``make_book``)."""
        self.lifecycle.curriculum.restore(state["curriculum"])
        self.controls.target_entropy = state["entropy_target"]
        self.controls.learning_rate = state.get("learning_rate", "stage")  # an older Leeway had no such control
        self.counts.refunds.update(state["refunds"])
        self.counts.tokens_expired = state["tokens_expired"]
        self.lifecycle.progress.restore(state)
        self.lifecycle.pacer.restore(state["pacing"])
        self.lifecycle.retries.restore(state["retries"], self.lifecycle.curriculum.drawn)
        self.controls.asked_bound = state["asked_bound"]
        self.controls.guard.restore(state["guard"])
        if "auto_bound" in state:  # an older Leeway had none
            self.controls.auto.restore(state["auto_bound"])

    def depth(self) -> tuple[int, int]:
        """How many groups are live, and how many of them are ready."""
        with self._lock:
            return len(self.book.live), sum(group.ready for group in self.book.live.values())

    # --- the pump ---------------------------------------------------------------------------------------------------

    def _guarded_loop(self) -> None:
        try:
            self._intake_loop()
        except BaseException as error:
            self.service.fail(error)

    def _intake_loop(self) -> None:
        """Consumes ``scored`` and produces ``prompts``. Entries of trained groups are acknowledged by ``checkpointed``,
        those of refunded groups at once. A learner that dies here loses nothing: the next incarnation goes back to the
        checkpoint and issues again what was live."""
        while not self._ended.is_set():
            try:
                self.turn(POLL_S)
            except RedisError as error:
                if not is_foreign(error):
                    raise
                self.queue.remove_foreign()

    def turn(self, block_s: float) -> None:
        """Make one turn of the pump: put back what Redis has lost, take up what an operator has set, issue, and take in
        what is scored within ``block_s`` seconds."""
        asked = self.queue.asked(self.incarnation)
        if asked.superseded_by is not None:
            raise superseded(self.incarnation, asked.superseded_by)
        if asked.lost:
            with self._lock:
                controls = self.controls.texts()
            self.reissuing.restore_run(controls)
        elif asked.less:
            self.reissuing.look_for_weights()
        if asked.unreadable is not None:
            self.reissuing.mend_weights(*asked.unreadable)
        with self._lock:
            self.controls.take_up(asked.controls)
            self.lifecycle.retries.ask(asked.retries)
            self.lifecycle.issue_while_room()
        for entry, payload in self.scored.read(block_s):
            with self._lock:
                self.taking_in.take_in(entry, payload)
                self.lifecycle.issue_while_room()
                self._lock.notify_all()
        # This comes after the entries are read: a group that was given up stands in no work stream either.
        if asked.lost or asked.less or self.scored.due:
            self._mend(less=asked.less)

    def _mend(self, *, less: bool) -> None:
        """Put live tickets back that Redis does not have any more, under the same group ids; the first hand-over
        counts, whichever entry it is for. Have damaged groups made again, and take in entries
        that were read but never arrived."""
        self.reissuing.mend_shared()
        with self._lock:
            for entry, payload in self.reissuing.mend_groups(less=less):
                self.taking_in.take_in(entry, payload)
            self._lock.notify_all()
