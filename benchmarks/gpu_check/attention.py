"""Attention by every way that this machine has: how near each is to the reference, and how long it takes.

The reference is torch's attention of one response after the other in float32, which on a GPU holds its scores whole. So
errors are of responses of some thousand tokens, and times, which need no reference, are of the longest.
"""

from itertools import product

import torch
from leeway_rl.benchmarks.gpu_check.device import device, peak_beside, reset_peak, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.learner import one_call
from leeway_rl.learner.attention import difference, packed_attention
from leeway_rl.learner.one_call import Backend
from leeway_rl.learner.packing import Layout

HEADS = {"7B": (28, 4, 128), "1.5B": (12, 2, 128)}
"""Heads of queries, heads of keys and values, and their width."""
COMPARED: dict[str, Layout] = {
    "full": ((512, 1500, 3000, 2000), (1024, 2500, 7), (300,)),
    "small": ((5, 20, 0, 33), (12, 9), (7,)),
}
"""Groups of a micro-batch, each with its prompt's tokens and then those of its responses."""
TIMED: dict[str, dict[str, Layout]] = {
    "full": {
        "one response of 32k": ((2048, 32_768),),
        "16 responses of 2k, 2 prompts": ((2048, *[2048] * 8), (2048, *[2048] * 8)),
    },
    "small": {"one response": ((16, 48),)},
}
MOST = 0.05
"""Of the largest element. Torch's attention on a CPU comes to 0.021 in some gradient, of up to 1,800 tokens; a scale
that is wrong by a tenth comes to 0.14, and a wrong mask to 0.28 and more."""


def backends() -> list[Backend]:
    """The ways that this machine has; the kernels have none on a CPU."""
    kernels: tuple[Backend, ...] = ("varlen", "flash") if torch.cuda.is_available() else ()
    return ["sdpa", *(kernel for kernel in kernels if one_call.why_missing(kernel) is None)]


def measured(size: str) -> list[Figure]:
    """For every way and model: the largest error in bfloat16, then seconds and memory of forward and backward."""
    figures = []
    for backend, (model, (heads, key_heads, width)) in product(backends(), HEADS.items()):
        shape = {"heads": heads, "key_heads": key_heads, "width": width}
        errors = difference(backend, **shape, layout=COMPARED[size], device=device())
        name = f"{backend}, {heads}/{key_heads} heads ({model})"
        figures += [Figure(what=f"{name}: error, {of}", value=error, at_most=MOST) for of, error in errors.items()]
        for words, layout in TIMED[size].items():
            figures += _timed(f"{name}, {words}", backend, (heads, key_heads, width), layout)
    return figures


def _timed(name: str, backend: Backend, shape: tuple[int, int, int], layout: Layout) -> list[Figure]:
    heads, key_heads, width = shape
    kernel = None if backend == "sdpa" else one_call.load(backend)
    query, key, value = (
        torch.randn(1, count, sum(map(sum, layout)), width, device=device(), dtype=torch.bfloat16, requires_grad=True)
        for count in (heads, key_heads, key_heads)
    )

    def both_passes() -> None:
        output, _ = packed_attention(torch.nn.Identity(), query, key, value, None, layout=layout, kernel=kernel)
        torch.autograd.grad(output.sum(), (query, key, value))

    both_passes()  # warms the kernels up
    before = reset_peak()
    seconds, _ = synchronised(both_passes)
    return [Figure(what=name, value=seconds, unit="s"), *peak_beside(before, f"{name}: peak beside the inputs")]
