"""The adaptive entropy controller (report 3.2). Pure.

At step k with policy entropy e_k: α_k = c_k if e_k <= target, else 0; then c moves by Δ towards the target and never
below 0. The report states no clamp but requires α >= 0. A coefficient of zero does not switch the controller off.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ControllerState:
    """What the controller remembers between steps; part of every checkpoint."""

    coefficient: float = 0.0
    """c_k, the weight that the entropy has in the loss of a step whose entropy is at or below the target."""


def alpha(state: ControllerState, entropy: float, target: float) -> float:
    """α_k of the step whose entropy (nats a token, under the policy before the update) is ``entropy``."""
    return state.coefficient if entropy <= target else 0.0


def next_state(state: ControllerState, entropy: float, target: float, delta: float) -> ControllerState:
    """c_{k+1}: up by ``delta`` below the target, down above it, unchanged on it, never negative."""
    if entropy == target:
        return state
    moved = state.coefficient + (delta if entropy < target else -delta)
    # Rounded because sums of 0.005 come back to 1e-18 rather than to 0, and c > 0 costs a forward pass a step.
    return ControllerState(max(0.0, round(moved, 12)))
