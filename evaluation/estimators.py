"""What sampled responses say about a model: avg@n, and the intervals of this and of pass@k. Pure.

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
