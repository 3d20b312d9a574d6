"""What do the overflow policies cost? The design's table as measured runs, beside what ``leeway plan`` says of them.

::

    python benchmarks/overflow_policies.py [--train-s 2] [--steps 80] [--side-by-side 6] [--bounds 1 2 4] [--out FOLDER]

Group times are lognormal, σ = 1, with a mean of one training step; B = 32, every place of the bound filled, weights in
flight. Real server, roles and books; engine, graders and training step are timed waits (``timed_roles.py``). Ticket by
ticket, plan and run see the same group times.

Throughput is the share of a learner that never waits. Must hold: ``mask`` at η = 2 has at least 0.97 of ``soft``'s
throughput, trains no token past the bound, and responses of at least 0.97 of the generated length.
"""

import sys
from typing import get_args

from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, load_of_this_machine, parser_of
from leeway_rl.benchmarks.timed_roles import BASE, Times, runs
from leeway_rl.benchmarks.whole_runs import measured
from leeway_rl.common.config import Overflow, compose
from leeway_rl.leeway.planning.plan import figures
from leeway_rl.leeway.planning.simulate import simulate

GROUPS = 32
"""B."""
TOKENS = 200
COLUMNS = (
    ("throughput:.3f", "throughput"),
    ("head:.2f", "head_mean"),
    ("worst:.0f", "head_max"),
    ("expired:.1%", "expired_share"),
    ("masked:.1%", "masked_share"),
    ("groups past:.1%", "groups_past_share"),
    ("past trained:.0f", "tokens_trained_past_bound"),
    ("length:.3f", "length_trained_over_generated"),
)


def settings(bound: int, overflow: str, steps: int) -> list[str]:
    """A run's configuration."""
    places = (bound + 1) * GROUPS
    return [
        f"train.steps={steps}",
        f"train.groups_per_step={GROUPS}",
        f"flow.max_staleness={bound}",
        f"flow.overflow={overflow}",
        f"flow.pipeline_depth={places}",
        f"rollout.concurrency={places}",
    ]


def main() -> None:
    """Print the table; exit with 1 if ``mask`` does not hold what it must."""
    parser = parser_of(__doc__, steps=80, seed=0, side_by_side=6, out=KEPT)
    parser.add_argument("--train-s", type=float, default=2.0, help="a training step, and the mean of group times")
    parser.add_argument("--bounds", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--policies", nargs="+", default=get_args(Overflow), choices=get_args(Overflow))
    given = parser.parse_args()
    times = Times(
        length_mean=TOKENS,
        length_sigma=1.0,
        tokens_per_s=TOKENS / given.train_s,
        train_s=given.train_s,
        seed=given.seed,
    )
    # Longest first: wait pays with time.
    grid = [(bound, overflow) for overflow in given.policies for bound in given.bounds]
    with home_and_server(given.out) as (folder, url):
        wanted = {f"{policy}-{bound}": (times, settings(bound, policy, given.steps)) for bound, policy in grid}
        print(load_of_this_machine())
        folders = dict(zip(grid, runs(url, folder, wanted, given.side_by_side), strict=True))
        found = {}
        print(
            f"t_train {given.train_s:g} s, {given.steps} steps, {given.side_by_side} runs at a time, seed {given.seed}"
        )
        table = Table("η", "overflow:<8", ":<9", *(column for column, _ in COLUMNS))
        for bound, policy in sorted(grid):
            config = compose(["tiny"], [*BASE, *settings(bound, policy, given.steps)])
            found[bound, policy] = measured(folders[bound, policy])
            rows = {"measured": found[bound, policy], "planned": figures(simulate(times.system(config)))}
            for which, row in rows.items():
                row["throughput"] = row["steps_per_hour"] / 3600 * given.train_s
                table.line(str(bound), policy, which, *(row[key] for _, key in COLUMNS))
    compared = {(2, "mask"), (2, "soft")} <= set(grid)
    sys.exit(0 if not compared or _holds(found[2, "mask"], found[2, "soft"]) else 1)


def _holds(mask: dict[str, float], soft: dict[str, float]) -> bool:
    share = mask["throughput"] / soft["throughput"]
    past, length = mask["tokens_trained_past_bound"], mask["length_trained_over_generated"]
    print(f"mask at η = 2: {share:.3f} of soft's throughput (at least 0.97), length {length:.3f} (at least 0.97),")
    print(f"{past:.0f} tokens past the bound trained (0); the audit of every run passed")
    return share >= 0.97 and past == 0 and length >= 0.97


if __name__ == "__main__":
    main()
