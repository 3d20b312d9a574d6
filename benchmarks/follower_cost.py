"""Does training wait for an evaluation beside it? ``tiny``, real roles, without and with a follower, in turns.

::

    python benchmarks/follower_cost.py [--rounds 3] [--steps 40] [--every 1] [--problems 32] [--out FOLDER]

Learner, rollout, verifier and the server share the first core; the follower (``leeway eval follow``, with its own
server, rollout and verifier workers) has the second. It evaluates without a pause: with ``--every 1`` the next version
is due as soon as one is done. The order turns from round to round.

Must hold: steps a second with a follower are at least 0.95 of those without. The first two and the last two steps of
each run are left out.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, in_turns, load_of_this_machine, parser_of
from leeway_rl.benchmarks.whole_runs import whole_run
from leeway_rl.common.config import PRESETS
from leeway_rl.common.metrics import read_steps
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue

WARM = 2


def steps_per_s(folder: Path) -> float:
    """Training steps a second, over the steps that count."""
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
    """Make a run with a follower beside it; returns steps a second and how many versions were evaluated."""
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
    parser = parser_of(__doc__, rounds=3, steps=40, settings=True, out=KEPT)
    parser.add_argument("--every", type=int, default=1, help="versions from one evaluation to the next, at least")
    parser.add_argument("--problems", type=int, default=32, help="of 4 responses each, a version")
    given = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others or shutil.which("taskset") is None:
        parser.error("this takes two cores and taskset")
    os.sched_setaffinity(0, {first})  # the server and what is forked from here too
    settings = [*given.set, f"train.steps={given.steps}"]
    rates = []
    with home_and_server(given.out) as (folder, url):
        problems = folder / "sums.jsonl"
        lines = (PRESETS / "tiny" / "addition.jsonl").read_text().splitlines(keepends=True)
        problems.write_text("".join(lines[-given.problems :]))

        def alone(number: int) -> tuple[float, int]:
            run = folder / f"cost-{number}-alone"
            whole_run(url, run, settings, cores=dict.fromkeys(("learner", "rollout", "verifier"), first))
            return steps_per_s(run), 0

        def followed(number: int) -> tuple[float, int]:
            run = folder / f"cost-{number}-followed"
            evaluated = followed_run(url, run, settings, (first, others[0]), given.every, problems)
            return steps_per_s(run), evaluated

        print(load_of_this_machine())
        table = Table("round:d", "steps/s alone:.3f", "steps/s followed:.3f", "ratio:6.3f", "versions evaluated:d")
        for number, found in enumerate(in_turns(given.rounds, {"alone": alone, "followed": followed})):
            (by_itself, _), (beside, evaluated) = found["alone"], found["followed"]
            table.line(number, by_itself, beside, beside / by_itself, evaluated)
            rates.append((by_itself, beside))
    by_itself, beside = np.mean(rates, axis=0)
    ratio = float(beside / by_itself)
    print(f"ratio of the means {ratio:.3f}; must hold: at least 0.95")
    sys.exit(0 if ratio >= 0.95 else 1)


if __name__ == "__main__":
    main()
