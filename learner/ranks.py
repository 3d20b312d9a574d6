"""How the learner's ranks agree: rank 0 decides, the others follow its plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
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


Share = list[tuple[int, int, int]]
"""What a rank trains: (group, first response, end) each, never empty."""


def shares(tokens: Sequence[Sequence[float]], parts: Sequence[int], ranks: int) -> list[Share]:
    """Each rank's share of a training step, balanced by tokens within each of its mini-batches.

    ``tokens``: of each group's responses. ``parts``: the mini-batch of each group, 0, 1, 2, ….
    A mini-batch's responses are cut into runs as equal as can be, one a rank: whole groups share their prompt, and only
    those at a cut are split. By whole groups a rank with two of them would have had up to twice the mean.
    """
    split: list[Share] = [[] for _ in range(ranks)]
    for part in sorted(set(parts)):
        groups = [index for index, own in enumerate(parts) if own == part]
        before = np.cumsum([0.0, *(cost for group in groups for cost in tokens[group])])
        cuts = [int(np.abs(before - before[-1] * rank / ranks).argmin()) for rank in range(ranks + 1)]
        start = 0
        for group in groups:
            end = start + len(tokens[group])
            for rank in range(ranks):
                first, last = max(start, cuts[rank]), min(end, cuts[rank + 1])
                if first < last:
                    split[rank].append((group, first - start, last - start))
            start = end
    return split
