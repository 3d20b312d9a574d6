"""A system on a virtual clock: the learner's own books, stale rule and pacing, with simulated work around them. Pure.

::

    tickets ──▶ replica (processor sharing) ──▶ graders ──▶ ready, or refunded ──▶ learner: trains, v += 1
       ▲                                                                              │
       └────────────── the learner's TicketBook, Stages, expired, Pacer ◀───────────┘

Only the times of things are simulated. The code that decides in a run (``learner/flow``) also decides here which
tickets are issued, what a step takes, what is too old, and how many groups are live.

``replica.py`` says how fast a replica generates. It has a slot for each group it takes side by side; the longest free
slot is first.
"""

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from ...common.config import Flow, MaxStaleness, Overflow, PipelineDepth
from ...common.ledger import Refund
from ...learner.flow.auto_bound import AutoBound, Standing
from ...learner.flow.pacing import Pacer
from ...learner.flow.staleness import Stages, expired, head_staleness, tokens_past
from ...learner.flow.tickets import TicketBook
from .replica import Group, Replica, spans_of

BYTES_PER_TOKEN = 8
"""Payload bytes of one token in Redis: token id and behaviour log-probability, four bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system, and what is asked of it. Times in seconds, lengths in tokens."""

    lengths_GS: np.ndarray
    """Response lengths, int64 [n, group size]. Ticket t gets row t modulo n: systems are compared on the same work."""
    groups_per_step: int
    """B."""
    steps: int
    """Training steps to simulate."""
    max_staleness: MaxStaleness
    """η, or ``auto``, which goes by ``auto``."""
    auto: Flow = field(default_factory=Flow)
    """The ceiling, the period and the prices of ``auto``."""
    ess_lost: float = 0.0
    """-ln ESS of data one version old, which grows with their mean age; only ``auto`` asks."""
    overflow: Overflow = "wait"
    pipeline_depth: PipelineDepth = "auto"
    replicas: int = 1
    """Rollout workers."""
    concurrency: int = 8
    """Groups that a replica generates side by side."""
    alone: float = 50.0
    """Tokens a second of one response that has a replica for itself."""
    peak: float = math.inf
    """Tokens a second of a replica under full load; infinite where responses do not slow each other down."""
    in_flight: bool = True
    """Whether a response under way goes on with new weights; otherwise the version at its start samples the whole
    group."""
    turnaround_s: float = 0.0
    """Seconds from the end of a group's generation until it goes to a grader and its slot takes the next ticket."""
    pause_s: float = 0.0
    """Seconds for which a replica samples nothing at each new version."""
    verify_s: float = 0.0
    """Seconds to grade a group."""
    graders: int = 0
    """Groups graded side by side; 0 means all of them."""
    train_s: float = 1.0
    """Seconds of a training step, beside the time for its tokens."""
    train_s_per_token: float = 0.0
    publish_s: float = 0.0
    """Seconds to publish a version, between one training step and the next."""
    rejected: float = 0.0
    """Share of groups without a signal, refunded once graded."""
    checkpoint_every: int = 20
    """Training steps after which a checkpoint lets trained groups leave Redis."""
    seed: int = 0

    @property
    def largest_bound(self) -> int:
        """The largest η of any step."""
        return self.auto.staleness_ceiling if self.max_staleness == "auto" else self.max_staleness


@dataclass(slots=True, kw_only=True)
class Step:
    """What one training step was like."""

    began: float
    """The time at which its batch was complete."""
    ended: float
    waited: float
    heads: list[int]
    """Head staleness of each group."""
    ages: Counter[int]
    """Number of tokens by staleness."""
    past: int
    """Tokens older than the bound, which ``mask`` leaves out and ``soft`` trains."""
    groups_past: int
    responses: int
    generation_s: float
    """Seconds of the group that took longest to generate."""
    depth: int
    """Groups that were allowed to be live."""
    live: int
    bound: int
    """η in force."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a simulated system did."""

    system: System
    steps: list[Step] = field(default_factory=list)
    issued: int = 0
    trained: int = 0
    refunded: Counter[str] = field(default_factory=Counter)
    live: int = 0
    """Tickets at the end that were neither trained nor refunded."""
    generated_tokens: int = 0
    """Response tokens of every group that was graded."""
    generated_responses: int = 0
    expired_tokens: int = 0
    rejected_tokens: int = 0
    sampling_s: float = 0.0
    """Seconds in which a replica had something to do, over all replicas."""
    generation_s: float = 0.0
    """Sum of the groups' seconds from the start of generation to its end."""
    generations: int = 0
    peak_bytes: int = 0
    """The most payload bytes in Redis at one time: of groups generated and not yet covered by a checkpoint."""


def simulate(system: System) -> Outcome:
    """Run ``system`` to its last training step."""
    return _World(system).run()


class _World:
    """The events, in the order of their times."""

    def __init__(self, system: System) -> None:
        self.system, self.outcome = system, Outcome(system=system)
        self.now, self.asked_at, self.training = 0.0, 0.0, False
        # The run goes on after the steps that are looked at, because a run's last steps issue less and wait for every
        # straggler.
        self.controller = AutoBound.of(system.auto) if system.max_staleness == "auto" else None
        bound = 0 if system.max_staleness == "auto" else system.max_staleness
        steps = system.steps + system.largest_bound + 1
        stages = Stages(starts=(0,), groups_per_step=(system.groups_per_step,), steps=steps)
        self.book = TicketBook(
            stages=stages,
            max_staleness=bound,
            overflow=system.overflow,
            pipeline_depth=system.pipeline_depth,
        )
        self.pacer = Pacer()
        self.pacer.idling.places = system.replicas * system.concurrency
        self.replicas = [Replica(alone=system.alone, peak=system.peak) for _ in range(system.replicas)]
        self.slots = deque(self.replicas * system.concurrency)
        self.queue: deque[int] = deque()
        self.graders = [0.0] * system.graders
        self.groups: dict[int, Group] = {}
        """Groups that are generated and live."""
        self.ready = 0
        """How many groups are ready; below B there is no need to look for a batch."""
        self.rejected = np.random.default_rng([system.seed, 1]).random(len(system.lengths_GS)) < system.rejected
        self.bytes, self.settled_bytes = 0, 0
        self.events: list[tuple[float, int, Any, Any]] = []
        self.numbers = count()

    def run(self) -> Outcome:
        self._pace()
        self._issue()
        while self.book.version < self.system.steps:
            self.now, _, act, what = heapq.heappop(self.events)
            act(what)
        outcome = self.outcome
        outcome.issued, outcome.live = self.book.next_ticket, len(self.book.live)
        for replica in self.replicas:
            replica.advance(self.now)
            outcome.sampling_s += replica.sampling_s
        return outcome

    def _at(self, when: float, act: Any, what: Any) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), act, what))

    # --- rollout ------------------------------------------------------------------------------------------------------

    def _issue(self) -> None:
        for stage in self.book.vacancies():
            number = self.book.issue(stage)
            self.pacer.issued(number, self.now)
            self.queue.append(number)
        self._dispatch()

    def _expect(self, replica: Replica) -> None:
        """Wait for the replica's next end, and for no end that was expected earlier."""
        replica.turn += 1
        if replica.ends:
            self._at(replica.next_end(), self._response_ended, (replica, replica.turn))

    def _dispatch(self) -> None:
        while self.queue and self.slots:
            self._begin(self.slots.popleft(), self.queue.popleft())

    def _begin(self, replica: Replica, ticket: int) -> None:
        replica.advance(self.now)
        lengths_S = self.system.lengths_GS[ticket % len(self.system.lengths_GS)]
        group = Group(
            ticket, lengths_S, self.now, replica.clock, len(replica.marks) - 1, len(lengths_S), int(lengths_S.sum())
        )
        for length in lengths_S.tolist():
            heapq.heappush(replica.ends, (replica.clock + length, next(self.numbers), group))
        self._expect(replica)

    def _response_ended(self, what: tuple[Replica, int]) -> None:
        replica, turn = what
        if turn != replica.turn:
            return  # the next end has moved since
        replica.advance(self.now)
        end, _, group = heapq.heappop(replica.ends)
        replica.clock = end  # the exact value, so that rounding errors do not add up
        group.left -= 1
        if group.left == 0:
            self._generated(replica, group)
            self._at(self.now + self.system.turnaround_s, self._handed_over, (replica, group))
        self._expect(replica)

    def _generated(self, replica: Replica, group: Group) -> None:
        group.spans = spans_of(group, replica.marks, in_flight=self.system.in_flight)
        group.generation_s = self.now - group.began
        self.outcome.generation_s += group.generation_s
        self.outcome.generations += 1

    def _handed_over(self, what: tuple[Replica, Group]) -> None:
        replica, group = what
        self._payload(BYTES_PER_TOKEN * group.tokens)
        done = self.now + self.system.verify_s
        if self.graders:
            done = max(self.now, self.graders[0]) + self.system.verify_s
            heapq.heapreplace(self.graders, done)
        self._at(done, self._graded, group)
        self.slots.append(replica)
        self._dispatch()

    def _payload(self, count: int) -> None:
        self.bytes += count
        self.outcome.peak_bytes = max(self.outcome.peak_bytes, self.bytes)

    # --- learner ------------------------------------------------------------------------------------------------------

    def _pace(self) -> None:
        self.book.auto_depth = self.pacer.depth(self.system.overflow, self.system.groups_per_step)

    def _graded(self, group: Group) -> None:
        self.pacer.arrived(group.ticket, self.now)
        self.groups[group.ticket] = group
        self.outcome.generated_tokens += group.tokens
        self.outcome.generated_responses += len(group.lengths_S)
        if self.rejected[group.ticket % len(self.rejected)]:
            self.outcome.rejected_tokens += group.tokens
            self._refund(group.ticket, "zero_advantage")
            self._issue()
        else:
            self.book.ready(group.ticket)
            self.ready += 1
        if not self.training and self.ready >= self.system.groups_per_step:
            self._take()

    def _refund(self, ticket: int, reason: Refund) -> None:
        self.book.refund(ticket)
        self.pacer.refunded(ticket)
        self.outcome.refunded[reason] += 1
        self._payload(-BYTES_PER_TOKEN * self.groups.pop(ticket).tokens)

    def _take(self) -> None:
        """Begin a training step if there is a batch; the bound is checked here for the last time."""
        bound, overflow, version = self.book.max_staleness, self.system.overflow, self.book.version
        while (batch := self.book.batch()) is not None:
            groups = [self.groups[ticket] for ticket in batch]
            gone = [g for g in groups if expired(g.known_spans, version, max_staleness=bound, overflow=overflow)]
            if not gone:
                self._train(groups)
                return
            for group in gone:
                self.outcome.expired_tokens += group.tokens
                self._refund(group.ticket, "expired")
            self.ready -= len(gone)
            self._issue()

    def _train(self, groups: list[Group]) -> None:
        system, version = self.system, self.book.version
        self.training = True
        self.ready -= len(groups)
        self.pacer.handed([group.ticket for group in groups], self.now)
        tokens = sum(group.tokens for group in groups)
        ended = self.now + system.train_s + system.train_s_per_token * tokens + system.publish_s
        ages = Counter[int]()
        for group in groups:
            for _, sampled_by, start, end in group.known_spans.tolist():
                ages[version - sampled_by] += end - start
        bound = self.book.max_staleness
        past = [tokens_past(group.known_spans, version, max_staleness=bound) for group in groups]
        self.outcome.steps.append(
            Step(
                began=self.now,
                ended=ended,
                waited=self.now - self.asked_at,
                heads=[head_staleness(group.known_spans, version) for group in groups],
                ages=ages,
                past=sum(past),
                groups_past=sum(tokens > 0 for tokens in past),
                responses=sum(len(group.lengths_S) for group in groups),
                generation_s=max(group.generation_s for group in groups),
                depth=self.book.depth,
                live=len(self.book.live),
                bound=bound,
            )
        )
        self._at(ended, self._trained, groups)

    def _trained(self, groups: list[Group]) -> None:
        self.training, self.asked_at = False, self.now
        self.book.trained([group.ticket for group in groups])
        self.outcome.trained += len(groups)
        self._turn()
        self.settled_bytes += BYTES_PER_TOKEN * sum(self.groups.pop(group.ticket).tokens for group in groups)
        if self.book.version % self.system.checkpoint_every == 0:
            self._payload(-self.settled_bytes)
            self.settled_bytes = 0
        for replica in self.replicas:
            self._load(replica)
        if self.book.version < self.system.steps:
            self.pacer.asked(self.now)
            self._pace()
            self._issue()
            self._take()

    def _turn(self) -> None:
        """Let the bound follow what was measured, where it is ``auto``."""
        cycle, ages = self.pacer.idling.cycle(self.now), self.outcome.steps[-1].ages
        if self.controller is None or cycle is None:
            return
        age = sum(old * many for old, many in ages.items()) / ages.total()
        depth, size = self.system.pipeline_depth, self.system.groups_per_step
        standing = Standing(size, self.pacer.idling.places, self.book.auto_depth if depth == "auto" else depth / size)
        self.controller.saw(cycle, ess=math.exp(-self.system.ess_lost * age), shortfall=0.0, standing=standing)
        self.book.max_staleness = self.controller.bound

    def _load(self, replica: Replica) -> None:
        replica.advance(self.now)
        replica.marks.append((replica.clock, self.book.version))
        if self.system.pause_s:
            replica.at += self.system.pause_s
            self._expect(replica)
