"""What every role does beside its work: heartbeats, lease renewal, an orderly stop."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .activity import Activity, Doing
from .errors import RoleDiedError
from .identity import mark_of
from .logs import about
from .queue.connection import RedisError
from .queue.consumer import Consumer
from .queue.entries import Job, Unwanted
from .resident import resident_bytes
from .stopping import STOPPED
from .types import Heartbeat
from .wording import counted

log = logging.getLogger(__name__)

SAME_S = 2.0
"""Signals that come within so many seconds of the first are one request. A batch system may signal every process of a
job, so that torchrun gets it as well and passes it on, or may send a signal again that it holds for lost. Ctrl-C twice
is a person's."""
_STOP = (signal.SIGTERM, signal.SIGINT)
GOODBYE_S = 2.0  # seconds for which a process that leaves at once tries to give its leases back
BEATS_TO_LIVE = 5  # heartbeats that a worker may miss before it counts as gone


def worker_name() -> str:
    """A name that no other process has: host, process id, and a mark of its start, because process ids recur."""
    pid = os.getpid()
    return f"{socket.gethostname()}-{pid}-{mark_of(pid) or time.time_ns() // 1_000_000 % 100_000}"


def _another(reading: int, wait_s: float, first: int) -> bool:
    """Whether a second request comes within ``wait_s`` seconds of the ``first`` signal, which has just been read."""
    began = time.monotonic()
    while select.select([reading], [], [], max(0.0, began + wait_s - time.monotonic()))[0]:
        signum = os.read(reading, 1)[0]
        if signum in _STOP and (signum == first == signal.SIGINT or time.monotonic() - began > SAME_S):
            return True
    return False


class Service:
    """A running role. Use it as a context: entering starts the heartbeat, leaving says goodbye.

    It is safe to use from several threads of one worker.
    """

    def __init__(
        self, queue: Consumer, role: str, *, lease_s: float, heartbeat_s: float, drain_s: float = 60.0
    ) -> None:
        self.queue, self.role = queue, role
        self._drain_s = drain_s
        self.stopping = threading.Event()
        """Set when the worker should finish what it holds and leave."""
        self.asked = False
        """Set when a signal has asked for that."""
        self.version = -1
        """Version of the weights in use, for the heartbeat."""
        self.failure: BaseException | None = None
        """The error that ended one of the worker's threads, for the main thread to raise."""
        self._period_s = min(heartbeat_s, lease_s / 4)
        self._ttl_s = BEATS_TO_LIVE * heartbeat_s
        self._lock = threading.Lock()
        self._held: dict[str, Job] = {}
        self._revoked: dict[str, tuple[Unwanted, float]] = {}
        """The held jobs that nobody wants any more: why, and when we heard of it (monotonic seconds)."""
        self.abort: Callable[[Job], object] | None = None
        """Stops the work on a group that nobody wants any more. It is called at every heartbeat while the group is
        held."""
        self._done = self._tokens = self._working = 0
        self._busy_s = 0.0
        self._busy_since = 0.0
        self._started = time.monotonic()
        self._doing, self._since = Doing(Activity.STARTING), self._started
        self._hindrances: dict[int, tuple[Doing, float]] = {}
        """What keeps threads from going on, by thread, and since when (monotonic seconds)."""
        self._server_ahead_s = queue.now() - self._started
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_loop, name="heartbeat", daemon=True)

    def __enter__(self) -> Service:
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is not None and issubclass(kind, RedisError):
            return  # there is nobody to say goodbye to; the heartbeat expires by itself
        try:
            self.queue.leave(self.role, self.queue.worker)
        except RedisError as error:
            log.warning("could not say goodbye: %s", error)

    def stop_on_signals(self) -> None:
        """Make SIGTERM and SIGINT ask for an orderly stop, in which held work is finished and handed over. At a second
        signal (one within ``SAME_S`` of the first is the first again, but for Ctrl-C twice), or when the drain time is
        over, the process leaves at once; it first gives the leases back if Redis answers.

        Python runs signal handlers between two bytecodes of the main thread, which may be inside a long kernel of
        torch. The bytes at the wake-up descriptor do not wait for it: a thread reads them.
        """
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for signum in _STOP:
            signal.signal(signum, lambda *_: None)
        threading.Thread(target=self._signal_loop, args=(reading,), name="signals", daemon=True).start()

    def _signal_loop(self, reading: int) -> None:
        """Read signals: the first one asks for a stop, the second one ends the process."""
        while (first := os.read(reading, 1)[0]) not in _STOP:
            continue
        log.info("asked to stop: at most %.0f s for what is under way", self._drain_s)
        self.asked = True
        self.stopping.set()
        if _another(reading, self._drain_s, first):
            log.warning("asked again: leaving at once")
        else:
            log.warning("not done within broker.drain_s = %.0f s: leaving", self._drain_s)
        self._leave_at_once(STOPPED)

    def _leave_at_once(self, code: int) -> None:
        # This runs in a thread of its own, because a Redis that does not answer must not keep us.
        goodbye = threading.Thread(target=self._give_back, daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE_S)
        os._exit(code)

    def _give_back(self) -> None:
        self._ended.set()  # no heartbeat may renew what is given back
        with self._lock:
            held = list(self._held.values())
        try:
            self.queue.give_back(held)
            self.queue.leave(self.role, self.queue.worker)
        except RedisError as error:
            log.warning("could not give %s back: %s", counted(len(held), "lease"), error)

    def doing(self, doing: Doing) -> None:
        """Say what the worker does or waits for now."""
        with self._lock:
            if not doing.goes_on(self._doing):
                self._since = time.monotonic()
            self._doing = doing

    def hindered(self, doing: Doing | None) -> None:
        """Say what keeps this thread from going on, until it goes on (None). It is shown in place of what the others
        do, because it may want an operator."""
        thread = threading.get_ident()
        with self._lock:
            before = self._hindrances.pop(thread, None)
            if doing is not None:
                since = before[1] if before is not None and doing.goes_on(before[0]) else time.monotonic()
                self._hindrances[thread] = doing, since

    def idling(self, doing: Doing) -> None:
        """Say what this thread waits for, unless another thread of the worker is at work."""
        with self._lock:
            working = self._working > 0
        if not working:
            self.doing(doing)

    @contextmanager
    def holding(self, job: Job) -> Iterator[None]:
        """Renew ``job``'s lease within the block."""
        with self._lock:
            self._held[job.entry_id] = job
        try:
            with about(job.group_id):
                yield
        finally:
            with self._lock:
                self._held.pop(job.entry_id, None)
                self._revoked.pop(job.entry_id, None)

    def revoked(self, job: Job) -> Unwanted | None:
        """Why nobody wants the held ``job`` any more; None while somebody does, as far as is known."""
        with self._lock:
            return self._revoked[job.entry_id][0] if job.entry_id in self._revoked else None

    def held_before(self, job: Job) -> bool:
        """Whether another thread of ours still works on the same group, which was issued again in the meantime."""
        with self._lock:
            for entry_id, other in self._held.items():
                if entry_id == job.entry_id:
                    break
                if other.group_id == job.group_id:
                    return True
        return False

    def _revoke(self, held: list[Job]) -> None:
        """Stop the work on what nobody wants any more. An engine that cannot be stopped would keep its place for ever
        for results that nobody uses. Then this process ends itself, and its supervisor starts another."""
        found, now = self.queue.unwanted(held), time.monotonic()
        for job in held:
            why = found.get(job.entry_id)
            with self._lock:
                if why is None or job.entry_id not in self._held:
                    continue
                _, since = self._revoked.setdefault(job.entry_id, (why, now))
            if self.abort is not None:
                self.abort(job)
            elif why is not Unwanted.ISSUED_AGAIN:
                continue  # it ends by itself, and its result will not count
            if now - since > self._drain_s:
                print(
                    f"leeway {self.role}: group {job.group_id} was {why} {now - since:.0f} s ago and the work on it "
                    "cannot be stopped: this worker hangs and ends itself",
                    file=sys.stderr,
                    flush=True,
                )
                self._leave_at_once(RoleDiedError.exit_code)

    @contextmanager
    def working(self, doing: Doing) -> Iterator[None]:
        """Count the time within the block as busy. Threads that work side by side count once."""
        self.doing(doing)
        with self._lock:
            if self._working == 0:
                self._busy_since = time.monotonic()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if self._working == 0:
                    self._busy_s += time.monotonic() - self._busy_since

    def count(self, *, done: int = 0, tokens: int = 0) -> None:
        """Add to what the worker has finished."""
        with self._lock:
            self._done += done
            self._tokens += tokens

    def fail(self, error: BaseException) -> None:
        """End the worker because of ``error`` in one of its threads. The first error stays the reason: a thread that
        hears of the stop while it waits (for room on a disk, say) fails for that alone."""
        with self._lock:
            self.failure = self.failure or error
        self.stopping.set()

    def run_finished(self) -> bool:
        """Whether the learner has said that the run is over."""
        return self.queue.state().get("phase") == "finished"

    def _beat_loop(self) -> None:
        """Renew leases and send heartbeats until the service ends. A Redis that is away for a while only delays
        them."""
        while not self._ended.wait(self._period_s):
            try:
                self.beat()
            except RedisError as error:
                log.warning("heartbeat failed: %s", error)
            except BaseException as error:  # otherwise nobody would renew leases any more, and nobody would notice
                self.fail(error)
                raise

    def beat(self) -> None:
        """Do one heartbeat now: renew leases, stop what nobody wants any more, and say what the worker does."""
        with self._lock:
            held = list(self._held.values())
        self.queue.renew(held)
        self._revoke(held)
        self._server_ahead_s = self.queue.beat(self.heartbeat(), self._ttl_s) - time.monotonic()

    def now(self) -> float:
        """Unix time by the server's clock, carried on from the last heartbeat, because hosts' own clocks may differ."""
        return time.monotonic() + self._server_ahead_s

    def heartbeat(self) -> Heartbeat:
        """What the worker says of itself now."""
        held_bytes = resident_bytes()
        with self._lock:
            doing, since = next(iter(self._hindrances.values()), (self._doing, self._since))
            busy_s = self._busy_s + (time.monotonic() - self._busy_since if self._working else 0.0)
            return Heartbeat(
                role=self.role,
                worker=self.queue.worker,
                version=self.version,
                doing=Doing(Activity.WAITING_FOR_REDIS_MEMORY) if self.queue.connection.refused else doing,
                since=since + self._server_ahead_s,
                done=self._done,
                tokens=self._tokens,
                busy_s=busy_s,
                started=self._started + self._server_ahead_s,
                resident_bytes=held_bytes,
            )
