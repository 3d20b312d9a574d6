"""What a ledger adds up to, and the proof in words. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from ...common.config import Overflow
from ...common.lineage import Ancestor
from ...common.wording import counted
from .drops import Drops


@dataclass(slots=True)
class Account:
    """What the ledger adds up to, as far as it has been read."""

    steps: int = 0
    stages: list[dict[str, int]] = field(default_factory=list)
    """For each stage: ``from_step``, ``groups_per_step``, ``group_size``."""
    stages_open: int = 1
    """Stages that tickets may belong to."""
    issue_ahead: bool = True
    max_staleness: int = 0
    inject_lag: int = 0
    """Where this is not 0, every trained token must be this many versions stale, after the first steps."""
    version: int = 0
    unpublished: bool = False
    """Whether the newest step's version cannot be had yet."""
    incarnation: int = 0
    next_ticket: int = 0
    live: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Live tickets with the version at their issue and their stage."""
    held: Counter[int] = field(default_factory=Counter)
    """Live tickets that hold a place, by stage."""
    beside: set[int] = field(default_factory=set)
    """Live tickets that hold none: they have no signal, and are trained beside the groups of a step."""
    batch: list[int] = field(default_factory=list)
    """The tickets that the step under way has taken."""
    batch_bound: int = 0
    """The bound that this batch was checked against."""
    overflow: Overflow = "wait"
    batch_overflow: Overflow = "wait"
    """The policy that this batch was taken by."""
    past_bound: Counter[str] = field(default_factory=Counter)
    """Tokens older than the bound in trained groups, by policy: ``mask`` leaves them out of the loss."""
    violations: int = 0
    """Groups trained with a token older than the bound (``soft``)."""
    step_tickets: list[int] = field(default_factory=list)
    """Tickets trained since the last ``step`` line."""
    trained: int = 0
    """Groups trained."""
    trained_beside: int = 0
    """How many of them had no signal."""
    refunded: Counter[str] = field(default_factory=Counter)
    poisoned: set[str] = field(default_factory=set)
    """Groups refunded as ``poison`` whose prompt nobody has asked again."""
    drops: Drops = field(default_factory=Drops)
    worst_staleness: int = 0
    staleness_sum: int = 0
    awaiting_reissue: set[int] = field(default_factory=set)
    lineage: list[Ancestor] = field(default_factory=list)
    """Where a fork comes from, the nearest run first."""
    begun_at: int = 0
    """The version that the ledger begins with, which is above 0 for a fork."""
    begun_with: int = 0
    """The first ticket that is issued here."""
    ended: bool = False
    lines: int = 0
    undone: int = 0
    """Number of lines that a resume rolled back."""

    @property
    def stage(self) -> int:
        """The stage of the step under way."""
        return self.stage_of(min(self.version, self.steps - 1))

    def stage_of(self, step: int) -> int:
        """The stage of a training step."""
        return sum(stage["from_step"] <= step for stage in self.stages) - 1

    def describe(self) -> str:
        """The proof in words."""
        refunds = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refunded.items())) or "none"
        mean = self.staleness_sum / max(1, self.trained)
        sizes = ", then ".join(str(stage["groups_per_step"]) for stage in self.stages[: self.stage + 1])
        first = "".join(f"  forked from      {each.describe()}\n" for each in self.lineage)
        steps = self.version - self.begun_at
        beside = f", and {self.trained_beside} without a signal beside" if self.trained_beside else ""
        return (
            f"audit passed{'' if self.ended else ' for what is there'}: {self.lines} lines, chain whole\n"
            f"{first}"
            f"  tickets issued   {self.next_ticket - self.begun_with}\n"
            f"  trained          {self.trained - self.trained_beside} "
            f"in {counted(steps, 'step')} of {sizes}{beside}, each once\n"
            f"  refunded         {sum(self.refunded.values())} ({refunds})\n"
            f"  live             {len(self.live)}\n"
            f"  head staleness   mean {mean:.2f}, worst {self.worst_staleness}; {self._bound()}\n"
            f"  incarnations     {self.incarnation}, {counted(self.undone, 'line')} rolled back"
        )

    def _bound(self) -> str:
        masked = self.past_bound["mask"]
        held = "the bound held at every step" + (
            f", {counted(masked, 'token')} past it left out of the loss" * (masked > 0)
        )
        return f"{counted(self.violations, 'group')} trained past the bound (soft)" if self.violations else held
