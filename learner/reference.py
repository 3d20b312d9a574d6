"""π_ref, of the KL term (report 2.4) or of a measurement: the initial model or another one (``objective.reference``),
frozen. Each rank holds its part of it, or the whole where the references have GPUs of their own
(``placement.reference``)."""

from dataclasses import replace
from typing import Any

import torch

from .model import PolicyModule
from .packing import MicroBatch

SETTINGS: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": False,
        # DeepSpeed's own linear layer would take the place of torch's everywhere, in the policy too.
        "memory_efficient_linear": False,
        # A tied embedding is gathered twice, so that it is not kept whole through the pass.
        "stage3_max_reuse_distance": 0,
    },
    "steps_per_print": None,
}
"""DeepSpeed's configuration for it. It is ZeRO stage 3 whatever the policy's stage, because a model that is not trained
has no optimizer state to share out, and would be whole on every rank."""


class Reference:
    """A model as its files have it, whatever checkpoint the policy goes on from. Where the ranks share it, DeepSpeed
    gathers its layers one after the other in a pass, and lets go of each after its use. Where a rank has it whole, it
    is a plain module."""

    def __init__(self, module: PolicyModule, device: torch.device, deepspeed: Any | None) -> None:
        """``module``: on ``device``. ``deepspeed``: the package, where the ranks share the module out by ``SETTINGS``.
        Collective."""
        self.module, self.device = module.requires_grad_(False).eval(), device
        self._forward: Any = module
        if deepspeed is not None:
            self._forward, *_ = deepspeed.initialize(model=module, config=SETTINGS, dist_init_required=False)
            self._forward.eval()

    @torch.no_grad()
    def with_logprobs(self, batch: MicroBatch) -> MicroBatch:
        """``batch`` (on the CPU) with log π_ref of its target tokens. Collective: every rank takes part in every pass,
        with a micro-batch of its own."""
        return replace(batch, reference_logprobs_T=self._forward(batch.to(self.device)).logprobs_T.cpu())
