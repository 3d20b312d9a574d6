"""The guard: the bound steps down where data turn too far off-policy to learn from, and comes back slowly. Pure.

What it watches is the effective sample size of the importance weights w = π_old/μ over the step's tokens, as a share of
them: (Σw)² / (n·Σw²). At 1 the data are on-policy; where it is small, a few tokens carry the update.

Down by one version after every step below the threshold, so that a collapse is met within η steps; up by one only
after ``patience`` steps in a row without, so that it does not swing. The operator's bound is never exceeded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True, kw_only=True)
class Guard:
    """How far the bound is lowered, and how long nothing has happened."""

    least_ess: float
    """Threshold, a share; 0 turns the guard off."""
    patience: int
    """Steps without an alarm before the bound comes up by one."""
    lowered: int = 0
    """Versions that the bound is below the operator's."""
    calm: int = 0
    """Steps since the last alarm, or since the bound last came up."""

    def bound(self, max_staleness: int) -> int:
        """The bound in force where the operator asks for ``max_staleness``."""
        return max(0, max_staleness - self.lowered)

    def saw(self, ess: float, max_staleness: int) -> None:
        """A training step had this effective sample size, under the operator's ``max_staleness``."""
        if ess < self.least_ess:
            self.lowered, self.calm = min(self.lowered + 1, max_staleness), 0
        elif self.lowered:
            self.calm += 1
            if self.calm == self.patience:
                self.lowered, self.calm = self.lowered - 1, 0

    def reset(self) -> None:
        """The operator has turned the dial: that holds now."""
        self.lowered = self.calm = 0

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps, as JSON."""
        return {name: value for name, value in asdict(self).items() if name in ("lowered", "calm")}

    def restore(self, state: dict[str, int]) -> None:
        """Go back to what ``state`` gave."""
        self.lowered, self.calm = state["lowered"], state["calm"]
