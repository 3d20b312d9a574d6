"""What a rollout worker holds, and how many responses fit into its GPUs."""

from dataclasses import dataclass

from .shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """How a rollout worker is laid out."""

    width: int
    """Bytes of a weight, and of a key or value in the cache: 2 or 4."""
    tensor_parallel: int
    gpu_bytes: float
    """Memory of each of its GPUs."""
    utilization: float
    """Share of it that the engine may use."""
    longest: int
    """Tokens of a longest sequence, with its prompt."""
    at_once: int
    """Responses that it samples side by side, at most."""


def weight_bytes(worker: Worker, shape: Shape) -> float:
    """Bytes of the weights on all its GPUs."""
    return float(worker.width * shape.parameters)


def kv_bytes_a_token(shape: Shape, width: int) -> int:
    """Bytes of the keys and values of one token, over all GPUs of a worker."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * width


def cache_bytes(worker: Worker, shape: Shape) -> float:
    """Bytes that are left for keys and values on all its GPUs; below 0 where not even the weights fit. What a forward
    pass of the engine takes is not in it."""
    return worker.tensor_parallel * worker.gpu_bytes * worker.utilization - weight_bytes(worker, shape)


def that_fit(worker: Worker, shape: Shape, tokens: float) -> int:
    """How many sequences of ``tokens`` tokens fit into the cache at a time."""
    return max(0, int(cache_bytes(worker, shape) // (kv_bytes_a_token(shape, worker.width) * tokens)))
