"""From scored groups to micro-batches: responses packed one after the other, with everything the loss needs. Pure.

A group's prompt stands once, before those of its responses that are in the micro-batch: what a prompt's tokens become
does not depend on the response, so nothing is computed twice, and there is no padding. ``attention.py`` keeps responses
apart.

Tokens that the policy observed are context: they are among the L tokens and no targets.

Shapes: L tokens in one row; T target positions, those whose next token was sampled. Order is by ticket, then response,
so the same groups always give the same micro-batches, whatever the order they arrived in.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..common.types import Responses, Ticket
from .cutting import places

Layout = tuple[tuple[int, ...], ...]
"""How a row is filled: of each group the tokens of its prompt, then those of each of its responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """One group as the learner trains it."""

    ticket: Ticket
    responses: Responses
    rewards_S: np.ndarray
    """r of each response. float64, shape [G]."""
    micro_batch_S: tuple[int, ...] | None = None
    """Of each response the number of the micro-batch in which this rank trains it, -1 where another rank does; None
    until the mini-batch is cut. Advantages are those of the whole group."""

    @property
    def sum(self) -> int:
        """CRC-32 of what is trained of the group: tokens, log-probabilities and rewards. Two ranks hold the same group
        where theirs are equal."""
        return zlib.crc32(
            self.rewards_S.tobytes(), zlib.crc32(self.responses.logprobs_T.tobytes(), self.responses.fingerprint)
        )

    @property
    def trained_S(self) -> np.ndarray:
        """Whether this rank trains the response. bool, shape [G]."""
        return np.array([number >= 0 for number in self.micro_batch_S or [0] * len(self.rewards_S)])


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one forward and backward pass takes. CPU tensors."""

    input_ids_L: Tensor
    """Tokens of prompts and responses, as ``layout`` says. A response's last token is not among them. int64."""
    position_ids_L: Tensor
    """0, 1, 2, … in a prompt, and on from there in each of its responses. int64."""
    layout: Layout
    """What the L tokens are."""
    targets_T: Tensor
    """Positions (0..L-1) from which a sampled token was predicted: for first tokens, the prompt's last. int64."""
    taken_T: Tensor
    """The sampled tokens. int64."""
    behaviour_logprobs_T: Tensor
    """log μ, nats. float32."""
    advantages_T: Tensor
    """The response's advantage at each of its tokens. float32."""
    rewards_T: Tensor
    """The response's reward at each of its tokens. float32."""
    staleness_T: Tensor
    """Version at the start of the step minus the version that sampled the token. int64."""
    responses_T: Tensor
    """Which response the token belongs to, counted over the groups in ticket order. int64."""
    lengths_T: Tensor
    """|y|: trained tokens of the response that the token belongs to. int64."""
    signal_T: Tensor
    """Whether the token's group carries a signal, some advantage in it not 0 (the set T̃ of report 3.1). bool."""
    old_logprobs_T: Tensor | None = None
    """log π_old, nats, where a pass before the step's first update has found it. float32."""
    reference_logprobs_T: Tensor | None = None
    """log-probability under the initial model, nats, where the divergence from it is asked for. float32."""
    log_weights_T: Tensor | None = None
    """log π_old/μ of the token's response, where the correction weighs whole responses. float32."""
    log_ratio_T: Tensor | None = None
    """log of ρ of the token's response (``objective.ratio_level``), where the loss is of whole responses. float32."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: it for name, it in own.items() if isinstance(it, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


def empty_micro_batch() -> MicroBatch:
    """One token and no target: adds exactly nothing to the gradient, for ranks that have run out of micro-batches."""
    none, one = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    nothing = torch.zeros(0)
    return MicroBatch(
        input_ids_L=one,
        position_ids_L=one,
        layout=((1,),),
        targets_T=none,
        taken_T=none,
        behaviour_logprobs_T=nothing,
        advantages_T=nothing,
        rewards_T=nothing,
        staleness_T=none,
        responses_T=none,
        lengths_T=none,
        signal_T=none.bool(),
    )


def staleness_of(responses: Responses, version: int) -> np.ndarray:
    """``version`` minus the version that sampled each token; -1 for observed tokens. int64 [T]."""
    staleness_T = np.full(len(responses.tokens_T), -1, dtype=np.int64)
    starts_S = np.cumsum(responses.lengths_S, dtype=np.int64) - responses.lengths_S
    for response, sampled_by, start, end in responses.spans.astype(np.int64):
        staleness_T[starts_S[response] + start : starts_S[response] + end] = version - sampled_by
    sound = ((staleness_T >= 0) == responses.sampled_T).all()
    assert sound, f"{responses.group_id}: spans leave a gap or come from after version {version}"
    return staleness_T


def dealt(groups: Sequence[ScoredGroup], *, token_budget: int, ranks: int) -> list[list[ScoredGroup]]:
    """What each rank trains of a mini-batch, and in which micro-batches, of at most ``token_budget`` tokens each,
    prompts included. The order of ``groups`` does not matter. Raises ``ValueError`` where one prompt and response alone
    exceed the budget."""
    ordered = sorted(groups, key=_number_of)
    sizes = [[len(it.ticket.prompt_tokens_P), *(it.responses.lengths_S.astype(int) - 1).tolist()] for it in ordered]
    by_rank: list[list[ScoredGroup]] = [[] for _ in range(ranks)]
    for group, own in zip(ordered, places(sizes, limit=token_budget, ranks=ranks), strict=True):
        for rank in {rank for rank, _ in own}:
            numbers = tuple(number if of == rank else -1 for of, number in own)
            by_rank[rank].append(replace(group, micro_batch_S=numbers))
    return by_rank


def micro_batches(
    groups: Sequence[ScoredGroup],
    advantages: Sequence[np.ndarray],
    *,
    version: int,
    token_budget: int,
    max_staleness: int | None = None,
) -> list[MicroBatch]:
    """The micro-batches of ``groups``: as they were ``dealt``, or, where they were not, as to a single rank.

    ``advantages``: for each group, float [G] (``objective.advantage``). ``max_staleness``: tokens that are older are
    context, and no targets (overflow policy ``mask``). Raises as ``dealt`` does.
    """
    by_ticket = sorted(zip(groups, advantages, strict=True), key=lambda pair: _number_of(pair[0]))
    own = [group for group, _ in by_ticket]
    if any(group.micro_batch_S is None for group in own):
        (own,) = dealt(own, token_budget=token_budget, ranks=1)
    parts: dict[int, list[_Sequence]] = defaultdict(list)
    responses_before = 0
    for group, (_, advantages_S) in zip(own, by_ticket, strict=True):
        assert group.micro_batch_S is not None
        for sequence in _sequences(group, advantages_S, version, responses_before, max_staleness):
            parts[group.micro_batch_S[sequence.response - responses_before]].append(sequence)
        responses_before += len(group.micro_batch_S)
    return [_micro_batch(parts[number]) for number in sorted(parts)]


def _number_of(group: ScoredGroup) -> int:
    return group.ticket.ticket


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One response, and the prompt that it shares with others of its group."""

    ticket: int
    prompt: np.ndarray
    taken: np.ndarray
    behaviour_logprobs: np.ndarray
    staleness: np.ndarray
    target: np.ndarray
    """Which of its tokens are trained: sampled, and within the bound where older ones are masked. bool."""
    advantage: float
    reward: float
    response: int
    signal: bool


def _sequences(
    group: ScoredGroup, advantages_S: np.ndarray, version: int, responses_before: int, max_staleness: int | None
) -> list[_Sequence]:
    prompt_P, responses = group.ticket.prompt_tokens_P.astype(np.int64), group.responses
    assert len(prompt_P), f"group {group.ticket.group_id} has an empty prompt"
    staleness_T = staleness_of(responses, version)
    target_T = responses.sampled_T
    if max_staleness is not None:
        target_T &= staleness_T <= max_staleness
    signal = bool((advantages_S != 0).any())
    sequences, start, trained_S = [], 0, group.trained_S
    for response, length in enumerate(responses.lengths_S.tolist()):
        own = slice(start, start + length)
        start += length
        if not trained_S[response] or not target_T[own].any():
            continue
        sequences.append(
            _Sequence(
                group.ticket.ticket,
                prompt_P,
                responses.tokens_T[own].astype(np.int64),
                responses.logprobs_T[own],
                staleness_T[own],
                target_T[own],
                float(advantages_S[response]),
                float(group.rewards_S[response]),
                responses_before + response,
                signal,
            )
        )
    return sequences


def _micro_batch(sequences: list[_Sequence]) -> MicroBatch:
    input_ids, position_ids, targets, layout, end = [], [], [], [], 0
    for _, of_group in groupby(sequences, key=lambda sequence: sequence.ticket):
        group = list(of_group)
        prompt, end = group[0].prompt, end + len(group[0].prompt)
        input_ids.append(prompt)
        position_ids.append(np.arange(len(prompt)))
        layout.append((len(prompt), *(len(sequence.taken) - 1 for sequence in group)))
        last_of_prompt = end - 1
        for sequence in group:
            own = len(sequence.taken) - 1
            input_ids.append(sequence.taken[:-1])
            position_ids.append(np.arange(len(prompt), len(prompt) + own))
            targets.append(np.concatenate([[last_of_prompt], np.arange(end, end + own)])[sequence.target])
            end += own
    counts = [int(sequence.target.sum()) for sequence in sequences]

    def each(values: list, dtype: type) -> Tensor:
        return torch.from_numpy(np.repeat(np.array(values, dtype=dtype), counts))

    def joined(parts: list[np.ndarray], dtype: type = np.int64) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(dtype))

    return MicroBatch(
        input_ids_L=joined(input_ids),
        position_ids_L=joined(position_ids),
        layout=tuple(layout),
        targets_T=joined(targets),
        taken_T=joined([sequence.taken[sequence.target] for sequence in sequences]),
        behaviour_logprobs_T=joined(
            [sequence.behaviour_logprobs[sequence.target] for sequence in sequences], np.float32
        ),
        advantages_T=each([sequence.advantage for sequence in sequences], np.float32),
        rewards_T=each([sequence.reward for sequence in sequences], np.float32),
        staleness_T=joined([sequence.staleness[sequence.target] for sequence in sequences]),
        responses_T=each([sequence.response for sequence in sequences], np.int64),
        lengths_T=each(counts, np.int64),
        signal_T=each([sequence.signal for sequence in sequences], np.bool_),
    )
