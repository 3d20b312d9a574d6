"""What does one version of staleness buy? ``tiny``, real roles, at η = 0 and η = 1 in turns.

::

    python benchmarks/async_gain.py [--rounds 3] [--steps 24] [--set KEY=VALUE …] [--out FOLDER]

The learner has one core; rollout and verifier share the other. At η = 0 rollout and learner take turns: t_rollout is
what the learner then waits for a batch, generation, grading and hand-over together, and t_train the rest of the step.
With the same times side by side a step could take the longer of the two, so the most that η = 1 can gain is
(t_rollout + t_train) / max(t_rollout, t_train). The order turns from round to round.

Must hold: the measured gain is at least 0.9 of that. Steps at which both runs are warm are compared: the first two and
the last two are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from leeway_rl.common.metrics import read_steps
from leeway_rl.leeway.running.server import EmbeddedServer
from whole_runs import whole_run

WARM = 2


def mean(folder: Path, key: str) -> float:
    """A metric's mean over the steps that count."""
    return float(np.mean([line[key] for line in read_steps(folder)[WARM:-WARM]]))


def main() -> None:
    """Print a line a round and the ratio over all; exit with 1 if it is below 0.9."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="training steps of each run")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of both runs' configuration")
    parser.add_argument("--out", type=Path, help="keep the runs' folders here")
    given = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        parser.error("two cores are due, one for the learner and one for the others")
    cores = {"learner": first, "rollout": others[0], "verifier": others[0]}
    print("round  t_rollout  t_train  s/step η=0  s/step η=1    gain  allowed   share")
    totals = np.zeros(4)
    with ExitStack() as stack:
        folder = given.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(EmbeddedServer(folder / "redis")).url
        for number in range(given.rounds):
            done = {}
            for bound in (0, 1) if number % 2 == 0 else (1, 0):
                settings = [*given.set, f"train.steps={given.steps}", f"flow.max_staleness={bound}"]
                done[bound] = whole_run(url, folder / f"gain-{number}-{bound}", settings, cores=cores)
            serial_s, overlapped_s = (mean(done[bound], "time/step_s") for bound in (0, 1))
            rollout_s = mean(done[0], "time/wait_for_batch_s")
            times = np.array([rollout_s, serial_s - rollout_s, serial_s, overlapped_s])
            totals += times / given.rounds
            print(_line(str(number), times), flush=True)
    print(_line("mean", totals))
    print("must hold: share at least 0.9")
    sys.exit(0 if _share(totals) >= 0.9 else 1)


def _share(times: np.ndarray) -> float:
    rollout_s, train_s, serial_s, overlapped_s = times
    return float(serial_s / overlapped_s / ((rollout_s + train_s) / max(rollout_s, train_s)))


def _line(name: str, times: np.ndarray) -> str:
    rollout_s, train_s, serial_s, overlapped_s = times
    allowed = (rollout_s + train_s) / max(rollout_s, train_s)
    return (
        f"{name:>5}  {rollout_s:8.2f}s  {train_s:6.2f}s  {serial_s:10.2f}  {overlapped_s:10.2f}  "
        f"{serial_s / overlapped_s:6.2f}  {allowed:7.2f}  {_share(times):6.3f}"
    )


if __name__ == "__main__":
    main()
