"""pass@k, for evaluations and for the groups that training samples. Pure."""

from collections.abc import Sequence

import numpy as np


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


def powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … up to ``most``, and ``most`` itself: the values of k that are shown."""
    found = [1 << bit for bit in range(most.bit_length())]
    return found if found[-1] == most else [*found, most]
