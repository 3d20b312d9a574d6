"""From scored groups to micro-batches: responses packed into rows, with everything the loss needs. Pure.

Shapes: R rows of L tokens; T target positions, those whose next token was sampled. Order is by ticket, then response,
so the same groups always give the same micro-batches, whatever the order they arrived in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..common.types import Responses, Ticket

ROW_TOKENS = 256
"""Rows are as long as the longest sequence and at least this: attention over a row costs its length squared whoever
is packed in it, so rows are kept short, but not so short that their unfilled ends weigh more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """One group as the learner trains it."""

    ticket: Ticket
    responses: Responses
    rewards_S: np.ndarray
    """r in {0, 1} of each response. float, shape [G]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one forward and backward pass takes. CPU tensors."""

    input_ids_RL: Tensor
    """Prompt and response tokens, several sequences in a row. int64."""
    position_ids_RL: Tensor
    """0, 1, 2, … within each sequence: where they restart, attention does not reach across. int64."""
    targets_T: Tensor
    """Positions in the flattened rows (0..R·L-1) from which a sampled token was predicted. int64."""
    taken_T: Tensor
    """The sampled tokens. int64."""
    behaviour_logprobs_T: Tensor
    """log μ, nats. float32."""
    advantages_T: Tensor
    """The response's advantage at each of its tokens. float32."""
    staleness_T: Tensor
    """Version at the start of the step minus the version that sampled the token. int64."""
    responses_T: Tensor
    """Which response the token belongs to, counted over the groups in ticket order. int64."""
    lengths_T: Tensor
    """|y|: tokens of the response that the token belongs to. int64."""
    signal_T: Tensor
    """Whether the token's group carries a signal, some advantage in it not 0 (the set T̃ of report 3.1). bool."""
    old_logprobs_T: Tensor | None = None
    """log π_old, nats, where a pass before the step's first update has found it. float32."""
    reference_logprobs_T: Tensor | None = None
    """log-probability under the initial model, nats, where a KL term needs it. float32."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        present = {field.name: tensor for field in fields(self) if (tensor := getattr(self, field.name)) is not None}
        return MicroBatch(**{name: tensor.to(device) for name, tensor in present.items()})


def empty_micro_batch() -> MicroBatch:
    """One token and no target: adds exactly nothing to the gradient, for ranks that have run out of micro-batches."""
    none, one = torch.zeros(0, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    nothing = torch.zeros(0)
    return MicroBatch(
        input_ids_RL=one,
        position_ids_RL=one,
        targets_T=none,
        taken_T=none,
        behaviour_logprobs_T=nothing,
        advantages_T=nothing,
        staleness_T=none,
        responses_T=none,
        lengths_T=none,
        signal_T=none.bool(),
    )


def staleness_of(responses: Responses, version: int) -> np.ndarray:
    """``version`` minus the version that sampled each token. int64 [T]."""
    staleness_T = np.full(len(responses.tokens_T), -1, dtype=np.int64)
    starts_S = np.cumsum(responses.lengths_S, dtype=np.int64) - responses.lengths_S
    for response, sampled_by, start, end in responses.spans.astype(np.int64):
        staleness_T[starts_S[response] + start : starts_S[response] + end] = version - sampled_by
    assert (staleness_T >= 0).all(), f"{responses.group_id}: spans leave a gap or come from after version {version}"
    return staleness_T


def micro_batches(
    groups: Sequence[ScoredGroup], advantages: Sequence[np.ndarray], *, version: int, token_budget: int
) -> list[MicroBatch]:
    """Cut ``groups`` into micro-batches of at most ``token_budget`` tokens each, prompts and padding included.

    ``advantages``: for each group, float [G] (``objective.advantage``). Raises ``ValueError`` where one prompt and
    response alone exceed the budget.
    """
    by_ticket = sorted(zip(groups, advantages, strict=True), key=lambda pair: pair[0].ticket.ticket)
    sequences: list[_Sequence] = []
    responses_before = 0
    for group, advantages_S in by_ticket:
        sequences += _sequences(group, advantages_S, version, responses_before)
        responses_before += len(group.responses.lengths_S)
    if not sequences:
        return []
    longest = max(sequence.tokens for sequence in sequences)
    if longest > token_budget:
        raise ValueError(f"a prompt and response of {longest} tokens exceed the micro-batch budget of {token_budget}")
    width = max(longest, min(ROW_TOKENS, token_budget))
    rows = _rows(sequences, width)
    at_once = token_budget // width
    return [_micro_batch(rows[start : start + at_once]) for start in range(0, len(rows), at_once)]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A prompt and one response."""

    input_ids: np.ndarray
    """All tokens but the last, from which nothing is predicted."""
    taken: np.ndarray
    behaviour_logprobs: np.ndarray
    staleness: np.ndarray
    advantage: float
    response: int
    signal: bool

    @property
    def tokens(self) -> int:
        return len(self.input_ids)


def _sequences(group: ScoredGroup, advantages_S: np.ndarray, version: int, responses_before: int) -> list[_Sequence]:
    prompt_P, responses = group.ticket.prompt_tokens_P, group.responses
    assert len(prompt_P), f"group {group.ticket.group_id} has an empty prompt"
    staleness_T = staleness_of(responses, version)
    signal = bool((advantages_S != 0).any())
    sequences, start = [], 0
    for response, length in enumerate(responses.lengths_S.tolist()):
        own = slice(start, start + length)
        start += length
        if length == 0:
            continue
        taken = responses.tokens_T[own].astype(np.int64)
        input_ids = np.concatenate([prompt_P.astype(np.int64), taken[:-1]])
        sequences.append(
            _Sequence(
                input_ids,
                taken,
                responses.logprobs_T[own],
                staleness_T[own],
                float(advantages_S[response]),
                responses_before + response,
                signal,
            )
        )
    return sequences


def _rows(sequences: list[_Sequence], width: int) -> list[list[_Sequence]]:
    """Fill rows of ``width`` tokens in order; a sequence that no longer fits opens the next row."""
    rows: list[list[_Sequence]] = []
    room = 0
    for sequence in sequences:
        if sequence.tokens > room:
            rows.append([])
            room = width
        rows[-1].append(sequence)
        room -= sequence.tokens
    return rows


def _micro_batch(rows: list[list[_Sequence]]) -> MicroBatch:
    length = max(sum(sequence.tokens for sequence in row) for row in rows)
    # Padding: token 0 at position 0. Each such position starts a sequence of its own, sees itself alone and is
    # nobody's context or target.
    input_ids_RL = np.zeros((len(rows), length), dtype=np.int64)
    position_ids_RL = np.zeros_like(input_ids_RL)
    targets = []
    for number, row in enumerate(rows):
        at = 0
        for sequence in row:
            end = at + sequence.tokens
            input_ids_RL[number, at:end] = sequence.input_ids
            position_ids_RL[number, at:end] = np.arange(sequence.tokens)
            targets.append(number * length + np.arange(end - len(sequence.taken), end))
            at = end
    flat = [sequence for row in rows for sequence in row]
    counts = [len(sequence.taken) for sequence in flat]
    return MicroBatch(
        input_ids_RL=torch.from_numpy(input_ids_RL),
        position_ids_RL=torch.from_numpy(position_ids_RL),
        targets_T=torch.from_numpy(np.concatenate(targets)),
        taken_T=torch.from_numpy(np.concatenate([sequence.taken for sequence in flat])),
        behaviour_logprobs_T=torch.from_numpy(
            np.concatenate([sequence.behaviour_logprobs for sequence in flat]).astype(np.float32)
        ),
        advantages_T=torch.from_numpy(
            np.repeat(np.array([sequence.advantage for sequence in flat], dtype=np.float32), counts)
        ),
        staleness_T=torch.from_numpy(np.concatenate([sequence.staleness for sequence in flat])),
        responses_T=torch.from_numpy(np.repeat(np.array([sequence.response for sequence in flat]), counts)),
        lengths_T=torch.from_numpy(np.repeat(np.array(counts), counts)),
        signal_T=torch.from_numpy(np.repeat(np.array([sequence.signal for sequence in flat]), counts)),
    )
