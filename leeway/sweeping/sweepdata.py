"""The finished runs of a sweep as numbers: one row a run, intervals a setting, and what they show.

Runs are compared at marks that every run of a seed has reached: the same number of trained groups, the same number of
generated responses, and the same time. Time is the sum of the steps' seconds, without the wait for the first batch of a
learner that starts or starts again: engines start then, and that is no part of a setting. A run's last η steps train
what is live already, and nothing new is generated beside them. In a short run they would flatter a large η, so speed is
measured before them.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.files import whole_file
from ..reporting.rundata import RunData, load, mean
from .grid import Axis, Point, Setting
from .intervals import Interval, difference, interval


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of ``sweep.csv``: one number a run."""

    key: str
    title: str
    digits: int
    meaning: str


SPEED = (
    Measure(
        "steps_per_hour",
        "steps/h",
        0,
        "training steps an hour, without the first after each start and the last η of the run",
    ),
    Measure("tokens_per_s", "trained tokens/s", 0, "response tokens trained on, a second of the same steps"),
    Measure("idle_share", "learner idle", 3, "share of the same steps' time in which the learner waited for a batch"),
    Measure("head_staleness", "head staleness", 2, "mean over the steps, versions"),
    Measure("token_staleness", "token staleness", 2, "mean over the steps, versions"),
    Measure("wasted_share", "wasted", 3, "share of the graded responses' tokens that was not trained on"),
)
LEARNING = (
    Measure("entropy", "entropy", 3, "of the policy, nats a token; mean of the last third of the steps"),
    Measure("reward", "reward", 3, "over all graded groups; mean of the last third of the steps"),
    Measure(
        "reward_at_groups", "at equal groups", 3, "reward, mean of the last third before equally many groups trained"
    ),
    Measure("reward_at_responses", "at equal responses", 3, "the same before equally many responses generated"),
    Measure(
        "reward_at_time",
        "at equal time",
        3,
        "the same before the time at which a seed's fastest run came to its last η steps",
    ),
    Measure("ess", "eff. samples", 3, "effective sample size, share of the tokens; mean over the steps"),
    Measure("clip_fraction", "clipped", 4, "share of the tokens; mean over the steps"),
    Measure("truncated_share", "truncated", 4, "share of the trained responses; mean over the steps"),
)
MEASURES = (*SPEED, *LEARNING)

GOALS = ("steps_per_hour", "reward_at_groups", "entropy")
"""The measures of the frontier; more is better in each. Entropy stands for the exploration that is left."""

TRACED = (
    "reward/mean", "entropy/policy", "entropy/alpha", "staleness/head_mean", "staleness/token_mean", "logprob/ess",
    "policy/clip_fraction", "response/length_mean", "response/truncated_share", "batch/groups", "batch/tokens",
    "generated/groups", "time/step_s", "time/wait_for_batch_s", "time/train_s",
)  # fmt: skip
"""The metrics that ``steps.csv`` has for every step."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run, with its course along the axes on which runs are compared."""

    point: Point
    data: RunData
    seconds: np.ndarray
    """[steps] float64, seconds: the time at which each step ended."""
    groups: np.ndarray
    """[steps] float64: groups trained by then."""
    updates: np.ndarray
    """[steps] float64: optimizer updates made by then; NaN where unknown."""
    responses: np.ndarray
    """[steps] float64: responses graded by then; NaN where unknown."""
    steady: np.ndarray
    """[steps] bool: the steps whose speed counts."""

    @classmethod
    def of(cls, point: Point, data: RunData) -> Run:
        """The run that ``data`` was read from."""
        size = data.series("batch/responses") / data.series("batch/groups")
        starts = np.isin(data.x, [data.x[0], *data.resumed_at()])
        generating = len(data.steps) - int(np.nan_to_num(data.bounds()[-1]))
        return cls(
            point,
            data,
            steady=~starts & (np.arange(len(starts)) < generating),
            seconds=np.cumsum(np.where(starts, _busy(data), data.series("time/step_s"))),
            groups=np.cumsum(data.series("batch/groups")),
            updates=np.cumsum(data.series("policy/updates")),
            responses=np.cumsum(data.series("generated/groups") * size),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Everything that the report of a sweep says."""

    name: str
    grid: list[Axis]
    settings: list[Setting]
    """The settings with a finished run, in the order of the grid. The others are compared with the first."""
    seeds: list[int]
    runs: dict[tuple[Setting, int], Run]
    numbers: dict[tuple[Setting, int], dict[str, float]]
    """Each point's numbers by ``Measure.key``; NaN where a run does not say."""
    missing: list[str]
    """Names of the points that are not finished."""

    def values(self, setting: Setting, key: str) -> list[float]:
        """One value for each seed; NaN where that run is not finished."""
        return [
            self.numbers[setting, seed][key] if (setting, seed) in self.numbers else math.nan for seed in self.seeds
        ]

    def mean(self, setting: Setting, key: str) -> Interval:
        """The mean over the seeds, with its interval."""
        return interval(self.values(setting, key))

    def gain(self, setting: Setting, over: Setting, key: str) -> Interval:
        """How much larger ``setting`` is than ``over``, seed by seed, with the interval."""
        return difference(self.values(setting, key), self.values(over, key))

    def families(self) -> dict[str, list[Setting]]:
        """Settings that differ in the first key alone, by the label that they share. Each family is a line in the
        pictures."""
        found: dict[str, list[Setting]] = {}
        for setting in self.settings:
            shared = [f"{axis.label}={value}" for axis, value in zip(self.grid[1:], setting.values[1:], strict=True)]
            found.setdefault(", ".join(shared), []).append(setting)
        return found

    def dominators(self, setting: Setting) -> list[Setting]:
        """The settings that are shown to be better in one of ``GOALS`` and are shown to be worse in none. Those come
        first that are not worse in any goal even by their means, and that differ in the first key alone."""

        def doubts(other: Setting) -> tuple[int, bool, int]:
            worse = sum(gain.mean < 0 for gain in gains[other])
            return worse, other.values[1:] != setting.values[1:], -sum(gain.sign for gain in gains[other])

        gains = {other: [self.gain(other, setting, goal) for goal in GOALS] for other in self.settings}
        signs = {other: [gain.sign for gain in each] for other, each in gains.items()}
        return sorted([other for other, each in signs.items() if max(each) > 0 and min(each) >= 0], key=doubts)

    def frontier(self) -> list[Setting]:
        """The settings without a dominator; all settings where they dominate each other in a circle."""
        return [setting for setting in self.settings if not self.dominators(setting)] or self.settings


def read(name: str, folder: Path, grid: list[Axis], finished: list[Point], missing: list[str]) -> Sweep:
    """The sweep of the ``finished`` points (at least one), whose runs are under ``folder``."""
    runs = [Run.of(point, load(folder / point.name)) for point in finished]
    numbers: dict[tuple[Setting, int], dict[str, float]] = {}
    seeds = sorted({run.point.seed for run in runs})
    for seed in seeds:
        block = [run for run in runs if run.point.seed == seed]
        marks = {axis: min(getattr(run, axis)[-1] for run in block) for axis in ("groups", "responses")}
        marks["seconds"] = min(run.seconds[run.steady.nonzero()[0].max(initial=0)] for run in block)
        numbers |= {(run.point.setting, seed): _numbers(run, marks) for run in block}
    return Sweep(
        name=name,
        grid=grid,
        settings=sorted({point.setting for point in finished}, key=lambda setting: _place(grid, setting)),
        seeds=seeds,
        runs={(run.point.setting, run.point.seed): run for run in runs},
        numbers=numbers,
        missing=missing,
    )


def findings(sweep: Sweep) -> list[str]:
    """What the intervals show, in sentences for whoever has to choose. Nothing else is said."""
    if len(sweep.settings) == 1:
        return ["There is one setting: nothing to compare."]
    if len(sweep.seeds) == 1:
        return ["One seed: no interval is known, so no difference is shown. The pictures show its runs as they were."]
    frontier = sweep.frontier()
    told = [
        "On the frontier of throughput, reward and entropy, because no other setting is shown to be better in one of "
        f"them without being shown to be worse in another: {'; '.join(_described(sweep, each) for each in frontier)}."
    ]
    if len(frontier) > 1:
        told += [_leader(sweep, frontier, goal) for goal in GOALS]
    return told + [_dominated(sweep, setting) for setting in sweep.settings if setting not in frontier]


def write_tables(sweep: Sweep, folder: Path) -> None:
    """``sweep.csv``, a row a run, and ``steps.csv``, a row a training step, into ``folder``."""
    keys = [axis.key for axis in sweep.grid]
    with whole_file(folder / "sweep.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        more = ["steps", "groups", "responses", "seconds", "resumed"]
        table.writerow(["run", *keys, "seed", *(measure.key for measure in MEASURES), *more])
        for place, run in sweep.runs.items():
            ends = [len(run.data.steps), run.groups[-1], run.responses[-1], run.seconds[-1], len(run.data.resumed_at())]
            values = [sweep.numbers[place][measure.key] for measure in MEASURES]
            table.writerow([run.point.name, *run.point.setting.values, run.point.seed, *map(_plain, [*values, *ends])])
    with whole_file(folder / "steps.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["run", *keys, "seed", "step", "seconds", *TRACED])
        for run in sweep.runs.values():
            columns = [run.seconds, *(run.data.series(key) for key in TRACED)]
            of_run = [run.point.name, *run.point.setting.values, run.point.seed]
            for step, numbers in zip(run.data.x, zip(*columns, strict=True), strict=True):
                table.writerow([*of_run, step, *map(_plain, numbers)])


def before(values: np.ndarray, position: np.ndarray, mark: float) -> float:
    """The mean of the ``values`` [steps] whose ``position`` [steps], which rises, is in the last third before ``mark``.
    Where a step is longer than that third, the last value before ``mark``; NaN where there is none."""
    reached = position <= mark * (1 + 1e-9)
    within = reached & (position > 2 / 3 * mark)
    if not within.any():
        within = reached & (position == position[reached].max()) if reached.any() else reached
    return mean(values[within])


def _numbers(run: Run, marks: dict[str, float]) -> dict[str, float]:
    data, steady = run.data, run.steady
    step_s, reward = data.series("time/step_s"), data.series("reward/mean")
    seconds = float(step_s[steady].sum()) or math.nan
    size = data.series("batch/responses") / data.series("batch/groups")
    generated = float(np.nansum(data.series("generated/groups") * size * data.series("generated/length_mean")))
    count = np.arange(1.0, len(reward) + 1)
    return {
        "steps_per_hour": 3600 * int(steady.sum()) / seconds,
        "tokens_per_s": float(data.series("batch/tokens")[steady].sum()) / seconds,
        "idle_share": float(data.series("time/wait_for_batch_s")[steady].sum()) / seconds,
        "head_staleness": mean(data.series("staleness/head_mean")),
        "token_staleness": mean(data.series("staleness/token_mean")),
        "wasted_share": 1 - data.total("batch/tokens") / generated if generated else math.nan,
        "entropy": before(data.series("entropy/policy"), count, count[-1]),
        "reward": before(reward, count, count[-1]),
        "reward_at_groups": before(reward, run.groups, marks["groups"]),
        "reward_at_responses": before(reward, run.responses, marks["responses"]),
        "reward_at_time": before(reward, run.seconds, marks["seconds"]),
        "ess": mean(data.series("logprob/ess")),
        "clip_fraction": mean(data.series("policy/clip_fraction")),
        "truncated_share": mean(data.series("response/truncated_share")),
    }


def _busy(data: RunData) -> np.ndarray:
    """[steps] float64, seconds: each step without its wait for the batch."""
    parts = ("time/train_s", "time/publish_s", "time/checkpoint_s")
    return sum((np.nan_to_num(data.series(key)) for key in parts), np.zeros(len(data.steps)))


def _place(grid: list[Axis], setting: Setting) -> list[int]:
    return [axis.values.index(value) for axis, value in zip(grid, setting.values, strict=True)]


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


_DIGITS = {measure.key: measure.digits for measure in MEASURES}
_UNITS = {"steps_per_hour": "steps/h", "reward_at_groups": "reward", "entropy": "nats of entropy"}
_MOST = {"steps_per_hour": "Fastest", "reward_at_groups": "Best in reward", "entropy": "Highest in entropy"}


def _described(sweep: Sweep, setting: Setting) -> str:
    values = [f"{sweep.mean(setting, goal).text(_DIGITS[goal])} {_UNITS[goal]}" for goal in GOALS]
    return f"{setting.label} ({', '.join(values)})"


def _leader(sweep: Sweep, frontier: list[Setting], goal: str) -> str:
    """Which setting of the frontier has the largest mean, and which others are not shown to have less."""
    first = max(frontier, key=lambda setting: np.nan_to_num(sweep.mean(setting, goal).mean, nan=-math.inf))
    level = [other.label for other in frontier if other is not first and sweep.gain(first, other, goal).sign <= 0]
    rest = f"not shown to have less: {'; '.join(level)}" if level else "shown against each of the others"
    return f"{_MOST[goal]} of these by the mean: {first.label}; {rest}."


def _dominated(sweep: Sweep, setting: Setting) -> str:
    dominators = sweep.dominators(setting)
    better = next((other for other in dominators if not sweep.dominators(other)), dominators[0])
    gains = {goal: sweep.gain(better, setting, goal) for goal in GOALS}
    texts = {goal: gain.text(_DIGITS[goal], signed=True) for goal, gain in gains.items()}
    shown = " and ".join(f"{texts[goal]} {_UNITS[goal]}" for goal in GOALS if gains[goal].sign > 0)
    level = " and ".join(f"{_UNITS[goal]} ({texts[goal]})" for goal in GOALS if gains[goal].sign == 0)
    rest = f"; no difference is shown in {level}" if level else ""
    return f"{setting.label} is dominated by {better.label}, which has {shown}{rest}."
