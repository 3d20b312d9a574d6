"""Which fault strikes when: a pure function of a seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

AT_ONCE = 0.15
"""Share of the faults that strike at the same time as the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One fault of a timetable."""

    at_s: float
    """Seconds from the start of the rehearsal."""
    kind: str
    seed: int
    """Decides whatever the fault has to choose: which victim, which bit, for how long."""


def timetable(seed: int, count: int, every_s: float, weights: Mapping[str, float]) -> list[Planned]:
    """``count`` faults, ``every_s`` seconds apart on average. Each kind has its share by weight, and no kind is left
    out where ``count`` allows. The same arguments always give the same timetable."""
    rng = random.Random(seed)
    kinds = sorted(weights)
    rng.shuffle(kinds)
    more = rng.choices(kinds, [weights[kind] for kind in kinds], k=max(0, count - len(kinds)))
    drawn = [*kinds, *more][:count]
    rng.shuffle(drawn)
    planned, at_s = [], 0.0
    for kind in drawn:
        if rng.random() >= AT_ONCE:
            at_s += rng.uniform(0.2, 1.8) * every_s / (1 - AT_ONCE)
        planned.append(Planned(at_s=at_s, kind=kind, seed=rng.randrange(1 << 32)))
    return planned
