"""What only rank 0 of a running learner holds, and what it does at the end of a training step."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from ..common.activity import Activity, Doing, to_json
from ..common.config import Config
from ..common.errors import ConfigError
from ..common.ledger import Ledger
from ..common.lineage import lineage_of
from ..common.metrics import MetricsSink
from ..common.queue.learner import LearnerQueue
from ..common.service import Service
from ..common.step_line import hardware_text, sources_line, step_line
from ..common.tensors import tensors_of
from ..common.types import Manifest
from ..common.weights import WeightPublisher
from . import checkpoint
from .background import CheckpointWriter
from .budget import Budget
from .copier import Copier
from .delay import DelayLine
from .disk_room import DiskRoom
from .early_warning import EarlyWarning
from .flow.curriculum import Curriculum
from .flow.intake import Intake
from .hardware import Hardware
from .objective.entropy import ControllerState
from .packing import ScoredGroup
from .policy import Policy
from .profiling import Profiler
from .publication import FlatBuffers, Publication
from .ranks import broadcast_plan, told
from .samples import Samples
from .startup import make_book, open_ledger
from .step_metrics import StepMetrics

log = logging.getLogger(__name__)

WAIT_S = 20.0
"""How long rank 0 waits before it tells the other ranks that it still waits."""


class Leader:
    """Everything that only rank 0 has."""

    def __init__(
        self,
        queue: LearnerQueue,
        service: Service,
        config: Config,
        folder: Path,
        policy: Policy,
        curriculum: Curriculum,
        found: Path | None,
        state: dict[str, Any] | None,
        closing: ExitStack,
    ) -> None:
        """Take over the run in ``folder``: its books go back to the checkpoint ``found`` and its ``state`` (both None
        where there is none), and the work under way in Redis is cleared. What has to be closed is put on
        ``closing``."""
        self.queue, self.service, self.config, self.folder, self.policy = queue, service, config, folder, policy
        book, self.disk = make_book(config, state), DiskRoom(service)
        self.saved_at = -1 if state is None else book.version
        self.budget = Budget(config.train.hours, (state or {}).get("spent_s", 0.0))
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.ledger.on_full = lambda error: self.disk.wait(folder, error)
        self.incarnation = queue.raise_incarnation(at_least=self.ledger.incarnation + 1)
        self.saved_by = self.incarnation if state is None else state["incarnation"]
        open_ledger(self.ledger, queue, config, book, state, self.incarnation)
        queue.clear_work()
        sink = self.disk.until_written(folder, lambda: MetricsSink(queue, folder, from_step=book.version))
        closing.callback(self.ledger.close)
        closing.callback(sink.close)
        publisher = _publisher_of(queue, config, self.incarnation)
        self.publication = Publication(service, publisher, self.disk, config.weights, self._stands)
        closing.callback(self.publication.close)
        samples = self._samples(book.version, closing)
        self.intake = Intake(
            queue,
            service,
            book,
            curriculum,
            self.ledger,
            config,
            incarnation=self.incarnation,
            repair=self.publication.repair,
            on_turn=sink.turned,
            samples=samples,
        )
        if state is not None:
            self.intake.restore(state)
        closing.callback(self.intake.stop)
        self.copier = self._copier(found, state, closing)
        self.writer = self._writer(closing)
        self.delay = DelayLine(config.flow.inject_lag)
        if found is not None:
            self.delay.load(found, book.version, config.weights.dtype)
        self._buffers = _buffers_of(policy, config)
        self._metrics = StepMetrics(service, self.intake, Hardware(policy, config))
        self._early, self._words = EarlyWarning(config.metrics), {"hardware": "", "early_warning": ""}
        """For the run's state: where it comes from, and what the last training step's record says in words."""
        if lineage := lineage_of(folder):
            self._words["forked_from"] = lineage[0].describe()
        self.profiler = Profiler(self.intake.controls.profiles, queue.record.set_state, folder / "profile")
        closing.callback(self.profiler.close)

    def _samples(self, from_step: int, closing: ExitStack) -> Samples | None:
        if not self.config.metrics.samples_every:
            return None
        samples = Samples(self.folder, self.config, from_step=from_step)
        closing.callback(samples.close)
        return samples

    def _writer(self, closing: ExitStack) -> CheckpointWriter:
        in_use = self.copier.in_use if self.copier is not None else tuple
        writer = CheckpointWriter(self.policy, self.service, self.folder / "checkpoints", self.config.train, in_use)
        closing.callback(writer.close)
        return writer

    def _copier(self, found: Path | None, state: dict[str, Any] | None, closing: ExitStack) -> Copier | None:
        """What copies checkpoints to another place, if it is to. It begins with the one ``found``, which an earlier
        learner may have written without coming to copy it."""
        if self.config.checkpoints.copy_to is None:
            return None
        copier = Copier(self.config, self.folder)
        closing.callback(copier.close)
        if found is not None and state is not None:
            copier.hand(found, state["incarnation"], state["ledger_line"], unless_there=True)
        return copier

    def gather(self, version: int) -> None:
        """Copy the policy's weights, which are ``version``, to where they are published from. Collective. Waits for the
        publication before, whose base is overwritten."""
        self.settle()
        self.service.doing(Doing(Activity.PUBLISHING, version=version))
        broadcast_plan({"do": "publish", "version": version})
        newest = self._buffers.at(version)
        self.policy.copy_weights(tensors_of(newest))
        self._newest = version, newest

    def publish(self) -> None:
        """Begin to publish what was gathered, or the weights of ``flow.inject_lag`` versions before."""
        self.publication.begin(self.delay.push(*self._newest), self._newest)
        if self.intake.book.max_staleness == 0 or self.config.flow.inject_lag > 0:
            self.settle()  # no other step can be trained before, since no group lives across versions

    def settle(self) -> None:
        """Wait until the version that was published last stands. What its publication failed with is told to the other
        ranks and raised."""
        self._await(self.publication.ended)

    def _await(self, ended: Callable[[float], bool]) -> None:
        """Wait until a thread beside the loop has ended its work. The other ranks wait for our plan: they are told to
        wait on, and of an error, which is raised. Where another thread has failed before, its error is the reason:
        the stop that it asked for makes those fail that wait for room on a disk."""
        while True:
            try:
                if ended(WAIT_S):
                    return
            except BaseException as error:
                first = self.service.failure or error
                self.tell_failure(first)
                if first is error:
                    raise
                raise first from error
            broadcast_plan({"do": "wait"})

    def _stands(self, manifest: Manifest, checksum: str) -> None:
        self.manifest, self.service.version = manifest, self._newest[0]
        log.info("version %d published: %d of %d bytes", manifest.version, manifest.payload_bytes, manifest.full_bytes)
        self.intake.published(checksum)

    def save(self, controller: ControllerState, step: int) -> None:
        """Have the checkpoint after ``step`` training steps written, and acknowledge what it covers once it is.
        Collective, as ``CheckpointWriter.save`` is. The version of the step stands before."""
        self.settle()
        self.service.doing(Doing(Activity.CHECKPOINTING, step=step))
        self.await_writer()
        state = self.intake.snapshot() | {"controller": asdict(controller), "spent_s": self.budget.spent_s}
        covered, write_lagged = self.intake.covered(), self.delay.snapshot()

        def write_more(folder: Path) -> None:
            self.ledger.sync()  # before the checkpoint counts, which names a line of it
            write_lagged(folder)

        def then() -> None:
            self.ledger.write("checkpoint", step=step)
            self.intake.checkpointed(covered)
            self.hand_over(step, self.incarnation)

        broadcast_plan({"do": "save", "step": step})
        self.writer.save(step, state, write_more, then)
        self.saved_at, self.saved_by = step, self.incarnation

    def await_writer(self) -> None:
        """Wait until no checkpoint is being written, however long a full disk keeps it. What its writing failed with is
        told to the other ranks and raised."""
        self._await(self.writer.ended)

    def hand_over(self, step: int, incarnation: int) -> None:
        """Have the checkpoint of ``step``, which ``incarnation`` has written, copied to another place with the ledger
        as it is now, if it is to be."""
        if self.copier is not None:
            path = checkpoint.path_of(self.folder / "checkpoints", step)
            self.copier.hand(path, incarnation, self.ledger.line)

    def await_copies(self) -> None:
        """Wait until the last checkpoint is copied, or cannot be."""
        if self.copier is not None:
            self._await(self.copier.ended)

    def tell_failure(self, error: BaseException) -> None:
        """End the other ranks, which wait for our plan, because of ``error``."""
        broadcast_plan({"do": "fail", "said": told(error)})

    def account(
        self, step: int, groups: list[ScoredGroup], measured: dict[str, float], times: dict[str, float]
    ) -> None:
        """Send the training step's record, and log its line."""
        times = times | {"weights/publish_s": self.publication.seconds}
        times |= self.copier.measured() if self.copier is not None else {}
        workers, _ = self.queue.overview.workers()
        self.intake.rollout_is(sum(worker.role == "rollout" for worker in workers))
        record = self._metrics.record(step, groups, measured, times, self.manifest, workers)
        self.queue.emit(record)
        self._words |= {"hardware": hardware_text(record), "early_warning": self._early.saw(record)}
        self._words |= {"sources": words} if (words := sources_line(record)) else {}
        log.info("%s", step_line(record, self.config.train.steps))

    def say(self, phase: str, doing: Doing) -> None:
        """Write the run's state to Redis, where the operator's commands read it."""
        intake, book = self.intake, self.intake.book
        live, ready = intake.depth()
        self.service.doing(doing)
        self.queue.record.set_state(
            phase=phase,
            step=book.version,
            steps=self.config.train.steps,
            stage=book.stage,
            stages=len(self.config.stage_starts),
            version=book.version,
            live=live,
            ready=ready,
            incarnation=self.incarnation,
            max_staleness=book.max_staleness,
            asked_bound=intake.controls.asked_bound,
            overflow=book.overflow,
            pipeline_depth=book.depth,
            doing=to_json(doing),
            **self._words,
            uncopied=self.copier.trouble if self.copier is not None else "",
            leader=self.queue.worker,
            poisoned=intake.counts.poisoned_in_a_row,
            poison=intake.counts.poison,
            overdue=intake.counts.overdue,
            overdue_last=intake.counts.overdue_last[0],
            overdue_at=intake.counts.overdue_last[1],
            at=self.service.now(),
        )


def _buffers_of(policy: Policy, config: Config) -> FlatBuffers:
    shapes = policy.shapes()
    if (why := config.weights.why_too_large(sum(map(prod, shapes.values())))) is not None:
        raise ConfigError(why)  # a folder was looked at before; what the hub had is known only now
    return FlatBuffers(shapes, config.weights.dtype, config.flow.inject_lag)


def _publisher_of(queue: LearnerQueue, config: Config, incarnation: int) -> WeightPublisher:
    weights = config.weights
    return WeightPublisher(
        queue.weights,
        incarnation=incarnation,
        transport=weights.transport,
        folder=weights.shared,
        keyframe_every=weights.keyframe_every,
        threads=weights.threads,
    )
