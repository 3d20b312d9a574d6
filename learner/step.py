"""One training step on this rank's share of the batch: it measures, and then makes N_SGD updates, each with its forward
and backward passes (report 3.1, 3.2.5, 4.1).

All numbers are global: a loss is divided by a number over all ranks, and metrics are the same on every rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..common.config import Config, Objective, Train
from . import own_loss
from .objective import entropy as controller_rules
from .objective.advantage import BatchRewards, counts, group_advantages, sums_of
from .objective.correction import anchor
from .objective.entropy import ControllerState
from .objective.loss import Tokens, denominator, k3, token_loss
from .objective.sequences import of_responses
from .objective.token_op import TokenOutput
from .packing import MicroBatch, ScoredGroup, dealt, empty_micro_batch, micro_batches
from .policy import Policy
from .ranks import gather
from .tally import Tally, batch_metrics
from .updates import Updates


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    metrics: dict[str, float]
    """Metrics by name, as docs and ``leeway status`` have them, over all ranks and the same on each."""
    controller: ControllerState
    """The entropy controller's state for the next step."""
    shortfall: float = 0.0
    """By which share of its target the entropy is too low."""


@dataclass(frozen=True, slots=True)
class _MiniBatch:
    """This rank's part of the mini-batch of one SGD update."""

    batches: list[MicroBatch]
    """Its micro-batches; every rank has as many."""
    denominator: int
    """The number by which the sum of the token losses over all ranks is divided."""


def train_step(
    policy: Policy, groups: Sequence[ScoredGroup], *, version: int, controller: ControllerState, config: Config
) -> StepResult:
    """Train ``policy`` on ``groups`` (this rank's share, possibly none) and return what was measured.

    ``version``: training steps completed before this one; staleness is counted from it. ``config``: the configuration
    in the stage of this step. The policy term of a group without a signal is 0, and it gets no entropy term.
    Collective. Raises ``ValueError`` where no rank has a token.
    """
    policy.enter(config)
    parts = _mini_batches(policy, groups, version, config, _of_batch(policy, groups, config.objective))
    updates, against_reference = len(parts) * config.train.reuse, config.against_reference(version)
    tally = Tally(config.objective, updates, against_reference=against_reference)
    # The first update's own pass sees π_old. A pass before it is needed only where something must be known earlier
    # (α_k and weights of whole responses) or where later updates see a policy that has moved.
    objective = config.objective
    measure_first = objective.measures_first(updates) or controller_rules.needs_entropy(controller, config.entropy)
    if measure_first:
        parts = [replace(part, batches=_measured(policy, part.batches, tally)) for part in parts]
    measured = tally.entropy(policy, config.entropy.estimate) if measure_first else 0.0
    alpha = controller_rules.step_alpha(controller, measured, config.entropy)

    made = Updates(policy, config, version)
    for lag in range(updates):
        for batch, output in _accumulated(policy, parts[lag % len(parts)], objective, alpha, lag, tally):
            made.saw(batch, output)
            if not measure_first:
                tally.add_measured(batch, output)
        own_loss.agree(objective)
        made.make()

    metrics = {
        **made.metrics(),
        "policy/passes_before": float(
            measure_first + against_reference + objective.ratio_passes(updates, config.train.reuse)
        ),
        **tally.metrics(policy),
        **batch_metrics(policy, groups, version),
        "entropy/alpha": alpha,
        "entropy/coefficient": controller.coefficient,
        "entropy/target": config.entropy.target,
        "objective/clip_low": objective.clip_low,
        "objective/clip_high": objective.clip_high,
        "objective/kl_beta": objective.kl_beta,
    }
    if not measure_first:
        measured = metrics["entropy/policy" if config.entropy.estimate == "exact" else "entropy/sampled"]
    after = controller_rules.state_after(controller, measured, config.entropy)
    shortfall = controller_rules.shortfall(measured, config.entropy)
    return StepResult(metrics=metrics, controller=after, shortfall=shortfall)


def cut(
    groups: Sequence[ScoredGroup], *, version: int, config: Config, of_batch: BatchRewards | None = None
) -> list[MicroBatch]:
    """Cut ``groups`` into micro-batches, with their advantages, by the configuration's rules. ``of_batch``: what
    advantages need of the training step's batch; None where they need nothing, or where ``groups`` are that batch."""
    objective = config.objective
    if objective.of_batch and of_batch is None:
        of_batch = BatchRewards.of(_sums_of(groups, objective))
    advantages = [
        group_advantages(
            group.rewards_S,
            objective.advantage_std,
            objective.advantage_eps,
            baseline=objective.advantage_baseline,
            finished_S=group.responses.finished_S,
            mask=objective.advantage_mask,
            least_spread=objective.least_spread,
            of_batch=of_batch,
        )
        for group in groups
    ]
    bound = config.flow.largest_bound if config.flow.overflow == "mask" else None
    budget = config.train.micro_batch_tokens
    return micro_batches(groups, advantages, version=version, token_budget=budget, max_staleness=bound)


def surrogate_sum(
    module: nn.Module | Policy, batch: MicroBatch, objective: Objective, alpha: float, lag: float = 0.0
) -> TokenOutput:
    """The micro-batch's loss **summed** over its tokens, with log-probabilities and entropies.

    ``module``: a ``PolicyModule``, plain or in a ``Policy``; ``batch`` is on its device, so that no chunk of the token
    op waits for a copy from the host. ``lag``: updates made in this training step / N_SGD. The
    caller divides by the ``denominator`` of the whole optimizer step, not of the micro-batch.
    """
    users = own_loss.of(objective)

    def loss_of(logprobs_C: Tensor, entropy_C: Tensor, chunk: slice) -> Tensor:
        def own(tensor_T: Tensor) -> Tensor:
            return tensor_T[chunk]

        def found(tensor_T: Tensor | None) -> Tensor | None:
            return None if tensor_T is None else own(tensor_T)

        behaviour_C, staleness_C = own(batch.behaviour_logprobs_T), own(batch.staleness_T)
        old_C, log_weights_C = found(batch.old_logprobs_T), found(batch.log_weights_T)
        anchor_C, weights_C = anchor(objective, logprobs_C, behaviour_C, old_C, staleness_C, lag, log_weights_C)
        signal_C, lengths_C = own(batch.signal_T).to(logprobs_C.dtype), own(batch.lengths_T)
        tokens = Tokens(
            logprobs_T=logprobs_C,
            entropy_T=entropy_C * signal_C,
            anchor_T=anchor_C,
            advantages_T=own(batch.advantages_T),
            lengths_T=lengths_C,
            weights_T=weights_C,
            log_ratio_T=found(batch.log_ratio_T),
        )
        own_term = None if users is None else partial(users, batch=batch, chunk=chunk, lag=lag)
        loss_C = token_loss(objective, tokens, alpha, own_term)
        if objective.kl_beta == 0:
            return loss_C
        assert batch.reference_logprobs_T is not None, "the KL term needs the reference's log-probabilities"
        kl_C = objective.kl_beta * k3(logprobs_C, own(batch.reference_logprobs_T))
        kl_C = kl_C / lengths_C if objective.per_response else kl_C
        return loss_C + (kl_C if objective.kl_groups == "all" else kl_C * signal_C)

    return module(batch, loss_of)


def _accumulated(
    policy: Policy, part: _MiniBatch, objective: Objective, alpha: float, lag: int, tally: Tally
) -> Iterator[tuple[MicroBatch, TokenOutput]]:
    """Make the forward and backward passes over a mini-batch, after ``lag`` updates of the training step. Yields each
    micro-batch with its output."""
    for number, batch in enumerate(part.batches):
        if objective.ratio_level != "token":
            batch = _with_ratios(policy, batch, objective, lag / tally.updates)
        output = surrogate_sum(policy, batch.to(policy.device), objective, alpha, lag / tally.updates)
        assert output.loss_sum is not None
        policy.backward(output.loss_sum, denominator=part.denominator, last=number == len(part.batches) - 1)
        tally.add_update(batch, output, lag, part.denominator)
        yield batch, output


@torch.no_grad()
def _measured(policy: Policy, batches: Sequence[MicroBatch], tally: Tally) -> list[MicroBatch]:
    """``batches`` with log π_old, by a forward pass before the training step's first update."""
    found, level = [], tally.objective.correction_level
    for batch in batches:
        output = policy(batch)
        old_T, weights_T = output.logprobs_T.cpu(), None
        if level != "token":
            weights_T = of_responses(old_T - batch.behaviour_logprobs_T, batch.responses_T, batch.lengths_T, level)
        found.append(replace(batch, old_logprobs_T=old_T, log_weights_T=weights_T))
        tally.add_measured(found[-1], output)
    return found


@torch.no_grad()
def _with_ratios(policy: Policy, batch: MicroBatch, objective: Objective, lag: float) -> MicroBatch:
    """``batch`` with ρ of its responses under the policy as it is now: by a forward pass, unless it is 1 for sure."""
    if lag == 0.0 and objective.correction != "none":
        return replace(batch, log_ratio_T=torch.zeros_like(batch.behaviour_logprobs_T))
    logprobs_T = policy(batch).logprobs_T.cpu()
    anchor_T, _ = anchor(
        objective, logprobs_T, batch.behaviour_logprobs_T, batch.old_logprobs_T, batch.staleness_T, lag
    )
    ratio_T = of_responses(logprobs_T - anchor_T, batch.responses_T, batch.lengths_T, objective.ratio_level)
    return replace(batch, log_ratio_T=ratio_T)


def _of_batch(policy: Policy, groups: Sequence[ScoredGroup], objective: Objective) -> BatchRewards | None:
    """What advantages need of the training step's batch, over all ranks. Collective where they need anything."""
    if not objective.of_batch:
        return None
    own = [group for group in groups if group.trained_S[0]]  # of those that several ranks share, each counts once
    return BatchRewards.of(policy.reduce(torch.from_numpy(_sums_of(own, objective))).tolist())


def _sums_of(groups: Sequence[ScoredGroup], objective: Objective) -> np.ndarray:
    """The batch is the D_R groups: what comes beside them, for the KL term alone, has no part in their advantages."""
    own = [group for group, counted in zip(groups, _counted(groups, objective), strict=True) if counted]
    sums = [sums_of(group.rewards_S, group.responses.finished_S, objective) for group in own]
    return np.sum(sums, axis=0) if sums else np.zeros(3)


# --- cutting ---------------------------------------------------------------------------------------------------------


def size_of(batches: Sequence[MicroBatch]) -> tuple[int, int]:
    """How many trained tokens the micro-batches have, and how many responses with a trained token."""
    return sum(len(batch.taken_T) for batch in batches), sum(len(batch.responses_T.unique()) for batch in batches)


def split(tickets: Sequence[int], train: Train, counted: Sequence[bool] | None = None) -> list[int]:
    """For each of the training step's groups, the number of its mini-batch: D_T groups at a time, in ticket order. Of
    those, only the ``counted`` ones count (by default, all): another one comes with the next that does."""
    order = np.argsort(np.asarray(tickets, dtype=np.int64), kind="stable")
    counted_G = np.ones(len(tickets), dtype=np.int64) if counted is None else np.asarray(counted, dtype=np.int64)[order]
    before_G, total = np.cumsum(counted_G) - counted_G, int(counted_G.sum())
    places = np.empty(len(tickets), dtype=np.int64)
    places[order] = np.minimum(before_G, max(0, total - 1)) // (train.minibatch_groups or max(1, total))
    return places.tolist()


def _counted(groups: Sequence[ScoredGroup], objective: Objective) -> list[bool]:
    """Which groups are of the D_R: all, unless a KL term over all groups brings others into the batch."""
    if objective.kl_groups == "signal":
        return [True] * len(groups)
    return [counts(group.rewards_S, group.responses.finished_S, objective) for group in groups]


def shared_out(groups: Sequence[ScoredGroup], config: Config, ranks: int) -> list[list[ScoredGroup]]:
    """What each rank trains of a training step's groups. Every mini-batch is cut and dealt by itself."""
    by_rank: list[list[ScoredGroup]] = [[] for _ in range(ranks)]
    train = config.train
    places = split([group.ticket.ticket for group in groups], train, _counted(groups, config.objective))
    for number in range(max(places) + 1):
        part = [group for group, place in zip(groups, places, strict=True) if place == number]
        for share, own in zip(by_rank, dealt(part, token_budget=train.micro_batch_tokens, ranks=ranks), strict=True):
            share += own
    return by_rank


def _mini_batches(
    policy: Policy, groups: Sequence[ScoredGroup], version: int, config: Config, of_batch: BatchRewards | None
) -> list[_MiniBatch]:
    counted = _counted(groups, config.objective)
    own = [(group.ticket.ticket, each) for group, each in zip(groups, counted, strict=True)]
    everyone = {number: each for found in gather(own) for number, each in found}  # several ranks may share a group
    place = dict(zip(everyone, split([*everyone], config.train, [*everyone.values()]), strict=True))
    parts = []
    for number in range(max(place.values(), default=0) + 1):
        mine = [group for group in groups if place[group.ticket.ticket] == number]
        batches = cut(mine, version=version, config=config, of_batch=of_batch)
        tokens, responses = policy.reduce(torch.tensor(size_of(batches))).tolist()
        if tokens == 0:
            raise ValueError("a training step needs at least one response token on some rank")
        most = int(policy.reduce(torch.tensor(len(batches)), largest=True))  # every rank takes part in every pass
        batches += [empty_micro_batch()] * (most - len(batches))
        if config.against_reference(version):
            batches = [policy.with_reference(batch) for batch in batches]
        count = denominator(config.objective, tokens, responses, config.train.max_response_tokens)
        parts.append(_MiniBatch(batches, count))
    return parts
