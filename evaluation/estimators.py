"""What a sample of responses says of a model: avg@n, pass@k, and how far off they may be. Pure.

Arrays are over problems: n responses were graded, c of them are correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, CONFIDENCE = 10_000, 0.95
CHUNK = 1 << 22  # indices drawn at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems and its bootstrap interval; of one problem the interval is that one value."""

    value: float
    low: float
    high: float


def avg_at_n(n_P: Sequence[int], c_P: Sequence[int]) -> np.ndarray:
    """avg@n of each problem: the share of its responses that is correct. float64, [P]."""
    n, c = np.asarray(n_P, dtype=np.float64), np.asarray(c_P, dtype=np.float64)
    assert (n > 0).all()
    return c / n


def pass_at_k(n_P: Sequence[int], c_P: Sequence[int], k: int) -> np.ndarray:
    """pass@k of each problem, unbiased: the chance that k responses drawn from its n without putting back hold a
    correct one, 1 - C(n-c, k) / C(n, k) (Chen et al., 2021). float64, [P]. ``ValueError`` where an n is below k."""
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    if (n < k).any() or k < 1:
        raise ValueError(f"pass@{k} of {n.min()} responses: 1 to n are due")
    # As a product, factor by factor: the binomials themselves overflow.
    missed = np.ones(len(n))
    for drawn in range(k):
        missed *= np.maximum(n - c - drawn, 0) / (n - drawn)
    return 1.0 - missed


def bootstrap(
    values_P: np.ndarray, *, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean over problems with its percentile interval: problems are drawn anew with putting back, ``resamples``
    times (Efron, 1979). It says how the mean would move with other problems like these, so that a benchmark of 30 has
    a wide one however many responses there are."""
    values = np.asarray(values_P, dtype=np.float64)
    assert len(values) > 0
    random, means = np.random.default_rng(seed), []
    left = resamples
    while left:
        rows = min(left, max(1, CHUNK // len(values)))
        means.append(values[random.integers(len(values), size=(rows, len(values)))].mean(axis=1))
        left -= rows
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Estimate(float(values.mean()), float(low), float(high))


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … up to ``most``, and ``most`` itself: the k that are shown."""
    found = [1 << bit for bit in range(most.bit_length())]
    return found if found[-1] == most else [*found, most]
