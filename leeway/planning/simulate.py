"""A system on a virtual clock: the learner's own books, stale rule and pacing, with simulated work around them. Pure.

::

    tickets ──▶ replica (processor sharing) ──▶ graders ──▶ ready, or refunded ──▶ learner: trains, v += 1
       ▲                                                                              │
       └────────────── the learner's TicketBook, Stages, expired, Pacer ◀───────────┘

Only the times of things are simulated. The code that decides in a run (``learner/flow``) also decides here which
tickets are issued, what a step takes, what is too old, and how many groups are live.

A replica shares its speed among the responses that it holds: with n of them, a token of each takes
1/alone + (n - 1)/peak seconds. The replica's virtual clock counts the tokens that a response held from the start would
have. So a response of L tokens that begins at V ends at V + L, whatever other responses come and go, and a new response
costs one entry in a heap. A replica has a slot for each group it takes side by side; the longest free slot is first.
"""

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from ...common.config import Overflow, PipelineDepth
from ...common.ledger import Refund
from ...learner.flow.pacing import Pacer
from ...learner.flow.staleness import Stages, expired, head_staleness, tokens_past
from ...learner.flow.tickets import TicketBook

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
    max_staleness: int
    """η."""
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


@dataclass(slots=True)
class _Group:
    ticket: int
    lengths_S: np.ndarray
    began: float
    clock: float
    """The replica's virtual clock at its start, in tokens."""
    mark: int
    """Index of the replica's newest version at its start."""
    left: int
    """Responses under way."""
    tokens: int
    generation_s: float = 0.0
    spans: np.ndarray | None = None


class _Replica:
    """One rollout worker: a virtual clock, the ends of its responses on it, and its versions' places on it."""

    __slots__ = ("at", "clock", "ends", "marks", "sampling_s", "system", "turn")

    def __init__(self, system: System) -> None:
        self.system = system
        self.at, self.clock, self.sampling_s = 0.0, 0.0, 0.0
        self.turn = 0
        """Incremented whenever the next end moves, which makes earlier events void."""
        self.ends: list[tuple[float, int, _Group]] = []
        self.marks: list[tuple[float, int]] = [(0.0, 0)]
        """(virtual clock at its arrival, version) of every version that the replica has had."""

    def token_s(self) -> float:
        """Seconds a token of each of its responses takes now."""
        return 1 / self.system.alone + (len(self.ends) - 1) / self.system.peak

    def advance(self, now: float) -> None:
        """Let the virtual clock follow the real one. A pause lies before ``at``."""
        if self.ends and now > self.at:
            self.clock += (now - self.at) / self.token_s()
            self.sampling_s += now - self.at
        self.at = max(self.at, now)

    def next_end(self) -> float:
        """When its next response ends, if nothing comes in between."""
        return self.at + (self.ends[0][0] - self.clock) * self.token_s()


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
        steps = system.steps + system.max_staleness + 1
        stages = Stages(starts=(0,), groups_per_step=(system.groups_per_step,), steps=steps)
        self.book = TicketBook(
            stages=stages,
            max_staleness=system.max_staleness,
            overflow=system.overflow,
            pipeline_depth=system.pipeline_depth,
        )
        self.pacer = Pacer()
        self.replicas = [_Replica(system) for _ in range(system.replicas)]
        self.slots = deque(self.replicas * system.concurrency)
        self.queue: deque[int] = deque()
        self.graders = [0.0] * system.graders
        self.groups: dict[int, _Group] = {}
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

    def _expect(self, replica: _Replica) -> None:
        """Wait for the replica's next end, and for no end that was expected earlier."""
        replica.turn += 1
        if replica.ends:
            self._at(replica.next_end(), self._response_ended, (replica, replica.turn))

    def _dispatch(self) -> None:
        while self.queue and self.slots:
            self._begin(self.slots.popleft(), self.queue.popleft())

    def _begin(self, replica: _Replica, ticket: int) -> None:
        replica.advance(self.now)
        lengths_S = self.system.lengths_GS[ticket % len(self.system.lengths_GS)]
        group = _Group(
            ticket, lengths_S, self.now, replica.clock, len(replica.marks) - 1, len(lengths_S), int(lengths_S.sum())
        )
        for length in lengths_S.tolist():
            heapq.heappush(replica.ends, (replica.clock + length, next(self.numbers), group))
        self._expect(replica)

    def _response_ended(self, what: tuple[_Replica, int]) -> None:
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

    def _generated(self, replica: _Replica, group: _Group) -> None:
        group.spans = _spans(group, replica.marks, in_flight=self.system.in_flight)
        group.generation_s = self.now - group.began
        self.outcome.generation_s += group.generation_s
        self.outcome.generations += 1

    def _handed_over(self, what: tuple[_Replica, _Group]) -> None:
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

    def _graded(self, group: _Group) -> None:
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
        bound, overflow, version = self.system.max_staleness, self.system.overflow, self.book.version
        while (batch := self.book.batch()) is not None:
            groups = [self.groups[ticket] for ticket in batch]
            gone = [g for g in groups if expired(_known(g), version, max_staleness=bound, overflow=overflow)]
            if not gone:
                self._train(groups)
                return
            for group in gone:
                self.outcome.expired_tokens += group.tokens
                self._refund(group.ticket, "expired")
            self.ready -= len(gone)
            self._issue()

    def _train(self, groups: list[_Group]) -> None:
        system, version = self.system, self.book.version
        self.training = True
        self.ready -= len(groups)
        self.pacer.handed([group.ticket for group in groups], self.now)
        tokens = sum(group.tokens for group in groups)
        ended = self.now + system.train_s + system.train_s_per_token * tokens + system.publish_s
        ages = Counter[int]()
        for group in groups:
            for _, sampled_by, start, end in _known(group).tolist():
                ages[version - sampled_by] += end - start
        past = [tokens_past(_known(group), version, max_staleness=system.max_staleness) for group in groups]
        self.outcome.steps.append(
            Step(
                began=self.now,
                ended=ended,
                waited=self.now - self.asked_at,
                heads=[head_staleness(_known(group), version) for group in groups],
                ages=ages,
                past=sum(past),
                groups_past=sum(tokens > 0 for tokens in past),
                responses=sum(len(group.lengths_S) for group in groups),
                generation_s=max(group.generation_s for group in groups),
                depth=self.book.depth,
                live=len(self.book.live),
            )
        )
        self._at(ended, self._trained, groups)

    def _trained(self, groups: list[_Group]) -> None:
        self.training, self.asked_at = False, self.now
        self.book.trained([group.ticket for group in groups])
        self.outcome.trained += len(groups)
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

    def _load(self, replica: _Replica) -> None:
        replica.advance(self.now)
        replica.marks.append((replica.clock, self.book.version))
        if self.system.pause_s:
            replica.at += self.system.pause_s
            self._expect(replica)


def _known(group: _Group) -> np.ndarray:
    assert group.spans is not None
    return group.spans


def _spans(group: _Group, marks: list[tuple[float, int]], *, in_flight: bool) -> np.ndarray:
    """Which version sampled which tokens of a group that has ended, as on the wire: uint32 [n, 4]."""
    loaded = marks[group.mark :] if in_flight else marks[group.mark : group.mark + 1]
    starts = np.array([0, *(int(clock - group.clock) for clock, _ in loaded[1:])])
    starts_SN = np.minimum(starts, group.lengths_S[:, None])
    ends_SN = np.concatenate([starts_SN[:, 1:], group.lengths_S[:, None]], axis=1)
    response, part = np.nonzero(ends_SN > starts_SN)
    versions = np.array([version for _, version in loaded])
    rows = (response, versions[part], starts_SN[response, part], ends_SN[response, part])
    return np.stack(rows, axis=1).astype(np.uint32)
