"""Who is dead loses its groups when the lease is over; who is only slow keeps them. Real processes that run
the verifier's real loop around graders that take as long as they are told."""

import os
import signal
import subprocess
import sys
import time

import pytest
from leeway_rl.common.config import compose, dump

from tests.samples import a_ticket, some_responses

LEASE_S = float(os.environ.get("LEEWAY_TEST_LEASE_S", "3"))
WITHIN_S = 5.0
"""Seconds after the lease within which groups are in work again, on a machine that is not busy."""
pytestmark = pytest.mark.timeout(200 + 20 * LEASE_S)

WORKER = """
import os, sys, threading, time
from pathlib import Path
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.role import run_role
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.verifier.worker import VerifierWorker

def say(what, number):
    os.write(1, f"{what} {number}\\n".encode())  # one writing: the groups begin in threads

def watch():
    while True:
        before = time.time()
        time.sleep(0.05)
        say("stood", time.time() - before)

threading.Thread(target=watch, daemon=True).start()

class Pool:
    def grade(self, items):
        if items:
            say("begun", time.time())
            until = time.monotonic() + float(sys.argv[3])
            while time.monotonic() < until and not Path(sys.argv[4]).exists():
                time.sleep(0.01)
        kinds = (VerdictKind.CORRECT, VerdictKind.WRONG)
        return [Verdict(kind=kind, reason="", seconds=0.0) for kind, _ in zip(kinds, items)]

def work(queue, service, config):
    VerifierWorker(queue, service, Pool(), str, config).run()

sys.exit(run_role("verifier", VerifierQueue, sys.argv[1], sys.argv[2], work, wait_s=5.0))
"""


class Worker:
    """A verifier in a process of its own, whose every group takes ``grading_s``, or until ``told`` is there."""

    def __init__(self, bus, grading_s, log):
        self.log, self.told = log, log.with_suffix(".told")
        with log.open("w") as output:
            words = [sys.executable, "-c", WORKER, bus.url, bus.run, str(grading_s), str(self.told)]
            self.process = subprocess.Popen(words, stdout=output, stderr=subprocess.DEVNULL)

    def begun(self):
        """When it began its groups, unix times."""
        return self._said("begun")

    def stood_still_s(self):
        """For how long it did nothing at all, at most: stopped by us, or by a machine that is far too busy."""
        return max(self._said("stood"))

    def _said(self, what):
        lines = self.log.read_text().splitlines(keepends=True)
        return [float(line.split()[1]) for line in lines if line.startswith(what) and line.endswith("\n")]


@pytest.fixture
def run(bus, tmp_path):
    """Issue groups to be graded, and start workers."""
    bus.record.store_config(dump(compose(["tiny"], [f"broker.lease_s={LEASE_S}"])))
    started = []

    def issue(*numbers):
        for ticket in map(a_ticket, numbers):
            bus.learner.issue(ticket)
            (job,) = bus.rollout.take(count=1, block_s=1, lease_s=60)
            bus.rollout.hand_over(job, some_responses(ticket))

    def start(grading_s):
        started.append(Worker(bus, grading_s, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield issue, start
    for worker in started:
        worker.process.kill()
        worker.process.wait()


def scored(bus):
    return bus.overview.depths()["scored"]


def test_a_killed_workers_groups_are_in_work_again_when_the_lease_is_over(run, bus, wait_until):
    issue, start = run
    issue(0, 1, 2)
    doomed = start(1000)
    wait_until(lambda: len(doomed.begun()) >= 3, "it holds the groups", 100)
    other = start(0)
    wait_until(lambda: len(bus.overview.workers()[0]) == 2, "the other one is there", 100)
    os.kill(doomed.process.pid, signal.SIGKILL)
    died = time.time()
    wait_until(lambda: len(other.begun()) >= 3, "they are in work again", LEASE_S + 20 * WITHIN_S)
    late = max(other.begun()) - died
    print(f"lease {LEASE_S:g} s: the last of 3 groups was in work again {late:.2f} s after the kill")
    wait_until(lambda: scored(bus) == 3, "they are graded")


def test_a_worker_that_is_busy_for_many_leases_or_stands_still_for_less_than_one_keeps_its_group(run, bus, wait_until):
    issue, start = run
    issue(0)
    busy = start(1000)
    wait_until(lambda: len(busy.begun()) == 1, "it holds the group", 100)
    other = start(0)
    wait_until(lambda: len(bus.overview.workers()[0]) == 2, "the other one is there", 100)
    leases = bus.learner.leases
    wait_until(lambda: all(each.silent_s < 0.1 * LEASE_S for each in leases.held()[1]), "it has just renewed", 100)
    busy.process.send_signal(signal.SIGSTOP)
    time.sleep(0.4 * LEASE_S)  # what is tested is this time
    busy.process.send_signal(signal.SIGCONT)
    wait_until(lambda: time.time() > busy.begun()[0] + 3 * LEASE_S, "three leases are over", 3 * LEASE_S + 100)
    busy.told.touch()
    wait_until(lambda: scored(bus) == 1, "it is graded", 100)
    kept = (len(busy.begun()), other.begun()) == (1, [])
    assert kept or busy.stood_still_s() > 0.6 * LEASE_S, "whom the machine stopped for as long may have lost it"


def test_a_worker_that_stands_still_for_longer_loses_its_group_and_comes_back_too_late(run, bus, wait_until):
    issue, start = run
    issue(0)
    still = start(1000)
    wait_until(lambda: len(still.begun()) == 1, "it holds the group", 100)
    still.process.send_signal(signal.SIGSTOP)
    other = start(0)
    wait_until(lambda: scored(bus) == 1, "the other one has graded it", LEASE_S + WITHIN_S + 100)
    still.process.send_signal(signal.SIGCONT)
    still.told.touch()  # it hands over what nobody waits for any more, and goes on
    issue(1, 2, 3, 4, 5)
    wait_until(lambda: bus.overview.depths()["responses"] == 0, "both go on", 100)
    assert (len(other.begun()) >= 1, scored(bus)) == (True, 6)
