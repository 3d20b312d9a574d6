"""How old the data of a training step is, where a study says so instead of the clock. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How many versions before its training step a group is begun; decided by (run seed, ticket) alone."""

    mean: float = 0.0
    sigma: float = 0.0
    """0: every group's lag is ``mean``, a whole number. Otherwise they are lognormal with this σ, rounded."""
    most: int = 32
    """The longest that is drawn."""
    tokens_per_version: int = 0
    """0: a group is sampled by one version. Otherwise it is under way when newer ones come: after every so many tokens
    of its responses the next version goes on, up to that of the training step."""

    @property
    def longest(self) -> int:
        """Versions back from which a group may come."""
        return self.most if self.sigma else int(self.mean)

    @property
    def words(self) -> str:
        """For a table."""
        if self.sigma == 0:
            return f"sampled {self.mean:g} versions before"
        newer = f", a newer one every {self.tokens_per_version} tokens" if self.tokens_per_version else ""
        return (
            f"begun {self.mean:g} versions before on average (lognormal, σ {self.sigma:g}, at most {self.most}){newer}"
        )

    def of(self, seed: int, ticket: int) -> int:
        """In versions."""
        if self.sigma == 0:
            return int(self.mean)
        drawn = np.random.default_rng([seed, 1, ticket]).lognormal(sigma=self.sigma)
        return min(self.most, round(self.mean * drawn / math.exp(self.sigma**2 / 2)))


ON_POLICY = Lag()
