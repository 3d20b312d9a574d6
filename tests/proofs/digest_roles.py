"""A model, an engine and a pool of verifiers in which every bit depends on all that was trained, in its order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from leeway_rl.benchmarks.timed_roles import TimedPolicy, timed_step
from leeway_rl.common.types import Responses, Ticket, Verdict, VerdictKind


class DigestPolicy(TimedPolicy):
    """Its weights are a digest of what was trained."""

    def absorb(self, groups: Sequence[Any]) -> None:
        """Take one training step's groups into the digest."""
        digest = hashlib.sha256(self.weight.numpy().tobytes())
        for group in groups:
            digest.update(f"{group.ticket.ticket} {group.rewards_S.tolist()}".encode())
            digest.update(group.responses.tokens_T.tobytes() + group.responses.spans.tobytes())
        dice = np.random.default_rng(list(digest.digest()))
        self.weight = torch.from_numpy(dice.standard_normal(len(self.weight), dtype=np.float32))

    def snapshot(self, *, copied: bool) -> Callable[[Path], list[Path]]:
        """What writes the digest as one file."""
        weight = self.weight.numpy()  # ``absorb`` makes a new one

        def write(folder: Path) -> list[Path]:
            np.save(folder / "weight.npy", weight)
            return [folder / "weight.npy"]

        return write

    def load(self, folder: Path) -> None:
        """Read the digest again."""
        self.weight = torch.from_numpy(np.load(folder / "weight.npy"))


def digest_step(policy: DigestPolicy, groups: Sequence[Any], **named: Any) -> Any:
    """Stands in for ``train_step``."""
    result = timed_step(0.0)(policy, groups, **named)
    policy.absorb(groups)
    return result


class DigestEngine:
    """Responses drawn from the ticket's seed and the weights."""

    concurrency = 2

    def __init__(self) -> None:
        self.version, self._weights = -1, b""

    def load(self, version: int, tensors: Any, file: Any = None) -> float:
        """Take the weights up."""
        self.version, self._weights = version, hashlib.sha256(tensors["weight"].numpy().tobytes()).digest()
        return 0.0

    def generate(self, ticket: Ticket) -> Responses:
        """Two responses of 1 to 4 tokens."""
        version, dice = self.version, np.random.default_rng([ticket.seed, *self._weights])
        lengths_S = dice.integers(1, 5, ticket.group_size)
        total = int(lengths_S.sum())
        return Responses(
            group_id=ticket.group_id,
            tokens_T=dice.integers(0, 20, total).astype(np.uint16),
            logprobs_T=np.full(total, -1.0, np.float32),
            lengths_S=lengths_S.astype(np.uint32),
            finished_S=np.ones(len(lengths_S), np.uint8),
            spans=np.array([(row, version, 0, length) for row, length in enumerate(lengths_S)], np.uint32),
            worker="digest",
            seconds=0.0,
        )

    def abort(self, group_id: str) -> None:
        """There is nothing to stop: a group takes no time."""

    def close(self) -> None:
        """There is nothing to give back."""


class DigestPool:
    """A response is right where its tokens add up to an even number; half of the groups are refunded."""

    def grade(self, items: Sequence[Any]) -> list[Verdict]:
        """Verdicts by the text, which is the sum of the tokens."""
        kinds = [VerdictKind.WRONG if int(item.response) % 2 else VerdictKind.CORRECT for item in items]
        return [Verdict(kind=kind, reason="", seconds=0.0) for kind in kinds]
