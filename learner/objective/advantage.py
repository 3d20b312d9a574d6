"""Group-relative advantages (report 2.5). Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np


def has_signal(rewards_S: np.ndarray) -> bool:
    """Whether a group teaches anything: some response was rewarded otherwise than another (report 3.1, the set T̃)."""
    rewards_S = np.asarray(rewards_S)
    return bool(rewards_S.size) and bool((rewards_S != rewards_S[0]).any())


def group_advantages(
    rewards_S: np.ndarray, std: Literal["unbiased", "biased"] = "unbiased", eps: float = 1e-6
) -> np.ndarray:
    """A_j = (r_j - mean r) / (std r + eps), one for each of the group's S responses (report 2.5).

    ``rewards_S``: shape [S]. ``std``: divided by S-1 ("unbiased", the released code) or by S. ``eps``: the report gives
    none, the released code 1e-6. Returns float64 [S]; exact zeros where the group has no signal.
    """
    rewards_S = np.asarray(rewards_S, dtype=np.float64)
    if not has_signal(rewards_S):
        return np.zeros_like(rewards_S)  # the mean of equal rewards may miss them by an ulp, which eps would blow up
    return (rewards_S - rewards_S.mean()) / (rewards_S.std(ddof=1 if std == "unbiased" else 0) + eps)
