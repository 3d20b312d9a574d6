"""Measures how long the groups of a dead worker are away when they stand behind hundreds of leases of a live one. The
workers are real processes, and one is killed. Run with ``python -m``, this module is such a worker."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.children import leaving_with_parent
from ...common.queue.connection import Connection
from ...common.queue.consumer import Consumer
from ...common.queue.entries import Job, WorkStream
from ...common.queue.learner import LearnerQueue
from ...common.queue.rollout import RolloutQueue
from ...common.queue.verifier import VerifierQueue
from ...common.service import Service
from ...common.types import Responses, Ticket
from ..running.server import EmbeddedServer

HEARTBEAT_S = 0.5
WAIT_S = 60.0
"""How long the groups are waited for beyond their lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed:
    """What a third worker, which was looking for work, got."""

    back: int
    """Groups of the dead worker that it got."""
    stolen: int
    """Groups of the live worker that it got."""
    seconds: float
    """Seconds from the death to the last of the dead worker's groups."""


_TAKERS: dict[WorkStream, type[Consumer]] = {WorkStream.PROMPTS: RolloutQueue, WorkStream.RESPONSES: VerifierQueue}


def reclaim(folder: Path, stream: WorkStream, *, live: int, dead: int, lease_s: float) -> Reclaimed:
    """Lease ``live`` groups of ``stream`` to one process and then ``dead`` groups to another, kill the latter, and then
    take one group at a time as a rollout worker does."""
    with EmbeddedServer(folder) as server, ExitStack() as stack:
        connection = Connection(server.url, "reclaim", worker="looking")
        stack.callback(connection.close)
        _announce(connection, stream, live + dead)
        alive, doomed = (_worker(stack, connection, stream, count, lease_s) for count in (live, dead))
        held, lost = _held_by(connection, stream, alive), _held_by(connection, stream, doomed)
        assert (len(held), len(lost)) == (live, dead)
        doomed.kill()
        killed, got = time.monotonic(), dict[str, Job]()
        last = killed
        queue = _TAKERS[stream](connection)
        with Service(queue, "rollout", lease_s=lease_s, heartbeat_s=HEARTBEAT_S) as service:
            while len(lost - got.keys()) and time.monotonic() - killed < lease_s + WAIT_S:
                for job in queue.take(count=1, block_s=0.2, lease_s=lease_s):
                    stack.enter_context(service.holding(job))
                    got[job.entry_id], last = job, time.monotonic()
        return Reclaimed(back=len(lost & got.keys()), stolen=len(held & got.keys()), seconds=last - killed)


def _announce(connection: Connection, stream: WorkStream, count: int) -> None:
    learner, rollout = LearnerQueue(connection), RolloutQueue(connection)
    learner.ensure_groups()
    learner.issue(*map(_ticket, range(count)))
    if stream is WorkStream.RESPONSES:
        for job in rollout.take(count=count, block_s=1.0, lease_s=3600.0):
            rollout.hand_over(job, _responses(job.group_id))


def _worker(
    stack: ExitStack, connection: Connection, stream: WorkStream, count: int, lease_s: float
) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", __spec__.name, connection.url, connection.run, stream, str(count), str(lease_s)]
    process = subprocess.Popen(
        leaving_with_parent(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    stack.callback(process.communicate)
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == f"holds {count}\n", "a worker takes all that it is to take"
    return process


def _held_by(connection: Connection, stream: WorkStream, process: subprocess.Popen[str]) -> set[str]:
    _, held = LearnerQueue(connection).leases.held()
    return {lease.entry_id for lease in held if (lease.stream, lease.worker) == (stream, str(process.pid))}


def _ticket(number: int) -> Ticket:
    return Ticket(
        ticket=number,
        incarnation=1,
        min_version=0,
        stage=0,
        prompt_id=f"chaos:{number}",
        prompt_tokens_P=np.array([1], np.uint32),
        group_size=2,
        max_new_tokens=8,
        temperature=1.0,
        seed=number,
        ability="math",
        ground_truth=("0",),
    )


def _responses(group_id: str) -> Responses:
    return Responses(
        group_id=group_id,
        tokens_T=np.array([1, 2], np.uint32),
        logprobs_T=np.array([-0.5, -0.5], np.float32),
        lengths_S=np.array([1, 1], np.uint32),
        finished_S=np.array([1, 1], np.uint8),
        spans=np.array([[0, 0, 0, 1], [1, 0, 0, 1]], np.uint32),
        worker="chaos",
        seconds=0.0,
    )


def main() -> None:
    """Be a worker: take a number of groups and hold them until the end."""
    url, run, stream, count, lease_s = sys.argv[1:]
    queue = _TAKERS[WorkStream(stream)](Connection(url, run, worker=str(os.getpid())))
    with Service(queue, "rollout", lease_s=float(lease_s), heartbeat_s=HEARTBEAT_S) as service, ExitStack() as stack:
        for job in queue.take(count=int(count), block_s=5.0, lease_s=3600.0):
            stack.enter_context(service.holding(job))
        print(f"holds {len(service._held)}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
