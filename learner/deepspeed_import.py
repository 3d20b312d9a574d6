"""Imports DeepSpeed, late, because that takes seconds, and so that it is quiet and builds nothing."""

import os
import warnings
from typing import Any

import torch
import torch.distributed as dist

from ..common.large_imports import large_import


def name_accelerator() -> None:
    """Name DeepSpeed's accelerator. Call it before deepspeed is imported, which transformers does too: deepspeed warns
    where it has to guess."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def deepspeed_package() -> Any:
    """The package ``deepspeed``. Where the ranks have joined already, it uses their group."""
    name_accelerator()
    with large_import(without="mlflow"):  # It is for DeepSpeed's autotuner, and takes longer than all of DeepSpeed.
        import deepspeed
        import deepspeed.ops
        from deepspeed.utils import logger

    logger.setLevel("ERROR")
    if not torch.cuda.is_available():
        # Otherwise DeepSpeed compiles a C++ extension for shared-memory inference at the first start. That takes
        # minutes and a compiler, and nothing here calls it.
        deepspeed.ops.__compatible_ops__ = {}
    # DeepSpeed 0.19 calls torch 2.13's collectives by their former names, and its imports do so with torch.jit.
    warnings.filterwarnings("ignore", r"`torch\.(distributed|jit)\.\w+` is deprecated", Warning)
    if dist.is_initialized():
        # DeepSpeed would make a group of its own, with torch's time-out and not ours.
        deepspeed.utils.groups._WORLD_GROUP = dist.group.WORLD
    return deepspeed
