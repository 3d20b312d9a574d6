"""``max_staleness = "auto"`` against every fixed bound, on simulated systems: the learner as the slower side, then
rollout, with lengths of more and less spread.

    python benchmarks/auto_bound.py [--steps 800] [--seeds 3]
    python benchmarks/auto_bound.py --many

``--many``: three systems in which many versions are worth having, 400 steps, one seed, ceiling 4.

One row a system: training steps a second under each fixed bound and under ``auto``, its start at 0 included, as a share
of the best fixed bound's; the least bound that no larger one beats by ``GAIN``; and the turns of ``auto``. Exit code 1
where a row is outside of what docs/evidence/automatic-staleness.md promises.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from leeway_rl.leeway.planning.lengths import lognormal
from leeway_rl.leeway.planning.simulate import Outcome, System, simulate

GAIN = 0.02
"""A version that brings less is none that counts: the default of ``flow.staleness_price``."""
WITHIN = 0.03
"""How much slower than the best fixed bound ``auto`` may be."""
BOUNDS = range(4)
START = 100
"""Steps in which ``auto`` may still climb."""
SIGMAS = (0.1, 0.3, 0.6)
TRAIN_S = (30.0, 15.0, 8.0, 2.0)
"""Rollout needs about 7 s for a batch: 30 s make the learner the slower side by far, 2 s make it rollout."""


def many(train_s: float) -> System:
    """Four workers with eight groups of eight responses side by side each, 32 groups a step, unequal lengths."""
    return System(
        lengths_GS=lognormal(1000, 0.6, 8000, group_size=8, seed=0),
        groups_per_step=32,
        steps=400,
        max_staleness=0,
        replicas=4,
        concurrency=8,
        alone=50.0,
        peak=800.0,
        train_s=train_s,
    )


def system(sigma: float, train_s: float, seed: int, steps: int) -> System:
    """Two workers, each with two groups side by side, that share their speed, and eight groups a step."""
    return System(
        lengths_GS=lognormal(100, sigma, 800, group_size=1, seed=seed),
        groups_per_step=8,
        steps=steps,
        max_staleness=0,
        replicas=2,
        concurrency=2,
        alone=50.0,
        peak=100.0,
        train_s=train_s,
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """``auto`` beside the fixed bounds."""

    fixed: list[float]
    """Training steps a second of each bound."""
    auto: Outcome

    @property
    def share(self) -> float:
        """The throughput of ``auto`` as a share of the best fixed bound's."""
        return rate(self.auto) / max(self.fixed)

    @property
    def late_share(self) -> float:
        """The same after step ``START``."""
        steps = self.auto.steps[START:]
        return len(steps) / (steps[-1].ended - steps[0].began) / max(self.fixed)

    @property
    def least(self) -> int:
        """The least bound that no larger one beats by ``GAIN``."""
        return next(bound for bound, own in enumerate(self.fixed) if max(self.fixed[bound:]) < (1 + GAIN) * own)

    @property
    def turns(self) -> list[tuple[int, int]]:
        """(step, bound) at the start and at every turn."""
        bounds = [step.bound for step in self.auto.steps]
        return [(n, bound) for n, bound in enumerate(bounds) if n == 0 or bounds[n - 1] != bound]

    @property
    def holds(self) -> bool:
        """Whether ``auto`` is fast enough and was never above the least bound that is."""
        return self.share >= 1 - WITHIN and max(bound for _, bound in self.turns) <= self.least


def rate(outcome: Outcome) -> float:
    """Training steps a second, over the whole run."""
    return len(outcome.steps) / outcome.steps[-1].ended


def compare(tried: System, bounds: Iterable[int] = BOUNDS) -> Compared:
    """Simulate a system under every bound and under ``auto``."""
    fixed = [rate(simulate(replace(tried, max_staleness=bound))) for bound in bounds]
    return Compared(fixed, simulate(replace(tried, max_staleness="auto")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--many", action="store_true")
    given = parser.parse_args()
    if given.many:
        for train_s in (100.0, 20.0, 3.0):
            _show(f"training {train_s:4.0f} s", compare(many(train_s), range(5)))
        return 0
    held = True
    for sigma, train_s, seed in product(SIGMAS, TRAIN_S, range(given.seeds)):
        found = compare(system(sigma, train_s, seed, given.steps))
        _show(f"sigma {sigma}  training {train_s:4.0f} s  seed {seed}", found)
        held &= found.holds
    return 0 if held else 1


def _show(name: str, found: Compared) -> None:
    shares = " ".join(f"{own / max(found.fixed):.3f}" for own in found.fixed)
    print(
        f"{name}   fixed {shares}   auto {found.share:.3f}, after step {START} {found.late_share:.3f}"
        f"   least {found.least}   {'' if found.holds else 'MISSED '}{found.turns}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
