"""A role that is asked to stop drains; asked twice, or too slow, it leaves at once and gives its leases back. What
nobody wants any more is stopped; a worker that cannot stop it ends itself."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.errors import RoleDiedError
from leeway_rl.common.service import Service
from leeway_rl.common.stopping import STOPPED

from tests.samples import a_ticket

WORKER = """
import sys, hashlib, threading
from leeway_rl.common import service as module
from leeway_rl.common.service import Service
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.rollout import RolloutQueue

module.SAME_S, module.GOODBYE_S = float(sys.argv[5]), 60.0
queue = RolloutQueue(Connection(sys.argv[1], sys.argv[2], worker="w"))
with Service(queue, "rollout", lease_s=60, heartbeat_s=1, drain_s=float(sys.argv[3])) as service:
    service.stop_on_signals()
    threading.Thread(target=lambda: service.stopping.wait() and print("asked", flush=True), daemon=True).start()
    (job,) = queue.take(count=1, block_s=5, lease_s=60)
    if sys.argv[4] != "deaf":
        service.abort = lambda job: print("abort", job.group_id, flush=True)
    with service.holding(job):
        print("busy", flush=True)
        if sys.argv[4] in ("kernel", "deaf"):
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)  # one call into C, minutes long
        service.stopping.wait()
    queue.drop(job)
"""
"""It says when it has heard that it should stop: signals that come before that are one. It leaves no sooner than its
leases are given back, however busy the machine is."""


@pytest.fixture
def start(bus):
    """A worker in a process of its own that holds the run's only ticket; by its drain, what it is busy with, and for
    how many seconds signals are one request."""
    started = []

    def worker(drain_s, busy, same_s=0.25):
        bus.learner.issue(a_ticket())
        words = [sys.executable, "-c", WORKER, bus.url, bus.run, str(drain_s), busy, str(same_s)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "busy\n"
        return process

    yield worker
    for process in started:
        process.kill()
        process.communicate()


def is_free_again(make_bus):
    """Whether another worker gets the ticket now, long before the lease would end, and nobody is missing."""
    (job,) = make_bus("other").rollout.take(count=1, block_s=0.05, lease_s=60)
    return job.attempt == 1 and make_bus("desk").overview.workers() == ([], {})


def test_the_first_signal_finishes_what_is_held(start, bus):
    process = start(60, "loop")
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == 0
    assert bus.overview.depths()["prompts"] == 0


def test_the_second_signal_leaves_at_once_even_from_inside_a_kernel(start, make_bus):
    process = start(600, "kernel", same_s=0.0)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == STOPPED
    assert is_free_again(make_bus)


def test_signals_that_come_close_together_are_one_request(start):
    """Slurm signals every process of a step: torchrun passes on what the learner's ranks have got as well."""
    process = start(600, "kernel", same_s=600)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)


def test_ctrl_c_twice_leaves_at_once_however_fast_it_is_typed(start, make_bus):
    process = start(600, "kernel", same_s=600)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(200) == STOPPED
    assert is_free_again(make_bus)


def test_the_drain_ends_when_it_says(start, make_bus):
    process = start(1.0, "kernel")
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(200) == STOPPED
    assert time.monotonic() - asked >= 1.0
    assert is_free_again(make_bus)


def test_a_worker_whose_work_cannot_be_stopped_says_so_and_ends_itself(start, bus, make_bus):
    process = start(1.0, "kernel")
    (lease,) = bus.learner.leases.held()[1]
    assert bus.learner.leases.announce_again(lease)
    assert process.stdout.readline() == "abort 7-1\n"
    assert process.wait(200) == RoleDiedError.exit_code
    last = process.stderr.read().strip().splitlines()[-1]
    assert last.startswith("leeway rollout: group 7-1 was issued again ")
    assert last.endswith("the work on it cannot be stopped: this worker hangs and ends itself")
    assert is_free_again(make_bus)


def test_a_refund_reaches_the_worker_that_generates_the_group(start, bus):
    process = start(60, "loop")
    bus.learner.withdraw(["7-1"])
    assert process.stdout.readline() == "abort 7-1\n"


def test_without_a_way_to_stop_it_a_refund_ends_nobody_and_a_group_issued_again_does(start, bus):
    process = start(1.0, "deaf")
    kept = bus.redis.getdel(bus.keys.group("7-1", "ticket"))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)
    bus.redis.set(bus.keys.group("7-1", "ticket"), kept)
    bus.learner.leases.announce_again(bus.learner.leases.held()[1][0])
    assert process.wait(200) == RoleDiedError.exit_code


def test_the_first_error_of_a_worker_s_threads_stays_the_reason(bus):
    service = Service(bus.rollout, "rollout", lease_s=60, heartbeat_s=60)
    first = ValueError("the cause")
    service.fail(first)
    service.fail(OSError("what came of the stop"))
    assert service.stopping.is_set()
    assert service.failure is first


def test_a_thread_that_goes_on_does_not_take_back_what_hinders_another(bus):
    service = Service(bus.rollout, "learner", lease_s=60, heartbeat_s=60)
    training, waiting = Doing(Activity.TRAINING, step=3), Doing(Activity.WAITING_FOR_DISK, path="/checkpoints")
    service.doing(training)
    service.hindered(waiting)
    other = threading.Thread(target=service.hindered, args=(None,))
    other.start()
    other.join()
    assert service.heartbeat().doing == waiting
    service.hindered(None)
    assert service.heartbeat().doing == training
