"""What the report could not run: data of a known staleness, with and without what is said to help."""

import itertools
from typing import get_args

from ..common.config import Overflow
from .study import ADAPTIVE, ALIKE, HELD, MORE_SEEDS, TARGET, Setting, Study
from .tail import Tail
from .verdict import Claim

LAGS = (0, 1, 2, 4, 8, 16)
FASTER = ("train.groups_per_step=8", "train.learning_rate=3e-4")
"""With the base's learning rate the policy hardly moves in 16 steps, and data of any age is nearly on-policy."""
CONTROLS = {"none": (), "adaptive": (ADAPTIVE, "entropy.delta=0.01"), "clip-higher": ("objective.clip_high=0.28",)}
CORRECTIONS = {"coupled": (), "decoupled": ("objective.correction=decoupled",)}


def _name(lag: int, control: str, correction: str) -> str:
    return f"lag {lag}, {control}, {correction}"


REGIMES = {
    (lag, control, correction): Setting(
        name=_name(lag, control, correction),
        # At lag 0 with one update a step π_θ = π_old = μ: no clip and no correction does anything, so it is one run.
        sets=(
            *FASTER,
            *((f"flow.max_staleness={lag}", f"flow.inject_lag={lag}") if lag else ()),
            *(CONTROLS[control] if lag or control == "adaptive" else ()),
            *(CORRECTIONS[correction] if lag else ()),
        ),
        line=f"{control}, {correction}",
        x=lag,
    )
    for control, correction, lag in itertools.product(CONTROLS, CORRECTIONS, LAGS)
}


def _one(lag: int, control: str, correction: str, other: tuple[int, str, str] | None = None) -> tuple[str, str | None]:
    return (_name(lag, control, correction), _name(*other) if other else None)


STALENESS = Study(
    name="staleness",
    seeds=MORE_SEEDS,
    title="Staleness, entropy control and behaviour correction",
    question="What does data of exactly n versions' age cost in entropy and accuracy, and what helps?",
    source="4.5; not run",
    finding="off-policy data is unavoidable in asynchronous frameworks. It ran none. AReaL (arXiv 2505.24298) "
    "has 42.0 on AIME24 without staleness. At 1, 2, 4, 8, 16 it has 41.8, 40.0, 23.3, 35.7, 35.8 with the coupled "
    "loss, and 42.1, 41.8, 42.2, 41.0, 38.7 with the decoupled one.",
    here="every group of step v was sampled by version v − n (`flow.inject_lag`). One update a step, D_R 8, a learning "
    "rate of 3e-4: with the base's, the policy hardly moves in 16 steps. Coupled: ratio to μ. Decoupled: ratio to "
    "π_old, weighted with π_old/μ ≤ 2. Clip-higher: ε_high 0.28. Adaptive: Δ 0.01, twice the report's, as 50 steps are "
    "few. At lag 0 π_θ = π_old = μ, so that neither correction nor clip matter and their lines begin at one point.",
    settings=tuple(REGIMES.values()),
    claims=(
        Claim(
            text="stale data takes entropy: coupled and without control, lag 16 ends with less than lag 0",
            metric="entropy",
            of=(_one(16, "none", "coupled", (0, "none", "coupled")),),
            high=0.0,
            predicted="disagrees",
        ),
        Claim(
            text="at equal accuracy it does: lag 16 passes 0.72 with less entropy than lag 0",
            metric="entropy on the way",
            of=(_one(16, "none", "coupled", (0, "none", "coupled")),),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text="stale data costs accuracy: coupled and without control, lag 16 ends less accurate than lag 0",
            metric="accuracy",
            of=(_one(16, "none", "coupled", (0, "none", "coupled")),),
            high=0.0,
            predicted="agrees",
        ),
        Claim(
            text="lags of 1 and 2 cost less than 0.05 of accuracy, coupled or decoupled",
            metric="accuracy",
            of=tuple(
                _one(lag, "none", correction, (0, "none", "coupled")) for lag in (1, 2) for correction in CORRECTIONS
            ),
            low=-0.05,
            predicted="agrees",
        ),
        Claim(
            text="the decoupled loss saves accuracy at lag 16",
            metric="accuracy",
            of=(_one(16, "none", "decoupled", (16, "none", "coupled")),),
            low=0.0,
            predicted="disagrees",
        ),
        Claim(
            text="adaptive control holds e_k within 20 % of the target at every lag, coupled",
            metric="batch entropy",
            of=tuple(_one(lag, "adaptive", "coupled") for lag in LAGS),
            low=HELD[0],
            high=HELD[1],
            predicted="agrees",
        ),
        Claim(
            text="at every lag, coupled, adaptive control ends with more entropy than none",
            metric="entropy",
            of=tuple(_one(lag, "adaptive", "coupled", (lag, "none", "coupled")) for lag in LAGS),
            low=0.0,
            predicted="agrees",
        ),
        Claim(
            text="adaptive control brings the decoupled loss to the coupled one's accuracy at lag 16, or above",
            metric="accuracy",
            of=(_one(16, "adaptive", "decoupled", (16, "adaptive", "coupled")),),
            low=0.0,
            predicted="disagrees",
        ),
        Claim(
            text="clip-higher ends with more entropy than none at lag 16, coupled",
            metric="entropy",
            of=(_one(16, "clip-higher", "coupled", (16, "none", "coupled")),),
            low=0.0,
            predicted="undecided",
        ),
    ),
    metrics=(
        "accuracy",
        "accuracy halfway",
        "entropy",
        "entropy on the way",
        "batch entropy",
        "ess",
        "clipped",
        "coefficient",
    ),
    panels=("evaluation/entropy", "evaluation/reward", "logprob/ess"),
    x_label="lag n, versions",
    target=TARGET,
)

ETA = 2
TAIL = Tail(mean=4, sigma=1.0, most=16, tokens_per_version=4)
POLICIES = {
    overflow: Setting(
        name=overflow, sets=(*FASTER, f"flow.max_staleness={ETA}", f"flow.overflow={overflow}"), tail=TAIL
    )
    for overflow in get_args(Overflow)
}
FRESH = Setting(name="on-policy", sets=REGIMES[0, "none", "coupled"].sets)
LATE = ("drop", "mask", "soft")

OVERFLOW = Study(
    name="overflow",
    title="Overflow policies under a heavy tail of staleness",
    question="Where half of the groups are late, what do `drop`, `mask` and `soft` cost in entropy and accuracy?",
    source="not run",
    finding="it has nothing on this.",
    here="lags are lognormal (σ 1) with a mean of 4 versions, at most 16, and the bound is η = 2; a response under way "
    "goes on under a newer version every 4 tokens. `wait` would await a straggler, so its lags are cut at η. What each "
    "costs in time is not seen here: see [overflow](../evidence/overflow.md). No entropy control, coupled loss, D_R 8, "
    "a learning rate of 3e-4.",
    settings=(FRESH, *POLICIES.values()),
    claims=(
        Claim(
            text="none costs more than 0.05 of accuracy against on-policy data",
            metric="accuracy",
            of=tuple((name, FRESH.name) for name in LATE),
            low=-0.05,
            predicted="agrees",
        ),
        Claim(
            text="none takes more entropy than on-policy data, by more than 0.02",
            metric="entropy",
            of=tuple((name, FRESH.name) for name in LATE),
            low=-ALIKE,
            predicted="agrees",
        ),
        Claim(
            text="training what is past the bound (`soft`) ends less accurate than refunding it (`drop`)",
            metric="accuracy",
            of=(("soft", "drop"),),
            high=0.0,
            predicted="undecided",
        ),
        Claim(
            text="`drop` generates more than `soft` for the same number of steps",
            metric="generated",
            of=(("drop", "soft"),),
            low=0.0,
            predicted="agrees",
        ),
    ),
    metrics=("accuracy", "accuracy halfway", "entropy", "ess", "generated", "refunded"),
    panels=("evaluation/entropy", "evaluation/reward", "staleness/token_mean"),
)

ASYNCHRONY = (STALENESS, OVERFLOW)
