"""Does training wait for who looks at it? ``tiny``, real roles, without and with viewers of ``leeway watch``, in turns.

::

    python benchmarks/watch_viewers.py [--rounds 3] [--steps 40] [--viewers 20] [--out FOLDER]

Learner, rollout, verifier and the Redis server share the first core; the page's server and its viewers, which read
every event, have the second. The order turns from round to round. Counted are the round trips that the page's server
makes to Redis, which are the same for any number of viewers, and the bytes that each viewer is sent.

Must hold: steps a second with viewers are at least 0.95 of those without. The first two and the last two steps of each
run are left out.
"""

import multiprocessing
import os
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
from leeway_rl.benchmarks.follower_cost import steps_per_s
from leeway_rl.benchmarks.measure import KEPT, Table, home_and_server, in_turns, load_of_this_machine, parser_of
from leeway_rl.benchmarks.whole_runs import whole_run

ROLES = ("learner", "rollout", "verifier")
CONNECT_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run with viewers has cost."""

    looks: int
    """How often the run was looked at, for all viewers."""
    trips: int
    """Round trips to Redis."""
    sent: int
    """Bytes sent to all viewers."""
    seconds: float


def watch(pipe: Pipe, url: str, folder: Path, viewers: int, core: int) -> None:
    """Serve the page of a run to so many viewers, and say so once it has been looked at; until ``pipe`` says something;
    then tell what was ``Seen``."""
    import uvicorn
    from leeway_rl.leeway.running.server import free_port
    from leeway_rl.leeway.watching.server import Watching
    from leeway_rl.leeway.watching.source import Source
    from redis.connection import AbstractConnection

    os.sched_setaffinity(0, {core})
    counted = {"looks": 0, "trips": 0, "sent": 0}
    send, read = AbstractConnection.send_packed_command, Source.read

    def sending(self: Any, *given: Any, **options: Any) -> Any:
        counted["trips"] += 1
        return send(self, *given, **options)

    def reading(self: Any) -> Any:
        counted["looks"] += 1
        return read(self)

    AbstractConnection.send_packed_command = sending  # type: ignore[method-assign]
    Source.read = reading  # type: ignore[method-assign]
    watching, port = Watching(Source(url, folder, local=False)), free_port()
    application = watching.application(["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", ws="none"))
    threading.Thread(target=server.run, daemon=True).start()

    def view() -> None:
        deadline = time.monotonic() + CONNECT_S
        while True:
            try:
                stream = urllib.request.urlopen(f"http://127.0.0.1:{port}/events")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        for line in stream:
            counted["sent"] += len(line)

    for _ in range(viewers):
        threading.Thread(target=view, daemon=True).start()
    while not counted["looks"]:
        time.sleep(0.01)
    pipe.send("it is looked at")
    started = time.monotonic()
    pipe.recv()
    pipe.send(Seen(**counted, seconds=time.monotonic() - started))


def watched_run(url: str, folder: Path, settings: list[str], cores: tuple[int, int], viewers: int) -> Seen:
    """Make a run with so many viewers beside it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=watch, args=(theirs, url, folder, viewers, cores[1]), daemon=True)
    process.start()
    try:
        ours.recv()  # a short run would be over before its first look
        whole_run(url, folder, settings, cores=dict.fromkeys(ROLES, cores[0]))
        ours.send("the run is over")
        seen: Seen = ours.recv()
        return seen
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """Print a line a round and the ratio of the means; exit with 1 if it is below 0.95."""
    parser = parser_of(__doc__, rounds=3, steps=40, settings=True, out=KEPT)
    parser.add_argument("--viewers", type=int, default=20, help="of the page, at once")
    given = parser.parse_args()
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        parser.error("this takes two cores")
    os.sched_setaffinity(0, {first})  # the server and what is forked from here too
    settings = [*given.set, f"train.steps={given.steps}"]
    rates = []
    with home_and_server(given.out) as (home, url):

        def alone(number: int) -> tuple[float, Seen | None]:
            run = home / f"viewers-{number}-none"
            whole_run(url, run, settings, cores=dict.fromkeys(ROLES, first))
            return steps_per_s(run), None

        def watched(number: int) -> tuple[float, Seen | None]:
            run = home / f"viewers-{number}-{given.viewers}"
            seen = watched_run(url, run, settings, (first, others[0]), given.viewers)
            return steps_per_s(run), seen

        print(load_of_this_machine())
        heads = ("steps/s alone:.3f", "steps/s watched:.3f", "ratio:6.3f", "round trips/look:.1f", "looks/s:.2f")
        table = Table("round:d", *heads, "kB/s a viewer:.2f")
        for number, found in enumerate(in_turns(given.rounds, {"alone": alone, "watched": watched})):
            (by_itself, _), (beside, seen) = found["alone"], found["watched"]
            assert seen is not None
            told = seen.sent / given.viewers / seen.seconds / 1e3
            table.line(
                number, by_itself, beside, beside / by_itself, seen.trips / seen.looks, seen.looks / seen.seconds, told
            )
            rates.append((by_itself, beside))
    by_itself, beside = np.mean(rates, axis=0)
    ratio = float(beside / by_itself)
    print(f"ratio of the means {ratio:.3f}; must hold: at least 0.95")
    sys.exit(0 if ratio >= 0.95 else 1)


if __name__ == "__main__":
    main()
