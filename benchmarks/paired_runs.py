"""Whether a command of Leeway is as fast as in another checkout: pairs of runs, in turns.

::

    python benchmarks/paired_runs.py [--rounds 3] OTHER up --preset tiny

OTHER is the folder of another checkout; what comes after it is what ``leeway`` would take. ``--runs-dir`` is added, a
new folder for each run. Both checkouts run in this environment. For each run the table has the seconds that it took and
the seconds of the processor of all its processes. Where it left the metrics of training steps, there are also the
seconds until the end of the first one, and of the others the mean seconds, in all and of the learner's idle time for a
version. That is ``time/publish_s``: on the step, all of publishing; beside the next step, the copy of the weights and
the wait for the version before. Must hold: the 95 % interval of each mean ratio, ours to the other's, begins at 1.0 at
most.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.benchmarks.paired_grading import interval
from leeway_rl.common.metrics import read_steps

MAIN = "from leeway_rl.leeway.cli import main; main()"
NAMES = "in all", "processor", "first step", "a step", "idle for a version"


def run(home: Path, arguments: list[str], runs: Path) -> list[float]:
    """Run the command with the ``leeway_rl`` in ``home``: its seconds under the names of ``NAMES``, as far as known."""
    command = [sys.executable, "-c", MAIN, *arguments, "--runs-dir", str(runs)]
    started, began = time.perf_counter(), time.time()
    with (runs.parent / f"{runs.name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(home)}, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    found = [time.perf_counter() - started, used.ru_utime + used.ru_stime]
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(
            f"exit code {process.returncode} of leeway {' '.join(arguments)}\n{Path(log.name).read_text()}"
        )
    steps = [line for path in runs.glob("*/metrics.jsonl") for line in read_steps(path.parent)]
    if len(steps) > 1:
        found += [steps[0]["at"] - began]
        found += [statistics.fmean(line[key] for line in steps[1:]) for key in ("time/step_s", "time/publish_s")]
    return found


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("other", type=Path, metavar="OTHER", help="folder of the other checkout")
    parser.add_argument("--warm-up", type=int, default=1, help="pairs that come first and are not counted")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="of leeway, with its options")
    given = parser.parse_args()
    print(load_of_this_machine())
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"other": given.other, "ours": Path(__file__).resolve().parent.parent}
        for name, checkout in checkouts.items():
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "leeway_rl").symlink_to(checkout.resolve(), target_is_directory=True)
        table = Table("round", "checkout", *(f"{name}, s:9.3f" for name in NAMES))
        ratios: list[list[float]] = []

        def one_of(name: str, number: int) -> list[float]:
            home = Path(folder) / name
            return run(home, given.command, home / f"runs{number}")

        ways = {name: partial(one_of, name) for name in checkouts}
        for number, found in enumerate(in_turns(given.rounds, ways, warm_up=given.warm_up)):
            for name in checkouts:
                table.line(str(number), name, *found[name])
            ratios.append([ours / other for ours, other in zip(found["ours"], found["other"], strict=True)])
    for name, of in zip(NAMES, zip(*ratios, strict=True), strict=False):
        lowest, mean, highest = interval(list(of))
        holds = "holds" if lowest <= 1.0 else "DOES NOT HOLD"
        print(f"{name}: ratio {mean:.3f}, 95 % interval {lowest:.3f} to {highest:.3f} over {len(of)} pairs: it {holds}")


if __name__ == "__main__":
    main()
