"""A heavy tail of staleness, where a study says how old data is instead of the clock. Pure."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """How many versions before its training step a group is begun: lognormal, decided by (run seed, ticket) alone."""

    mean: float
    sigma: float = 1.0
    most: int = 16
    """The longest lag; longer ones that are drawn are cut to it."""
    tokens_per_version: int = 0
    """With 0, one version samples a group. Otherwise newer versions come while a group is under way: after every so
    many tokens of its responses the next version goes on, up to that of the training step."""

    def lag(self, seed: int, ticket: int) -> int:
        """The lag of a ticket's group, in versions."""
        drawn = np.random.default_rng([seed, 1, ticket]).lognormal(sigma=self.sigma)
        return min(self.most, round(self.mean * drawn / math.exp(self.sigma**2 / 2)))

    @property
    def words(self) -> str:
        """The tail in words, for a table."""
        newer = f", a newer one every {self.tokens_per_version} tokens" if self.tokens_per_version else ""
        return (
            f"begun {self.mean:g} versions before on average (lognormal, σ {self.sigma:g}, at most {self.most}){newer}"
        )
