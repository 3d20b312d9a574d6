"""Many claims at once: a p for each verdict, and which verdicts hold when all are looked at together. Pure.

A verdict at 95 % comes out by chance once in twenty times, so about two of 44 would. Holm's step-down procedure
(Scandinavian Journal of Statistics 6, 1979) bounds the chance that any verdict which it keeps is false, however the
claims depend on each other.
"""

import math
from collections.abc import Sequence

from ..leeway.sweeping.intervals import CONFIDENCE, Interval
from .verdict import Finding


def p_value(finding: Finding) -> float:
    """The smallest chance of error at which the verdict still comes out; above 0.05 for ``undecided``.

    It is by Student's t, two-sided as the intervals are. A claim about several settings agrees with the largest p of
    its parts, and disagrees with the smallest p times their number (Bonferroni). ``undecided`` has the smaller of the
    two.
    """
    claim = finding.claim
    parts = [_p_values(measured, claim.low, claim.high) for measured in finding.measured]
    agrees = max(inside for inside, _ in parts)
    disagrees = min(1.0, len(parts) * min(outside for _, outside in parts))
    return {"agrees": agrees, "disagrees": disagrees, "undecided": min(agrees, disagrees)}[finding.verdict]


def kept(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """By Holm's procedure, whether each verdict holds, where the chance of any false one among those that hold is
    ``level``.

    The smallest p is compared with level/m, the next one with level/(m - 1), and so on up to the first that is above.
    """
    holds = [False] * len(p_values)
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        if p_values[number] > level / (len(p_values) - place):
            break
        holds[number] = True
    return holds


def _p_values(measured: Interval, low: float, high: float) -> tuple[float, float]:
    """(p of lying inside [low, high], p of lying outside of it); both are 1 where the interval is unknown."""
    if not measured.known:
        return 1.0, 1.0
    above, below = _tail(measured, low), _tail(_mirrored(measured), -high)
    outside = min(_tail(_mirrored(measured), -low), _tail(measured, high))
    return min(1.0, 2 * max(above, below)), min(1.0, 2 * outside)


def _tail(measured: Interval, bound: float) -> float:
    """The chance of a mean as far above ``bound`` as this one, were the truth at ``bound``."""
    from scipy import stats

    if math.isinf(bound):
        return 0.0 if bound < 0 else 1.0
    freedom = measured.count - 1
    error = measured.half / float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    if error == 0:
        return float(measured.mean <= bound)
    return float(stats.t.sf((measured.mean - bound) / error, freedom))


def _mirrored(measured: Interval) -> Interval:
    return Interval(-measured.mean, measured.half, measured.count)
