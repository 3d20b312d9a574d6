"""The most memory that this rank holds in a training step."""

import torch

from ..common.resident import begin_peak, peak_bytes


def begin() -> None:
    """A training step begins: what ``peaks`` gives is counted from now on."""
    begin_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peaks() -> list[int]:
    """Bytes: the most that tensors have taken of the device, and the most that the process has taken of the host. On
    the CPU both are the process's."""
    host = peak_bytes()
    return [torch.cuda.max_memory_allocated() if torch.cuda.is_available() else host, host]
