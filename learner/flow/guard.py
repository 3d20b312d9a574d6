"""The guard: it lowers the bound where data get too far off-policy to learn from, and raises it again slowly. Pure.

The guard watches the effective sample size of the importance weights w = π_old/μ over the step's n tokens, as a share
of n: (Σw)² / (n·Σw²). At 1 the data are on-policy; where it is small, a few tokens carry the update.

The bound falls by one version after every step below the threshold, so that the guard answers a collapse within η
steps. It rises by one only after ``patience`` steps in a row above the threshold, so that it does not oscillate. It
never exceeds the operator's bound.
"""

from dataclasses import asdict, dataclass


@dataclass(slots=True, kw_only=True)
class Guard:
    """How far the bound is lowered, and how many steps have passed without an alarm."""

    least_ess: float
    """The threshold, a share of 0 to 1; 0 turns the guard off."""
    patience: int
    """Steps without an alarm before the bound rises by one."""
    lowered: int = 0
    """How many versions the bound is below the operator's."""
    calm: int = 0
    """Steps since the last alarm, or since the bound last rose."""

    def bound(self, max_staleness: int) -> int:
        """The bound in force where the operator asks for ``max_staleness``."""
        return max(0, max_staleness - self.lowered)

    def saw(self, ess: float, max_staleness: int) -> None:
        """Take in the effective sample size of a training step under the operator's ``max_staleness``."""
        if ess < self.least_ess:
            self.lowered, self.calm = min(self.lowered + 1, max_staleness), 0
        elif self.lowered:
            self.calm += 1
            if self.calm == self.patience:
                self.lowered, self.calm = self.lowered - 1, 0

    def reset(self) -> None:
        """Lift what the guard has lowered, since the operator has set a new bound."""
        self.lowered = self.calm = 0

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps, as JSON."""
        return {name: value for name, value in asdict(self).items() if name in ("lowered", "calm")}

    def restore(self, state: dict[str, int]) -> None:
        """Go back to what ``state`` gave."""
        self.lowered, self.calm = state["lowered"], state["calm"]
