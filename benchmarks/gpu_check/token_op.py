"""The token op at a real vocabulary: how exact it is, what it takes in memory, and how long it takes."""

import torch
from leeway_rl.benchmarks.gpu_check.device import device, peak_beside, reset_peak, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.common.config import Objective
from leeway_rl.learner.objective.loss import Tokens, token_loss
from leeway_rl.learner.objective.token_op import TokenOutput, chunk_elements_on, token_op
from torch import Tensor

SIZES = {"full": (152_064, 3584, 34_816), "small": (1031, 64, 300)}
"""Vocabulary, hidden width, tokens. The full ones are those of the 7B model and one of its longest responses."""
COMPARED = 256
"""Tokens that are computed in float64 too."""
SHARE = 0.05
"""Of the memory that is free, for the logits: what ``train.logits_memory`` is where nobody sets it."""


def measured(size: str) -> list[Figure]:
    """Errors against float64 on some tokens, then peak and time of the whole."""
    vocabulary, width, tokens = SIZES[size]
    torch.manual_seed(0)
    at = device()
    hidden_TH = torch.randn(tokens, width, device=at, requires_grad=True)
    weight_VH = (torch.randn(vocabulary, width, device=at) * width**-0.5).requires_grad_()
    taken_T = torch.randint(0, vocabulary, (tokens,), device=at)
    behaviour_T = -torch.rand(tokens, device=at) - torch.log(torch.tensor(float(vocabulary)))
    advantages_T = torch.randn(tokens, device=at)
    objective = Objective()
    chunk = chunk_elements_on(at, vocabulary, SHARE)

    def run(half: bool) -> TokenOutput:
        def loss_of(logprobs_C: Tensor, entropy_C: Tensor, part: slice) -> Tensor:
            return token_loss(objective, Tokens(logprobs_C, entropy_C, behaviour_T[part], advantages_T[part]), 0.01)

        hidden_TH.grad = weight_VH.grad = None
        with torch.autocast(at.type, dtype=torch.bfloat16, enabled=half):
            output = token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of, chunk_elements=chunk)
        assert output.loss_sum is not None
        (output.loss_sum / tokens).backward()
        return output

    some = slice(0, min(COMPARED, tokens))
    exact_logprobs_T, exact_entropy_T = _in_float64(hidden_TH[some], weight_VH, taken_T[some])
    figures = []
    for half, allowed in ((False, 2e-3), (True, 5e-2)):
        run(half)  # warms the kernels up
        before = reset_peak()
        seconds, output = synchronised(lambda half=half: run(half))
        logprobs_error = (output.logprobs_T[some].double() - exact_logprobs_T).abs().max().item()
        entropy_error = (output.entropy_T[some].double() - exact_entropy_T).abs().max().item()
        name = "bfloat16 products" if half else "float32"
        figures += [
            Figure(what=f"{name}: error of a log-probability", value=logprobs_error, unit="nats", at_most=allowed),
            Figure(what=f"{name}: error of an entropy", value=entropy_error, unit="nats", at_most=allowed),
            Figure(what=f"{name}: forward and backward", value=seconds, unit="s"),
            *peak_beside(before, f"{name}: peak beside the inputs"),
        ]
    return figures


@torch.no_grad()
def _in_float64(hidden_TH: Tensor, weight_VH: Tensor, taken_T: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the taken tokens and entropies, by the definition."""
    log_softmax_TV = (hidden_TH.double() @ weight_VH.double().t()).log_softmax(-1)
    logprobs_T = log_softmax_TV.gather(-1, taken_T[:, None]).squeeze(-1)
    return logprobs_T, -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
