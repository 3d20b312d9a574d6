"""The whole algorithm in one process, with data exactly as old as a study wants it: sample, grade, step.

This is ``examples/one_process.py``, extended in two ways. The step is the learner's own (``train_step``), so
mini-batches, reuse, corrections and KL are there. And training step v may be given older data: with ``flow.inject_lag``
= n, version max(0, v - n) samples every group; with a ``Tail``, each group has a version of its own. Spans say which.
Nothing depends on time, so a kind of staleness can be studied on any hardware, and a run's numbers are the same every
time.

The groups that a batch still lacks are sampled side by side, in ticket order. Groups that the batch then turns out not
to need are issued again for the next step, so the tickets that count are those of a loop that samples one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..common.config import Config, expand
from ..common.prompts import decoder_of, sampling_seed
from ..common.tensors import flatten, tensors_of
from ..common.types import Responses, Ticket, VerdictKind
from ..learner.flow.curriculum import Curriculum
from ..learner.flow.prompts import Prompt, PromptSource, load_prompts
from ..learner.flow.staleness import expired
from ..learner.objective.advantage import counts, is_trained
from ..learner.objective.entropy import ControllerState
from ..learner.packing import ScoredGroup
from ..learner.policy import Policy
from ..learner.step import train_step
from ..rollout.torch_engine import as_responses, end_tokens, sample_groups
from ..verifier.clocked import clocked
from ..verifier.graders import judge_of
from .tail import Tail

COLUMNS = (
    "reward/mean", "entropy/policy", "evaluation/reward", "evaluation/entropy", "entropy/alpha", "entropy/coefficient",
    "policy/updates", "policy/clip_fraction", "logprob/abs_diff_mean", "logprob/ess", "kl/reference", "grad_norm",
    "batch/groups", "batch/tokens", "staleness/head_mean", "staleness/head_max", "staleness/token_mean",
    "generated/groups", "generated/tokens", "generated/length_mean", "generated/truncated_share", "overflow/groups",
)  # fmt: skip
"""What is kept of a training step: the learner's metrics, and

``reward/mean``, ``generated/…``: of every group that was sampled and graded, with a signal or not;
``evaluation/…``: every few steps, of the policy before the step, on held-out prompts at τ = 1: mean reward, and
entropy as the mean of -log π over the sampled tokens;
``overflow/groups``: groups that were past the bound and refunded (``drop``, ``mask``)."""

HELD_OUT = 128
"""Number of prompts, the last rows of the data, that are held out of training where there is an evaluation."""
TRIES = 4
"""Responses to each held-out prompt."""
BUDGET = 64
"""Tokens that a response in an evaluation may have, whatever T the training has: at toy scale none is truncated."""
MOST_SAMPLED = 6
"""How many batches' worth of groups a step samples before it is content with the groups that it has: a policy that has
dissolved, or solves everything, gives no signal however long one samples."""


def training(
    run: Config, steps: int, *, tail: Tail | None = None, evaluate_every: int = 0
) -> Iterator[dict[str, float]]:
    """Train, and yield the metrics of every training step: ``COLUMNS``, as far as they were measured, and others.

    ``tail`` gives the groups' lags, in the place of ``flow.inject_lag``. The overflow policy then has work to do: under
    ``wait`` the learner waits for a straggler, so no group is older than the bound; ``drop`` refunds what is past the
    bound, ``mask`` masks it, and ``soft`` trains it. ``evaluate_every``: steps between evaluations; 0 means that there
    are none, and that no prompt is held out.
    """
    tokenizer = AutoTokenizer.from_pretrained(expand(run.model.path))
    prompts = load_prompts(run.source, tokenizer, seed=run.flow.seed).prompts
    held_out = prompts[-HELD_OUT:] if evaluate_every else []
    source = PromptSource(prompts[: len(prompts) - len(held_out)])
    curriculum, sampler = Curriculum(run, source), Sampler(run, tokenizer)
    policy, controller, collector = Policy(run), ControllerState(), Collector(curriculum, sampler, tail)
    for version in range(steps):
        config = run.at_stage(stage := run.stage_of(version))  # lengths, sizes and τ of this stage
        curriculum.reconsider(version, collector.next)
        if stage == curriculum.stages_open:
            curriculum.open(stage, collector.next)
        sampler.take(version, policy)
        batch = collector.collect(version, stage, config)
        metrics = batch.metrics()
        if evaluate_every and version % evaluate_every == 0:
            metrics |= sampler.evaluation(held_out)
        if batch.trained:
            result = train_step(policy, batch.trained, version=version, controller=controller, config=config)
            controller, metrics = result.controller, metrics | result.metrics
        sampler.forget(version + 1 - (tail.most if tail else run.flow.inject_lag))
        yield metrics


@dataclass(slots=True)
class Batch:
    """What a training step was given."""

    sampled: list[ScoredGroup] = field(default_factory=list)
    """Every group that counts, in ticket order."""
    trained: list[ScoredGroup] = field(default_factory=list)
    """The groups that are trained, without what the overflow policy would not train."""
    counted: int = 0
    """How many of them have a signal."""
    late: int = 0
    """Groups refunded for their age."""

    def metrics(self) -> dict[str, float]:
        """Metrics over all groups that were sampled."""
        lengths_S = np.concatenate([group.responses.lengths_S for group in self.sampled])
        finished_S = np.concatenate([group.responses.finished_S for group in self.sampled])
        return {
            "reward/mean": float(np.mean([group.rewards_S.mean() for group in self.sampled])),
            "generated/groups": float(len(self.sampled)),
            "generated/tokens": float(lengths_S.sum()),
            "generated/length_mean": float(lengths_S.mean()),
            "generated/truncated_share": 1.0 - float(finished_S.mean()),
            "overflow/groups": float(self.late),
        }


class Collector:
    """Rejection sampling: tickets in order, until as many groups as a batch takes can be trained."""

    def __init__(self, curriculum: Curriculum, sampler: Sampler, tail: Tail | None = None) -> None:
        self._curriculum, self._sampler, self._tail = curriculum, sampler, tail
        self.next = 0
        """Number of the next ticket."""
        self._share = 1.0
        """The share of the groups sampled for the last batch that had a signal."""

    def collect(self, version: int, stage: int, config: Config) -> Batch:
        """The groups of training step ``version``."""
        batch, size = Batch(), config.train.groups_per_step
        most = MOST_SAMPLED * size
        while batch.counted < size and len(batch.sampled) < most:
            likely = math.ceil((size - batch.counted) / self._share)
            numbers = range(self.next, self.next + min(likely, most - len(batch.sampled)))
            tickets = [self._ticket(number, version, stage, config) for number in numbers]
            pace = self._tail.tokens_per_version if self._tail else 0
            for group in self._sampler.groups(tickets, version, pace):
                if batch.counted == size:
                    break  # the rest is issued again for the next step
                self.next += 1
                self._add(group, batch, version, config)
        self._share = max(1, batch.counted) / len(batch.sampled)
        return batch

    def _ticket(self, number: int, version: int, stage: int, config: Config) -> Ticket:
        flow = config.flow
        lag = self._tail.lag(flow.seed, number) if self._tail else flow.inject_lag
        if flow.overflow == "wait":
            lag = min(lag, flow.largest_bound)  # the learner has waited for it
        return self._curriculum.ticket(number, stage, min_version=max(0, version - lag))

    def _add(self, group: ScoredGroup, batch: Batch, version: int, config: Config) -> None:
        batch.sampled.append(group)
        self._curriculum.saw(group.ticket, group.rewards_S)
        flow, spans = config.flow, group.responses.spans
        if expired(spans, version, max_staleness=flow.largest_bound, overflow=flow.overflow):
            batch.late += 1
            return
        batch.counted += counts(group.rewards_S, group.responses.finished_S, config.objective)
        if is_trained(group.rewards_S, group.responses.finished_S, config.objective):
            batch.trained.append(group)


class Sampler:
    """A model that samples as any of the versions it remembers, and the verifier's grader behind it."""

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
        torch.set_num_threads(config.rollout.threads)
        path = expand(config.model.path)
        self._decode, self._ends, self._dtype = decoder_of(tokenizer), end_tokens(path), config.weights.dtype
        self._model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(path), dtype=getattr(torch, config.rollout.dtype), attn_implementation="sdpa"
        ).eval()
        self._weights: dict[int, dict[str, torch.Tensor]] = {}

    def take(self, version: int, policy: Policy) -> None:
        """Remember the policy's weights as ``version``, in the dtype in which they would be published."""
        self._weights[version] = tensors_of(flatten(policy.named_weights(), self._dtype))

    def forget(self, before: int) -> None:
        """Forget versions below ``before``, which nobody will ask for any more."""
        for version in [version for version in self._weights if version < before]:
            del self._weights[version]

    def groups(self, tickets: Sequence[Ticket], newest: int, tokens_per_version: int = 0) -> list[ScoredGroup]:
        """The tickets' groups, in their order, each begun by the version that its ticket asks for."""

        def alike(place: int) -> tuple[int, int]:
            return tickets[place].min_version, len(tickets[place].prompt_tokens_P)

        made: dict[int, ScoredGroup] = {}
        for _, same in groupby(sorted(range(len(tickets)), key=alike), key=alike):
            places = list(same)
            batch = [tickets[place] for place in places]
            responses = self._sample(batch, newest, tokens_per_version)
            made |= zip(places, map(self._graded, batch, responses), strict=True)
        return [made[place] for place in range(len(tickets))]

    def _sample(self, tickets: Sequence[Ticket], newest: int, tokens_per_version: int) -> list[Responses]:
        version = tickets[0].min_version
        self._load(version)
        changes = [(0, version)]

        def weights_changed(token: int) -> bool:
            due = tokens_per_version and token % tokens_per_version == 0 and changes[-1][1] < newest
            if due:
                changes.append((token, changes[-1][1] + 1))
                self._load(changes[-1][1])
            return bool(due)

        sampled = sample_groups(self._model, tickets, self._ends, weights_changed)
        return [
            as_responses(ticket, group, changes, worker="study", seconds=0.0)
            for ticket, group in zip(tickets, sampled, strict=True)
        ]

    @torch.no_grad()
    def _load(self, version: int) -> None:
        targets = self._model.state_dict()
        for name, tensor in self._weights[version].items():
            targets[name].copy_(tensor)

    def _graded(self, ticket: Ticket, responses: Responses) -> ScoredGroup:
        ends = np.cumsum(responses.lengths_S)[:-1]
        texts = [self._decode(tokens.tolist()) for tokens in np.split(responses.tokens_T, ends)]
        judge = judge_of(ticket.ability).grade
        found = [
            clocked(10.0, partial(judge, text, ticket.ground_truth, bool(finished), reasoning_open=False))
            for text, finished in zip(texts, responses.finished_S, strict=True)
        ]
        rewards = [float(kind is VerdictKind.CORRECT) for kind, _ in found]
        return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array(rewards, dtype=np.float64))

    def evaluation(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Reward and entropy of the newest version at τ = 1. The prompts and the random numbers are always the same, so
        that settings differ only by their weights."""
        newest = max(self._weights)
        tickets = [_evaluation_ticket(number, prompt, newest) for number, prompt in enumerate(prompts)]
        groups = self.groups(tickets, newest)
        logprobs_T = np.concatenate([group.responses.logprobs_T for group in groups])
        return {
            "evaluation/reward": float(np.mean([group.rewards_S for group in groups])),
            "evaluation/entropy": -float(logprobs_T.mean(dtype=np.float64)),
        }


def _evaluation_ticket(number: int, prompt: Prompt, version: int) -> Ticket:
    return Ticket(
        ticket=number,
        incarnation=0,
        min_version=version,
        stage=0,
        prompt_id=prompt.prompt_id,
        prompt_tokens_P=prompt.tokens_P,
        group_size=TRIES,
        max_new_tokens=BUDGET,
        temperature=1.0,
        seed=sampling_seed(0, number),
        ability=prompt.ability,
        ground_truth=prompt.ground_truth,
    )
