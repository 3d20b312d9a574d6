"""Does anything leak? A long run at the fastest setting; memory, file descriptors and Redis sampled all along.

::

    python tests/proofs/soak.py [--groups 20000] [--hours 2] [--work timed|real] [--out runs/soak]

A run of real roles over a real server, one learner, two rollout workers and a verifier, to so many trained groups or
for so many hours, whichever comes first. ``timed``: models and graders are replaced by ones that take no time
(``timed_roles.py``), so that queues, books, weights, checkpoints and ledger pass as many groups as they can; a fifth of
the groups is refunded. ``real``: the ``tiny`` preset as it is, with smaller groups.

Every ``--every`` seconds a line goes to ``soak.csv``. For every role it has the resident memory and the open file
descriptors, children included; for the server it has the resident memory, the file descriptors, the bytes that it says
it has allocated, and the number of keys. ``soak.png`` draws them.

Must hold, for each: the median over the last third of the run is not above that over the second third, but for a
tolerance. The first third is left out, in which caches and allocators fill and streams with a cap reach it. For
resident memory the tolerance is 1 % and 4 MiB: glibc's arenas, one a thread, grow and shrink by pages, so that the
resident size of a flat Python process wanders by a few MiB. At 20,000 groups a leak of 700 bytes a group is above it.
For what the server says it has allocated, which counts bytes, it is 5 % and 256 KiB; for descriptors 8 (connections
that are opened anew); for keys 600, what a checkpoint lets go at once (three of each of its 200 groups).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
from leeway_rl.benchmarks.measure import Table, home_and_server, parser_of
from leeway_rl.benchmarks.timed_roles import BASE, Times, timed
from leeway_rl.benchmarks.whole_runs import real, whole_run
from leeway_rl.common.ledger import is_complete
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.leeway.proving.audit import audit

GROUPS = 8
"""B."""
MIB = 1 << 20
TIMES = Times(length_mean=8, length_sigma=0.5, tokens_per_s=1e5, train_s=0.0, rejected=0.2)
COMMON = [f"train.groups_per_step={GROUPS}", "train.checkpoint_every=25", "rollout.workers=2"]
SETTINGS = {
    "timed": [*BASE, *COMMON, "flow.max_staleness=2", "rollout.concurrency=8"],
    "real": [*COMMON, "train.group_size=4", "train.max_response_tokens=32"],
}
TOLERANCES = {"rss": (0.01, 4 * MIB), "allocated": (0.05, MIB / 4), "fds": (0.0, 8.0), "keys": (0.0, 600.0)}
"""The tolerance of each measure: a share, and a number that is added to it."""
EVERYBODY = {f"{who}.rss" for who in ("learner", "rollout-0", "rollout-1", "verifier", "server")}
Sample = dict[str, float]


def sample(run: DeskQueue, folder: Path) -> Sample:
    """Everything that is measured now, by ``WHO.MEASURE``; ``groups`` are those trained so far."""
    found = {"at_s": time.time(), "groups": float(run.state().get("version", 0)) * GROUPS}
    roles = sorted(path.stem for path in folder.glob("*-*.log"))
    counts: dict[str, int] = {}
    for stem in roles:  # ROLE-PID
        role, _, pid = stem.rpartition("-")
        counts[role] = counts.get(role, -1) + 1
        found |= _process(int(pid), f"{role}-{counts[role]}" if role == "rollout" else role)
    redis = run.connection.redis
    found |= _process(redis.info("server")["process_id"], "server")
    memory, keys = redis.info("memory"), redis.dbsize()
    return found | {"server.allocated": memory["used_memory"], "server.keys": keys}


def _process(pid: int, who: str) -> Sample:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        rss = sum(each.memory_info().rss for each in family)
        return {f"{who}.rss": rss, f"{who}.fds": sum(each.num_fds() for each in family)}
    except psutil.Error:  # it has just ended
        return {}


def watched(url: str, folder: Path, given: argparse.Namespace) -> list[Sample]:
    """Make the run in ``folder`` and sample it until it ends."""
    work, stopping = (partial(timed, TIMES) if given.work == "timed" else real), threading.Event()
    settings = [*SETTINGS[given.work], f"train.steps={given.groups // GROUPS}"]
    failed: list[BaseException] = []

    def run() -> None:
        try:
            whole_run(url, folder, settings, work_of=work, stopping=stopping)
        except BaseException as error:
            failed.append(error)

    running = threading.Thread(target=run)
    began, samples = time.time(), list[Sample]()
    running.start()
    queue = DeskQueue(Connection(url, folder.name))
    with (given.out / "soak.csv").open("w", newline="") as file:
        writer = None
        while running.is_alive():
            running.join(given.every)
            now = sample(queue, folder)
            if now["groups"] == 0 or EVERYBODY - now.keys():
                continue  # starting, or leaving
            now["at_s"] -= began
            samples.append(now)
            if writer is None:
                writer = csv.DictWriter(file, list(now))
                writer.writeheader()
            writer.writerow({name: round(value, 1) for name, value in now.items()})
            file.flush()
            if now["at_s"] > 3600 * given.hours:
                stopping.set()
    queue.close()
    if failed and not stopping.is_set():
        raise failed[0]
    account = audit(folder / "ledger.jsonl", unfinished=not is_complete(folder))
    print(account.describe())
    return samples


def judged(samples: list[Sample]) -> list[tuple[str, float, float, float, bool]]:
    """For each measure: (name, median over the second third, over the last third, tolerance, whether it holds)."""
    last = samples[-1]["groups"]
    second, third = (
        [each for each in samples if low * last < each["groups"] <= high * last]
        for low, high in ((1 / 3, 2 / 3), (2 / 3, 1))
    )
    rows = []
    for name in samples[0]:
        if "." not in name:
            continue
        before, after = (statistics.median(each[name] for each in part) for part in (second, third))
        share, beside = TOLERANCES[name.rpartition(".")[2]]
        tolerance = share * before + beside
        rows.append((name, before, after, tolerance, after - before <= tolerance))
    return rows


def draw(samples: list[Sample], path: Path) -> None:
    """Draw each measure over the groups trained; memory is drawn as the difference to its median in the second
    third."""
    from leeway_rl.leeway.reporting.drawing import STYLE
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(9, 7), layout="constrained")
        FigureCanvasAgg(figure)
        groups, last = [each["groups"] for each in samples], samples[-1]["groups"]
        axes = figure.subplots(3, 1, sharex=True)
        for ax, measures, title in (
            (axes[0], ("rss",), "resident memory, MiB"),
            (axes[1], ("allocated",), "what the server has allocated, MiB"),
            (axes[2], ("fds", "keys"), "open file descriptors; the server's keys"),
        ):
            for name in [each for each in samples[0] if each.rpartition(".")[2] in measures]:
                unit = MIB if ax is not axes[2] else 1
                ax.plot(groups, [each[name] / unit for each in samples], lw=1.2, label=name.replace(".rss", ""))
            ax.set_title(title)
            ax.set_ylim(bottom=0)
            ax.axvspan(last / 3, 2 * last / 3, color="0.5", alpha=0.10, lw=0)
            ax.axvspan(2 * last / 3, last, color="0.5", alpha=0.22, lw=0)
            ax.legend(loc="lower left", ncols=3)
        axes[2].set_xlabel("groups trained (grey: the second third, and the last, which is held against it)")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Run, print a table, draw; exit with 1 where something grew."""
    parser = parser_of(__doc__)
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--work", choices=["timed", "real"], default="timed")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between samples")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="where soak.csv and soak.png go")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with home_and_server() as (folder, url):
        samples = watched(url, folder / "soak", given)
    rows = judged(samples)
    print(f"{samples[-1]['groups']:.0f} groups in {samples[-1]['at_s']:.0f} s, {len(samples)} samples")
    table = Table("measure:<18", "second third:>", "last third:>", "difference:>12", "tolerance:>12", "")
    for name, before, after, tolerance, holds in rows:
        unit, digits = (MIB, 2) if name.endswith(("rss", "allocated")) else (1, 0)
        numbers = [f"{value / unit:,.{digits}f}" for value in (before, after, after - before, tolerance)]
        table.line(name, *numbers, "" if holds else "GREW")
    print("memory in MiB; medians")
    draw(samples, given.out / "soak.png")
    sys.exit(0 if all(holds for *_, holds in rows) else 1)


if __name__ == "__main__":
    main()
