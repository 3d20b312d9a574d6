"""What the report could not run: data of a known staleness, with and without what is said to help."""

from __future__ import annotations

import itertools
import math

from .study import ADAPTIVE, TARGET, Setting, Study
from .tail import Tail

LAGS = (0, 1, 2, 4, 8, 16)
CONTROLS = {"none": (), "adaptive": (ADAPTIVE,), "clip-higher": ("objective.clip_high=0.28",)}
CORRECTIONS = {"coupled": (), "decoupled": ("objective.correction=decoupled",)}


def _name(lag: int, control: str, correction: str) -> str:
    return f"lag {lag}, {control}, {correction}"


REGIMES = {
    (lag, control, correction): Setting(
        name=_name(lag, control, correction),
        # At lag 0 with one update a step π_old = μ: both corrections are the same run.
        sets=(
            "train.groups_per_step=8",
            *((f"flow.max_staleness={lag}", f"flow.inject_lag={lag}") if lag else ()),
            *CONTROLS[control],
            *(CORRECTIONS[correction] if lag else ()),
        ),
        line=f"{control}, {correction}",
        x=lag,
    )
    for control, correction, lag in itertools.product(CONTROLS, CORRECTIONS, LAGS)
}


def _pairs(lag: int, of: tuple[str, str], other_lag: int, other: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return ((_name(lag, *of), _name(other_lag, *other)),)


HELD_AT = tuple((_name(lag, "adaptive", correction), None) for correction in CORRECTIONS for lag in LAGS)

STALENESS = Study(
    name="staleness",
    title="Staleness, entropy control and behaviour correction",
    question="What does data of exactly n versions' age cost in entropy and accuracy, and what helps?",
    source="not in it",
    finding="nothing: it expects off-policy data in asynchronous frameworks (4.5) and runs none. AReaL (arXiv "
    "2505.24298) loses accuracy with the coupled loss from a staleness of 4 on, and keeps it with the decoupled.",
    here="every group of step v was sampled by version v − n. One update a step, D_R 8. Coupled: ratio to μ. "
    "Decoupled: ratio to π_old, weighted with π_old/μ ≤ 2. Clip-higher: ε_high 0.28.",
    settings=tuple(REGIMES.values()),
    claims=(),
    metrics=("accuracy", "accuracy halfway", "entropy", "ess", "clipped", "coefficient"),
    panels=("evaluation/entropy", "evaluation/reward", "logprob/ess"),
    x_label="lag n, versions",
    target=TARGET,
)

ETA = 2
TAIL = Tail(mean=2, sigma=1.0, most=16, tokens_per_version=4)
POLICIES = {
    overflow: Setting(
        name=overflow,
        sets=("train.groups_per_step=8", f"flow.max_staleness={ETA}", f"flow.overflow={overflow}"),
        tail=TAIL,
    )
    for overflow in ("soft", "mask", "drop", "wait")
}
FRESH = REGIMES[0, "none", "coupled"]

OVERFLOW = Study(
    name="overflow",
    title="Overflow policies under a heavy tail of staleness",
    question="Where some groups are late, what do `soft`, `mask`, `drop` and `wait` cost in entropy and accuracy?",
    source="not in it",
    finding="nothing.",
    here="",
    settings=(FRESH, *POLICIES.values()),
    claims=(),
    metrics=("accuracy", "accuracy halfway", "entropy", "ess", "generated", "refunded"),
    panels=("evaluation/entropy", "evaluation/reward", "overflow/groups"),
)

ASYNCHRONY = (STALENESS, OVERFLOW)
INF = math.inf
