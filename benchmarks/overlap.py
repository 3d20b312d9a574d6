"""Does the system hide the shorter of rollout and training? Timed runs at known, constant times.

::

    python benchmarks/overlap.py [--train-s 2] [--steps 24] [--side-by-side 8] [--out FOLDER]

One rollout worker generates a batch of B groups side by side in t_rollout seconds; the learner trains it in t_train.
At η = 0 they take turns, so that a step takes t_rollout + t_train; from η = 1 on it takes the longer of the two. The
table has the measured throughput as a share of that, for rollout that takes half of the training time, about as long,
and twice as long; with the pipeline depth that pacing finds and with every place of the bound filled.

Rates leave out the first and last η + 1 steps. What is missing from 1 is the system's own cost: issuing and handing
over groups, publishing and loading weights, books, checkpoints.

Must hold: at least 0.95 at η = 0, 0.97 above.
"""

import sys

from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, load_of_this_machine, parser_of
from leeway_rl.benchmarks.timed_roles import Times, runs
from leeway_rl.benchmarks.whole_runs import measured

GROUPS = 8
"""B."""
RATIOS = (0.5, 0.9, 1.0, 1.1, 2.0)
"""Values of t_rollout / t_train."""
TOKENS = 200
SETTINGS: tuple[tuple[int, int | str], ...] = ((0, "auto"), (1, "auto"), (1, 2 * GROUPS), (2, "auto"), (2, 3 * GROUPS))
"""Pairs (η, pipeline depth)."""
LIVE = ("groups live:.1f", "head:.2f")
MUST = {0: 0.95, 1: 0.97, 2: 0.97}


def name(ratio: float, bound: int, depth: int | str) -> str:
    """The run's name."""
    return f"overlap-{ratio:g}-{bound}-{depth}".replace(".", "_")


def main() -> None:
    """Print the table; exit with 1 if a share is below what must hold."""
    parser = parser_of(__doc__, steps=24, side_by_side=8, out=KEPT)
    parser.add_argument("--train-s", type=float, default=2.0, help="t_train")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="t_rollout / t_train")
    parser.add_argument("--bounds", type=int, nargs="+", default=[0, 1, 2], choices=[0, 1, 2], help="η")
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
    with home_and_server(given.out) as (folder, url):
        print(load_of_this_machine())
        runs(url, folder, wanted, given.side_by_side)
        print(f"t_train {given.train_s:g} s, B = {GROUPS}, {given.steps} steps, {given.side_by_side} runs side by side")
        table = Table("t_rollout s:.1f", "η:d", "depth:>", "ideal s:.2f", "measured s:.3f", "share:6.3f", *LIVE)
        held = True
        for ratio in given.ratios:
            for bound, depth in settings:
                found = measured(folder / name(ratio, bound, depth))
                step_s = 3600 / found["steps_per_hour"]
                rollout_s = ratio * given.train_s
                ideal_s = max(rollout_s, given.train_s) if bound else rollout_s + given.train_s
                held &= ideal_s / step_s >= MUST[bound]
                live = (found["depth_mean"], found["head_mean"])
                table.line(rollout_s, bound, str(depth), ideal_s, step_s, ideal_s / step_s, *live)
        print("must hold: at least 0.95 at η = 0, 0.97 above")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
