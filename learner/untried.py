"""The check of a model of a kind that nobody has tried with Leeway, before it is trained.

The learner puts its own attention into transformers' code and its own head behind it, so that responses can be packed.
A kind of model may carry something from token to token beside attention, may want an attention that ours is not, or may
change its logits after the head. What is known of is refused by name before a model loads
(``common/preflight/architecture.py``). Of the rest this check compares log-probabilities of a few random tokens:
packed, by the learner, and a response at a time, by transformers' own code. It costs five passes of some fifty tokens.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..common.errors import DataError
from ..common.preflight.architecture import TRIED
from .packing import Layout, MicroBatch, empty_micro_batch
from .policy import Policy

LAYOUT: Layout = ((9, 20, 13), (17, 11, 24))
BOUND = {"float32": 1e-3, "bfloat16": 0.1}
"""The largest mean difference, nats a token, by ``model.dtype``. Rounding alone gives about 1e-6 and 0.01; a response
that sees its neighbour gives tenths."""


def refuse_if_packing_changes(policy: Policy) -> None:
    """``DataError`` where the model is of an untried kind, and the learner computes something else for packed responses
    than transformers does for each alone. Collective."""
    kind = policy.module.language_model.config.model_type
    if kind in TRIED:
        return
    what = f"model {policy.config.model.path}: nobody has tried a {kind} with Leeway, and"
    try:
        mean = _difference(policy)
    except TypeError as error:  # its code does not hand on to its attention what the learner adds
        raise DataError(
            f"{what} it cannot be trained here: its code does not take packed responses ({error})"
        ) from error
    if not mean <= (bound := BOUND[policy.config.model.dtype]):
        raise DataError(
            f"{what} it cannot be trained here: for packed responses the learner's log-probabilities differ from "
            f"transformers' for each alone by {mean:.2g} nats a token in the mean, more than {bound:g}"
        )


@torch.no_grad()
def _difference(policy: Policy) -> float:
    """The mean of |log π by the learner - log π by transformers| over the tokens of ``LAYOUT``, nats."""
    dice = np.random.default_rng(0)
    size = policy.module.language_model.config.get_text_config().vocab_size
    # The last token of a response is predicted, and not in the row.
    tokens = [[dice.integers(0, size, part + (place > 0)) for place, part in enumerate(group)] for group in LAYOUT]
    together = policy(_row(tokens)).logprobs_T
    alone = [
        policy.engine(_row([[prompt, response]]).to(policy.device), plain=True).logprobs_T
        for prompt, *responses in tokens
        for response in responses
    ]
    return float((together - torch.cat(alone)).abs().mean())


def _row(groups: list[list[np.ndarray]]) -> MicroBatch:
    """A micro-batch of prompts, each with its responses."""
    input_ids, position_ids, targets, end = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), 0
    for prompt, *responses in groups:
        input_ids.append(prompt)
        position_ids.append(np.arange(len(prompt)))
        last = (end := end + len(prompt)) - 1
        for response in responses:
            own = len(response) - 1
            input_ids.append(response[:-1])
            position_ids.append(np.arange(len(prompt), len(prompt) + own))
            targets.append(np.array([last, *range(end, end + own)]))
            end += own
    layout = tuple((len(prompt), *(len(each) - 1 for each in responses)) for prompt, *responses in groups)
    taken = [response for _, *responses in groups for response in responses]
    joined = [torch.from_numpy(np.concatenate(parts)) for parts in (input_ids, position_ids, targets, taken)]
    return replace(
        empty_micro_batch(),
        input_ids_L=joined[0],
        position_ids_L=joined[1],
        layout=layout,
        targets_T=joined[2],
        taken_T=joined[3],
    )
