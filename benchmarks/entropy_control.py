"""What adaptive entropy control (report 3.2) holds where a batch serves four SGD updates, and what it costs in reward.

::

    python benchmarks/entropy_control.py [--out FOLDER] [--seeds 0 1 2] [--steps 80]

Preset ``tiny`` runs at (N_SGD, D_R, D_T, N_reuse) = (4, 16, 4, 1), once with ``entropy.control = "none"`` and once as
it ships, ``adaptive``. Each run is the loop of ``leeway_rl/studies``, the learner's own step in one process on a core
of its own; nothing but the control differs between the two runs of a seed, and a run's numbers do not depend on what
runs beside it. Writes a CSV a run and ``entropy.png``. A run whose CSV is whole is not made again.

Must hold, in the mean over the last third of the steps, for every seed: with control the entropy is within 20 % of the
target, without it below half of the target.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from leeway_rl.benchmarks.measure import Table, parser_of
from leeway_rl.common.config import compose
from leeway_rl.studies.runner import Run, make_missing
from leeway_rl.studies.verdict import last_third

BASE = ["train.minibatch_groups=4"]
CONTROLS = ("none", "adaptive")
VERDICT = ("must be:<11", "holds", "reward last third:.3f")
HELD, COLLAPSED = (0.8, 1.2), 0.5
"""Shares of the target: the controlled entropy must lie between the first two, the other one below the last."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the runs, and what it has to show."""

    control: str
    seed: int
    run: Run

    @classmethod
    def of(cls, control: str, seed: int, steps: int, folder: Path) -> Trial:
        config = compose(["tiny"], [*BASE, f"entropy.control={control}", f"flow.seed={seed}"])
        return cls(control, seed, Run(config=config, steps=steps, path=folder / f"{control}-{seed}.csv"))

    def last_third(self, column: str) -> float:
        return last_third(self.run.series(column))

    def holds(self) -> bool:
        share = self.last_third("entropy/policy") / self.run.config.entropy.target
        return share < COLLAPSED if self.control == "none" else HELD[0] <= share <= HELD[1]


def judge(trials: list[Trial]) -> None:
    """Print the verdict on every run."""
    target = trials[0].run.config.entropy.target
    table = Table("control", "seed:d", "entropy first:.3f", "last third:.3f", "of target:.0%", *VERDICT)
    for trial in trials:
        first, last = trial.run.series("entropy/policy")[0], trial.last_third("entropy/policy")
        must = "below 50 %" if trial.control == "none" else "80 to 120 %"
        verdict = "yes" if trial.holds() else "NO"
        reward = trial.last_third("reward/mean")
        table.line(trial.control, trial.seed, first, last, last / target, must, verdict, reward)


def draw(trials: list[Trial], path: Path) -> None:
    """Draw entropy, coefficient and reward over the steps: a thin line for each run, a thick one for the mean over the
    seeds."""
    import matplotlib
    from leeway_rl.leeway.reporting.drawing import BLUE, DASHED, GREY, ORANGE, RED, SOFT, STYLE
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target, steps = trials[0].run.config.entropy.target, trials[0].run.steps
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
                curves = [trial.run.series(column) for trial in trials if trial.control == control]
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
    parser = parser_of(__doc__, steps=80)
    parser.add_argument("--out", type=Path, default=Path("runs/entropy-control"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    trials = [Trial.of(control, seed, given.steps, given.out) for seed in given.seeds for control in CONTROLS]
    make_missing([trial.run for trial in trials])
    trials.sort(key=lambda trial: (trial.control != "none", trial.seed))
    draw(trials, given.out / "entropy.png")
    judge(trials)
    sys.exit(not all(trial.holds() for trial in trials))


if __name__ == "__main__":
    main()
