"""What does one version of staleness buy? ``tiny``, real roles, at η = 0 and η = 1 in turns.

::

    python benchmarks/async_gain.py [--rounds 3] [--steps 24] [--set KEY=VALUE …] [--out FOLDER]

The learner has one core; rollout and verifier share the other. At η = 0 rollout and learner take turns: t_rollout is
how long the learner then waits for a batch (generation, grading and hand-over together), and t_train is the rest of the
step. Side by side, a step could take the longer of the two times, so the most that η = 1 can gain is (t_rollout +
t_train) / max(t_rollout, t_train). The order of the two turns from round to round.

Must hold: the measured gain is at least 0.9 of that. Steps at which both runs are warm are compared: the first two and
the last two are left out.
"""

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, in_turns, load_of_this_machine, parser_of
from leeway_rl.benchmarks.whole_runs import whole_run
from leeway_rl.common.metrics import read_steps

WARM = 2
TIMES = ("t_rollout s:.2f", "t_train s:.2f", "s/step η=0:.2f", "s/step η=1:.2f")
GAINS = ("gain:6.2f", "allowed:.2f", "share:6.3f")


def mean(folder: Path, key: str) -> float:
    """A metric's mean over the steps that count."""
    return float(np.mean([line[key] for line in read_steps(folder)[WARM:-WARM]]))


def main() -> None:
    """Print a line a round and the ratio over all; exit with 1 if it is below 0.9."""
    parser = parser_of(__doc__, rounds=3, steps=24, settings=True, out=KEPT)
    given = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        parser.error("this takes two cores, one for the learner and one for the others")
    cores = {"learner": first, "rollout": others[0], "verifier": others[0]}
    totals = np.zeros(4)
    with home_and_server(given.out) as (folder, url):

        def run(bound: int, number: int) -> Path:
            settings = [*given.set, f"train.steps={given.steps}", f"flow.max_staleness={bound}"]
            return whole_run(url, folder / f"gain-{number}-{bound}", settings, cores=cores)

        print(load_of_this_machine())
        table = Table("round", *TIMES, *GAINS)
        ways = {bound: partial(run, bound) for bound in (0, 1)}
        for number, done in enumerate(in_turns(given.rounds, ways)):
            serial_s, overlapped_s = (mean(done[bound], "time/step_s") for bound in (0, 1))
            rollout_s = mean(done[0], "time/wait_for_batch_s")
            times = np.array([rollout_s, serial_s - rollout_s, serial_s, overlapped_s])
            totals += times / given.rounds
            table.line(str(number), *times, *_gains(times))
        table.line("mean", *totals, *_gains(totals))
    print("must hold: share at least 0.9")
    sys.exit(0 if _gains(totals)[-1] >= 0.9 else 1)


def _gains(times: np.ndarray) -> tuple[float, float, float]:
    """(the gain, the most that it could be, the first as a share of the second)."""
    rollout_s, train_s, serial_s, overlapped_s = map(float, times)
    gain, allowed = serial_s / overlapped_s, (rollout_s + train_s) / max(rollout_s, train_s)
    return gain, allowed, gain / allowed


if __name__ == "__main__":
    main()
