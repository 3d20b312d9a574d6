"""Is ``leeway plan`` right? Measured runs beside what it says of them.

::

    python benchmarks/plan_against_runs.py [--only NAME …] [--side-by-side 4] [--step-s 1.5] [--out FOLDER]
    python benchmarks/plan_against_runs.py --of FOLDER…

Timed runs (``timed_roles.py``) differ in bound, policy, depth, lengths, workers, grading and rejection; real runs of
``tiny`` have the learner on one core and rollout and verifier on another, one run at a time. Each is planned twice:

``given``  from the times that a timed run was given: the plan as one makes it before there is a run.
``--from`` from the run's own folder, as ``leeway plan --from runs/ID`` does; of a real run also from the run ``real-0``
           at another bound: what would the run be at this one? (``real-0``).

With ``--of`` nothing is run: the folders of runs that are there are held against ``leeway plan --from`` each.

Must hold: steps an hour within 10 % (of a real run planned from another one: 15 %), mean head staleness within 0.3.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, load_of_this_machine, parser_of
from leeway_rl.benchmarks.timed_roles import BASE, Times, runs
from leeway_rl.benchmarks.whole_runs import measured, whole_run
from leeway_rl.common.config import compose
from leeway_rl.leeway.planning import calibrate
from leeway_rl.leeway.planning.plan import figures
from leeway_rl.leeway.planning.simulate import System, simulate

TOKENS = 200
COLUMNS = ("run:<38", "planned:<9", "steps/h:8.0f", "measured:9.0f", "error:+7.1%", "head:5.2f", "measured:9.2f")
COLUMNS = (*COLUMNS, "error:+6.2f")


def _settings(bound: int, overflow: str, depth: int | str, concurrency: int, *more: str) -> list[str]:
    return [
        "train.steps=60",
        "train.groups_per_step=16",
        f"flow.max_staleness={bound}",
        f"flow.overflow={overflow}",
        f"flow.pipeline_depth={depth}",
        f"rollout.concurrency={concurrency}",
        *more,
    ]


def timed_runs(step_s: float) -> dict[str, tuple[Times, list[str]]]:
    """Times and settings of the timed runs, in which training takes ``step_s``."""

    def times(rollout: float, sigma: float, **more: float) -> Times:
        """Groups of ``rollout`` training steps on average."""
        speed: dict[str, Any] = {"tokens_per_s": TOKENS / (rollout * step_s), "train_s": step_s, **more}
        return Times(length_mean=TOKENS, length_sigma=sigma, **speed)

    return {
        "on-policy": (times(0.5, 0.5, rejected=0.3), _settings(0, "wait", "auto", 16)),
        "wait-1": (times(0.7, 0.5), _settings(1, "wait", "auto", 64)),
        "wait-8-auto": (times(0.5, 0.25), _settings(8, "wait", "auto", 200)),
        "mask-2-auto": (times(1.0, 1.0), _settings(2, "mask", "auto", 64)),
        "drop-4-full": (times(1.0, 1.0), _settings(4, "drop", 80, 80)),
        "soft-2-busy": (times(0.6, 0.5), _settings(2, "soft", "auto", 4, "rollout.workers=2")),
        "graded": (times(0.4, 0.3, verify_s=0.04 * step_s, rejected=0.4), _settings(2, "mask", "auto", 64)),
    }


REAL: dict[str, list[str]] = {
    "real-0": ["train.steps=40", "flow.max_staleness=0"],
    "real-1": ["train.steps=40", "flow.max_staleness=1"],
    "real-2": ["train.steps=40", "flow.max_staleness=2", "flow.overflow=mask"],
    "real-4": ["train.steps=40", "flow.max_staleness=4", "flow.overflow=soft"],
}


def main() -> None:
    """Print the table; exit with 1 if a plan is too far off."""
    parser = parser_of(__doc__, side_by_side=4, out=f"{KEPT}; what is there is not run again")
    parser.add_argument("--only", nargs="+", choices=[*timed_runs(1.0), *REAL], help="settings to run; all by default")
    parser.add_argument("--of", nargs="+", type=Path, metavar="FOLDER", default=[], help="runs that are there")
    parser.add_argument("--step-s", type=float, default=1.5, help="training time of the timed runs")
    parser.add_argument("--steps", type=int, help="training steps of each run, where not as written here")
    given = parser.parse_args()
    if given.of:
        table = Table(*COLUMNS)
        held = [
            _compare(table, folder.name, "--from", calibrate.from_run(folder).system, folder) for folder in given.of
        ]
        sys.exit(0 if all(held) else 1)
    shorter = [] if given.steps is None else [f"train.steps={given.steps}"]
    every = timed_runs(given.step_s)
    only = given.only or [*every, *REAL]
    timed = {name: (times, [*how, *shorter]) for name, (times, how) in every.items() if name in only}
    real = {name: [*how, *shorter] for name, how in REAL.items() if name in only}
    with home_and_server(given.out) as (folder, url):
        missing = {name: what for name, what in timed.items() if not (folder / name).exists()}
        print(load_of_this_machine())
        runs(url, folder, missing, given.side_by_side)
        first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
        for name, how in real.items():
            if not (folder / name).exists():
                whole_run(url, folder / name, how, cores={"learner": first, "rollout": last, "verifier": last})
        table, plans = Table(*COLUMNS), _plans(folder, timed, real)
        held = [_compare(table, name, how, system, folder / name) for name, how, system in plans]
    print("must hold: steps/h within 10 % (planned from another run: 15 %), head staleness within 0.3")
    sys.exit(0 if all(held) else 1)


def _plans(
    folder: Path, timed: dict[str, tuple[Times, list[str]]], real: dict[str, list[str]]
) -> Iterator[tuple[str, str, System]]:
    """(run, what it is planned from, plan)."""
    for name, (times, settings) in timed.items():
        yield name, "given", times.system(compose(["tiny"], [*BASE, *settings]))
        yield name, "--from", calibrate.from_run(folder / name).system
    for name in real:
        own = calibrate.from_run(folder / name).system
        yield name, "--from", own
        if name != "real-0" and "real-0" in real:
            on_policy = calibrate.from_run(folder / "real-0").system
            yield (
                name,
                "real-0",
                replace(on_policy, max_staleness=own.max_staleness, overflow=own.overflow, steps=own.steps),
            )


def _compare(table: Table, name: str, how: str, system: System, folder: Path) -> bool:
    """Print a line; whether it holds."""
    planned, found = figures(simulate(system)), measured(folder)
    error = planned["steps_per_hour"] / found["steps_per_hour"] - 1
    older = planned["head_mean"] - found["head_mean"]
    rates = (planned["steps_per_hour"], found["steps_per_hour"], error)
    table.line(name, how, *rates, planned["head_mean"], found["head_mean"], older)
    return abs(error) <= (0.15 if how == "real-0" else 0.1) and abs(older) <= 0.3


if __name__ == "__main__":
    main()
