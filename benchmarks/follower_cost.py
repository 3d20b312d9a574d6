"""Does training wait for an evaluation beside it? ``tiny``, real roles, without and with a follower, in turns.

::

    python benchmarks/follower_cost.py [--rounds 3] [--steps 40] [--every 1] [--problems 32] [--out FOLDER]

Learner, rollout, verifier and the server share the first core; the follower (``leeway eval follow``, with its own
server, rollout and verifier workers) has the second. It evaluates without a pause: with ``--every 1`` the next version
is due as soon as one is done. The order turns from round to round.

Must hold: steps a second with a follower are at least 0.95 of those without. The first two and the last two steps of
each run are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from leeway_rl.common.config import PRESETS
from leeway_rl.common.metrics import read_steps
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.leeway.running.server import EmbeddedServer
from whole_runs import whole_run

WARM = 2


def steps_per_s(folder: Path) -> float:
    """Over the steps that count."""
    return float(1 / np.mean([line["time/step_s"] for line in read_steps(folder)[WARM:-WARM]]))


def follower(url: str, folder: Path, core: int, every: int, problems: Path) -> subprocess.Popen[str]:
    """Follow the run ``folder.name`` on ``core``; it must be stored in the Redis at ``url``."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "leeway_rl.leeway.cli", "eval", str(problems)]
    command += ["--follow", folder.name, "--redis-url", url, "--every", str(every), "--responses", "4"]
    command += ["--max-tokens", "64", "--max-prompt-tokens", "32", "--out", str(folder / "evaluations" / "follow")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def followed_run(
    url: str, folder: Path, settings: list[str], cores: tuple[int, int], every: int, problems: Path
) -> int:
    """A run with a follower beside it; how many versions were evaluated."""
    queue, started = DeskQueue(Connection(url, folder.name)), list[subprocess.Popen[str]]()
    ended = threading.Event()

    def when_stored() -> None:
        while not queue.has_run():
            if ended.wait(0.05):
                return
        started.append(follower(url, folder, cores[1], every, problems))

    thread = threading.Thread(target=when_stored)
    thread.start()
    try:
        whole_run(url, folder, settings, cores=dict.fromkeys(("learner", "rollout", "verifier"), cores[0]))
        said, _ = started[0].communicate(timeout=600)
        if started[0].returncode:
            raise RuntimeError(f"the follower ended with code {started[0].returncode}:\n{said[-2000:]}")
    finally:
        ended.set()
        thread.join()
        for process in started:
            process.terminate()
            process.wait()
        queue.close()
    lines = (folder / "evaluations" / "follow" / "evaluations.jsonl").read_text().splitlines()
    return len({json.loads(line)["version"] for line in lines})


def main() -> None:
    """Print a line a round and the ratio of the means; exit with 1 if it is below 0.95."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="training steps of each run")
    parser.add_argument("--every", type=int, default=1, help="versions from one evaluation to the next, at least")
    parser.add_argument("--problems", type=int, default=32, help="of 4 responses each, a version")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all runs' configuration")
    parser.add_argument("--out", type=Path, help="keep the runs' folders here")
    given = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others or shutil.which("taskset") is None:
        parser.error("two cores and taskset are due")
    os.sched_setaffinity(0, {first})  # the server and what is forked from here too
    settings = [*given.set, f"train.steps={given.steps}"]
    rates: dict[bool, list[float]] = {False: [], True: []}
    print("round  steps/s alone  steps/s followed   ratio  versions evaluated")
    with ExitStack() as stack:
        folder = given.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(EmbeddedServer(folder / "redis")).url
        problems = folder / "sums.jsonl"
        lines = (PRESETS / "tiny" / "addition.jsonl").read_text().splitlines(keepends=True)
        problems.write_text("".join(lines[-given.problems :]))
        for number in range(given.rounds):
            evaluated = 0
            for followed in (False, True) if number % 2 == 0 else (True, False):
                run = folder / f"cost-{number}-{'followed' if followed else 'alone'}"
                if followed:
                    evaluated = followed_run(url, run, settings, (first, others[0]), given.every, problems)
                else:
                    whole_run(url, run, settings, cores=dict.fromkeys(("learner", "rollout", "verifier"), first))
                rates[followed].append(steps_per_s(run))
            alone, beside = rates[False][-1], rates[True][-1]
            print(f"{number:>5}  {alone:13.3f}  {beside:16.3f}  {beside / alone:6.3f}  {evaluated:18}", flush=True)
    ratio = float(np.mean(rates[True]) / np.mean(rates[False]))
    print(f"ratio of the means {ratio:.3f}; must hold: at least 0.95")
    sys.exit(0 if ratio >= 0.95 else 1)


if __name__ == "__main__":
    main()
