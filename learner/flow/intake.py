"""The learner's hands on the streams: issues tickets as there is room, takes in scored groups, keeps the ledger.

::

    prompts ◀── issue ── book ◀── take in ◀── scored
                          │
                          └──▶ next_batch (the training loop takes it)

One thread pumps while the training loop trains, so that a refund's place is filled at once and no worker waits for an
optimizer step. Everything the two threads share is behind one lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...common.activity import Activity, Doing
from ...common.clocks import GroupClocks, Late
from ...common.config import Config, dump
from ...common.controls import taken_up
from ...common.errors import DecodeError, LeewayError, RunExistsError
from ...common.ledger import REFUNDS, Ledger, Refund
from ...common.queue.connection import RedisError, is_foreign
from ...common.queue.entries import LetterKind, ScoredEntry, decode_part
from ...common.queue.learner import LearnerQueue
from ...common.samples import TRAINED
from ...common.service import Service
from ...common.types import Responses, Scores, Ticket, Verdict, VerdictKind
from ...common.weights import Stamp
from ..objective.advantage import is_trained
from ..packing import ScoredGroup
from .curriculum import Curriculum
from .guard import Guard
from .pacing import Pacer
from .retries import Retries
from .staleness import check_spans, expired, head_staleness, tokens_past
from .tickets import TicketBook

log = logging.getLogger(__name__)

POLL_S = 0.5
LEAST_LOGPROB = -1000.0
"""Nats. No token of a lower one is ever drawn; engines write such numbers where they know none (vLLM: -9999)."""
TELL_S = 60.0
"""A group that one worker has held for longer is told of with that worker."""
MEND_S = 2.0
"""How often the live tickets are compared with what Redis holds."""


class _Grade(NamedTuple):
    """What a graded group was like."""

    stage: int
    reward_sum: float
    responses: int
    tokens: int
    generation_s: float
    grading_s: float
    """Sum over its responses."""


class Intake:
    """Issues and collects for one learner incarnation."""

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
    ) -> None:
        self.queue, self.service, self.book, self.curriculum, self.ledger = queue, service, book, curriculum, ledger
        self.config, self.incarnation = config, incarnation
        self.entropy_target = config.entropy.target
        """Live control, read by the training loop at every step."""
        self.refunds: Counter[str] = Counter(dict.fromkeys(REFUNDS, 0))
        """Refunds so far, by reason."""
        self.orphaned = 0
        """Groups of an older incarnation that arrived and were turned away."""
        self.nonfinite = 0
        """Groups turned away for a log-probability that no sampler gives. They are made again: nothing is selected."""
        self.overdue = 0
        """Times a group did not come back from its worker within its clock."""
        self.overdue_last = ("", 0.0)
        """The last of them in words, and when it was found out, by the server's clock."""
        self.clocks = GroupClocks(config)
        self.tokens_in = 0
        """Response tokens of every group that arrived, refunded ones included."""
        self._lock = threading.Condition()
        self.pacer = Pacer()
        self.retries = Retries()
        self.guard = Guard(least_ess=config.flow.least_ess, patience=config.flow.guard_patience)
        self.asked_bound = book.max_staleness
        """η as the operator asks for it; the book's may be lower, where the guard has stepped in."""
        self._tickets: dict[int, Ticket] = {}
        self._groups: dict[int, ScoredGroup] = {}
        self._verdicts: dict[int, list[str]] = {}
        self._graded: dict[int, _Grade] = {}
        self._entries: dict[int, ScoredEntry] = {}
        self._settled: list[ScoredEntry] = []
        self.batch_bound, self.batch_overflow = book.max_staleness, book.overflow
        """The bound that the newest batch was checked against, and the policy that it was taken by."""
        self.tokens_expired = 0
        """Response tokens generated and then refunded for their age."""
        self._paused = False
        self._mended_at = 0.0
        self.on_loss: Callable[[], object] = lambda: None
        """Called where Redis has come back empty, before any ticket is put there again, and where a manifest of the
        weights cannot be read."""
        self._made_again: Counter[int] = Counter()
        self.poisoned_in_a_row = 0
        """Groups refunded as ``poison`` since the last that could be used."""
        self.poison = ""
        """Why the last of them was."""
        self.on_unreadable: Callable[[Stamp], bool] = lambda _: False
        """Called where a worker could not read this version of the weights; whether something was done about it."""
        self.on_graded: Callable[[ScoredGroup, tuple[Verdict, ...]], object] = lambda *_: None
        """Called with every group that comes in graded; a ticket that leaves untrained may have had none."""
        self.on_left: Callable[[int, int, str], object] = lambda *_: None
        """Called with a ticket that is not live any more, the step that took it or was due, and what became of it."""
        self.on_turn: Callable[[str, float | str, float | str, int, str], object] = lambda *_: None
        """Called with a live control that was turned, its value before and now, the version, and by whom."""
        self._thread = threading.Thread(target=self._guarded_loop, name="intake", daemon=True)
        self._ended = threading.Event()

    # --- the training loop's side -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Issue again what was live at the checkpoint, then pump."""
        self.issue_again()
        self._thread.start()

    def issue_again(self) -> None:
        """Issue, under this incarnation, every ticket that was live at the checkpoint."""
        self._pace()
        self.queue.issue(*[self._issued(number, reissued=True) for number in self.book.live])

    def stop(self) -> None:
        """Stop pumping. What is live stays live: a resume issues it again."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def next_batch(self, timeout_s: float) -> list[ScoredGroup] | None:
        """The next training step's groups in ticket order, or None after ``timeout_s``. The bound is checked here for
        the last time before the forward pass."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            if self.pacer.asked(time.monotonic()):
                self._pace()
                self._issue_while_room()
            while not self.service.stopping.is_set():
                numbers = self.book.batch()
                if numbers is not None and not self._refund_expired(numbers):
                    # The bound that was checked goes on record now: the dial may turn while the step trains.
                    self.batch_bound, self.batch_overflow = self.book.max_staleness, self.book.overflow
                    self.pacer.handed(numbers, time.monotonic())
                    self.ledger.write("batch", step=self.book.version, tickets=numbers, **self._rule())
                    return [self._groups[number] for number in numbers]
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._lock.wait(min(left, POLL_S))
        return None

    def waiting_for(self) -> Doing:
        """What the next batch lacks, and who has held its oldest group for long."""
        with self._lock:
            lacking, oldest = self.book.waiting_for()
            late = None if oldest is None else self.clocks.held(self._tickets[oldest].group_id)
            long = late if late is not None and late.held_s > TELL_S else None
            return Doing(
                Activity.WAITING_FOR_GROUPS,
                lacking=lacking,
                due=self.book.groups_per_step,
                ticket=oldest,
                worker=long and long.lease.worker,
                held_s=long and long.held_s,
            )

    def trained(self, groups: list[ScoredGroup], checksum: str, *, ess: float = 1.0) -> dict[str, float]:
        """Close the books on a training step whose new version (sha256 ``checksum``) is published; ``ess`` is its
        effective sample size, for the guard.

        Returns what the policy was like before rejection sampling: over every graded group that the step's tickets
        reach back to, refunded ones included. Rejected groups are all right or all wrong, so the mean reward of the
        trained ones alone says little about the policy.
        """
        with self._lock:
            step, numbers = self.book.version, [group.ticket.ticket for group in groups]
            for group in groups:
                self._write_trained(group, step)
                self.on_left(group.ticket.ticket, step, TRAINED)
                self._saw(group.ticket.ticket)
                self.retries.close(group.ticket.ticket)
                del self._groups[group.ticket.ticket]
                del self._tickets[group.ticket.ticket]
                del self._made_again[group.ticket.ticket]
                self._settled.append(self._entries.pop(group.ticket.ticket))
            self.ledger.write(
                "step",
                step=step,
                version=step + 1,
                tickets=numbers,
                checksum=checksum,
                **self._rule(),
            )
            stage = self.book.stage
            self.book.trained(numbers)
            self.guard.saw(ess, self.asked_bound)
            self._turn_bound(by="guard")
            self._refund_left_behind()
            self._issue_while_room()
            # Tickets of the next stage may be older numbers than the last of this one; of a stage that is over, all.
            reached = [
                number
                for number, grade in self._graded.items()
                if grade.stage < self.book.stage or (grade.stage == stage and number <= max(numbers))
            ]
            graded = [self._graded.pop(number) for number in reached]
        responses = sum(grade.responses for grade in graded)
        return {
            "reward/mean": sum(grade.reward_sum for grade in graded) / responses,
            "generated/groups": len(graded),
            "generated/length_mean": sum(grade.tokens for grade in graded) / responses,
            "generated/seconds_mean": sum(grade.generation_s for grade in graded) / len(graded),
            "generated/grading_s_mean": sum(grade.grading_s for grade in graded) / len(graded),
        }

    def checkpointed(self) -> None:
        """A checkpoint covers everything trained so far: acknowledge it and forget the payloads."""
        with self._lock:
            settled, self._settled = self._settled, []
        self.queue.settle(settled)

    def close_books(self) -> None:
        """The run is complete: refund what no step will train and write the ledger's last line."""
        with self._lock:
            for number in list(self.book.live):
                self._refund(number, "run_ended")
            self.ledger.write("end", version=self.book.version)
            self.ledger.sync()

    def snapshot(self) -> dict[str, Any]:
        """The state a checkpoint keeps."""
        with self._lock:
            return {
                "version": self.book.version,
                "next_ticket": self.book.next_ticket,
                "live": {str(number): ticket.stage for number, ticket in self.book.live.items()},
                "curriculum": self.curriculum.state(),
                "max_staleness": self.book.max_staleness,
                "asked_bound": self.asked_bound,
                "guard": self.guard.state(),
                "overflow": self.book.overflow,
                "pipeline_depth": self.book.pipeline_depth,
                "pacing": self.pacer.state(),
                "retries": self.retries.state(),
                "tokens_expired": self.tokens_expired,
                "entropy_target": self.entropy_target,
                "refunds": dict(self.refunds),
                "ledger_line": self.ledger.line,
                "incarnation": self.incarnation,
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``snapshot`` gave; the book is the caller's to restore (``make_book``)."""
        self.curriculum.restore(state["curriculum"])
        self.entropy_target = state["entropy_target"]
        self.refunds.update(state["refunds"])
        self.tokens_expired = state["tokens_expired"]
        self.pacer.restore(state["pacing"])
        self.retries.restore(state["retries"])
        self.asked_bound = state["asked_bound"]
        self.guard.restore(state["guard"])

    def depth(self) -> tuple[int, int]:
        """(live, ready) groups."""
        with self._lock:
            return len(self.book.live), sum(ticket.ready for ticket in self.book.live.values())

    # --- the pump ---------------------------------------------------------------------------------------------------

    def _guarded_loop(self) -> None:
        try:
            self._intake_loop()
        except BaseException as error:
            self.service.fail(error)

    def _intake_loop(self) -> None:
        """Consumes scored, produces prompts. Acknowledged by ``checkpointed`` (trained) or at once (refunded). Dying
        here loses nothing: the next incarnation goes back to the checkpoint and issues again what was live."""
        while not self._ended.is_set():
            try:
                self.turn(POLL_S)
            except RedisError as error:
                if not is_foreign(error):
                    raise
                self.queue.remove_foreign()

    def turn(self, block_s: float) -> None:
        """One turn of the pump: put back what Redis has lost, take up what an operator wants, issue, take in what is
        scored within ``block_s``."""
        asked = self.queue.asked(self.incarnation)
        if asked.superseded_by is not None:
            raise self._superseded(asked.superseded_by)
        if asked.lost:
            self._restore_run()
        if asked.unreadable is not None:
            self._mend_weights(*asked.unreadable)
        with self._lock:
            self._take_up_controls(asked.controls)
            self.retries.ask(asked.retries)
            self._issue_while_room()
        entries = self.queue.scored(count=64, block_s=block_s)
        payloads = self.queue.scored_payloads([entry.group_id for entry in entries]) if entries else []
        for entry, payload in zip(entries, payloads, strict=True):
            with self._lock:
                self._take_in(entry, payload)
                self._issue_while_room()
                self._lock.notify_all()
        # After what was handed over and given up is known: what is given up stands in no stream either.
        if asked.lost or time.monotonic() - self._mended_at >= MEND_S:
            self._mend()

    def _superseded(self, incarnation: int) -> LeewayError:
        return RunExistsError(
            f"incarnation {self.incarnation} of the learner was superseded by {incarnation}: another learner trains "
            "this run; this one leaves"
        )

    def _restore_run(self) -> None:
        """Redis is disposable: what it held and we know goes back there, the newest weights included."""
        log.warning("Redis has lost the run: what is live is put there again")
        with self._lock:
            controls = {
                "max_staleness": str(self.asked_bound),
                "overflow": self.book.overflow,
                "pipeline_depth": str(self.book.pipeline_depth),
                "target_entropy": str(self.entropy_target),
                "paused": str(int(self._paused)),
            }
        self.queue.restore_run(dump(self.config), self.incarnation, controls)
        self.on_loss()

    def _mend_weights(self, incarnation: int, version: int, worker: str) -> None:
        """A worker cannot read the newest weights, a damaged delta for instance: they are written again, whole."""
        self.queue.weights.forget_unreadable()
        if self.on_unreadable(Stamp(incarnation, version)):
            log.warning("%s could not read version %d: it is published again, whole", worker, version)

    def _mend(self) -> None:
        """Put live tickets back that Redis does not have any more, under the same group ids: the first hand-over
        counts, of then or of now. Have made again what no stream names any more, because an entry or a payload was
        damaged. And take in what was leased to us in an answer that never arrived."""
        self.queue.remove_foreign()
        if self.queue.manifest_damaged:
            self.queue.manifest_damaged = False
            self.on_loss()
        with self._lock:
            waiting = {ticket.group_id: ticket for n, ticket in self._tickets.items() if not self.book.live[n].ready}
            gone, unnamed = self.queue.astray(list(waiting))
            self.queue.issue(*[waiting[group_id] for group_id in gone])
            if gone:
                log.warning("%d live tickets were gone from Redis and are there again", len(gone))
            for group_id in unnamed:
                self._make_again(waiting[group_id])
            for late in self.clocks.look(*self.queue.leases.held(), waiting.get):
                self._issue_overdue(waiting[late.lease.group_id], late)
            self.queue.leases.begin_future()
            settling = [*self._entries.values(), *self._settled]
            known = {entry.entry_id for entry in settling if entry.entry_id is not None}
            unread = self.queue.unread(known)
            for entry, payload in zip(
                unread, self.queue.scored_payloads([each.group_id for each in unread]), strict=True
            ):
                self._take_in(entry, payload)
            self._lock.notify_all()
            self._mended_at = time.monotonic()

    def _make_again(self, ticket: Ticket) -> None:
        """(run seed, ticket) decides a group, so what was damaged on its way is made again from the ticket; what keeps
        failing is poison."""
        number = ticket.ticket
        self._made_again[number] += 1
        if self._made_again[number] >= self.config.broker.max_attempts:
            reason = f"lost or damaged on its way {self._made_again[number]} times"
            self.queue.dead_letter(LetterKind.REFUNDED, "scored", ticket.group_id, reason)
            self._poison(number, reason)
            return
        log.warning("ticket %d was lost or damaged on its way: made again", number, extra={"ticket": ticket.group_id})
        self.queue.withdraw([ticket.group_id])
        self.queue.issue(ticket)

    def _issue_overdue(self, ticket: Ticket, late: Late) -> None:
        """The same ticket again, for another worker: a refund for its age would favour short responses, and at a bound
        of 0 another ticket would be trained in its place. Whichever result comes first counts."""
        number, worker, held_s = ticket.ticket, late.lease.worker, round(late.held_s, 1)
        if number not in self.book.live or not self.queue.leases.announce_again(late.lease):
            return  # it was given up just now, or handed over
        self._made_again[number] += 1
        self.overdue += 1
        self.overdue_last = f"ticket {number} did not come back from {worker} within {held_s:.0f} s", self.service.now()
        self.ledger.write("overdue", ticket=number, version=self.book.version, worker=worker, seconds=held_s)
        log.error("%s: it is issued again", self.overdue_last[0], extra={"ticket": ticket.group_id})
        if self._made_again[number] >= self.config.broker.max_attempts:
            reason = f"did not come back within its time: {self._made_again[number]} times overdue, lost or damaged"
            self.queue.dead_letter(LetterKind.REFUNDED, "scored", ticket.group_id, reason)
            self._poison(number, reason)

    def _pace(self) -> None:
        """Let the depth follow what has been measured."""
        self.book.auto_depth = self.pacer.depth(self.book.overflow, self.book.groups_per_step)

    def _issue_while_room(self) -> None:
        tickets = []
        for stage in self.book.vacancies() if not self._paused else []:
            if stage == self.curriculum.stages_open:
                self._open(stage)
            tickets.append(self._issued(self.book.issue(stage), reissued=False))
        self.queue.issue(*tickets)

    def _open(self, stage: int) -> None:
        dropped = self.curriculum.open(stage)
        prompts = self.curriculum.prompts_of(stage)
        log.info("stage %d begins to draw: %d prompts, %d dropped as solved", stage, prompts, dropped)
        self.ledger.write("stage", stage=stage, version=self.book.version, prompts=prompts, dropped=dropped)

    def _issued(self, number: int, *, reissued: bool) -> Ticket:
        """The ticket of a number that is live from now on, to be put on the stream."""
        stage = self.book.live[number].stage
        retry = self.retries.of(number) if reissued else self.retries.take(number)
        ticket = self.curriculum.ticket(
            number,
            stage,
            min_version=self.book.sampled_by,
            incarnation=self.incarnation,
            draw=None if retry is None else retry.draw,
        )
        # The ledger first: a ticket that workers know and the ledger does not could never be accounted for.
        self.ledger.write(
            "issued",
            ticket=number,
            incarnation=self.incarnation,
            version=self.book.version,
            stage=ticket.stage,
            prompt=ticket.prompt_id,
            reissued=reissued,
            **({} if retry is None else {"retry_of": retry.group_id}),
        )
        if retry is not None:
            self.queue.retried(retry.group_id, number)
        self._tickets[number] = ticket
        self.pacer.issued(number, time.monotonic())
        return ticket

    def _take_in(self, entry: ScoredEntry, payload: tuple[bytes | None, bytes | None]) -> None:
        number, incarnation = (int(part) for part in entry.group_id.split("-"))
        if incarnation > self.incarnation:
            if self.queue.holds(entry.group_id):
                raise self._superseded(incarnation)  # before anything of it is settled: it is the other's
            self.queue.dead_letter(
                LetterKind.DAMAGED, "scored", entry.group_id, "an entry that names a group nobody has issued"
            )
            self.queue.turn_away(entry)
            return
        if incarnation != self.incarnation or number not in self.book.live:
            self.orphaned += incarnation != self.incarnation
            self.queue.settle([entry])
            return
        if self.book.live[number].ready:
            self.queue.turn_away(entry)  # a duplicate; the payload is still needed
            return
        if entry.failed is not None:
            log.warning("ticket %d given up: %s", number, entry.failed, extra={"ticket": entry.group_id})
            self._poison(number, entry.failed)
            return
        try:
            responses, scores = payload
            if responses is None or scores is None:
                raise DecodeError("its payload is not there")
            found = decode_part(Scores, scores, entry.group_id)
            group = self._checked(self._tickets[number], decode_part(Responses, responses, entry.group_id), found)
        except DecodeError as error:
            log.warning("ticket %d cannot be used: %s", number, error, extra={"ticket": entry.group_id})
            self.queue.dead_letter(LetterKind.DAMAGED, "scored", entry.group_id, str(error))
            self.queue.turn_away(entry)  # once no stream names it, it is made again
            self._mended_at = 0.0
            return
        self._entries[number] = entry
        self._verdicts[number] = [verdict.kind.value for verdict in found.verdicts]
        self.poisoned_in_a_row = 0
        self.pacer.arrived(number, time.monotonic())
        tokens = int(group.responses.lengths_S.sum())
        self.tokens_in += tokens
        stage, rewards_S = group.ticket.stage, group.rewards_S
        grading_s = sum(verdict.seconds for verdict in found.verdicts)
        seconds = group.responses.seconds
        self._graded[number] = _Grade(stage, float(rewards_S.sum()), len(rewards_S), tokens, seconds, grading_s)
        self.on_graded(group, found.verdicts)
        if is_trained(group.rewards_S, group.responses.finished_S, self.config.objective):
            self._groups[number] = group
            self.book.ready(number)
        else:
            self._refund(number, "zero_advantage")

    def _checked(self, ticket: Ticket, responses: Responses, scores: Scores) -> ScoredGroup:
        size, total = ticket.group_size, len(responses.tokens_T)
        lengths = responses.lengths_S.astype(np.int64)
        if not len(lengths) == len(responses.finished_S) == len(scores.verdicts) == size:
            raise DecodeError(f"{len(lengths)} responses, {len(scores.verdicts)} verdicts where {size} are due")
        if lengths.sum() != total or len(responses.logprobs_T) != total or lengths.min() < 1:
            raise DecodeError(f"lengths {lengths.tolist()} do not add up to {total} tokens")
        if lengths.max() > ticket.max_new_tokens:
            raise DecodeError(f"a response of {lengths.max()} tokens where {ticket.max_new_tokens} is the limit")
        logprobs_T = responses.logprobs_T
        if not np.isfinite(logprobs_T).all() or logprobs_T.max() > 1e-3 or logprobs_T.min() < LEAST_LOGPROB:
            self.nonfinite += 1
            raise DecodeError(f"a behaviour log-probability that is not between {LEAST_LOGPROB:g} and 0")
        # One above the book's version: the new weights are published just before the step is closed here.
        newest = ticket.min_version if self.book.inject_lag > 0 else self.book.version + 1
        wrong = check_spans(responses.spans, lengths, min_version=ticket.min_version, newest_version=newest)
        if wrong is not None:
            raise DecodeError(wrong)
        if scores.graded != responses.fingerprint:
            raise DecodeError("its verdicts are of other responses")
        if any(verdict.kind is VerdictKind.ERROR for verdict in scores.verdicts):
            raise DecodeError("a verdict 'error' cannot be trained on")
        return ScoredGroup(ticket=ticket, responses=responses, rewards_S=scores.rewards_S)

    def _poison(self, number: int, why: str) -> None:
        self.poisoned_in_a_row, self.poison = self.poisoned_in_a_row + 1, why
        self._refund(number, "poison")

    def _refund(self, number: int, reason: Refund, **why: Any) -> None:
        self.ledger.write("refunded", ticket=number, version=self.book.version, reason=reason, **why)
        self.refunds[reason] += 1
        self.on_left(number, self.book.version, reason)
        self._saw(number)
        group_id = self._tickets[number].group_id
        if reason == "poison":
            self.retries.poisoned(number, self.book.live[number].stage, group_id)
        self.retries.close(number)
        self.book.refund(number)
        if reason in ("stage_ended", "run_ended"):
            self.pacer.withdrawn(number)
        else:
            self.pacer.refunded(number)
        del self._tickets[number]
        del self._made_again[number]  # a Counter: nothing where it was not there
        self._groups.pop(number, None)
        self._verdicts.pop(number, None)
        entry = self._entries.pop(number, None)
        if entry is not None:
            self.queue.settle([entry])
        else:
            self.queue.withdraw([group_id])

    def _saw(self, number: int) -> None:
        """Tell the curriculum about a group that leaves. Only now: what is still live at a checkpoint may be generated
        again after a resume, and would count twice."""
        if number in self._graded:
            grade = self._graded[number]
            solved = grade.reward_sum == grade.responses
            self.curriculum.saw(self._tickets[number].prompt_id, grade.stage, solved=solved)

    def _refund_left_behind(self) -> None:
        for number in self.book.left_behind():
            self._refund(number, "stage_ended")

    def _refund_expired(self, numbers: list[int]) -> bool:
        version, bound, overflow = self.book.version, self.book.max_staleness, self.book.overflow
        gone = [
            number
            for number in numbers
            if expired(self._groups[number].responses.spans, version, max_staleness=bound, overflow=overflow)
        ]
        for number in gone:
            responses = self._groups[number].responses
            self.tokens_expired += int(responses.lengths_S.sum())
            self._refund(number, "expired", head_staleness=head_staleness(responses.spans, version))
        if gone:
            self._issue_while_room()
        return bool(gone)

    def _rule(self) -> dict[str, Any]:
        """What the newest batch was taken and checked by, as the ledger has it."""
        return {"max_staleness": self.batch_bound, "overflow": self.batch_overflow}

    def _write_trained(self, group: ScoredGroup, step: int) -> None:
        responses = group.responses
        spans: list[list[list[int]]] = [[] for _ in responses.lengths_S]
        for owner, version, start, end in responses.spans.tolist():
            spans[owner].append([version, start, end])
        self.ledger.write(
            "trained",
            ticket=group.ticket.ticket,
            step=step,
            spans=spans,
            verdicts=self._verdicts.pop(group.ticket.ticket),
            lengths=responses.lengths_S.tolist(),
            head_staleness=head_staleness(responses.spans, step),
            past_bound=tokens_past(responses.spans, step, max_staleness=self.batch_bound),
        )

    def _take_up_controls(self, found: dict[bytes, bytes]) -> None:
        controls, refused = taken_up(found, self.config)
        for field, text, why in refused:
            log.error("a control that cannot be taken up is removed: %s", why)
            self.queue.refuse_control(field, text, why)
        bound = controls.get("max_staleness", self.asked_bound)
        if bound != self.asked_bound:
            self.asked_bound = bound
            self.guard.reset()
            self._turn_bound(by="operator")
        target = controls.get("target_entropy", self.entropy_target)
        if target != self.entropy_target:
            self._record("target_entropy", self.entropy_target, target)
            self.entropy_target = target
        depth = controls.get("pipeline_depth", self.book.pipeline_depth)
        if depth != self.book.pipeline_depth:
            self._record("pipeline_depth", self.book.pipeline_depth, str(depth))
            self.book.pipeline_depth = depth
        overflow = controls.get("overflow", self.book.overflow)
        if overflow != self.book.overflow:
            self._record("overflow", self.book.overflow, overflow)
            self.book.overflow = overflow
        paused = bool(controls.get("paused", self._paused))
        if paused != self._paused:
            self._record("paused", self._paused, paused)
            self._paused = paused

    def _turn_bound(self, *, by: str) -> None:
        bound = self.guard.bound(self.asked_bound)
        if bound != self.book.max_staleness:
            self._record("max_staleness", self.book.max_staleness, bound, by)
            self.book.max_staleness = bound

    def _record(self, name: str, previous: float | str, value: float | str, by: str = "operator") -> None:
        log.info("%s: %s -> %s, by the %s", name, previous, value, by)
        self.ledger.write("control", name=name, value=value, previous=previous, version=self.book.version, by=by)
        self.on_turn(name, previous, value, self.book.version, by)
