"""The learner's loop.

::

    next batch ──▶ train step ──▶ gather version v+1 ──▶ close the books ──▶ (checkpoint) ──▶ account
                                                                │
                                            publish v+1  ◀──────┘  beside the next step, where η allows one

Rank 0 decides and speaks to Redis; every rank trains its share of the groups. The checkpoint is the truth: a learner
that dies anywhere in this loop goes back to its newest checkpoint and issues again what was live there.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..common.activity import Activity, Doing
from ..common.config import Config
from ..common.errors import BrokerError
from ..common.queue.learner import LearnerQueue
from ..common.service import Service
from . import alike, checkpoint, memory, own_loss
from .background import CheckpointWriter
from .leader import WAIT_S, Leader
from .objective.entropy import ControllerState
from .packing import ScoredGroup
from .policy import Policy
from .ranks import broadcast_plan, failed_there, naming_the_lost, rank, together
from .startup import forget_older_versions, read_prompts, refuse_lost_start, refuse_older
from .step import StepResult, shared_out, train_step
from .step_metrics import timed
from .untried import refuse_if_packing_changes


def learn(queue: LearnerQueue, service: Service, config: Config, folder: Path) -> None:
    """Train from the newest checkpoint in ``folder``, or from the start, to the last step or until the learner is asked
    to stop. Either way it leaves a checkpoint."""
    # This comes before the model, so that ranks that differ and rows that cannot be used are named in seconds.
    alike.refuse_different(config, folder)
    together(lambda: own_loss.prepare(config))
    together(lambda: refuse_older(folder / "checkpoints") if rank() == 0 else None)
    curriculum = together(lambda: read_prompts(service, config) if rank() == 0 else None)
    service.doing(Doing(Activity.LOADING_MODEL))
    torch.set_num_threads(config.train.threads)
    policy = Policy(config)
    refuse_if_packing_changes(policy)
    found, state = checkpoint.restore(policy, folder / "checkpoints", service.doing)
    if state is None:
        together(lambda: refuse_lost_start(folder))
    controller = ControllerState(**state["controller"]) if state else ControllerState()
    with ExitStack() as closing, naming_the_lost():
        if curriculum is None:
            follow(queue, service, policy, config, folder / "checkpoints", controller)
            return
        lead(Leader(queue, service, config, folder, policy, curriculum, found, state, closing), controller)


def lead(leader: Leader, controller: ControllerState) -> None:
    """Rank 0's loop. It consumes batches and produces versions, ledger lines, metrics and checkpoints. If it dies, its
    successor starts from the newest checkpoint and makes again what is lost."""
    intake, service, train = leader.intake, leader.service, leader.config.train
    leader.gather(intake.book.version)
    leader.publish()
    leader.settle()
    forget_older_versions(leader.queue, leader.incarnation)
    intake.start()
    while (step := intake.book.version) < train.steps and not service.stopping.is_set() and not leader.budget.over:
        times = {"time/checkpoint_s": 0.0}
        with timed(times, "wait_for_batch"):
            groups = _next_batch(leader)
        if groups is None:
            break
        training = Doing(Activity.TRAINING, step=step)
        leader.profiler.begin(step)
        leader.say("training", training)
        with service.working(training):
            with timed(times, "train"):
                result = _train(leader, controller, groups, step)
            with timed(times, "publish"):
                leader.gather(step + 1)
                generated = intake.trained(groups, ess=result.metrics["logprob/ess"], shortfall=result.shortfall)
                leader.publish()
        controller = result.controller
        service.count(done=1, tokens=int(result.metrics["batch/tokens"]))
        if (step + 1) % train.checkpoint_every == 0 or step + 1 == train.steps:
            with timed(times, "checkpoint"):
                leader.save(controller, step + 1)
        leader.account(step, groups, result.metrics | generated, times)
        leader.profiler.end()
    _end(leader, controller)


def _next_batch(leader: Leader) -> list[ScoredGroup] | None:
    """The next training step's groups; None where the learner is asked to stop first, or its time is up."""
    while True:
        leader.say("training", leader.intake.waiting_for())
        groups = leader.intake.next_batch(min(WAIT_S, leader.budget.left_s))
        if groups is not None or leader.service.stopping.is_set() or leader.budget.over:
            return groups
        broadcast_plan({"do": "wait"})


def _train(leader: Leader, controller: ControllerState, groups: list[ScoredGroup], step: int) -> StepResult:
    """Tell every rank its share of the groups, wait until the others have fetched theirs, and train our own."""
    policy, books = leader.policy, leader.intake.lifecycle
    controls = leader.intake.controls
    turned = {
        "target": controls.target_entropy,
        "learning_rate": controls.learning_rate,
        "bound": books.batch_bound,
        "overflow": books.batch_overflow,
    }
    settings = settings_at(leader.config, step, turned)
    by_rank = shared_out(groups, settings, policy.world)
    others = [[(group.ticket.group_id, group.micro_batch_S, group.sum) for group in share] for share in by_rank[1:]]
    broadcast_plan({"do": "train", "step": step, "turned": turned, "groups": [[], *others]})
    together(lambda: None)  # the other ranks have fetched theirs
    memory.begin()
    return train_step(policy, by_rank[0], version=step, controller=controller, config=settings)


def _end(leader: Leader, controller: ControllerState) -> None:
    """End every rank, after the last step, a request to stop, or the last of ``train.hours``, without losing anything
    that was trained."""
    intake, service = leader.intake, leader.service
    leader.settle()
    if service.failure is not None:
        leader.tell_failure(service.failure)
        raise service.failure
    complete = intake.book.version == leader.config.train.steps
    over = complete or leader.budget.over
    if not complete and leader.saved_at != intake.book.version:
        leader.save(controller, intake.book.version)
    leader.await_writer()
    intake.stop()
    if over:
        intake.close_books(**({} if complete else {"hours": leader.budget.spent_s / 3600}))
        leader.hand_over(leader.saved_at, leader.saved_by)  # once more, with the ledger's last line
    leader.say("finished" if over else "stopped", Doing(Activity.DONE if over else Activity.STOPPED))
    leader.await_copies()
    leader.say("finished" if over else "stopped", Doing(Activity.DONE if over else Activity.STOPPED))
    broadcast_plan({"do": "stop"})


def follow(
    queue: LearnerQueue,
    service: Service,
    policy: Policy,
    config: Config,
    checkpoints: Path,
    controller: ControllerState,
) -> None:
    """The loop of every other rank. It consumes rank 0's plan, and fetches and trains its own share of the groups."""
    writer = CheckpointWriter(policy, service, checkpoints, config.train)
    while True:
        service.doing(Doing(Activity.WAITING_FOR_RANK_0))
        plan = broadcast_plan(None)
        match plan["do"]:
            case "train":
                with service.working(Doing(Activity.TRAINING, step=plan["step"])):
                    mine = together(partial(fetched, queue, plan["groups"][policy.rank]))
                    settings = settings_at(config, plan["step"], plan["turned"])
                    memory.begin()
                    result = train_step(policy, mine, version=plan["step"], controller=controller, config=settings)
                    controller = result.controller
                service.count(done=1)
            case "publish":
                policy.copy_weights(None)
                service.version = plan["version"]
            case "save":
                service.doing(Doing(Activity.CHECKPOINTING, step=plan["step"]))
                writer.save(plan["step"])
            case "wait":
                continue
            case "stop":
                writer.wait()
                return
            case "fail":
                writer.wait()  # it may have failed on this rank
                raise failed_there(0, plan["said"])


def fetched(queue: LearnerQueue, share: list[tuple[str, list[int], int]]) -> list[ScoredGroup]:
    """This rank's groups. ``BrokerError`` where Redis does not have what rank 0 took in: it came back without a group,
    or had it made again meanwhile. The learner's successor makes such groups again from the checkpoint."""
    groups = []
    for group_id, numbers, due in share:
        found = queue.scored_group(group_id)
        if found is None:
            raise BrokerError(f"Redis has lost group {group_id}, which rank 0 has taken in and this rank has not")
        ticket, responses, scores = found
        rewards_S, own = scores.rewards_S, tuple(numbers)
        group = ScoredGroup(ticket=ticket, responses=responses, rewards_S=rewards_S, micro_batch_S=own)
        if group.sum != due:
            raise BrokerError(f"Redis has lost group {group_id} as rank 0 has taken it in, and had it made again")
        groups.append(group)
    return groups


def settings_at(config: Config, step: int, turned: dict[str, Any]) -> Config:
    """The configuration of training step ``step``: its stage's, with the live controls as they are now."""
    view = config.at_stage(config.stage_of(step))
    target = view.entropy.target if turned["target"] == "stage" else turned["target"]
    entropy = view.entropy.model_copy(update={"target": target})
    flow = view.flow.model_copy(update={"max_staleness": turned["bound"], "overflow": turned["overflow"]})
    now = {"entropy": entropy, "flow": flow}
    if (rate := turned["learning_rate"]) != "stage":
        now["train"] = view.train.model_copy(update={"learning_rate": rate})
    return view.model_copy(update=now)
