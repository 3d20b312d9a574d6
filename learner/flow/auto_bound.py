"""``max_staleness = "auto"``: the bound rises while a version more brings more throughput than it costs. Pure.

What η versions of staleness cost, as a share of the throughput that one would give away to be rid of it::

    price(η) = p_v η + p_e (-ln ESS) + p_h max(0, 1 - e/tgt)

``p_v``  ``staleness_price``, of each version, since old data delay learning even where weights correct them.
``p_e``  ``ess_price``. At 1 the controller weighs throughput times ESS: effective tokens a second.
``p_h``  ``entropy_price``, of the share by which the entropy e is below its target; only where a target is controlled.

Gains are differences of ln(training steps a second), so that gains and prices add up over versions. Everything is a
mean over ``period`` training steps; the η + 1 steps after a turn are not counted, because their groups were issued
under the bound before.

**Up.** A version more lets rollout generate while the learner would have it idle, and the learner train while it would
wait. It can win back no more time than both lose: of the shares w in which the learner waits and i in which rollout is
idle, the smaller. So the gain is at most -ln(1 - min(w, i)), and the bound stays where that is no more than a version's
price. Of w and i a standard error is taken off, so that one late batch is no reason to try. Where the learner is
the slower side w is 0, and where rollout is i is 0: no version is tried there. Nor is one where pacing needs no more
groups than the bound has places for. Otherwise the bound rises by one on trial, and keeps the version if the gain that
is then measured is more than the rise of the price. If not it goes back, and tries again after one period, then after
two, four and up to ``LONGEST_REST``.

**Down**, by one at the end of a period, without loss where pacing needs fewer places than the bound has, or where at
least B groups were waiting for a worker at all times; and at a loss where a version's part of the price, p_v and the
rest of the price divided by η, is more than the gain that its trial measured. That gain is good for ``KNOWN_FOR``
periods: then the version is given up, and what it brings now is found as at first.

Where something else changes (the stage, a control, the number of workers), a measurement begins anew. A trial that this
cuts off has shown nothing: the bound goes back, without a rest.

Below ``least_ess`` the bound goes down at once, by one after every such step, and rests for ``guard_patience`` steps:
as the guard does with a bound that an operator sets (``guard.py``).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...common.config import Flow
from .idling import Cycle
from .tickets import TicketBook

LONGEST_REST = 16
"""Most periods between two trials of the same version."""
KNOWN_FOR = 64
"""Periods after which the gain of the newest version is measured again."""
UNMEASURED = math.log(2)
"""The gain of a version that an operator has set, whose trial nobody has seen: it doubled the throughput."""
LEAST = 1e-9
"""The least effective sample size, and the least share of time in use, that a logarithm is taken of."""


class Prices(NamedTuple):
    """What staleness costs, as shares of throughput."""

    version: float
    ess: float
    entropy: float

    def of_drift(self, ess: float, shortfall: float) -> float:
        """The price of an effective sample size and of a shortfall of entropy, as a share of its target."""
        return self.ess * -math.log(ess if ess > LEAST else LEAST) + self.entropy * shortfall  # NaN is not above


class Seen(NamedTuple):
    """What one training step was like."""

    seconds: float
    waited_s: float
    idle_s: float
    fewest: int
    drift: float
    """The price of its ESS and entropy."""


class Standing(NamedTuple):
    """The system around the learner at the end of a step."""

    groups_per_step: int
    """B."""
    places: int
    """Groups that rollout generates side by side."""
    depth: float
    """The depth in training steps that pacing asks for. A bound of η has places for η + 1 steps."""

    @classmethod
    def of(cls, book: TicketBook, places: int) -> "Standing":
        """As the books have it."""
        asked, size = book.pipeline_depth, book.groups_per_step
        return cls(size, places, book.auto_depth if asked == "auto" else asked / size)


@dataclass(slots=True, kw_only=True)
class AutoBound:
    """The bound, and what is known of its versions."""

    ceiling: int
    """The largest bound."""
    period: int
    """Training steps that a decision looks at."""
    prices: Prices
    least_ess: float = 0.0
    patience: int = 1
    """Steps without a rise after an alarm."""
    gains: list[float] = field(default_factory=list)
    """What each version of the bound has brought, in ln(steps a second); of one on trial, the most that it can."""
    before: tuple[float, float] | None = None
    """ln(steps a second) and price before the version that is on trial."""
    rest: int = 0
    """Training steps before the bound may rise again."""
    retry: int = 1
    """For how many periods it rests after the next trial that fails."""
    age: int = 0
    """Periods since the newest version's gain was measured."""
    settling: int = 1
    """Steps still to come that are not counted."""
    steps: list[Seen] = field(default_factory=list)
    """The steps of this period."""
    places: int | None = None
    """Rollout's places in this period."""
    why: str = ""
    """Why the bound was last turned."""

    @classmethod
    def of(cls, flow: Flow) -> "AutoBound":
        """The controller that the configuration describes, at a bound of 0."""
        return cls(
            ceiling=flow.staleness_ceiling,
            period=flow.staleness_period,
            prices=Prices(flow.staleness_price, flow.ess_price, flow.entropy_price),
            least_ess=flow.least_ess,
            patience=flow.guard_patience,
        )

    @property
    def bound(self) -> int:
        """η."""
        return len(self.gains)

    def begin(self, bound: int) -> None:
        """Take over from an operator, who had set ``bound``."""
        self.gains, self.rest, self.retry = [UNMEASURED] * min(bound, self.ceiling), 0, 1
        self.before = None
        self._settle()

    def begin_period(self) -> None:
        """Forget the steps of this period, since something else than the bound has changed. A trial under way has shown
        nothing: its version is given up, as if it had not been tried."""
        if self.before is not None:
            self.before, self.why = None, "its trial was cut off, since something else than the bound has changed"
            self.gains.pop()
        self._settle()

    def saw(self, cycle: Cycle, *, ess: float, shortfall: float, standing: Standing) -> None:
        """Take in a training step: its cycle, its effective sample size, and by which share of its target the entropy
        was too low."""
        self.rest = max(0, self.rest - 1)
        if ess < self.least_ess:
            self.before, self.rest = None, self.patience
            self._lower(f"an effective sample size of {ess:.2f} is below {self.least_ess:g}")
            return
        if standing.places != self.places:
            if self.places is not None:
                self.begin_period()
            self.places = standing.places
        if self.settling > 0:
            self.settling -= 1
            return
        drift = self.prices.of_drift(ess, shortfall)
        self.steps.append(Seen(cycle.seconds, cycle.waited_s, cycle.idle_s, cycle.fewest, drift))
        if len(self.steps) >= self.period:
            self._decide(standing)

    def _decide(self, standing: Standing) -> None:
        """Turn the bound by one version, or leave it, at the end of a period."""
        seconds = sum(step.seconds for step in self.steps)
        waited, idle = _surely([step.waited_s for step in self.steps]), _surely([step.idle_s for step in self.steps])
        queued = min(step.fewest for step in self.steps) - standing.places
        drift = sum(step.drift for step in self.steps) / len(self.steps)
        rate, price = -math.log(seconds / len(self.steps)), self.prices.version * self.bound + drift
        of_a_version = self.prices.version + drift / max(self.bound, 1)
        self.steps.clear()
        if self.before is not None and not self._passed(rate, price):
            return
        if (why := self._superfluous(standing, queued, of_a_version)) is not None:
            self._lower(why)
            return
        possible = -math.log(max(1 - min(waited, idle) / seconds, LEAST))
        held = self.bound >= self.ceiling or standing.depth <= self.bound + 1 or self.rest > 0
        if not held and possible > of_a_version:
            self.before, self.why = (rate, price), f"a version may bring {possible:.1%} and costs {of_a_version:.1%}"
            self.gains.append(possible)
            self._settle()

    def _superfluous(self, standing: Standing, queued: int, of_a_version: float) -> str | None:
        """Why the newest version is given up; None where it stays. ``queued``: the fewest groups that waited for a
        worker. ``of_a_version``: a version's part of the price."""
        if self.bound == 0:
            return None
        self.age += 1
        if standing.depth <= self.bound:
            return "pacing needs fewer groups than the bound has places for"
        if queued >= standing.groups_per_step:
            return "a batch of groups waited for a worker at all times"
        if self.gains[-1] < of_a_version:
            self._rest()
            return f"the version brought {self.gains[-1]:.1%} and costs {of_a_version:.1%}"
        if self.age >= KNOWN_FOR:
            return f"what the version brings was measured {KNOWN_FOR} periods ago"
        return None

    def _passed(self, rate: float, price: float) -> bool:
        """Whether the version on trial stays."""
        assert self.before is not None
        gain, paid = rate - self.before[0], price - self.before[1]
        self.before = None
        if gain > paid:
            self.gains[-1], self.retry, self.age = gain, 1, 0
            return True
        self._rest()
        self._lower(f"the version brought {gain:.1%} and cost {paid:.1%}")
        return False

    def _rest(self) -> None:
        self.rest, self.retry = self.retry * self.period, min(2 * self.retry, LONGEST_REST)

    def _lower(self, why: str) -> None:
        if self.gains:
            self.gains.pop()
            self.age, self.why = 0, why
        self._settle()

    def _settle(self) -> None:
        self.settling = self.bound + 1
        self.steps.clear()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        kept = {name: getattr(self, name) for name in ("before", "rest", "retry", "age", "settling")}
        return kept | {"gains": list(self.gains), "steps": [list(step) for step in self.steps]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` gave, within the ceiling of now."""
        self.gains = state["gains"][: self.ceiling]
        tried = state["before"] if len(self.gains) == len(state["gains"]) else None
        self.before = None if tried is None else (tried[0], tried[1])
        self.rest, self.retry, self.age, self.settling = (state[name] for name in ("rest", "retry", "age", "settling"))
        self.steps = [Seen(*step) for step in state["steps"]]


def _surely(values: Sequence[float]) -> float:
    """The sum, less a standard error; at least 0."""
    count = len(values)
    return max(0.0, count * statistics.fmean(values) - math.sqrt(count) * statistics.stdev(values))
