"""The rollout loop: prompts in, responses out, always with the newest weights it can have.

::

    prompts ──▶ group loop (one thread a concurrent group) ──▶ responses
                     ▲ waits for the ticket's version
    weights ──▶ weights loop

Stateless: a worker may start, stop or die at any time. What it held is given to another after its lease.
"""

import logging
import threading
import time

from ..common.activity import Activity, Doing
from ..common.clocks import generation_limit_s
from ..common.config import Config
from ..common.errors import ConfigError, DecodeError, EnvironmentFailed, RoleDiedError, WeightsError
from ..common.queue.connection import AWAY
from ..common.queue.entries import HandOver, Job, Unwanted
from ..common.queue.rollout import RolloutQueue
from ..common.service import Service
from ..common.tensors import tensors_of
from ..common.types import Ticket
from ..common.weights import FlatWeights, NodeCopy, WeightReader
from ..common.weights.node import TurnLostError
from ..common.wording import counted
from .engine import Aborted, Engine
from .turnaround import Slot, Turnaround

log = logging.getLogger(__name__)

POLL_S = 1.0  # how often an idle loop looks whether it should stop


class RolloutWorker:
    """One engine, its group threads and its weights thread."""

    def __init__(self, queue: RolloutQueue, service: Service, engine: Engine, config: Config) -> None:
        self.queue, self.service, self.engine, self.config = queue, service, engine, config
        self.copy = NodeCopy(
            queue.connection.url, queue.run, worker=queue.worker, folder=config.weights.node, waits=self._wait_for
        )
        self.reader = WeightReader(
            queue.weights,
            worker=queue.worker,
            folder=config.weights.shared,
            lease_s=config.broker.lease_s,
            threads=config.weights.threads,
            copy=self.copy,
        )
        self._loaded = threading.Condition()
        self._stamp = (0, -1)  # (incarnation, version) the engine samples with
        self._unreadable: str | None = None  # why the newest version could not be read, where it could not
        self._neighbour: Doing | None = None  # whom of this node the weights thread waits for, where it waits
        self._turnaround = Turnaround()

    def run(self) -> None:
        """Work until asked to stop, until the run is finished, or until a loop cannot go on (raised here)."""
        self.service.abort = lambda job: self.engine.abort(job.group_id)
        loops = [threading.Thread(target=self._guarded, args=(self._weights_loop,), name="weights")]
        loops += [
            threading.Thread(target=self._guarded, args=(self._group_loop,), name=f"group-{i}")
            for i in range(self.engine.concurrency)
        ]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join()
        self.copy.leave()
        if self.service.failure is not None:
            raise self.service.failure

    def _guarded(self, loop: object) -> None:
        try:
            loop()  # type: ignore[operator]
        except BaseException as error:
            self.service.fail(error)

    def _weights_loop(self) -> None:
        """Consumes the weights stream; produces a loaded engine. Dying here loses nothing: the version is leased, and
        a new worker reads the newest one."""
        while not self.service.stopping.is_set():
            if not self.queue.weights.wait_for_manifest(self._stamp, POLL_S):
                continue
            started = time.monotonic()
            try:
                version, weights = self.reader.fetch()  # the engine samples on meanwhile
            except WeightsError as error:
                log.warning("no usable weights yet: %s", error)
                self._unreadable = str(error)
                self.service.stopping.wait(POLL_S)
                continue
            self._load(version, weights, time.monotonic() - started)

    def _load(self, version: int, weights: FlatWeights, fetch_s: float) -> None:
        """Have the engine load what lies in the node's copy. ``fetch_s``: seconds until it lay there."""
        started = time.monotonic()
        try:
            paused_s = self.engine.load(version, tensors_of(weights), self.copy.file)
        finally:
            self.copy.let_go()
        self._unreadable = None
        with self._loaded:
            self._stamp = self.reader.stamp
            self.service.version = version
            self._loaded.notify_all()
        seconds = {"fetch_s": fetch_s, "load_s": time.monotonic() - started, "paused_s": paused_s}
        words = ", ".join(f"{name.removesuffix('_s')} {each:.3f} s" for name, each in seconds.items())
        log.info("version %d taken in: %s", version, words)
        self.queue.emit(
            {
                "role": "rollout",
                "worker": self.queue.worker,
                "version": version,
                **{f"weights/{name}": each for name, each in seconds.items()},
                **self._turnaround.taken(),
            }
        )

    def _wait_for(self, neighbour: Doing | None) -> None:
        """Note whom of this node the weights thread waits for. A group that waits for a version says so. Ends the wait
        where this worker is to stop."""
        self._neighbour = neighbour
        if neighbour is not None and self.service.stopping.is_set():
            raise TurnLostError("this worker is to stop")

    def _group_loop(self) -> None:
        """Consumes prompts, produces responses; acknowledged by the hand-over itself. Dying here leaves the entry
        pending, and another worker takes it when the lease is over."""
        broker, slot = self.config.broker, Slot(self._turnaround)
        while not self._has_weights():  # a worker that cannot load takes no group, and uses up none of its attempts
            self.service.doing(self._neighbour or Doing(Activity.WAITING_FOR_WEIGHTS, unreadable=self._unreadable))
            if self.service.stopping.wait(POLL_S):
                return
        jobs: list[Job] = []
        while not self.service.stopping.is_set():
            jobs = jobs or self.queue.take(count=1, block_s=0, lease_s=broker.lease_s)
            if not jobs:
                slot.waits()
                self.service.idling(Doing(Activity.WAITING_FOR_PROMPTS))
                jobs = self.queue.take(count=1, block_s=POLL_S, lease_s=broker.lease_s)
            if not jobs and self.service.run_finished():
                self.service.stopping.set()
            jobs = [after for job in jobs for after in self._work_on(job, slot)]
        self.queue.give_back(jobs)

    def _work_on(self, job: Job, slot: Slot) -> list[Job]:
        """What is to be done after ``job``, which is done with: the job that came with its hand-over; or itself, where
        we are to stop before the version that it needs has come."""
        if job.attempt > self.config.broker.max_attempts:
            self.queue.give_up(job, f"generation failed {counted(job.attempt - 1, 'time')}")
            return []
        try:
            with self.service.holding(job):
                return self._generate(job, slot)
        except Aborted:
            log.warning("group %s: nobody wants it any more; stopped", job.group_id)
            self.queue.drop(job)
        except DecodeError as error:
            self.queue.damaged(job, str(error))
        except EnvironmentFailed as error:
            self._failed(job, error)
        except ConfigError:  # this worker cannot run its environment any more; other workers can still do this group
            self.queue.give_back([job])
            raise
        except (RoleDiedError, *AWAY):
            raise  # the engine is gone, or Redis; other workers can still do this group
        except Exception:
            # Left pending on purpose: the lease ends, and the group is tried again, here or elsewhere.
            log.exception("group %s failed at attempt %d", job.group_id, job.attempt)
        return []

    def _failed(self, job: Job, error: EnvironmentFailed) -> None:
        """Have a group whose environment failed tried again at once, or give it up with the environment's words."""
        if self.service.stopping.is_set():
            self.queue.give_back([job])  # who is being ended may have lost its processes first
        elif job.attempt < self.config.broker.max_attempts:
            log.warning("group %s failed at attempt %d: %s", job.group_id, job.attempt, error)
            self.queue.give_back([job], failed=True)
        else:
            self.queue.give_up(job, f"generation failed {counted(job.attempt, 'time')}: {error}")

    def _generate(self, job: Job, slot: Slot) -> list[Job]:
        """Generate the group and hand it over; returns what ``_work_on`` does."""
        ticket = self.queue.ticket(job)
        if ticket is None:
            self.queue.drop(job)
            return []
        if not self._wait_for_version(ticket, job, slot):
            return [job]
        slot.begins()
        with self.service.working(Doing(Activity.GENERATING)):
            responses = self.engine.generate(ticket)
        slot.ends()
        lease_s = None if self.service.stopping.is_set() else self.config.broker.lease_s
        outcome, jobs = self.queue.hand_over_and_take(job, responses, lease_s=lease_s)
        log.debug("group %s: %s", job.group_id, outcome)
        if outcome is HandOver.HANDED:
            self.service.count(done=1, tokens=int(responses.sampled_S.sum()))
        return jobs

    def _has_weights(self) -> bool:
        with self._loaded:
            return self._stamp[1] >= 0

    def _wait_for_version(self, ticket: Ticket, job: Job, slot: Slot) -> bool:
        """Whether the engine holds what the ticket asks for; False if the worker is to stop first. Raises ``Aborted``
        where nobody wants the group any more, and ``RoleDiedError`` where that is because we have waited too long."""
        until = time.monotonic() + generation_limit_s(self.config, ticket) / 2
        with self._loaded:
            while self._stamp < (ticket.incarnation, ticket.min_version) or self.service.held_before(job):
                slot.waits()
                behind = self._stamp < (ticket.incarnation, ticket.min_version)
                what = Activity.WAITING_FOR_VERSION if behind else Activity.WAITING_FOR_EARLIER_TRY
                doing = Doing(what, version=ticket.min_version, unreadable=self._unreadable)
                self.service.idling(self._neighbour or doing if behind else doing)
                if self.service.stopping.is_set():
                    return False
                why = self.service.revoked(job)
                if why is Unwanted.ISSUED_AGAIN and time.monotonic() > until:  # not because Redis came back empty
                    lacking = self._unreadable or "it did not come"
                    raise RoleDiedError(f"version {ticket.min_version} of the weights could not be had: {lacking}")
                if why is not None:
                    raise Aborted
                self._loaded.wait(POLL_S)
        return True
