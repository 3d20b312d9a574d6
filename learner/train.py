"""The learner's loop.

::

    next batch ──▶ train step ──▶ publish version v+1 ──▶ close the books ──▶ (checkpoint)

Rank 0 decides and speaks to Redis; every rank trains its share of the groups. The checkpoint is the truth: a learner
that dies anywhere in this loop goes back to its newest checkpoint and issues again what was live there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ..common.activity import Activity, Doing, to_json
from ..common.config import Config
from ..common.errors import DataError
from ..common.ledger import Ledger
from ..common.metrics import MetricsSink
from ..common.preflight.model import load_tokenizer_of
from ..common.queue.learner import LearnerQueue
from ..common.service import Service
from ..common.step_line import step_line
from ..common.tensors import flatten
from ..common.weights import WeightPublisher
from ..common.weights import checksum as sha256_of
from ..common.wording import words
from . import alike, checkpoint
from .delay import DelayLine
from .flow.curriculum import Curriculum, load_curriculum
from .flow.intake import Intake
from .flow.staleness import Schedule, head_staleness, tokens_past
from .flow.tickets import Live, TicketBook
from .model import Policy
from .objective.entropy import ControllerState
from .packing import ScoredGroup
from .ranks import NoRoom, Share, broadcast_plan, rank, shares, together
from .samples import Samples
from .step import StepResult, split, train_step

log = logging.getLogger(__name__)

T = TypeVar("T")

ROOM_S = 2.0  # how often a learner that waits for room on the disk tries again
TELL_FULL_S = 300.0  # how often it says so in its log
WAIT_S = 20.0  # how long rank 0 waits for a batch before it tells the other ranks that it still waits


def learn(queue: LearnerQueue, service: Service, config: Config, folder: Path) -> None:
    """Train from the newest checkpoint in ``folder`` (or from the start) to the last step, or until asked to stop; both
    leave a checkpoint."""
    # Before the model: ranks that differ, or a row that cannot be used, are named in seconds.
    alike.refuse_different(config, folder)
    curriculum = together(lambda: _read_prompts(service, config) if rank() == 0 else None)
    service.doing(Doing(Activity.LOADING_MODEL))
    torch.set_num_threads(config.train.threads)
    policy = Policy(config)
    found, state = checkpoint.restore(policy, folder / "checkpoints", service.doing)
    if curriculum is None:
        _follow(queue, service, policy, config, folder / "checkpoints", state)
        return
    desk = _Desk(queue, service, config, folder, policy, curriculum, found, state)
    try:
        _lead(desk, policy, config, state)
    finally:
        desk.close()


def _read_prompts(service: Service, config: Config) -> Curriculum:
    service.doing(Doing(Activity.READING_PROMPTS))
    return load_curriculum(config, *load_tokenizer_of(config.model.path))


class _Desk:
    """Everything that only rank 0 has: the intake, the publisher, the ledger and the metrics."""

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
    ) -> None:
        self.queue, self.service, self.config, self.folder, self.policy = queue, service, config, folder, policy
        book = make_book(config, state)
        self._told_full_at = -TELL_FULL_S
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.ledger.on_full = lambda error: self._wait_for_room(folder, error)
        self.incarnation = queue.raise_incarnation(at_least=self.ledger.incarnation + 1)
        open_ledger(self.ledger, queue, config, book, state, self.incarnation)
        queue.clear_work()
        self.sink = self._with_room(folder, lambda: MetricsSink(queue, folder, from_step=book.version))
        self.publisher = WeightPublisher(
            queue.weights,
            incarnation=self.incarnation,
            transport=config.weights.transport,
            folder=config.weights.shared,
            keyframe_every=config.weights.keyframe_every,
        )
        self.intake = Intake(queue, service, book, curriculum, self.ledger, config, incarnation=self.incarnation)
        self.intake.on_turn = self.sink.turned
        self.intake.on_loss = self.intake.on_unreadable = self.publisher.repair
        if state is not None:
            self.intake.restore(state)
        self.samples = Samples(folder, config, from_step=book.version) if config.metrics.samples_every else None
        if self.samples is not None:
            self.intake.on_graded, self.intake.on_left = self.samples.graded, self.samples.left
        self.delay = DelayLine(config.flow.inject_lag)
        if found is not None:
            self.delay.load(found, book.version, config.weights.dtype)
        self.tokens_before, self.time_before = 0, time.monotonic()
        self.expired_before = self.intake.tokens_expired
        self.refunds_before = self._refunds()

    def publish(self, version: int) -> float:
        """Publish the policy's weights, or those of ``flow.inject_lag`` versions before; returns the seconds it took.
        Collective: every rank calls ``named_weights``."""
        started = time.monotonic()
        newest = flatten(self.policy.named_weights(), self.config.weights.dtype)
        due = self.delay.push(version, newest)
        self.service.doing(Doing(Activity.PUBLISHING, version=version))
        manifest = self._with_room(self.config.weights.shared, lambda: self.publisher.publish(*due))
        self.service.version = version
        log.info("version %d published: %d of %d bytes", manifest.version, manifest.payload_bytes, manifest.full_bytes)
        self.checksum = manifest.checksum if manifest.version == version else sha256_of(newest.buffer)
        self.published_bytes, self.full_bytes = manifest.payload_bytes, manifest.full_bytes
        return time.monotonic() - started

    def save(self, controller: ControllerState, step: int) -> None:
        """Write the checkpoint after ``step`` training steps. Collective, as ``checkpoint.save``."""
        folder, keep = self.folder / "checkpoints", self.config.train.keep_checkpoints
        state = self.intake.snapshot() | {"controller": asdict(controller)}
        self.ledger.sync()
        self.service.doing(Doing(Activity.CHECKPOINTING, step=step))

        def write() -> None:
            broadcast_plan({"do": "save", "step": step})
            checkpoint.save(self.policy, folder, step, state, keep, write_more=self.delay.save)

        self._with_room(folder, write)
        self.ledger.write("checkpoint", step=step)
        self.intake.checkpointed()

    def _with_room(self, folder: Path | None, write: Callable[[], T]) -> T:
        """What ``write`` returns. Where the disk under ``folder`` is full, for any rank, wait until there is room and
        write anew: a learner that died of it would go back to its last checkpoint and meet the full disk again."""
        while True:
            try:
                return write()
            except (OSError, RuntimeError) as error:  # torch wraps what the disk said in a RuntimeError
                if folder is None or not (isinstance(error, NoRoom) or checkpoint.is_full(folder)):
                    raise
                broadcast_plan({"do": "wait"})
                try:
                    self._wait_for_room(folder, error)
                except DataError:
                    broadcast_plan({"do": "stop"})
                    raise

    def _wait_for_room(self, folder: Path, error: Exception) -> None:
        """Wait a little before the next try; ``DataError`` where we are asked to stop."""
        waiting = Doing(Activity.WAITING_FOR_DISK, path=str(folder))
        self.service.doing(waiting)
        if time.monotonic() - self._told_full_at >= TELL_FULL_S:
            self._told_full_at = time.monotonic()
            log.error("%s: %s", words(waiting), error)
        if self.service.stopping.wait(ROOM_S):
            raise DataError(f"the disk under {folder} is full: {error}") from error

    def say(self, phase: str, doing: Doing) -> None:
        """Tell the desk how the run stands."""
        live, ready = self.intake.depth()
        self.service.doing(doing)
        self.queue.record.set_state(
            phase=phase,
            step=self.intake.book.version,
            steps=self.config.train.steps,
            stage=self.intake.book.stage,
            stages=len(self.config.stage_starts),
            version=self.intake.book.version,
            live=live,
            ready=ready,
            incarnation=self.incarnation,
            max_staleness=self.intake.book.max_staleness,
            overflow=self.intake.book.overflow,
            pipeline_depth=self.intake.book.depth,
            doing=to_json(doing),
            leader=self.queue.worker,
            poisoned=self.intake.poisoned_in_a_row,
            poison=self.intake.poison,
            overdue=self.intake.overdue,
            overdue_last=self.intake.overdue_last[0],
            overdue_at=self.intake.overdue_last[1],
            at=self.service.now(),
        )

    def measure(self, step: int, groups: list[ScoredGroup], metrics: dict[str, float], times: dict[str, float]) -> None:
        """Send the training step's line."""
        now = time.monotonic()
        step_s = now - self.time_before
        tokens_in, tokens_expired = self.intake.tokens_in, self.intake.tokens_expired
        refunds = self._refunds()
        live, ready = self.intake.depth()
        record = {
            "role": "learner",
            "step": step,
            "version": step + 1,
            "stage": groups[0].ticket.stage,
            "at": self.service.now(),
            **metrics,
            **{f"refunds/{reason}": count - self.refunds_before[reason] for reason, count in refunds.items()},
            **_by_head_staleness(groups, step),
            **_where_it_aged(groups, step),
            **_past_bound(groups, step, self.intake.batch_bound),
            "batch/generation_s_max": max(group.responses.seconds for group in groups),
            "overflow/expired_tokens": tokens_expired - self.expired_before,
            "flow/max_staleness": self.intake.batch_bound,
            "flow/overflow": self.intake.batch_overflow,
            "flow/pipeline_depth": self.intake.book.depth,
            "flow/live": live,
            "flow/nonfinite": self.intake.nonfinite,
            "flow/overdue": self.intake.overdue,
            "flow/ready": ready,
            "weights/payload_bytes": self.published_bytes,
            "weights/full_bytes": self.full_bytes,
            "time/step_s": step_s,
            **times,
            "throughput/rollout_tokens_per_s": (tokens_in - self.tokens_before) / step_s,
            "throughput/learner_tokens_per_s": metrics["batch/tokens"] / step_s,
        }
        self.queue.emit(record)
        log.info("%s", step_line(record, self.config.train.steps))
        self.tokens_before, self.expired_before = tokens_in, tokens_expired
        self.time_before, self.refunds_before = now, refunds

    def _refunds(self) -> dict[str, int]:
        """Groups not trained on so far, by reason, and those that were made for an older incarnation."""
        return {**self.intake.refunds, "orphaned": self.intake.orphaned}

    def close(self) -> None:
        """Stop pumping, write what is left, close the files."""
        self.intake.stop()
        if self.samples is not None:
            self.samples.close()
        self.sink.close()
        self.ledger.close()


def _lead(desk: _Desk, policy: Policy, config: Config, state: dict[str, Any] | None) -> None:
    """Rank 0. Consumes batches; produces versions, ledger lines, metrics, checkpoints. What dies with it is made again
    from the newest checkpoint."""
    intake, controller = desk.intake, _controller(state)
    broadcast_plan({"do": "publish", "version": intake.book.version})
    desk.publish(intake.book.version)
    _forget_older_versions(desk.queue, desk.incarnation)
    intake.start()
    saved_at = intake.book.version if state else -1
    while intake.book.version < config.train.steps and not desk.service.stopping.is_set():
        step, wait_started = intake.book.version, time.monotonic()
        desk.say("training", intake.waiting_for())
        groups = intake.next_batch(WAIT_S)
        while groups is None and not desk.service.stopping.is_set():
            desk.say("training", intake.waiting_for())
            broadcast_plan({"do": "wait"})
            groups = intake.next_batch(WAIT_S)
        if groups is None:
            break
        wait_s = time.monotonic() - wait_started
        training = Doing(Activity.TRAINING, step=step)
        desk.say("training", training)
        with desk.service.working(training):
            train_started = time.monotonic()
            result = _train(desk, policy, controller, groups, step)
            train_s = time.monotonic() - train_started
            controller = result.controller
            publish_s = desk.publish(step + 1)
        generated = intake.trained(groups, desk.checksum, ess=result.metrics["logprob/ess"])
        desk.service.count(done=1, tokens=int(result.metrics["batch/tokens"]))
        checkpoint_s = 0.0
        if (step + 1) % config.train.checkpoint_every == 0 or step + 1 == config.train.steps:
            checkpoint_s = _save(desk, controller, step + 1)
            saved_at = step + 1
        times = {
            "time/wait_for_batch_s": wait_s,
            "time/train_s": train_s,
            "time/publish_s": publish_s,
            "time/checkpoint_s": checkpoint_s,
        }
        desk.measure(step, groups, result.metrics | generated, times)
    if desk.service.failure is not None:
        raise desk.service.failure
    complete = intake.book.version == config.train.steps
    if not complete and saved_at != intake.book.version:
        _save(desk, controller, intake.book.version)
    broadcast_plan({"do": "stop"})
    intake.stop()
    if complete:
        intake.close_books()
    desk.say("finished" if complete else "stopped", Doing(Activity.DONE if complete else Activity.STOPPED))


def _train(
    desk: _Desk, policy: Policy, controller: ControllerState, groups: list[ScoredGroup], step: int
) -> StepResult:
    intake = desk.intake
    turned = {"target": intake.entropy_target, "bound": intake.batch_bound, "overflow": intake.batch_overflow}
    settings = _settings(desk.config, step, turned)
    by_rank = _shares(groups, settings, policy.world)
    plan = [[(groups[index].ticket.group_id, first, end) for index, first, end in share] for share in by_rank]
    broadcast_plan({"do": "train", "step": step, "turned": turned, "groups": plan})
    mine = [replace(groups[index], own=(first, end)) for index, first, end in by_rank[0]]
    together(lambda: None)  # the other ranks have fetched theirs
    return train_step(policy, mine, version=step, controller=controller, config=settings)


def _follow(
    queue: LearnerQueue,
    service: Service,
    policy: Policy,
    config: Config,
    checkpoints: Path,
    state: dict[str, Any] | None,
) -> None:
    """Every other rank. Consumes rank 0's plan; fetches and trains its own share of the groups."""
    controller = _controller(state)
    while True:
        service.doing(Doing(Activity.WAITING_FOR_RANK_0))
        plan = broadcast_plan(None)
        match plan["do"]:
            case "train":
                with service.working(Doing(Activity.TRAINING, step=plan["step"])):
                    mine = together(partial(_fetched, queue, plan["groups"][policy.rank]))
                    settings = _settings(config, plan["step"], plan["turned"])
                    result = train_step(policy, mine, version=plan["step"], controller=controller, config=settings)
                    controller = result.controller
                    policy.named_weights()
                service.version = plan["step"] + 1
                service.count(done=1)
            case "publish":
                policy.named_weights()
                service.version = plan["version"]
            case "save":
                service.doing(Doing(Activity.CHECKPOINTING, step=plan["step"]))
                with suppress(NoRoom):  # rank 0 waits for it, and asks again
                    checkpoint.save(policy, checkpoints, plan["step"], {}, keep=config.train.keep_checkpoints)
            case "wait":
                continue
            case "stop":
                return


def _shares(groups: list[ScoredGroup], config: Config, ranks: int) -> list[Share]:
    # A response costs its own tokens and its part of the prompt that it shares.
    tokens = [(g.responses.lengths_S + len(g.ticket.prompt_tokens_P) / len(g.rewards_S)).tolist() for g in groups]
    return shares(tokens, split([group.ticket.ticket for group in groups], config.train), ranks)


def _fetched(queue: LearnerQueue, share: list[tuple[str, int, int]]) -> list[ScoredGroup]:
    groups = []
    for group_id, first, end in share:
        found = queue.scored_group(group_id)
        assert found is not None, f"group {group_id} vanished between rank 0's plan and this rank's fetch"
        ticket, responses, scores = found
        groups.append(ScoredGroup(ticket=ticket, responses=responses, rewards_S=scores.rewards_S, own=(first, end)))
    return groups


def _save(desk: _Desk, controller: ControllerState, step: int) -> float:
    started = time.monotonic()
    desk.save(controller, step)
    return time.monotonic() - started


def _controller(state: dict[str, Any] | None) -> ControllerState:
    return ControllerState(**state["controller"]) if state else ControllerState()


def _settings(config: Config, step: int, turned: dict[str, Any]) -> Config:
    """What training step ``step`` goes by: its stage's configuration, with the live controls as they are now."""
    view = config.at_stage(config.stage_of(step))
    entropy = view.entropy.model_copy(update={"target": turned["target"]})
    flow = view.flow.model_copy(update={"max_staleness": turned["bound"], "overflow": turned["overflow"]})
    return view.model_copy(update={"entropy": entropy, "flow": flow})


def make_book(config: Config, state: dict[str, Any] | None) -> TicketBook:
    """The books of a run that starts, or goes on from a checkpoint's ``state``."""
    schedule = Schedule(
        starts=config.stage_starts,
        groups_per_step=tuple(view.train.groups_per_step for view in config.views()),
        steps=config.train.steps,
        issue_ahead=config.flow.stage_change == "finish",
    )
    flow = config.flow
    book = TicketBook(
        schedule=schedule,
        max_staleness=flow.max_staleness,
        overflow=flow.overflow,
        pipeline_depth=flow.pipeline_depth,
        inject_lag=flow.inject_lag,
    )
    if state is not None:
        book.version, book.next_ticket = state["version"], state["next_ticket"]
        book.live = {int(number): Live(stage) for number, stage in state["live"].items()}
        book.max_staleness, book.overflow = state["max_staleness"], state["overflow"]
        book.pipeline_depth = state["pipeline_depth"]
    return book


def open_ledger(
    ledger: Ledger,
    queue: LearnerQueue,
    config: Config,
    book: TicketBook,
    state: dict[str, Any] | None,
    incarnation: int,
) -> None:
    """Write a learner's first lines: what the run is, or how far a resume goes back, and that it has started."""
    if ledger.line == 0:
        ledger.write(
            "run",
            run=queue.run,
            seed=config.flow.seed,
            steps=config.train.steps,
            stages=[
                {"from_step": start, "groups_per_step": view.train.groups_per_step, "group_size": view.train.group_size}
                for start, view in zip(config.stage_starts, config.views(), strict=True)
            ],
            max_staleness=config.flow.max_staleness,
            overflow=config.flow.overflow,
            inject_lag=config.flow.inject_lag,
            stage_change=config.flow.stage_change,
        )
    else:
        ledger.write("rolled_back", to_line=state["ledger_line"] if state is not None else 1)
    ledger.write("started", incarnation=incarnation, version=book.version)


def _forget_older_versions(queue: LearnerQueue, incarnation: int) -> None:
    for manifest in queue.weights.manifests():
        if manifest.incarnation < incarnation:
            queue.weights.delete_version(manifest)


def _past_bound(groups: list[ScoredGroup], step: int, bound: int) -> dict[str, int]:
    past = [tokens_past(group.responses.spans, step, max_staleness=bound) for group in groups]
    return {"overflow/tokens_past_bound": sum(past), "overflow/groups_past_bound": sum(count > 0 for count in past)}


def _by_head_staleness(groups: list[ScoredGroup], step: int) -> dict[str, float]:
    """Groups, reward and length of the groups of each head staleness."""
    of_age: dict[int, list[ScoredGroup]] = {}
    for group in groups:
        of_age.setdefault(head_staleness(group.responses.spans, step), []).append(group)
    metrics: dict[str, float] = {}
    for age, members in sorted(of_age.items()):
        metrics[f"staleness/head_count_{age}"] = len(members)
        metrics[f"reward/trained_mean/head_{age}"] = float(np.mean([group.rewards_S.mean() for group in members]))
        lengths = [group.responses.lengths_S.mean() for group in members]
        metrics[f"response/length_mean/head_{age}"] = float(np.mean(lengths))
    return metrics


def _where_it_aged(groups: list[ScoredGroup], step: int) -> dict[str, float]:
    """Mean staleness of the tokens, split at the version that sampled the group's newest one: what they aged while
    their group was still being generated, and what it aged afterwards."""
    spans = [group.responses.spans.astype(np.int64) for group in groups]
    tokens = np.concatenate([span[:, 3] - span[:, 2] for span in spans])
    in_flight = np.concatenate([span[:, 1].max() - span[:, 1] for span in spans])
    in_queue = np.concatenate([np.full(len(span), step - span[:, 1].max()) for span in spans])
    return {
        "staleness/in_flight_mean": float(np.average(in_flight, weights=tokens)),
        "staleness/in_queue_mean": float(np.average(in_queue, weights=tokens)),
    }
