"""How the learner's ranks agree: rank 0 decides, the others follow its plan, and what fails on one rank ends on all.

What the ranks say to each other goes through channels: gloo groups of their own, on the CPU, with a time-out of hours.
Whatever one rank does alone while the others wait (a batch that does not come, a publication, a full disk, a download)
they wait for there. Tensors go through the default group (NCCL on GPUs) with ``train.collective_timeout_s``, which may
be short, because the ranks enter those collectives together.
"""

import atexit
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..common.devices import ranks_here
from ..common.errors import LeewayError, RoleDiedError
from ..common.limits import COLLECTIVE_TIMEOUT_S

T = TypeVar("T")

WORDS_TIMEOUT = timedelta(hours=6)
"""How long a rank waits for another's word. Where rank 0 waits for something that may never come (a batch, room on the
disk), it says so every few seconds, so this bounds a single piece of work: a download, a publication, a conversion."""


class Channel(Enum):
    """The gloo groups in which the ranks speak. In each, one thread of every rank speaks at a time; a thread that
    speaks beside the training loop needs a channel of its own."""

    PLAN = "plan"
    """The training loop: what rank 0 decides, and what all ranks agree on."""
    CHECKPOINT = "checkpoint"
    """Whoever writes a checkpoint."""


_groups: dict[Channel, dist.ProcessGroup] = {}


class NoRoom(OSError):
    """The disk under what some rank writes is full. Every rank raises it together, so the write can be tried again."""


class RankFailed(LeewayError):
    """Another rank could not do its part; raised on the ranks that could, with the exit code of the one that failed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RankLost(RoleDiedError):
    """Another rank has ended without a word, or was silent for longer than a time-out."""


def join_ranks(collective_timeout_s: float = COLLECTIVE_TIMEOUT_S) -> None:
    """Initialise ``torch.distributed`` and the channels: by the launcher's environment, or as the only rank where there
    is none. Collective. A rank that has joined leaves when its process ends."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks for it
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():
        return
    atexit.register(leave_ranks, in_order=False)
    timeout = timedelta(seconds=collective_timeout_s)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        store = dist.HashStore()  # in memory: no port to lose
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
        return
    store, number, count = next(dist.rendezvous("env://", timeout=WORDS_TIMEOUT))
    # The nodes may start minutes apart, and the default group would not wait for longer than ``timeout``.
    if store.add("leeway/here", 1) == count:
        store.set("leeway/all here", "yes")
    store.wait(["leeway/all here"], WORDS_TIMEOUT)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=timeout)
    if count > 1:
        open_channels()


def open_channels() -> None:
    """Make the channels, among the ranks of the default group. Collective."""
    _groups.update({channel: dist.new_group(backend="gloo", timeout=WORDS_TIMEOUT) for channel in Channel})


def leave_ranks(*, in_order: bool = True) -> None:
    """Leave what ``join_ranks`` has joined. The threads of a group that still stands when the interpreter ends may
    abort the process, and its exit code is lost.

    ``in_order``: whether the other ranks leave too, and none waits in a collective. Otherwise NCCL's groups are left
    as they are, because destroying them may wait for ranks that are gone.
    """
    if not dist.is_initialized():
        return
    if in_order or dist.get_backend() == "gloo":
        _groups.clear()
        dist.destroy_process_group()
    else:
        while _groups:
            dist.destroy_process_group(_groups.popitem()[1])


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
    body = bytearray(json.dumps(plan).encode())
    size = torch.tensor([len(body)], dtype=torch.int64)
    group = _groups[Channel.PLAN]
    with naming_the_lost():
        dist.broadcast(size, src=0, group=group)
        buffer = torch.frombuffer(body, dtype=torch.uint8) if rank() == 0 else torch.zeros(int(size), dtype=torch.uint8)
        dist.broadcast(buffer, src=0, group=group)
    return json.loads(buffer.numpy().tobytes())


def gather(value: Any, channel: Channel = Channel.PLAN) -> list[Any]:
    """Every rank's ``value`` (any JSON), by rank, on every rank. Collective."""
    if world() == 1:
        return [value]
    body = bytearray(json.dumps(value).encode())
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    group = _groups[channel]
    with naming_the_lost():
        dist.all_gather(sizes, torch.tensor([len(body)]), group=group)
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(body)] = torch.frombuffer(body, dtype=torch.uint8)
        everyones = [torch.zeros(longest, dtype=torch.uint8) for _ in range(world())]
        dist.all_gather(everyones, mine, group=group)
    texts = [buffer[: int(size)].numpy().tobytes() for buffer, size in zip(everyones, sizes, strict=True)]
    return [json.loads(text) for text in texts]


@contextmanager
def naming_the_lost() -> Iterator[None]:
    """Raise ``RankLost`` where a collective fails because another rank is not there."""
    try:
        yield
    except RuntimeError as error:
        # gloo has no error of its own; its text begins with the place in its source.
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        raise RankLost(
            "another rank of the learner ended without a word, or did not come to an exchange within its time-out; the "
            f"log of that rank says why ({str(error).splitlines()[0]})"
        ) from error


def together(work: Callable[[], T], channel: Channel = Channel.PLAN) -> T:
    """What ``work`` returns here, once it has succeeded on every rank. Collective; ``work`` itself must not be.

    A rank that fails alone would leave the others waiting in their next collective, on another node for as long as its
    time-out. So where ``work`` raises anywhere, every rank raises: its own error, or ``RankFailed`` (``NoRoom`` where a
    disk is full) with the name and the words of the rank that failed.
    """
    failure: Exception | None = None
    try:
        done = work()
    except Exception as error:  # whatever it is, the other ranks must hear of it
        failure = error
    said = gather(None if failure is None else told(failure), channel)
    failed = [(number, each) for number, each in enumerate(said) if each is not None]
    if not failed:
        return done
    fatal = [each for each in failed if not each[1]["full"]]
    if failure is not None and not (fatal and isinstance(failure, NoRoom)):
        raise failure
    number, first = (fatal or failed)[0]
    raise failed_there(number, first) if fatal else NoRoom(str(failed_there(number, first)))


def failed_there(number: int, said: dict[str, Any]) -> RankFailed:
    """The error of rank ``number``, from what it has told."""
    return RankFailed(f"{name_of(number, said['host'])}: {said['error']}", said["exit_code"])


def raise_together(failure: Exception | None) -> None:
    """``together``, for what this rank has tried before it could ask the others."""

    def tried() -> None:
        if failure is not None:
            raise failure

    together(tried)


def told(error: BaseException) -> dict[str, Any]:
    """What the other ranks are told of an error here."""
    ours = isinstance(error, LeewayError)
    return {
        "host": socket.gethostname(),
        "error": str(error) if ours else f"{type(error).__name__}: {error}",
        "exit_code": error.exit_code if isinstance(error, LeewayError) else 1,
        "full": isinstance(error, NoRoom),
    }
