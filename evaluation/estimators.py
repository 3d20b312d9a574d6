"""What sampled responses say about a model: avg@n and pass@k, with their intervals. Pure.

Arrays are over problems: of each problem n responses were graded, and c of them are correct.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, CONFIDENCE = 10_000, 0.95
CHUNK = 1 << 22  # how many indices are drawn at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems and its bootstrap interval. With a single problem, both ends of the interval are its
    value."""

    value: float
    low: float
    high: float


def avg_at_n(n_P: Sequence[int], c_P: Sequence[int]) -> np.ndarray:
    """avg@n of each problem: the share of its responses that are correct. float64 [P]."""
    n, c = np.asarray(n_P, dtype=np.float64), np.asarray(c_P, dtype=np.float64)
    assert (n > 0).all()
    return c / n


def pass_at_k(n_P: Sequence[int], c_P: Sequence[int], k: int) -> np.ndarray:
    """Unbiased pass@k of each problem: the probability that k responses drawn without replacement from its n include a
    correct one, 1 - C(n-c, k) / C(n, k) (Chen et al., 2021). float64 [P]. ``ValueError`` where an n is below k."""
    n, c = np.asarray(n_P, dtype=np.int64), np.asarray(c_P, dtype=np.int64)
    if (n < k).any() or k < 1:
        raise ValueError(f"pass@{k} of {n.min()} responses: k must be 1 to n")
    # It is computed as a product, factor by factor, because the binomials themselves overflow.
    missed = np.ones(len(n))
    for drawn in range(k):
        missed *= np.maximum(n - c - drawn, 0) / (n - drawn)
    return 1.0 - missed


def bootstrap(
    values_P: np.ndarray, *, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Estimate:
    """The mean over problems with its percentile interval: problems are drawn with replacement ``resamples`` times
    (Efron, 1979). The interval says how the mean would vary with other problems like these, so a benchmark of 30
    problems has a wide one, however many responses there are."""
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
    """1, 2, 4, … up to ``most``, and ``most`` itself: the values of k that are shown."""
    found = [1 << bit for bit in range(most.bit_length())]
    return found if found[-1] == most else [*found, most]
