"""Response lengths to simulate: drawn from a distribution, or read from a file."""

import math
from pathlib import Path

import numpy as np

from ...common.errors import DataError, why_unread
from . import calibrate

POOL_GROUPS = 20_000
"""Groups whose lengths are drawn from a distribution; tickets beyond them begin again at the first."""


def lognormal(mean: float, sigma: float, longest: int, *, group_size: int, seed: int) -> np.ndarray:
    """Lengths, int64 [groups, group size]: lognormal with this mean and σ, rounded, cut at 1 and ``longest``."""
    drawn = np.random.default_rng(seed).lognormal(math.log(mean) - sigma**2 / 2, sigma, (POOL_GROUPS, group_size))
    return np.clip(drawn.round(), 1, longest).astype(np.int64)


def read_lengths(path: Path, *, group_size: int, seed: int) -> np.ndarray:
    """Lengths, int64 [groups, group size]: the groups of a ledger as they were, or groups put together at random from a
    file with one length a line. ``DataError`` names what is wrong, and where."""
    if path.name.endswith(".jsonl"):
        return calibrate.trained_lengths(path)[1]
    try:
        words = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({why_unread(error)}); a length a line, or a ledger.jsonl") from error
    for number, word in enumerate(words, start=1):
        if not word.isdecimal() or int(word) < 1:
            raise DataError(f"{path}:{number}: {word!r} is not a length in tokens, a whole number of at least 1")
    if not words:
        raise DataError(f"{path}: empty; expected one length a line")
    drawn = np.random.default_rng(seed).integers(len(words), size=(POOL_GROUPS, group_size))
    return np.array([int(word) for word in words], dtype=np.int64)[drawn]
