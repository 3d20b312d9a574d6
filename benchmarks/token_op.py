"""The token op against the plain version: values, gradients, peak memory and time at a real vocabulary.

::

    python benchmarks/token_op.py [--vocabulary 151936] [--hidden 896] [--threads 2] [--rounds 3]

The plain version takes whole [T, V] logits, ``log_softmax``, gather, entropy and autograd, in float32. Both compute the
same MAGIC loss (clipped surrogate and entropy) of the same tokens, forward and backward.

Memory is that of a process of its own for each figure: with the inputs in place and the matrix products warmed up once,
the kernel's record of the largest resident size is reset (``/proc/self/clear_refs``), and what the record then says
above the size at that moment is the extra memory. It counts pages that were in use, whoever asked for them. Time is the
median of the ratios of ``--rounds`` pairs in one process, which take turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed

MOST_MEMORY, MOST_TIME = 0.15, 1.15
TOKENS = 4096
FLAT = (1024, 4096, 16384, 32768)


def inputs(tokens: int, given: argparse.Namespace) -> tuple[Any, ...]:
    """Hidden states [T, H], weight [V, H], the taken tokens, and the loss."""
    import torch
    from leeway_rl.common.config import Objective
    from leeway_rl.learner.objective.loss import Tokens, token_loss

    torch.manual_seed(0)
    hidden_TH = torch.randn(tokens, given.hidden, requires_grad=True)
    weight_VH = (torch.randn(given.vocabulary, given.hidden) * given.hidden**-0.5).requires_grad_()
    taken_T = torch.randint(0, given.vocabulary, (tokens,))
    behaviour_T, advantages_T = -11 - torch.rand(tokens), torch.randn(tokens)
    objective = Objective()

    def loss_of(logprobs_C: Any, entropy_C: Any, at: slice) -> Any:
        return token_loss(objective, Tokens(logprobs_C, entropy_C, behaviour_T[at], advantages_T[at]), 0.01)

    return hidden_TH, weight_VH, taken_T, loss_of


def plain(hidden_TH: Any, weight_VH: Any, taken_T: Any, loss_of: Any) -> tuple[Any, Any, Any]:
    """Loss, log-probabilities and entropies over whole logits."""
    log_softmax_TV = (hidden_TH @ weight_VH.t()).log_softmax(-1)
    logprobs_T = log_softmax_TV.gather(-1, taken_T[:, None]).squeeze(-1)
    entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
    return loss_of(logprobs_T, entropy_T, slice(None)).sum(), logprobs_T, entropy_T


def ours(hidden_TH: Any, weight_VH: Any, taken_T: Any, loss_of: Any) -> tuple[Any, Any, Any]:
    """Loss, log-probabilities and entropies by the token op."""
    from leeway_rl.learner.objective.token_op import token_op

    output = token_op(hidden_TH, weight_VH, taken_T, loss_of=loss_of)
    return output.loss_sum, output.logprobs_T, output.entropy_T


WAYS = {"plain": plain, "ours": ours}


def trained(way: str, given_inputs: tuple[Any, ...]) -> list[Any]:
    """Log-probabilities, entropies, and the loss's gradients by hidden states and by weight."""
    hidden_TH, weight_VH, *_ = given_inputs
    loss, logprobs_T, entropy_T = WAYS[way](*given_inputs)
    hidden_TH.grad = weight_VH.grad = None
    loss.backward()
    return [logprobs_T.detach(), entropy_T.detach(), hidden_TH.grad, weight_VH.grad]


def resident(name: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (largest since it was reset) of this process, bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def extra_memory(way: str, tokens: int, given: argparse.Namespace) -> int:
    """Bytes that one forward and backward takes above the inputs, in this process."""
    import torch

    torch.set_num_threads(given.threads)
    small = argparse.Namespace(**{**vars(given), "vocabulary": 512})
    trained(way, inputs(64, small))
    ready = inputs(tokens, given)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    trained(way, ready)
    return resident("VmHWM") - before


def in_own_process(way: str, tokens: int, given: argparse.Namespace) -> tuple[float, float]:
    """(extra GB, how much of it is gradients of the inputs, which every way must make)."""
    command = [sys.executable, __file__, "--one", way, "--tokens", str(tokens), "--threads", str(given.threads)]
    command += ["--vocabulary", str(given.vocabulary), "--hidden", str(given.hidden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} with {tokens} tokens failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1]) / 1e9, 4 * given.hidden * (tokens + given.vocabulary) / 1e9


def ratio_of_times(given: argparse.Namespace) -> tuple[float, float, list[float]]:
    """Median seconds of plain and ours, and their ratios, pair by pair; the first pair warms up."""
    import torch

    torch.set_num_threads(given.threads)
    ready = inputs(given.tokens, given)
    ways = {way: lambda _, way=way: timed(trained, way, ready)[0] for way in WAYS}
    rounds = list(in_turns(given.rounds, ways, warm_up=1))
    plain_s, ours_s = (statistics.median(pair[way] for pair in rounds) for way in WAYS)
    return plain_s, ours_s, [pair["ours"] / pair["plain"] for pair in rounds]


def differences(given: argparse.Namespace) -> list[float]:
    """Largest differences of log-probabilities, entropies and both gradients, as a share of the plain version's largest
    element."""
    ready = inputs(min(given.tokens, 512), given)
    whole, own = ([part.clone() for part in trained(way, ready)] for way in WAYS)
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(own, whole, strict=True)]


def main() -> None:
    """Print the tables."""
    parser = parser_of(__doc__, threads=2, rounds=3)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=896, help="width of the hidden states (Qwen2.5-0.5B's)")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--flat", type=int, nargs="*", default=FLAT, help="numbers of tokens of the second table")
    parser.add_argument("--one", choices=tuple(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(extra_memory(given.one, given.tokens, given))
        return
    print(f"{load_of_this_machine()}; V {given.vocabulary:,}, H {given.hidden}, float32, {given.threads} threads")
    found = differences(given)
    print("largest difference  log-prob {:.1e}  entropy {:.1e}  by hidden {:.1e}  by weight {:.1e}".format(*found))
    (whole_gb, _), (own_gb, _) = (in_own_process(way, given.tokens, given) for way in WAYS)
    whole_s, own_s, ratios = ratio_of_times(given)
    table = Table(f"{given.tokens:,} tokens", "plain:8.2f", "ours:6.2f", "ratio:6.3f", "must hold:")
    table.line("extra memory GB", whole_gb, own_gb, own_gb / whole_gb, f"(must hold: {MOST_MEMORY:g})")
    table.line("time s", whole_s, own_s, statistics.median(ratios), f"(must hold: {MOST_TIME:g})")
    table = Table("ours, tokens:,d", "extra GB:.2f", "of it gradients of the inputs:.2f", "the rest:.2f")
    for tokens in given.flat:
        extra, gradients = in_own_process("ours", tokens, given)
        table.line(tokens, extra, gradients, extra - gradients)


if __name__ == "__main__":
    main()
