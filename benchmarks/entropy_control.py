"""What adaptive entropy control (report 3.2) holds where a batch serves four SGD updates, and what it costs in reward.

::

    python benchmarks/entropy_control.py [--out FOLDER] [--seeds 0 1 2] [--steps 80]

Preset ``tiny`` at (N_SGD, D_R, D_T, N_reuse) = (4, 16, 4, 1), once with ``entropy.control = "none"`` and once as it
ships, ``adaptive``. Each run is the loop of ``examples/one_process.py`` around the learner's own step, in one process
on a core of its own; nothing but the control differs between the two runs of a seed, and a run's numbers do not depend
on what runs beside it. Writes a CSV a run and ``entropy.png``. A run whose CSV is whole is not made again.

Must hold, in the mean over the last third of the steps, for every seed: with control the entropy is within 20 % of the
target, without it below half of the target.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from leeway_rl.common.config import Config, compose, expand
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

BASE = ["train.minibatch_groups=4"]
CONTROLS = ("none", "adaptive")
COLUMNS = ("reward/mean", "entropy/policy", "entropy/alpha", "entropy/coefficient", "groups_sampled", "grad_norm")
HELD, COLLAPSED = (0.8, 1.2), 0.5
"""Shares of the target: between which the controlled entropy must lie, and below which the other."""


@dataclass(frozen=True, slots=True)
class Run:
    """One of the runs to make."""

    control: str
    seed: int
    steps: int
    folder: Path

    @property
    def config(self) -> Config:
        return compose(["tiny"], [*BASE, f"entropy.control={self.control}", f"flow.seed={self.seed}"])

    @property
    def path(self) -> Path:
        return self.folder / f"{self.control}-{self.seed}.csv"

    def made(self) -> int:
        """Steps whose numbers are written."""
        return max(0, len(self.path.read_text().splitlines()) - 1) if self.path.exists() else 0

    def series(self, column: str) -> np.ndarray:
        """[steps]"""
        with self.path.open() as file:
            return np.array([float(row[column]) for row in csv.DictReader(file)])

    def last_third(self, column: str) -> float:
        return float(self.series(column)[-(self.steps // 3) :].mean())

    def holds(self) -> bool:
        share = self.last_third("entropy/policy") / self.config.entropy.target
        return share < COLLAPSED if self.control == "none" else HELD[0] <= share <= HELD[1]


def training(config: Config, steps: int) -> Iterator[dict[str, float]]:
    """Sample, grade, step; the metrics of every step. ``reward/mean`` is over all groups, with a signal or not."""
    from leeway_rl.common.tensors import flatten, tensors_of
    from leeway_rl.examples.one_process import sample_and_grade
    from leeway_rl.learner.flow.curriculum import load_curriculum
    from leeway_rl.learner.model import Policy
    from leeway_rl.learner.objective.advantage import is_trained
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.step import train_step
    from leeway_rl.rollout.torch_engine import TorchEngine
    from transformers import AutoTokenizer

    path = expand(config.model.path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    curriculum = load_curriculum(config, tokenizer)
    engine = TorchEngine(path, dtype=config.rollout.dtype, worker="benchmark", threads=1)
    policy, controller, number = Policy(config), ControllerState(), 0
    for version in range(steps):
        engine.load(version, tensors_of(flatten(policy.named_weights(), config.weights.dtype)))
        groups, rewards = [], []
        while len(groups) < config.train.groups_per_step:
            group = sample_and_grade(engine, tokenizer, curriculum.ticket(number, 0, min_version=version))
            number += 1
            rewards.append(float(group.rewards_S.mean()))
            if is_trained(group.rewards_S, group.responses.finished_S, config.objective):
                groups.append(group)
        result = train_step(policy, groups, version=version, controller=controller, config=config)
        controller = result.controller
        yield result.metrics | {"reward/mean": float(np.mean(rewards)), "groups_sampled": len(rewards)}


def make(run: Run, cores: Any) -> None:
    """Make one run on whichever of ``cores`` (a queue) is free."""
    core = cores.get()
    os.sched_setaffinity(0, {core})
    try:
        with run.path.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("step", *COLUMNS))
            for step, metrics in enumerate(training(run.config, run.steps)):
                rows.writerow((step, *(f"{metrics[column]:.6g}" for column in COLUMNS)))
                file.flush()
    finally:
        cores.put(core)


def make_missing(runs: list[Run]) -> None:
    """Make what is not whole, as many runs side by side as there are cores."""
    missing = [run for run in runs if run.made() != run.steps]
    for run in missing:
        run.path.unlink(missing_ok=True)
    spawn = multiprocessing.get_context("spawn")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(), TimeRemainingColumn())
    with spawn.Manager() as manager, Progress(*columns) as progress:
        cores = manager.Queue()
        for core in os.sched_getaffinity(0):
            cores.put(core)
        bar = progress.add_task("", total=sum(run.steps for run in missing))
        with ProcessPoolExecutor(cores.qsize(), mp_context=spawn, max_tasks_per_child=1) as pool:
            making = [pool.submit(make, run, cores) for run in missing]
            while wait(making, timeout=1).not_done:
                progress.update(bar, completed=sum(run.made() for run in missing))
        progress.update(bar, completed=sum(run.made() for run in missing))
        for future in making:
            future.result()


def table(runs: list[Run]) -> str:
    """The verdict on every run."""
    target = runs[0].config.entropy.target
    lines = ["control   seed  entropy: first  last third  of target  must be        holds  reward: last third"]
    for run in runs:
        first, last = run.series("entropy/policy")[0], run.last_third("entropy/policy")
        must = "below 50 %" if run.control == "none" else "80 to 120 %"
        verdict = "yes" if run.holds() else "NO"
        lines.append(
            f"{run.control:8}  {run.seed:4}  {first:14.3f}  {last:10.3f}  {last / target:9.0%}  "
            f"{must:13}  {verdict:5}  {run.last_third('reward/mean'):18.3f}"
        )
    return "\n".join(lines)


def draw(runs: list[Run], path: Path) -> None:
    """Entropy, coefficient and reward over the steps; a thin line a run, a thick one the mean over the seeds."""
    import matplotlib
    from leeway_rl.leeway.pictures import BLUE, DASHED, GREY, ORANGE, RED, SOFT, STYLE
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target, steps = runs[0].config.entropy.target, runs[0].steps
    panels = (
        ("Policy entropy, nats a token", "entropy/policy"),
        ("Reward, mean over all responses", "reward/mean"),
        ("Coefficient c of the controller", "entropy/coefficient"),
    )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4), layout="constrained")
        FigureCanvasAgg(figure)
        for ax, (title, column) in zip(figure.subplots(1, 3), panels, strict=True):
            ax.set_title(title, loc="left", size=11, weight="bold")
            for control, colour in (("none", ORANGE), ("adaptive", BLUE)):
                curves = [run.series(column) for run in runs if run.control == control]
                for curve in curves:
                    ax.plot(curve, color=colour, lw=0.8, alpha=0.4)
                ax.plot(np.mean(curves, axis=0), color=colour, lw=2, label=f'entropy.control = "{control}"')
            ax.axvspan(steps - steps // 3, steps - 1, color=GREY, alpha=0.16, lw=0)
            ax.set_xlabel("training step (grey: the last third)")
            ax.set_xlim(0, steps - 1)
            ax.set_ylim(bottom=0)
            if column == "entropy/policy":
                ax.axhline(target, color=RED, lw=1.3, ls=DASHED, label=f"target {target:g}, and 20 % around it")
                ax.axhspan(HELD[0] * target, HELD[1] * target, color=RED, alpha=0.08, lw=0)
                ax.axhline(COLLAPSED * target, color=SOFT, lw=1.1, ls=":", label="half the target")
                ax.set_ylim(0, 1.7 * target)
                ax.legend(loc="upper right")
        figure.savefig(path, dpi=130, metadata={"Software": None})


def main() -> None:
    """Make the runs, draw them, judge them; exit code 1 where a run does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/entropy-control"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=80)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [Run(control, seed, given.steps, given.out) for seed in given.seeds for control in CONTROLS]
    make_missing(runs)
    runs.sort(key=lambda run: (run.control != "none", run.seed))
    draw(runs, given.out / "entropy.png")
    print(table(runs))
    sys.exit(not all(run.holds() for run in runs))


if __name__ == "__main__":
    main()
