"""From runs to a verdict: what is measured of a run, and what an interval says about a claim. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..leeway.sweeping.intervals import Interval, difference, interval

PASSED = 0.72
"""An accuracy half-way to the best: for comparing settings that learn at different speeds."""

Verdict = Literal["agrees", "disagrees", "undecided"]


def last_third(values: np.ndarray) -> float:
    """The mean of what was measured in the last third of the steps."""
    return _mean(values[len(values) - max(1, len(values) // 3) :])


def halfway(values: np.ndarray) -> float:
    """The mean of what was measured in the middle third of the steps."""
    third = len(values) // 3
    return _mean(values[third : len(values) - third])


def swing(values: np.ndarray) -> float:
    """The mean change from one step to the next in the last third: how unsteady a curve is, whatever its trend."""
    return _mean(np.abs(np.diff(values[len(values) - max(2, len(values) // 3) :])))


def on_the_way(values: np.ndarray, accuracy: np.ndarray) -> float:
    """What ``values`` were when ``accuracy`` first passed ``PASSED``, on the line between two evaluations; NaN where it
    never did, or began above."""
    there = np.isfinite(values) & np.isfinite(accuracy)
    values, accuracy = values[there], accuracy[there]
    above = np.flatnonzero(accuracy >= PASSED)
    if not len(above) or above[0] == 0:
        return math.nan
    pair = slice(above[0] - 1, above[0] + 1)
    return float(np.interp(PASSED, accuracy[pair], values[pair]))


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a run."""

    title: str
    column: str
    reduce: Callable[..., float] = last_third
    """Makes a number of a column [steps], which is NaN where nothing was measured."""
    beside: str | None = None
    """Another column, which ``reduce`` takes as its second argument."""
    digits: int = 3

    def of(self, series: Callable[[str], np.ndarray]) -> float:
        """The metric of a run; ``series`` returns a column of the run by its name."""
        more = [series(self.beside)] if self.beside else []
        return self.reduce(series(self.column), *more)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("accuracy", "evaluation/reward"),
    "accuracy halfway": Metric("accuracy halfway", "evaluation/reward", halfway),
    "entropy": Metric("entropy", "evaluation/entropy"),
    "entropy on the way": Metric(
        f"entropy when accuracy passed {PASSED}", "evaluation/entropy", on_the_way, "evaluation/reward"
    ),
    "batch entropy": Metric("e_k", "entropy/policy"),
    "entropy kept": Metric(
        "entropy, share of the start's", "evaluation/entropy", lambda v: last_third(v) / float(v[0])
    ),
    "first e_k": Metric("e_k, first step", "entropy/policy", lambda values: float(values[0])),
    "swing": Metric("swing of e_k", "entropy/policy", swing, digits=4),
    "truncated": Metric("truncated share", "generated/truncated_share"),
    "length": Metric("length", "generated/length_mean", digits=2),
    "generated": Metric("thousand tokens generated", "generated/tokens", lambda v: float(v.sum()) / 1e3, digits=1),
    "kl": Metric("k3 to the initial model", "kl/reference", digits=4),
    "clipped": Metric("clipped share", "policy/clip_fraction", _mean, digits=4),
    "ess": Metric("effective sample size", "logprob/ess"),
    "refunded": Metric("groups refunded a step", "overflow/groups", _mean, digits=1),
    "coefficient": Metric("coefficient c", "entropy/coefficient"),
}
"""Metrics by the name that a study uses. They are over the last third of the steps unless the title says otherwise.
Accuracy and entropy are those of held-out prompts at τ = 1; e_k is that of the training batch under the policy that it
trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A statement about settings that intervals can bear out or contradict."""

    text: str
    metric: str
    of: tuple[tuple[str, str | None], ...]
    """Settings, each with the one that it is compared with, seed by seed; None means that it is taken by itself."""
    low: float = -math.inf
    high: float = math.inf
    """The range in which the metric, or its difference to the other setting's, has to lie."""
    predicted: Verdict
    """What we expected before the study ran."""


def verdict_on(measured: Interval, low: float, high: float) -> Verdict:
    """``agrees`` where the whole interval lies in [low, high], ``disagrees`` where none of it does."""
    if not measured.known:
        return "undecided"
    if low <= measured.low and measured.high <= high:
        return "agrees"
    if measured.high < low or high < measured.low:
        return "disagrees"
    return "undecided"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim about several settings: it has to hold for all, and one setting can contradict it."""
    if "disagrees" in verdicts:
        return "disagrees"
    return "undecided" if "undecided" in verdicts else "agrees"


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim, judged."""

    claim: Claim
    measured: tuple[Interval, ...]
    """One for each of ``claim.of``."""

    @property
    def verdict(self) -> Verdict:
        return together([verdict_on(each, self.claim.low, self.claim.high) for each in self.measured])


def judge(claim: Claim, values: Mapping[str, Sequence[float]]) -> Finding:
    """Judge a claim. ``values`` are those of its metric, by setting, one for each seed in the same order."""
    return Finding(
        claim,
        tuple(
            interval(values[setting]) if other is None else difference(values[setting], values[other])
            for setting, other in claim.of
        ),
    )
