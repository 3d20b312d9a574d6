"""How DeepSpeed is set up: its own configuration, and the optimizer that it is given. No DeepSpeed is imported."""

from typing import Any

import torch
from torch import nn

from ..common.config import Config


def weights_dtype(config: Config) -> torch.dtype:
    """What the weights are while the passes compute with them."""
    return torch.bfloat16 if config.train.bfloat16 == "weights" else torch.float32


def adamw(module: nn.Module, config: Config) -> torch.optim.AdamW:
    """The optimizer over every parameter of ``module`` (report 3.2); ``set_rate`` gives it each update's learning rate.

    Under ZeRO-Offload it runs on the host, in torch's own fused kernel: DeepSpeed's CPU Adam would have to be compiled
    on every learner node.
    """
    train = config.train
    return torch.optim.AdamW(
        module.parameters(),
        lr=train.learning_rate,
        betas=train.betas,
        weight_decay=train.weight_decay,
        fused=True if train.offload != "none" else None,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Have ``optimizer`` update at this learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def deepspeed_settings(config: Config) -> dict[str, Any]:
    """DeepSpeed's own configuration."""
    train = config.train
    zero: dict[str, Any] = {"stage": train.zero_stage, "overlap_comm": False}
    on_host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if train.offload != "none":
        zero["offload_optimizer"] = on_host
    if train.offload == "optimizer+parameters":
        zero["offload_param"] = on_host
    half = config.train.bfloat16 == "weights"
    # The weights are bfloat16, the optimizer's masters of them float32, and so is what the passes' gradients add up to.
    precision = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}} if half else {}
    return precision | {
        "train_micro_batch_size_per_gpu": 1,
        # The number of micro-batches differs from step to step: ``backward`` marks the last one itself.
        "gradient_accumulation_steps": 1,
        # Without ZeRO ``step`` clips, so that one process is bit for bit a plain torch loop. DeepSpeed clips
        # in its own arithmetic, and takes a missing key for 1.0.
        "gradient_clipping": 0.0 if train.zero_stage == 0 else train.grad_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }
