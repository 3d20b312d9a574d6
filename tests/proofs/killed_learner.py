"""The learner is killed at every point where it commits something: does the run that goes on end as one left alone?

::

    python tests/proofs/killed_learner.py [--every 1] [--only TEXT] [--side-by-side 6]

One run at η = 0 is left alone, and every write of its learner is noted: lines of the ledger, requests that change
Redis, files opened for writing, renamed, removed. Then for every such point a run is made whose learner is killed there
by SIGKILL, before the write and, where a write has a middle (a line, a file, a pipeline of requests), in the middle of
it. A learner in a process of its own goes on from what is left; every other time Redis has been emptied in between. In
further runs the learner that goes on is killed as well, at each of *its* points.

The learner is the real one, from its command on, and so are the loops of rollout and verifier. Only the model is
replaced: the weights are a digest of everything that was trained, in order, and responses are drawn from ticket and
weights. So a group that was trained twice, out of order, or with another version's weights would change every bit after
it.

Must hold: the audit passes, and the last published weights are those of the run left alone. What a crash of the whole
machine leaves of files that were not forced to disk is not tried.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from leeway_rl.benchmarks.measure import home_and_server, parser_of
from leeway_rl.benchmarks.timed_roles import BASE
from leeway_rl.benchmarks.whole_runs import HEAVY
from leeway_rl.common import address
from leeway_rl.common.appending import Appending
from leeway_rl.common.config import Config, compose, dump
from leeway_rl.common.ledger import Ledger, published_checksum
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.role import run_role
from leeway_rl.common.service import Service
from leeway_rl.leeway.proving.audit import audit
from leeway_rl.tests.proofs.digest_roles import DigestEngine, DigestPolicy, DigestPool, digest_step

SETTINGS = [
    *BASE,
    *("train.steps=3", "train.groups_per_step=2", "train.checkpoint_every=1", "train.keep_checkpoints=1"),
    *("flow.max_staleness=0", "weights.keyframe_every=2", "rollout.concurrency=2", "broker.lease_s=1"),
    "train.max_response_tokens=64",  # what the model has room for: the learner looks before it starts
]
VIEWS = ("heartbeat", "watch", "metrics", "samples")
"""Threads whose writes do not count as commits."""
CHANGE = {"SET", "SETNX", "INCR", "DEL", "UNLINK", "XADD", "XACK", "XDEL", "HSET", "EVALSHA", "XGROUP CREATE"}
LIFE_S = 200.0
Point = tuple[str, int, bool]
"""(what is written, the number of such writes so far, whether the write is cut in its middle)."""


# --- death ------------------------------------------------------------------------------------------------------------


class Death:
    """In a learner's process: notes every point in ``trace``, and sends SIGKILL to the process at ``at``."""

    def __init__(self, folder: Path, trace: Path, at: Point | None) -> None:
        self.at, self._seen, self._folder = at, Counter[str](), str(folder)
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._lock = threading.RLock()  # half of a write goes through here again

    def point(self, what: str, middle: Callable[[], object] | None = None) -> None:
        """Called before every write; ``middle`` makes half of the write."""
        if threading.current_thread().name in VIEWS:
            return
        with self._lock:
            if self._seen["died"]:
                return
            self._seen[what] += 1
            os.write(self._trace, f"{what}\t{self._seen[what]}\t{int(middle is not None)}\n".encode())
            if self.at is not None and self.at[:2] == (what, self._seen[what]):
                self._seen["died"] += 1
                if self.at[2]:
                    assert middle is not None
                    middle()
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Call ``point`` before everything that writes."""
        write_line, write_text, append = Ledger.write, Path.write_text, Appending.append
        command, pipeline = redis.Redis.execute_command, redis.client.Pipeline.execute

        def ledger(pen: Ledger, event: str, **values: Any) -> None:
            def middle() -> None:
                Appending.append = lambda file, line: append(file, line[: len(line) // 2])  # type: ignore[method-assign]
                write_line(pen, event, **values)

            self.point(f"ledger {event}", middle)
            write_line(pen, event, **values)

        def text(path: Path, written: str, *more: Any, **named: Any) -> int:
            if str(path).startswith(self._folder):
                self.point(f"write {path.name}", lambda: write_text(path, written[: len(written) // 2]))
            return write_text(path, written, *more, **named)

        def request(client: Any, *words: Any, **named: Any) -> Any:
            if str(words[0]) in CHANGE:
                self.point(f"redis {words[0]}")
            return command(client, *words, **named)

        def requests(pipe: Any, *more: Any, **named: Any) -> Any:
            names = [str(words[0]) for words, _ in pipe.command_stack]

            def middle() -> None:
                pipe.command_stack = pipe.command_stack[: len(names) // 2]
                pipeline(pipe)

            if changing := sorted({name for name in names if name in CHANGE}):
                half = middle if len(names) > 1 and not pipe.explicit_transaction and not pipe.transaction else None
                self.point(f"redis {'+'.join(changing)}", half)
            return pipeline(pipe, *more, **named)

        def files(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                return
            if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
                path = str(arguments[0])
                if path.startswith(self._folder) or event == "os.rmdir":
                    self.point(f"{event} {Path(path).name}")

        Ledger.write, Path.write_text = ledger, text  # type: ignore[method-assign,assignment]
        redis.Redis.execute_command, redis.client.Pipeline.execute = request, requests
        sys.addaudithook(files)


# --- roles ------------------------------------------------------------------------------------------------------------


def learner(run: str, url: str, folder: Path, death: Death | None) -> int:
    """A learner's process, from its command on."""
    from leeway_rl.learner import __main__ as command
    from leeway_rl.learner import train

    train.Policy, train.train_step = DigestPolicy, digest_step  # type: ignore[misc,assignment]
    os.environ[address.VARIABLE] = url
    sys.argv = ["learner", "--run", run, "--runs-dir", str(folder.parent), "--wait-s", "1"]
    if death is not None:
        death.install()
    return command.main()


def workers(run: str, url: str) -> int:
    """Rollout and verifier, until the run is finished."""
    from leeway_rl.rollout.worker import RolloutWorker
    from leeway_rl.verifier.worker import VerifierWorker

    def work(queue: RolloutQueue, service: Service, config: Config) -> None:
        pool: Any = DigestPool()
        grades = VerifierQueue(queue.connection)
        verifier = VerifierWorker(grades, service, pool, lambda tokens: str(sum(tokens)), config)
        grading = threading.Thread(target=verifier.run)
        grading.start()
        RolloutWorker(queue, service, DigestEngine(), config).run()
        grading.join()

    return run_role("rollout", RolloutQueue, url, run, work, wait_s=10.0)


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One run, and where its learners die, one after the other."""

    name: str
    transport: str
    deaths: tuple[Point, ...] = ()
    emptied: bool = False
    """Whether Redis is emptied each time."""


def _forked(work: Callable[[], int], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ["LEEWAY_SUPERVISOR"] = str(os.getppid())
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        code = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _ended(pid: int) -> int:
    deadline = time.monotonic() + LIFE_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"it still ran after {LIFE_S:g} s")


def play(url: str, home: Path, case: Case) -> None:
    """Make one run in a process of its own. Its outcome is in ``home / NAME.outcome``: the last checksum, or ``FAILED``
    and what went wrong."""
    folder, outcome = home / case.name, home / f"{case.name}.outcome"
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        outcome.write_text(_play(url, folder, case))
    except BaseException as error:
        log = (home / f"{case.name}.log").read_text()[-1500:]
        outcome.write_text(f"FAILED {case}: {type(error).__name__}: {error}\n{log}")


def _play(url: str, folder: Path, case: Case) -> str:
    shared = [f"weights.folder={str(folder) + '-weights'!r}"] if case.transport == "file" else []
    text = dump(compose(["tiny"], [*SETTINGS, f"weights.transport={case.transport}", *shared]))
    queue, log = DeskQueue(Connection(url, case.name)), folder.with_name(f"{case.name}.log")
    queue.record.store_config(text)
    others = _forked(lambda: workers(case.name, url), log)
    try:
        for life, at in enumerate([*case.deaths, None]):
            trace = folder.with_name(f"{case.name}.trace-{life}")
            code = _ended(_forked(lambda: learner(case.name, url, folder, Death(folder, trace, at)), log))  # noqa: B023
            if code == 0:
                break  # done, or the point did not come: another thread was faster
            if code != -signal.SIGKILL:
                raise RuntimeError(f"the learner of life {life} ended with code {code}")
            if case.emptied:
                queue.clean()
                queue.record.store_config(text)
        audit(folder / "ledger.jsonl")
        if (left := _left(folder)) != {"config.toml", "learner.lock", "ledger.jsonl", "metrics.jsonl", "workers.jsonl"}:
            raise RuntimeError(f"files left: {left}")
        return published_checksum(folder / "ledger.jsonl")
    finally:
        os.kill(others, signal.SIGKILL)
        os.waitpid(others, 0)
        queue.clean()
        queue.close()


def _left(folder: Path) -> set[str]:
    """Files that are neither of the one checkpoint nor views."""
    found = {path.name for path in folder.iterdir()} - {"tensorboard", "checkpoints", "samples.jsonl"}
    return found | {path.name for path in (folder / "checkpoints").iterdir()} - {"step-000003"}


def points(trace: Path) -> list[Point]:
    """Every point of a learner's life, with and without a middle."""
    found: list[Point] = []
    for line in trace.read_text().splitlines():
        what, number, middle = line.split("\t")
        found += [(what, int(number), torn) for torn in ((False, True) if middle == "1" else (False,))]
    return found


def played(url: str, home: Path, cases: Sequence[Case], side_by_side: int) -> list[str]:
    """The outcomes of the cases."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    waiting = [context.Process(target=play, args=(url, home, case)) for case in cases]
    going: list[Any] = []
    while waiting or going:
        while waiting and len(going) < side_by_side:
            going.append(waiting.pop(0))
            going[-1].start()
        going[0].join(0.02)
        going = [each for each in going if each.is_alive()]
    return [(home / f"{case.name}.outcome").read_text() for case in cases]


def main() -> None:
    """Print how many runs ended as the one left alone; exit with 1 if one did not."""
    parser = parser_of(__doc__, side_by_side=6)
    parser.add_argument("--every", type=int, default=1, help="try one point in so many")
    parser.add_argument("--only", default="", help="only points whose name contains this")
    parser.add_argument("--transports", nargs="+", default=["redis", "file"], choices=["redis", "file"])
    given = parser.parse_args()
    bad = 0
    with home_and_server() as (home, url):
        for transport in given.transports:
            began = time.monotonic()
            (expected,) = played(url, home, [Case(f"{transport}-alone", transport)], 1)
            first = points(home / f"{transport}-alone.trace-0")
            in_the_middle = first[len(first) // 2]
            once = Case(f"{transport}-once", transport, (in_the_middle,))
            assert played(url, home, [once], 1) == [expected], (home / f"{once.name}.outcome").read_text()
            again = points(home / f"{once.name}.trace-1")
            deaths = [(at,) for at in first[:: given.every]] + [(in_the_middle, at) for at in again[:: given.every]]
            deaths = [each for each in deaths if given.only in each[-1][0]]
            cases = [
                Case(f"{transport}-{number}", transport, each, emptied=number % 2 == 1)
                for number, each in enumerate(deaths)
            ]
            outcomes = played(url, home, cases, given.side_by_side)
            wrong = [(case, outcome) for case, outcome in zip(cases, outcomes, strict=True) if outcome != expected]
            print(
                f"{transport:<5} {len(first)} points of a learner left alone, {len(again)} of one that goes on; "
                f"{len(cases)} runs with {sum(len(case.deaths) for case in cases)} kills, "
                f"{len(wrong)} ended otherwise, {time.monotonic() - began:.0f} s"
            )
            for case, outcome in wrong:
                print(f"{case}\n{outcome}\n")
            bad += len(wrong)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
