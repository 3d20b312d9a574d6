"""How the learner's ranks agree: rank 0 decides, the others follow its plan, and what fails on one rank ends on all."""

import json
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..common.devices import ranks_here
from ..common.errors import LeewayError

T = TypeVar("T")


class NoRoom(OSError):
    """The disk under what some rank writes is full. Every rank raises it together, so the write can be tried again."""


class RankFailed(LeewayError):
    """Another rank could not do its part; raised on the ranks that could, with the exit code of the one that failed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def join_ranks() -> None:
    """Initialise ``torch.distributed``: by the launcher's environment, or as the only rank where there is none."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():
        return
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # in memory: no port to lose


def reference_device(device: torch.device, *, own: bool) -> torch.device:
    """Where π_ref lies for the rank that trains on ``device``. With ``own``, the references' GPUs follow those of the
    node's ranks, in the same order."""
    if not own or device.type != "cuda":
        return device
    return torch.device("cuda", ranks_here() + (device.index or 0))


def rank() -> int:
    """This process's number among the ranks; the only one is 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def name_of(number: int, host: str) -> str:
    """A rank as an operator knows it."""
    return f"rank {number} ({host})"


def broadcast_plan(plan: dict[str, Any] | None) -> dict[str, Any]:
    """Rank 0's plan, on every rank (others pass None). JSON in a byte tensor: nothing is ever unpickled."""
    if world() == 1:
        assert plan is not None
        return plan
    body = json.dumps(plan).encode() if plan is not None else b""
    size = torch.tensor([len(body)], dtype=torch.int64, device=_device())
    dist.broadcast(size, src=0)
    buffer = torch.zeros(int(size.item()), dtype=torch.uint8, device=_device())
    if plan is not None:
        buffer.copy_(torch.frombuffer(bytearray(body), dtype=torch.uint8))
    dist.broadcast(buffer, src=0)
    return json.loads(bytes(buffer.cpu().tolist()))


def gather(value: Any) -> list[Any]:
    """Every rank's ``value`` (any JSON), by rank, on every rank. Collective."""
    if world() == 1:
        return [value]
    body = bytearray(json.dumps(value).encode())
    sizes = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(world())]
    dist.all_gather(sizes, torch.tensor([len(body)], dtype=torch.int64, device=_device()))
    longest = max(int(size.item()) for size in sizes)
    mine = torch.zeros(longest, dtype=torch.uint8, device=_device())
    mine[: len(body)].copy_(torch.frombuffer(body, dtype=torch.uint8))
    everyones = [torch.zeros(longest, dtype=torch.uint8, device=_device()) for _ in range(world())]
    dist.all_gather(everyones, mine)
    texts = [buffer[: int(size.item())].cpu().numpy().tobytes() for buffer, size in zip(everyones, sizes, strict=True)]
    return [json.loads(text) for text in texts]


def together(work: Callable[[], T]) -> T:
    """What ``work`` returns here, once it has succeeded on every rank. Collective; ``work`` itself must not be.

    A rank that fails alone would leave the others waiting in their next collective, on another node for as long as its
    timeout. So where ``work`` raises anywhere, every rank raises: its own error, or ``RankFailed`` (``NoRoom`` where a
    disk is full) with the name and the words of the rank that failed.
    """
    failure: Exception | None = None
    try:
        done = work()
    except Exception as error:  # whatever it is, the other ranks must hear of it
        failure = error
    said = gather(None if failure is None else _told(failure))
    failed = [(number, each) for number, each in enumerate(said) if each is not None]
    if not failed:
        return done
    fatal = [each for each in failed if not each[1]["full"]]
    if failure is not None and not (fatal and isinstance(failure, NoRoom)):
        raise failure
    number, first = (fatal or failed)[0]
    message = f"{name_of(number, first['host'])}: {first['error']}"
    raise RankFailed(message, first["exit_code"]) if fatal else NoRoom(message)


def raise_together(failure: Exception | None) -> None:
    """``together``, for what this rank has tried before it could ask the others."""

    def tried() -> None:
        if failure is not None:
            raise failure

    together(tried)


def _told(error: Exception) -> dict[str, Any]:
    ours = isinstance(error, LeewayError)
    return {
        "host": socket.gethostname(),
        "error": str(error) if ours else f"{type(error).__name__}: {error}",
        "exit_code": error.exit_code if isinstance(error, LeewayError) else 1,
        "full": isinstance(error, NoRoom),
    }


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
