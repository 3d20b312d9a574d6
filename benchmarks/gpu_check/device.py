"""The device of the check: the GPU, or with ``--small`` whatever is there."""

import gc
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from leeway_rl.benchmarks.gpu_check.figures import Figure


def device() -> torch.device:
    """The GPU where there is one, and the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def described() -> dict[str, Any]:
    """Which machine and which versions the figures are of."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    if not torch.cuda.is_available():
        return {"device": f"CPU, {os.cpu_count()} cores", **versions}
    properties = torch.cuda.get_device_properties(0)
    return {"device": properties.name, "memory_bytes": properties.total_memory, **versions}


def synchronised(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` takes, with everything that it has started on the device, and what it returns."""
    wait()
    started = time.perf_counter()
    result = work()
    wait()
    return time.perf_counter() - started, result


def wait() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> int:
    """Start to look for the largest allocation anew. Returns the bytes that are allocated now; 0 on a CPU."""
    if not torch.cuda.is_available():
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak() -> int:
    """Most bytes that were allocated at a time since ``reset_peak``; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def peak_beside(before: int, what: str) -> list[Figure]:
    """The figure of the peak above ``before``; none on a CPU, where nobody counts allocations."""
    return [Figure(what=what, value=(peak() - before) / 1e9, unit="GB")] if torch.cuda.is_available() else []
