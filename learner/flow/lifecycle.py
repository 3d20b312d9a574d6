"""Every change of a live group's state, with its line in the ledger and all else that goes with it.

``tickets.py`` says which state may follow which, ``staleness.py`` which group is too old. Here a group is issued,
becomes ready, and is trained or refunded: each change is written to the ledger, told to the curriculum, the pacing and
the retries, and the group's payload is settled or withdrawn. The intake calls all of it under its lock.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...common.config import Config, source_named
from ...common.ledger import REFUNDS, Ledger, Refund
from ...common.queue.entries import ScoredEntry
from ...common.queue.learner import LearnerQueue
from ...common.samples import TRAINED
from ...common.turns import by_response
from ...common.types import Responses, Ticket, Verdict
from ...common.wording import counted
from ..objective.advantage import counts
from ..packing import ScoredGroup
from ..samples import Samples
from .curriculum import Curriculum
from .graded import GradedGroups
from .pacing import Pacer
from .progress import Progress
from .retries import Retries
from .staleness import expired, head_staleness, tokens_past
from .tickets import Arrival, TicketBook

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What is counted since the learner started; refunds and expired tokens are counted since the run began."""

    refunds: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REFUNDS, 0)))
    """By reason."""
    refunds_of: Counter[str] = field(default_factory=Counter)
    """Refunds since the learner started by source, where there are several."""
    orphaned: int = 0
    """Groups of an older incarnation that arrived and were turned away."""
    nonfinite: int = 0
    """Groups turned away for a log-probability that no sampler gives. They are made again, so this selects no
    groups."""
    overdue: int = 0
    """How often a group did not come back from its worker in time."""
    overdue_last: tuple[str, float] = ("", 0.0)
    """The last such time in words, and when it was noticed, by the server's clock in seconds."""
    poisoned_in_a_row: int = 0
    """Groups refunded as ``poison`` since the last group that could be used."""
    poison: str = ""
    """Why the last poisoned group was refunded."""
    tokens_in: int = 0
    """Sampled tokens of every group that arrived, refunded ones included."""
    tokens_expired: int = 0
    """Tokens sampled and then refunded for their age."""


def rewards_noted(verdicts: Sequence[Verdict]) -> dict[str, list[float]]:
    """What the ledger says of a trained group's rewards beside its verdicts: nothing where the kinds say them all."""
    scored = any(verdict.score is not None for verdict in verdicts)
    return {"rewards": [verdict.reward for verdict in verdicts]} if scored else {}


def observed_noted(responses: Responses) -> dict[str, list[list[list[int]]]]:
    """What the ledger says of a trained group's observed tokens: nothing where there are none."""
    if not len(responses.observed):
        return {}
    return {"observed": by_response(responses.observed, len(responses.lengths_S))}


class Lifecycle:
    """The books of one learner incarnation, from a ticket's issue to its group's end."""

    def __init__(
        self,
        queue: LearnerQueue,
        book: TicketBook,
        curriculum: Curriculum,
        ledger: Ledger,
        *,
        config: Config,
        incarnation: int,
        samples: Samples | None,
    ) -> None:
        self.queue, self.book, self.curriculum, self.ledger = queue, book, curriculum, ledger
        self._objectives = [view.objective for view in config.views()]
        self.incarnation, self._samples = incarnation, samples
        self.counts, self.pacer, self.retries = Counts(), Pacer(), Retries()
        self._sources, self.progress = config.source_names, Progress(config)
        self.pacer.idling.places = config.rollout.workers * config.rollout.at_once
        self.graded = GradedGroups(config.verifier.solved_at, self._sources)
        self.unsettled: list[ScoredEntry] = []
        """Entries of groups that were trained since the newest checkpoint."""
        self.batch_bound, self.batch_overflow = book.max_staleness, book.overflow
        """The bound that the newest batch was checked against, and the overflow policy that it was taken by."""
        self.unpublished = False
        """Whether the version of the newest training step cannot be had yet. For admission it does not exist."""

    # --- issued -----------------------------------------------------------------------------------------------------

    def pace(self) -> None:
        """Let the depth follow what has been measured."""
        self.book.auto_depth = self.pacer.depth(self.book.overflow, self.book.groups_per_step)

    def issue_again(self) -> None:
        """Issue, under this incarnation, every ticket that was live at the checkpoint."""
        self.pace()
        self.queue.issue(*[self._issued(number, reissued=True) for number in self.book.live])

    def issue_while_room(self) -> None:
        """Issue a ticket for every vacancy, unless the version that would have to sample it is not there yet."""
        if self.unpublished:
            return
        tickets, vacancies = [], self.book.vacancies()
        if vacancies and (looked := self.curriculum.reconsider(self.book.version, self.book.next_ticket)):
            log.info("%s dropped as solved, %d come rarer", counted(len(looked["dropped"]), "prompt"), looked["rarer"])
            self.ledger.write("sampling", version=self.book.version, **looked)
        for stage in vacancies:
            if stage == self.curriculum.stages_open:
                self._open(stage)
            tickets.append(self._issued(self.book.issue(stage), reissued=False))
        self.queue.issue(*tickets)

    def _open(self, stage: int) -> None:
        ticket = self.book.next_ticket
        dropped = self.curriculum.open(stage, ticket)
        prompts = self.curriculum.prompts_of(stage)
        log.info("stage %d begins to draw: %s, %d dropped as solved", stage, counted(prompts, "prompt"), dropped)
        said = {"version": self.book.version, "ticket": ticket, "prompts": prompts, "dropped": dropped}
        self.ledger.write("stage", stage=stage, **said)

    def _issued(self, number: int, *, reissued: bool) -> Ticket:
        """Make the ticket of ``number``, which is live from now on. The caller puts it on the stream."""
        group = self.book.live[number]
        retry = self.retries.of(number) if reissued else self.retries.take(number)
        group.ticket = self.curriculum.ticket(
            number,
            group.stage,
            min_version=self.book.sampled_by,
            incarnation=self.incarnation,
            asks=(None if retry is None else retry.prompt_id) or group.asks,
        )
        # The ledger comes first: a ticket that workers know and the ledger does not could never be accounted for.
        self.ledger.write(
            "issued",
            ticket=number,
            incarnation=self.incarnation,
            version=self.book.version,
            stage=group.stage,
            prompt=group.ticket.prompt_id,
            reissued=reissued,
            **({} if retry is None else {"retry_of": retry.group_id}),
        )
        if retry is not None:
            self.queue.retried(retry.group_id, number)
        self.pacer.issued(number, time.monotonic())
        return group.ticket

    # --- ready ------------------------------------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        """Take in a sound group that has come back graded: it is ready, or refunded where it has no signal. Where a KL
        term runs over all groups, it is then trained beside the others, and its place is free."""
        group, number = arrival.group, arrival.group.ticket.ticket
        self.book.live[number].arrival = arrival
        self.counts.poisoned_in_a_row = 0
        self.counts.tokens_in += int(group.responses.sampled_S.sum())
        self.pacer.arrived(number, time.monotonic())
        self.graded.add(arrival)
        if self._samples is not None:
            self._samples.graded(group, arrival.verdicts)
        objective = self._objectives[self.book.live[number].stage]
        if counts(group.rewards_S, group.responses.finished_S, objective):
            self.book.ready(number)
        elif objective.kl_groups == "all":
            self.ledger.write("beside", ticket=number, version=self.book.version)
            self.book.ready(number, beside=True)
            self.pacer.refunded(number)
        else:
            self.refund(number, "zero_advantage")

    def take_batch(self) -> list[ScoredGroup] | None:
        """The next training step's groups in ticket order, or None where the learner has to wait. This is the last
        check of the bound before the forward pass; a group past the bound is refunded, and its place is filled."""
        numbers = self.book.batch()
        if numbers is None or self._refund_expired(numbers):
            return None
        # The bound is kept as it was checked, since an operator may turn it while the step trains.
        self.batch_bound, self.batch_overflow = self.book.max_staleness, self.book.overflow
        self.pacer.handed([number for number in numbers if not self.book.live[number].beside], time.monotonic())
        self.ledger.write("batch", step=self.book.version, tickets=numbers, **self._rule())
        return [self.book.live[number].arrived.group for number in numbers]

    def _rule(self) -> dict[str, Any]:
        """The bound and the overflow policy of the newest batch, as the ledger has them."""
        return {"max_staleness": self.batch_bound, "overflow": self.batch_overflow}

    # --- trained or refunded ----------------------------------------------------------------------------------------

    def trained(self, numbers: list[int]) -> None:
        """Close the books on the groups of ``numbers``, which a training step has used."""
        assert not self.unpublished, "a step's version stands before the next step ends"
        step = self.book.version
        for number in numbers:
            arrival = self.book.live[number].arrived
            self._write_trained(arrival, step)
            self._tell_left(number, TRAINED)
            self.unsettled.append(arrival.entry)
        self.ledger.write("step", step=step, version=step + 1, tickets=numbers, **self._rule())
        self.progress.trained(len(numbers), self.book.stage)
        self.book.trained(numbers)
        self.unpublished = True

    def published(self, checksum: str) -> None:
        """The newest training step's version can be had from now on."""
        self.ledger.write("published", version=self.book.version, checksum=checksum)
        self.unpublished = False

    def _write_trained(self, arrival: Arrival, step: int) -> None:
        responses = arrival.group.responses
        self.ledger.write(
            "trained",
            ticket=arrival.group.ticket.ticket,
            step=step,
            spans=by_response(responses.spans, len(responses.lengths_S)),
            verdicts=[verdict.kind.value for verdict in arrival.verdicts],
            **rewards_noted(arrival.verdicts),
            lengths=responses.lengths_S.tolist(),
            **observed_noted(responses),
            head_staleness=head_staleness(responses.spans, step),
            past_bound=tokens_past(responses.spans, step, max_staleness=self.batch_bound),
        )

    def refund(self, number: int, reason: Refund, **why: Any) -> None:
        """Let a group leave untrained for ``reason``: its place is free again, and its payload is deleted. ``why`` goes
        into the ledger."""
        group, group_id = self.book.live[number], self.book.live[number].ticket.group_id
        self.ledger.write("refunded", ticket=number, version=self.book.version, reason=reason, **why)
        self.counts.refunds[reason] += 1
        if self._sources:
            self.counts.refunds_of[source_named(group.ticket.prompt_id)] += 1
        if reason == "poison":
            self.retries.poisoned(group_id, group.ticket.prompt_id)
        self._tell_left(number, reason)
        self.book.refund(number)
        if reason in ("stage_ended", "run_ended") or group.beside:
            self.pacer.withdrawn(number)
        else:
            self.pacer.refunded(number)
        if group.arrival is not None:
            self.queue.settle([group.arrival.entry])
        else:
            self.queue.withdraw([group_id])

    def _tell_left(self, number: int, outcome: str) -> None:
        """Tell samples, curriculum and retries that a group leaves. The curriculum is not told earlier: a group that is
        live at a checkpoint may be generated again after a resume, and would then count twice."""
        group = self.book.live[number]
        if self._samples is not None:
            self._samples.left(number, self.book.version, outcome)
        if group.arrival is not None:
            self.curriculum.saw(group.ticket, group.arrival.group.rewards_S)
        self.retries.close(number)

    def give_up(self, ticket: Ticket, why: str) -> None:
        """Refund a group that keeps failing."""
        self.counts.poisoned_in_a_row, self.counts.poison = self.counts.poisoned_in_a_row + 1, why
        self.refund(ticket.ticket, "poison")

    def refund_left_behind(self) -> None:
        """Refund the groups of stages that have ended."""
        for number in self.book.left_behind():
            self.refund(number, "stage_ended")

    def _refund_expired(self, numbers: list[int]) -> bool:
        version, bound, overflow = self.book.version, self.book.max_staleness, self.book.overflow
        batch = {number: self.book.live[number].arrived.group.responses for number in numbers}
        gone = {
            number: responses
            for number, responses in batch.items()
            if expired(responses.spans, version, max_staleness=bound, overflow=overflow)
        }
        for number, responses in gone.items():
            self.counts.tokens_expired += int(responses.sampled_S.sum())
            self.refund(number, "expired", head_staleness=head_staleness(responses.spans, version))
        if gone:
            self.issue_while_room()
        return bool(gone)
