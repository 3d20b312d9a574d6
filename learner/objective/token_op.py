"""Log-probability of the taken token and full-vocabulary entropy, straight from hidden states and the head's weight.

The whole [T, V] logits never exist: tokens pass in chunks. A token's loss depends on its own log-probability and
entropy alone, and the loss is a sum over tokens. So a chunk's gradient is known as soon as its logits are, and it is
taken right there. That needs three matrix products in all, as many as the plain version; recomputing the logits in the
backward pass would take four. What is kept for the backward pass is the gradient of hidden states [T, H] and weight [V,
H].
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LossOf = Callable[[Tensor, Tensor, slice], Tensor]
"""``loss_of(logprobs_C, entropy_C, chunk) -> loss_C``: the loss of each token in ``chunk`` (a slice of 0..T). It must
be a differentiable function of that token's log-probability and entropy, and of nothing else that needs a gradient."""

CHUNK_ELEMENTS = 1 << 25
"""How many logits the CPU holds at a time: 128 MiB in float32, and as much again for their exponentials."""
BYTES_PER_LOGIT = 10
"""What a logit of a chunk takes on a GPU: itself and its exponential in float32, its gradient in bfloat16."""
SUMMED_ROWS = 16
"""How many rows of exponential times logit are held at a time."""


class TokenOutput(NamedTuple):
    loss_sum: Tensor | None
    """Sum of the loss over the tokens; scalar, differentiable. ``None`` where no loss was asked for."""
    logprobs_T: Tensor
    """log π(taken) under softmax(logits/τ), nats, float32 (float64 for float64 inputs). Carries no gradient."""
    entropy_T: Tensor
    """H(π) over the whole vocabulary, nats, same dtype. Carries no gradient."""


def chunk_elements_on(device: torch.device, vocabulary: int, share: float) -> int:
    """How many logits a chunk may have on ``device``: what takes ``share`` of the memory that is free on a GPU now, and
    ``CHUNK_ELEMENTS`` on the CPU.

    A chunk's number of tokens is rounded down to a power of two. So a few megabytes more or less do not change where
    the chunks are cut, which the last bits of the gradient depend on.
    """
    if device.type != "cuda":
        return CHUNK_ELEMENTS
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + kept
    tokens = max(1, int(share * free) // (BYTES_PER_LOGIT * vocabulary))
    return vocabulary << (tokens.bit_length() - 1)


def token_op(
    hidden_TH: Tensor,
    weight_VH: Tensor,
    taken_T: Tensor,
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    loss_of: LossOf | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> TokenOutput:
    """Log-probability and entropy of T tokens under softmax((hidden·weightᵀ + bias)/τ), and the sum of their loss.

    ``hidden_TH``: float [T, H]; ``weight_VH``: float [V, H]; ``taken_T``: int64 [T] in 0..V-1. The matrix products run
    in autocast's dtype, or in bfloat16 where the weight is bfloat16, and everything else in float32. Exact and
    deterministic on one device; T = 0 is allowed and gives zeros. The gradient can be taken once.
    """
    device = hidden_TH.device.type
    half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if weight_VH.dtype == torch.bfloat16:
        half = torch.bfloat16
    rows = max(1, chunk_elements // weight_VH.shape[0])
    if loss_of is not None and torch.is_grad_enabled():
        return TokenOutput(
            *_TokenLoss.apply(hidden_TH, weight_VH, bias_V, taken_T, temperature, loss_of, half, rows)  # type: ignore[no-untyped-call]
        )
    with torch.no_grad(), torch.autocast(device, enabled=False):
        return _measure(hidden_TH, weight_VH, bias_V, taken_T, temperature, loss_of, half, rows)


def _measure(
    hidden_TH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    taken_T: Tensor,
    temperature: float,
    loss_of: LossOf | None,
    half: torch.dtype | None,
    rows: int,
) -> TokenOutput:
    product = _Product(hidden_TH, weight_VH, half)
    logprobs_T, entropy_T = product.new(len(taken_T)), product.new(len(taken_T))
    loss_sum = torch.zeros((), dtype=torch.float64, device=hidden_TH.device)
    for chunk in _chunks(len(taken_T), rows):
        hidden_CH = product.factor(hidden_TH[chunk])
        softmax = _softmax(product.logits(hidden_CH, bias_V, temperature), taken_T[chunk])
        logprobs_T[chunk], entropy_T[chunk] = softmax.logprobs_C, softmax.entropy_C
        if loss_of is not None:
            loss_sum += loss_of(softmax.logprobs_C, softmax.entropy_C, chunk).sum(dtype=torch.float64)
    return TokenOutput(None if loss_of is None else loss_sum.to(product.dtype), logprobs_T, entropy_T)


class _TokenLoss(torch.autograd.Function):
    """Forward and gradient in one pass over the chunks; ``backward`` only scales what ``forward`` has found."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        taken_T: Tensor,
        temperature: float,
        loss_of: LossOf,
        half: torch.dtype | None,
        rows: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(hidden_TH.device.type, enabled=False):
            product = _Product(hidden_TH, weight_VH, half)
            logprobs_T, entropy_T = product.new(len(taken_T)), product.new(len(taken_T))
            by_hidden, by_weight, by_bias = ctx.needs_input_grad[:3]
            grad_hidden_TH = torch.empty_like(hidden_TH) if by_hidden else None
            grad_weight_VH = torch.zeros_like(weight_VH, dtype=product.dtype) if by_weight else None
            grad_bias_V = torch.zeros_like(bias_V, dtype=product.dtype) if by_bias and bias_V is not None else None
            loss_sum = torch.zeros((), dtype=torch.float64, device=hidden_TH.device)
            for chunk in _chunks(len(taken_T), rows):
                hidden_CH = product.factor(hidden_TH[chunk])
                softmax = _softmax(product.logits(hidden_CH, bias_V, temperature), taken_T[chunk])
                logprobs_T[chunk], entropy_T[chunk] = softmax.logprobs_C, softmax.entropy_C
                loss_C, by_logprob_C, by_entropy_C = _loss_and_slopes(loss_of, softmax, chunk)
                loss_sum += loss_C.sum(dtype=torch.float64)
                grad_logits_CV = _logits_gradient(softmax, taken_T[chunk], by_logprob_C, by_entropy_C, temperature)
                if grad_bias_V is not None:
                    grad_bias_V += grad_logits_CV.sum(0)
                grad_logits_CV = product.factor(grad_logits_CV)
                if grad_hidden_TH is not None:
                    grad_hidden_TH[chunk] = product.to_hidden(grad_logits_CV)
                if grad_weight_VH is not None:
                    product.add_to_weight(grad_weight_VH, grad_logits_CV, hidden_CH)
        ctx.gradients = (grad_hidden_TH, grad_weight_VH, grad_bias_V)
        ctx.dtypes = (hidden_TH.dtype, weight_VH.dtype, None if bias_V is None else bias_V.dtype)
        ctx.mark_non_differentiable(logprobs_T, entropy_T)
        return loss_sum.to(product.dtype), logprobs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # they are scaled in place, so they can be given out only once
        assert gradients is not None, "the token op's gradient was taken a second time"
        scaled = (
            None if gradient is None else gradient.mul_(grad_loss).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None, None, None, None)


class _Softmax(NamedTuple):
    shifted_CV: Tensor
    """logits/τ minus the row's largest."""
    exp_CV: Tensor
    sum_C1: Tensor
    """Sum of ``exp_CV`` over the row: probabilities are exp/sum."""
    logprobs_C: Tensor
    entropy_C: Tensor


def _softmax(logits_CV: Tensor, taken_C: Tensor) -> _Softmax:
    """Overwrites ``logits_CV``, so that only two [C, V] buffers are alive: this one and the exponentials'."""
    shifted_CV = logits_CV.sub_(logits_CV.amax(-1, keepdim=True))
    exp_CV = shifted_CV.exp()
    sum_C1 = exp_CV.sum(-1, keepdim=True)
    log_sum_C1 = sum_C1.log()
    logprobs_C = (shifted_CV.gather(-1, taken_C[:, None]) - log_sum_C1).squeeze(-1)
    # H = log Σexp - Σ p·shifted. A dot product adds 150,000 terms one after the other and is off by 4e-5, a sum by
    # 1e-6. It goes over a few rows at a time, because exp·shifted of all rows would be a third buffer.
    rows = zip(torch.split(exp_CV, SUMMED_ROWS), torch.split(shifted_CV, SUMMED_ROWS), strict=True)
    mean_C = torch.cat([(exp_RV * shifted_RV).sum(-1) for exp_RV, shifted_RV in rows]) / sum_C1.squeeze(-1)
    return _Softmax(shifted_CV, exp_CV, sum_C1, logprobs_C, log_sum_C1.squeeze(-1) - mean_C)


def _loss_and_slopes(loss_of: LossOf, softmax: _Softmax, chunk: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The chunk's loss and its slope by each token's log-probability and entropy (``None``: the loss does not
    depend on it)."""
    with torch.enable_grad():
        logprobs_C = softmax.logprobs_C.detach().requires_grad_()
        entropy_C = softmax.entropy_C.detach().requires_grad_()
        loss_C = loss_of(logprobs_C, entropy_C, chunk)
        by_logprob_C, by_entropy_C = torch.autograd.grad(loss_C.sum(), (logprobs_C, entropy_C), allow_unused=True)
    return loss_C.detach(), by_logprob_C, by_entropy_C


def _logits_gradient(
    softmax: _Softmax, taken_C: Tensor, by_logprob_C: Tensor | None, by_entropy_C: Tensor | None, temperature: float
) -> Tensor:
    """Gradient by the logits before τ: g·(onehot - p) - h·p·(log p + H), over τ. Overwrites ``softmax``'s buffers."""
    shifted_CV, exp_CV, sum_C1, _, entropy_C = softmax
    scale_C1 = -1.0 / (sum_C1 * temperature)  # p/τ = -scale·exp
    offset_C1 = torch.zeros_like(scale_C1) if by_logprob_C is None else scale_C1 * by_logprob_C[:, None]
    if by_entropy_C is None:
        gradient_CV = exp_CV.mul_(offset_C1)
    else:
        # log p + H = shifted - log Σexp + H: linear in shifted, so one pass makes the factor and one multiplies it.
        slope_C1 = scale_C1 * by_entropy_C[:, None]
        offset_C1 = offset_C1 + slope_C1 * (entropy_C[:, None] - sum_C1.log())
        gradient_CV = torch.addcmul(offset_C1, shifted_CV, slope_C1, out=shifted_CV).mul_(exp_CV)
    if by_logprob_C is not None:
        gradient_CV.scatter_add_(1, taken_C[:, None], (by_logprob_C / temperature)[:, None])
    return gradient_CV


class _Product:
    """The three matrix products, in float32 or with autocast's dtype inside and float32 outside.

    Logits rounded to bfloat16 would be off by up to 0.06 at a size of 20, so results leave in float32: on CUDA by the
    product's ``out_dtype``, on the CPU by letting oneDNN round the factors of a float32 product itself.
    """

    def __init__(self, hidden_TH: Tensor, weight_VH: Tensor, half: torch.dtype | None) -> None:
        self.device = hidden_TH.device
        self.dtype = torch.promote_types(hidden_TH.dtype, torch.float32)
        self.half = half
        self.cast = half if half is not None and self.device.type != "cpu" else self.dtype
        self.weight_VH = weight_VH.detach().to(self.cast)

    def new(self, tokens: int) -> Tensor:
        return torch.empty(tokens, dtype=self.dtype, device=self.device)

    def factor(self, tensor: Tensor) -> Tensor:
        """``tensor`` in the dtype that the products take it in."""
        return tensor.to(self.cast)

    def logits(self, hidden_CH: Tensor, bias_V: Tensor | None, temperature: float) -> Tensor:
        logits_CV = self._mm(hidden_CH, self.weight_VH.t())
        if bias_V is not None:
            logits_CV.add_(bias_V)
        return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)

    def to_hidden(self, grad_logits_CV: Tensor) -> Tensor:
        return self._mm(grad_logits_CV, self.weight_VH)

    def add_to_weight(self, grad_weight_VH: Tensor, grad_logits_CV: Tensor, hidden_CH: Tensor) -> None:
        """Add the chunk's part in place: a [V, H] tensor for each chunk would be 2 GB each time at 7B."""
        if self.cast != self.dtype:
            torch.addmm(grad_weight_VH, grad_logits_CV.t(), hidden_CH, out_dtype=self.dtype, out=grad_weight_VH)
            return
        with _cpu_products_in(self.half):
            grad_weight_VH.addmm_(grad_logits_CV.t(), hidden_CH)

    def _mm(self, left: Tensor, right: Tensor) -> Tensor:
        if self.cast != self.dtype:
            return torch.mm(left, right, out_dtype=self.dtype)
        with _cpu_products_in(self.half):
            return torch.mm(left, right)


@contextmanager
def _cpu_products_in(half: torch.dtype | None) -> Iterator[None]:
    """Let oneDNN multiply float32 matrices in bfloat16 with float32 sums. No effect where ``half`` is not bfloat16."""
    if half != torch.bfloat16:
        yield
        return
    onednn: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made at import
    before = onednn.fp32_precision
    onednn.fp32_precision = "bf16"
    try:
        yield
    finally:
        onednn.fp32_precision = before


def _chunks(tokens: int, rows: int) -> Iterator[slice]:
    for start in range(0, tokens, rows):
        yield slice(start, min(start + rows, tokens))
