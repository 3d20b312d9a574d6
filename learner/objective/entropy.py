"""Entropy control (report 3.2.5): the coefficient α of the entropy in the loss of training step k. Pure.

``report``: with policy entropy e_k, α_k = c_k if e_k <= target, else 0; c then moves by Δ towards the target, but never
below 0. The report states no clamp, but it requires α >= 0.

``scripts`` (the released code): the step before decides α_k. It moves c by Δ, up if e_{k-1} < target and otherwise
down, clamps it to [0, 5e-3], and puts it in force if e_{k-1} < target. Nothing has to be measured before the update.

A coefficient of zero does not switch the controller off.
"""

import math
from dataclasses import dataclass

from ...common.config import Entropy

DELTA = {"report": 0.005, "scripts": 1e-4}
CEILING = {"report": math.inf, "scripts": 5e-3}


@dataclass(frozen=True, slots=True)
class ControllerState:
    """What the controller remembers between steps. Every checkpoint has it."""

    coefficient: float = 0.0
    """c_k, the weight of the entropy in the loss of a step in which it is in force. Never negative."""
    in_force: bool = True
    """Whether the step before has put the coefficient in force. Only ``scripts`` uses it; ``report`` decides by e_k."""


def needs_entropy(state: ControllerState, settings: Entropy) -> bool:
    """Whether α_k depends on e_k, which then has to be measured before the update. At c = 0 it is 0 whatever e_k is."""
    return settings.control == "adaptive" and settings.rule == "report" and state.coefficient > 0


def step_alpha(state: ControllerState, entropy: float, settings: Entropy) -> float:
    """α_k. ``entropy``: e_k in nats per token, under the policy before the update; any number where it is not
    needed."""
    if settings.control == "constant":
        return settings.alpha
    if settings.control == "none":
        return 0.0
    if settings.rule == "scripts":
        return state.coefficient if state.in_force else 0.0
    return alpha(state, entropy, settings.target)


def state_after(state: ControllerState, entropy: float, settings: Entropy) -> ControllerState:
    """The state for step k+1 when step k's entropy e_k was ``entropy``."""
    if settings.control != "adaptive":
        return state
    delta = DELTA[settings.rule] if settings.delta is None else settings.delta
    ceiling = CEILING[settings.rule] if settings.max_coefficient is None else settings.max_coefficient
    rule = next_state if settings.rule == "report" else next_state_of_scripts
    return rule(state, entropy, settings.target, delta, ceiling)


def alpha(state: ControllerState, entropy: float, target: float) -> float:
    """α_k by the report, for a step with this ``entropy`` (nats per token, under the policy before the step)."""
    return state.coefficient if entropy <= target else 0.0


def next_state(
    state: ControllerState, entropy: float, target: float, delta: float, ceiling: float = math.inf
) -> ControllerState:
    """c_{k+1} by the report: up by ``delta`` below the target, down above it, unchanged on it, never negative."""
    if entropy == target:
        return state
    return ControllerState(_clamped(state.coefficient + (delta if entropy < target else -delta), ceiling))


def next_state_of_scripts(
    state: ControllerState, entropy: float, target: float, delta: float, ceiling: float
) -> ControllerState:
    """The next step's coefficient by the released code: up by ``delta`` and in force where the entropy is below the
    target, otherwise down and not in force."""
    below = entropy < target
    return ControllerState(_clamped(state.coefficient + (delta if below else -delta), ceiling), in_force=below)


def shortfall(entropy: float, settings: Entropy) -> float:
    """By which share of its target e_k is too low; 0 where no target is controlled."""
    if settings.control != "adaptive" or settings.target == 0:
        return 0.0
    return max(0.0, 1 - entropy / settings.target)


def _clamped(coefficient: float, ceiling: float) -> float:
    # It is rounded because sums of 0.005 come back to 1e-18 rather than 0, and c > 0 costs a forward pass per step.
    return min(ceiling, max(0.0, round(coefficient, 12)))
