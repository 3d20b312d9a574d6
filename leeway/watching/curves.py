"""The curves of a run, downsampled as they grow, so that a run of any length is one screen of numbers. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST = 512
"""The most points that a curve has. Where one more would come, neighbours are merged two by two."""
DIGITS = 5
"""Significant digits of a number that is sent."""


@dataclass(slots=True)
class _Column:
    """One metric, a place in each list for each point: how many steps have it, their sum, least and greatest value."""

    counts: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    greatest: list[float] = field(default_factory=list)

    def lengthen(self, points: int) -> None:
        missing = points - len(self.counts)
        self.counts += [0] * missing
        self.sums += [0.0] * missing
        self.least += [math.inf] * missing
        self.greatest += [-math.inf] * missing

    def add(self, value: float) -> None:
        self.counts[-1] += 1
        self.sums[-1] += value
        self.least[-1] = min(self.least[-1], value)
        self.greatest[-1] = max(self.greatest[-1], value)

    def merge(self) -> None:
        self.counts = [sum(self.counts[at : at + 2]) for at in range(0, len(self.counts), 2)]
        self.sums = [sum(self.sums[at : at + 2]) for at in range(0, len(self.sums), 2)]
        self.least = [min(self.least[at : at + 2]) for at in range(0, len(self.least), 2)]
        self.greatest = [max(self.greatest[at : at + 2]) for at in range(0, len(self.greatest), 2)]

    def sent(self, start: int, *, spread: bool) -> dict[str, list[float | None]]:
        known = [count > 0 for count in self.counts[start:]]
        means = [total / max(count, 1) for total, count in zip(self.sums[start:], self.counts[start:], strict=True)]
        parts = {"mean": means}
        if spread:
            parts |= {"least": self.least[start:], "greatest": self.greatest[start:]}
        return {
            name: [_rounded(value) if there else None for value, there in zip(values, known, strict=True)]
            for name, values in parts.items()
        }


class Curves:
    """Every metric as at most ``MOST`` points of as many steps each: a mean, with the least and greatest value."""

    def __init__(self) -> None:
        self.generation = 0
        """Raised whenever points that were there have changed, so that whoever has some must take all anew."""
        self.clear()

    def clear(self) -> None:
        """Forget every step: a resume has undone some, and all come again."""
        self.generation += 1
        self.size = 1
        """Steps of a point."""
        self.last: int | None = None
        """The newest step."""
        self._steps = _Column()
        self._columns = dict[str, _Column]()

    @property
    def points(self) -> int:
        """How many points there are."""
        return len(self._steps.counts)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take in the next training step; values that are not finite are left out."""
        if not self.points or self._steps.counts[-1] >= self.size:
            if self.points >= MOST:
                self._merge()
            for column in (self._steps, *self._columns.values()):
                column.lengthen(self.points + 1 if column is self._steps else self.points)
        self.last = step
        self._steps.add(step)
        for key, value in values.items():
            if math.isfinite(value):
                if key not in self._columns:
                    self._columns[key] = _Column()
                    self._columns[key].lengthen(self.points)
                    self.generation += 1
                self._columns[key].add(value)

    def _merge(self) -> None:
        for column in (self._steps, *self._columns.values()):
            column.merge()
        self.size *= 2
        self.generation += 1

    def since(self, generation: int, points: int) -> dict[str, Any]:
        """What somebody lacks who has so many ``points`` of a ``generation``: ``start`` is the place of the first point
        that is told, at which the old ones end. The last point they have may have grown, so it is told again."""
        start = max(0, min(points, self.points) - 1) if generation == self.generation else 0
        return {
            "generation": self.generation,
            "start": start,
            "size": self.size,
            "last": self.last,
            "steps": [
                total / count for total, count in zip(self._steps.sums[start:], self._steps.counts[start:], strict=True)
            ],
            "curves": {key: column.sent(start, spread=self.size > 1) for key, column in self._columns.items()},
        }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
