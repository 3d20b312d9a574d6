"""What a part of the check hands back: figures, each with what must hold of it. Pure."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    what: str
    """What was measured."""
    value: float
    unit: str = ""
    at_most: float | None = None
    """The most that may be seen, in ``unit``; ``None`` where the figure is for the record."""
    at_least: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the figure is within its bounds; ``None`` where it has none. NaN is never within them."""
        if self.at_most is None and self.at_least is None:
            return None
        low = self.at_least if self.at_least is not None else float("-inf")
        high = self.at_most if self.at_most is not None else float("inf")
        return low <= self.value <= high

    @property
    def bounds(self) -> str:
        """The bounds as the table has them."""
        words = [f"≥ {self.at_least:.4g}"] if self.at_least is not None else []
        return " and ".join([*words, *([f"≤ {self.at_most:.4g}"] if self.at_most is not None else [])])

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {**asdict(self), "holds": self.holds}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Figure":
        """What ``as_json`` made."""
        return cls(**{key: value for key, value in found.items() if key != "holds"})
