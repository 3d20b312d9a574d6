"""Means over seeds, with Student's t intervals. Pure.

A handful of runs that differ in their seed alone is a small sample: the interval of their mean is mean ± t·s/√n, with s
the sample's standard deviation (n − 1) and t the quantile of Student's distribution with n − 1 degrees of freedom
(Student, Biometrika 1908). It assumes that runs are independent and roughly normal. One run says nothing about how runs
differ, and its interval is infinite.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and how far it may be off; in the unit of what was averaged."""

    mean: float
    """NaN where there was no value."""
    half: float
    """Half of the interval's width; infinite where it is unknown, which is so for one value or none."""
    count: int
    """Number of values that the mean is taken over."""

    @property
    def known(self) -> bool:
        """Whether there is an interval at all, which takes two values or more."""
        return math.isfinite(self.half)

    @property
    def low(self) -> float:
        """Lower end; minus infinity where unknown."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end; infinity where unknown."""
        return self.mean + self.half

    @property
    def sign(self) -> int:
        """1 if the whole interval is above 0, -1 if all of it is below 0, else 0: no difference is shown."""
        return int(self.low > 0) - int(self.high < 0)

    def text(self, digits: int = 3, *, signed: bool = False) -> str:
        """``0.912 ± 0.015``; ``0.912 ± ? (n = 1)`` where the interval is unknown; ``–`` where there was no value."""
        if not self.count:
            return "–"
        mean = f"{self.mean:{'+' if signed else ''},.{digits}f}"
        return f"{mean} ± {self.half:,.{digits}f}" if self.known else f"{mean} ± ? (n = {self.count})"


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of ``values``, one for each seed, and its interval. Values that are not finite are left out.

    Raises ``ValueError`` for a ``confidence`` outside (0, 1).
    """
    from scipy import stats

    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: expected a share above 0 and below 1, for instance 0.95")
    found = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    if len(found) < 2:
        return Interval(float(found[0]) if len(found) else math.nan, math.inf, len(found))
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(found) - 1))
    return Interval(float(found.mean()), quantile * float(found.std(ddof=1)) / math.sqrt(len(found)), len(found))


def difference(values: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of ``values - baseline`` over seeds, and its interval. Both hold one value a seed, in the same order.

    Pairing removes what a seed does to both (its prompts, the luck of its first steps). A seed that lacks either
    value is left out. Raises ``ValueError`` where the lengths differ.
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values against {len(baseline)}: a paired difference needs one each a seed")
    return interval([value - other for value, other in zip(values, baseline, strict=True)], confidence)
