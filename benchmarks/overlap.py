"""Does the system hide the shorter of rollout and training? Timed runs at known, constant times.

::

    python benchmarks/overlap.py [--train-s 2] [--steps 24] [--side-by-side 8] [--out FOLDER]

One rollout worker generates a batch of B groups side by side in t_rollout seconds; the learner trains it in t_train.
At η = 0 they take turns, so that a step takes t_rollout + t_train; from η = 1 on it takes the longer of the two. What
is printed is the measured throughput as a share of that, for rollout that takes half of the training time, about as
long, and twice as long; with the pipeline depth that pacing finds and with every place of the bound filled.

Rates leave out the first and last η + 1 steps. What is lacking to 1 is what the system itself takes: issuing and
handing over groups, publishing and loading weights, books, checkpoints.

Must hold: at least 0.95 at η = 0, 0.97 above.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from leeway_rl.leeway.running.server import EmbeddedServer
from timed_roles import Times, runs
from whole_runs import measured

GROUPS = 8
"""B."""
RATIOS = (0.5, 0.9, 1.0, 1.1, 2.0)
"""t_rollout / t_train."""
TOKENS = 200
SETTINGS: tuple[tuple[int, int | str], ...] = ((0, "auto"), (1, "auto"), (1, 2 * GROUPS), (2, "auto"), (2, 3 * GROUPS))
"""(η, pipeline depth)."""
MUST = {0: 0.95, 1: 0.97, 2: 0.97}


def name(ratio: float, bound: int, depth: int | str) -> str:
    """The run's."""
    return f"overlap-{ratio:g}-{bound}-{depth}".replace(".", "_")


def main() -> None:
    """Print the table; exit with 1 if a share is below what must hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-s", type=float, default=2.0, help="t_train")
    parser.add_argument("--steps", type=int, default=24, help="training steps of each run")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="t_rollout / t_train")
    parser.add_argument("--bounds", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2], help="η")
    parser.add_argument("--side-by-side", type=int, default=8, help="runs at a time")
    parser.add_argument("--out", type=Path, help="keep the runs' folders here")
    given = parser.parse_args()
    settings = [(bound, depth) for bound, depth in SETTINGS if bound in given.bounds]
    wanted = {}
    for ratio in given.ratios:
        times = Times(length_mean=TOKENS, tokens_per_s=TOKENS / (ratio * given.train_s), train_s=given.train_s)
        for bound, depth in settings:
            wanted[name(ratio, bound, depth)] = (
                times,
                [
                    f"train.steps={given.steps}",
                    f"train.groups_per_step={GROUPS}",
                    f"flow.max_staleness={bound}",
                    f"flow.pipeline_depth={depth}",
                    f"rollout.concurrency={GROUPS}",
                ],
            )
    with ExitStack() as stack:
        folder = given.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(EmbeddedServer(folder / "redis")).url
        runs(url, folder, wanted, given.side_by_side)
        print(f"t_train {given.train_s:g} s, B = {GROUPS}, {given.steps} steps, {given.side_by_side} runs side by side")
        print(f"{'t_rollout':>9}  η  {'depth':>5}  {'ideal s':>8}  {'measured s':>10}  {'share':>6}  groups live  head")
        held = True
        for ratio in given.ratios:
            for bound, depth in settings:
                found = measured(folder / name(ratio, bound, depth))
                step_s = 3600 / found["steps_per_hour"]
                rollout_s = ratio * given.train_s
                ideal_s = max(rollout_s, given.train_s) if bound else rollout_s + given.train_s
                held &= ideal_s / step_s >= MUST[bound]
                print(
                    f"{rollout_s:8.1f}s  {bound}  {depth:>5}  {ideal_s:8.2f}  {step_s:10.3f}  {ideal_s / step_s:6.3f}  "
                    f"{found['depth_mean']:11.1f}  {found['head_mean']:4.2f}"
                )
        print("must hold: at least 0.95 at η = 0, 0.97 above")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
