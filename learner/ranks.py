"""How the learner's ranks agree: rank 0 decides, the others follow its plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def broadcast_plan(plan: dict[str, Any] | None) -> dict[str, Any]:
    """Rank 0's plan, on every rank (others pass None). JSON in a byte tensor: nothing is ever unpickled."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        assert plan is not None
        return plan
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    body = json.dumps(plan).encode() if plan is not None else b""
    size = torch.tensor([len(body)], dtype=torch.int64, device=device)
    dist.broadcast(size, src=0)
    buffer = torch.zeros(int(size.item()), dtype=torch.uint8, device=device)
    if plan is not None:
        buffer.copy_(torch.frombuffer(bytearray(body), dtype=torch.uint8))
    dist.broadcast(buffer, src=0)
    return json.loads(bytes(buffer.cpu().tolist()))


def shares(tokens: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of groups for each rank, balanced by tokens: the longest group first, to the rank with the least work
    (ties to the lower rank), each rank's share in the original order."""
    loads = [0] * ranks
    split: list[list[int]] = [[] for _ in range(ranks)]
    for index in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        rank = min(range(ranks), key=lambda r: (loads[r], r))
        loads[rank] += tokens[index]
        split[rank].append(index)
    return [sorted(share) for share in split]
