"""Calls a loss of the user's, chunk by chunk of the token op, and refuses what is no loss.

It is the one code of a user's that runs in a process which cannot be killed. So everything that it gives is looked at
before it counts: what fails once stops the step before the optimizer moves, on every rank.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...common.errors import ConfigError
from ...common.user_code.loading import told
from ..objective.loss import Tokens
from ..packing import MicroBatch
from ..ranks import world

ASKED: dict[str, Callable[[Tokens, MicroBatch, slice, float], Tensor | None]] = {
    "logprobs": lambda tokens, batch, chunk, lag: tokens.logprobs_T,
    "entropy": lambda tokens, batch, chunk, lag: tokens.entropy_T,
    "anchor": lambda tokens, batch, chunk, lag: tokens.anchor_T,
    "weights": lambda tokens, batch, chunk, lag: tokens.weights_T,
    "advantages": lambda tokens, batch, chunk, lag: tokens.advantages_T,
    "rewards": lambda tokens, batch, chunk, lag: batch.rewards_T[chunk],
    "behaviour": lambda tokens, batch, chunk, lag: batch.behaviour_logprobs_T[chunk],
    # Before the first update π_old is π_θ, and a pass that measures it may not have been made.
    "old": lambda tokens, batch, chunk, lag: (
        tokens.logprobs_T.detach() if lag == 0.0 else _chunk(batch.old_logprobs_T, chunk)
    ),
    "reference": lambda tokens, batch, chunk, lag: _chunk(batch.reference_logprobs_T, chunk),
    "response_log_ratios": lambda tokens, batch, chunk, lag: tokens.log_ratio_T,
    "lengths": lambda tokens, batch, chunk, lag: tokens.lengths_T,
    "staleness": lambda tokens, batch, chunk, lag: batch.staleness_T[chunk],
    "signal": lambda tokens, batch, chunk, lag: batch.signal_T[chunk],
}
"""What a function is told of its tokens where it has a parameter of the name; docs/how-to/own-loss.md says what each
is. Tensors of the chunk's shape [C]. Gradients go through ``logprobs`` and ``entropy`` alone."""


class OwnLoss:
    """A loaded function. ``digest``: that of the user's code that came with it."""

    def __init__(self, name: str, function: Callable[..., Any], asks: frozenset[str], options: Mapping[str, Any]):
        self.name, self.asks = name, asks
        self.digest: str | None = None
        self._function, self._options = function, dict(options)
        self._failure: ConfigError | None = None
        self._stopped: list[Tensor] = []

    def __call__(self, tokens: Tokens, batch: MicroBatch, chunk: slice, lag: float) -> Tensor:
        """The policy term of every token of ``chunk``, float [C]. ``lag`` as in ``step.surrogate_sum``.

        What fails is a ``ConfigError``. Where there are several ranks, the others are by now in an exchange that this
        one must not leave: the failure is kept for ``raise_failure``, and the term is 0 meanwhile.
        """
        if chunk.start == 0:
            self._stopped.clear()
        if self._failure is None:
            try:
                given = {name: ASKED[name](tokens, batch, chunk, lag) for name in ASKED if name in self.asks}
                return self._called(given, tokens)
            except ConfigError as error:
                self._failure = error
                if world() == 1:
                    self.raise_failure()
        self._stopped.append(torch.zeros_like(tokens.advantages_T, dtype=torch.bool))
        return 0.0 * tokens.logprobs_T

    def raise_failure(self) -> None:
        """Raise what has failed since the last call, if anything has."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stopped(self, count: int) -> Tensor:
        """For each of the ``count`` tokens of the last micro-batch, whether it has an advantage and its policy term no
        gradient by its log-probability. Bool [T], on the CPU."""
        found = self._stopped if count else []
        return torch.cat([torch.zeros(0, dtype=torch.bool), *(each.cpu() for each in found)])

    def try_out(self, count: int) -> None:
        """Call it on ``count`` made-up tokens. ``ConfigError`` where what it gives is no loss."""
        dice = torch.Generator().manual_seed(count)
        given = {name: 0.1 * torch.randn(count, generator=dice) for name in ASKED}
        for name in ("logprobs", "behaviour", "old", "reference", "anchor"):
            given[name] -= 1.0
        given |= {"weights": torch.ones(count), "lengths": torch.full((count,), float(count))}
        given |= {"staleness": torch.arange(count) % 3, "signal": torch.ones(count, dtype=torch.bool)}
        for name in ("logprobs", "entropy"):
            given[name] = given[name].requires_grad_()
        with torch.enable_grad():
            tokens = Tokens(given["logprobs"], given["entropy"], given["anchor"], given["advantages"])
            self._called({name: given[name] for name in ASKED if name in self.asks}, tokens)

    def _called(self, found: Mapping[str, Tensor | None], tokens: Tokens) -> Tensor:
        """What the function gives for ``found``, once that is known to be a loss. ``ConfigError`` where it is none."""
        dtype = tokens.logprobs_T.dtype
        given = {}
        for name, value in found.items():
            value = torch.ones_like(tokens.advantages_T) if value is None and name == "weights" else value
            assert value is not None, f"{name} was asked for and is not known"
            value = value.to(dtype) if value.is_floating_point() else value
            given[name] = value.clone()  # its own: a function that writes into it must not change the batch
        try:
            term = self._function(**given, **self._options)
            self._refuse_what_is_no_loss(term, tokens)
            self._refuse_unless_finite(term, "it gave", given)
            if torch.is_grad_enabled():
                self._refuse_bad_gradients(term, given, tokens)
        except ConfigError:
            raise
        except BaseException as error:  # the boundary: whatever it raises is the user's own mistake
            raise ConfigError(f"{self.name}: {told(error)}") from None
        checked: Tensor = term
        return checked

    def _refuse_what_is_no_loss(self, term: Any, tokens: Tokens) -> None:
        due = f"a loss for each token: {_described(tokens.logprobs_T)}"
        if not isinstance(term, Tensor):
            raise ConfigError(f"{self.name}: it returned a {type(term).__name__} where it has to return {due}")
        if _described(term) != _described(tokens.logprobs_T):
            raise ConfigError(f"{self.name}: it returned {_described(term)} where it has to return {due}")

    def _refuse_bad_gradients(self, term: Tensor, given: Mapping[str, Tensor], tokens: Tokens) -> None:
        """Refuse a term without gradients, or with some that are not finite; note where the gradient stops."""
        leaves = {"logprobs": tokens.logprobs_T, "entropy": tokens.entropy_T}
        leaves = {name: tensor for name, tensor in leaves.items() if tensor.requires_grad}
        slopes: dict[str, Tensor | None] = {}
        if term.requires_grad:
            found = torch.autograd.grad(term.sum(), [*leaves.values()], retain_graph=True, allow_unused=True)
            slopes = dict(zip(leaves, found, strict=True))
        if all(slope is None for slope in slopes.values()):
            raise ConfigError(
                f"{self.name}: what it returned has no gradient by logprobs or entropy (is it detached, or made of "
                "anything else?), so nothing would be trained"
            )
        for slope in slopes.values():
            if slope is not None:
                self._refuse_unless_finite(slope, "its gradient is", given)
        by_logprob = slopes["logprobs"]
        still = torch.ones_like(term, dtype=torch.bool) if by_logprob is None else by_logprob == 0
        self._stopped.append(still & (tokens.advantages_T != 0))

    def _refuse_unless_finite(self, values: Tensor, what: str, given: Mapping[str, Tensor]) -> None:
        wrong = ~torch.isfinite(values.detach())
        if not wrong.any():
            return
        at = int(wrong.nonzero()[0])
        told_of = ", ".join(f"{name} {value[at].item():.6g}" for name, value in given.items())
        raise ConfigError(f"{self.name}: {what} {values[at].item()} for a token with {told_of}")


def _chunk(tensor_T: Tensor | None, chunk: slice) -> Tensor | None:
    return None if tensor_T is None else tensor_T[chunk]


def _described(tensor: Tensor) -> str:
    return f"a tensor of shape {list(tensor.shape)}, {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
