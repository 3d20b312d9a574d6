"""Run on two ranks by ``test_watchdog.py``: the learner's loops, where rank 0 works or waits alone for longer than
tensors may take, or dies.

Arguments: model folder, output folder, and what rank 0 does: ``sleeps`` (while it publishes, while it waits for a
batch, and while it writes a checkpoint), ``dies-waiting`` or ``dies-training``. Policy, training step, loops and
checkpoints are the real ones; there is no Redis.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from leeway_rl.common.errors import LeewayError
from leeway_rl.learner import leader as leader_of
from leeway_rl.learner import train
from leeway_rl.learner.background import CheckpointWriter
from leeway_rl.learner.budget import Budget
from leeway_rl.learner.delay import DelayLine
from leeway_rl.learner.disk_room import DiskRoom
from leeway_rl.learner.leader import Leader
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.publication import FlatBuffers, Publication
from leeway_rl.learner.ranks import leave_ranks, naming_the_lost, rank
from tiny_policy import make_config, make_groups

TENSORS_S, ASLEEP_S = 10.0, 13.0
"""The time-out of tensors, and how long rank 0 sleeps: more than that, and more than a busy machine makes of a step."""
STEPS = 2


class QuietService:
    """What the loops say of themselves goes nowhere."""

    def __init__(self) -> None:
        self.stopping, self.failure, self.version = threading.Event(), None, -1

    def doing(self, doing: Any) -> None:
        pass

    def hindered(self, doing: Any) -> None:
        pass

    def working(self, doing: Any) -> Any:
        return nullcontext()

    def count(self, **_: Any) -> None:
        pass

    def fail(self, error: Any) -> None:
        self.failure = error
        self.stopping.set()


class SleepyIntake:
    """Its first batch takes longer to come than tensors may take; rank 0 dies there where it is to."""

    def __init__(self, what: str) -> None:
        self.book = SimpleNamespace(version=0, max_staleness=1)
        self.controls = SimpleNamespace(target_entropy=0.2, learning_rate="stage")
        self.lifecycle = SimpleNamespace(batch_bound=0, batch_overflow="wait")
        self._what = what
        self.acknowledged = 0

    def next_batch(self, timeout_s: float) -> Any:
        if self._what == "dies-waiting":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._what == "sleeps" and self.book.version == 0:
            time.sleep(ASLEEP_S)
        return make_groups(4, version=self.book.version, seed=self.book.version)

    def trained(self, *_: Any, **__: Any) -> dict[str, float]:
        self.book.version += 1
        return {}

    def published(self, checksum: str) -> None: ...

    def checkpointed(self, covered: int) -> None:
        self.acknowledged = covered

    def covered(self) -> int:
        return self.book.version

    def snapshot(self) -> dict[str, Any]:
        return {"version": self.book.version}

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close_books(self, **_: float) -> None: ...
    def waiting_for(self) -> None: ...


class SleepyPublisher:
    """Takes its time for the first version."""

    def __init__(self, what: str) -> None:
        self._what = what

    def publish(self, version: int, weights: Any) -> Any:
        if self._what == "sleeps" and version == 0:
            time.sleep(ASLEEP_S)
        return SimpleNamespace(version=version, checksum="0", payload_bytes=0, full_bytes=0)


class SleepyLeader(Leader):
    """Rank 0 without Redis."""

    def __init__(self, policy: Policy, config: Any, folder: Path, what: str, closing: ExitStack) -> None:
        self.service: Any = QuietService()
        self.queue: Any = SimpleNamespace(weights=SimpleNamespace(manifests=list))
        self.ledger: Any = SimpleNamespace(write=lambda *_, **__: None, sync=self._sync)
        self.publisher: Any = SleepyPublisher(what)
        self.intake: Any = SleepyIntake(what)
        self.config, self.policy, self.folder = config, policy, folder
        self.incarnation, self.saved_at, self._what = 1, -1, what
        self.budget, self.copier = Budget(None, 0.0), None
        self.disk, self.delay = DiskRoom(self.service), DelayLine(0)
        self._buffers = FlatBuffers(policy.shapes(), config.weights.dtype, lag=0)
        self.publication = Publication(self.service, self.publisher, self.disk, config.weights, self._stands)
        self.profiler: Any = SimpleNamespace(begin=lambda step: None, end=lambda: None)
        self.writer = CheckpointWriter(policy, self.service, folder / "checkpoints", config.train)
        closing.callback(self.writer.close)

    def _sync(self) -> None:
        """Within the writing of a checkpoint; the other ranks' threads wait for it, and at the end their loops too."""
        if self._what == "sleeps":
            time.sleep(ASLEEP_S)

    def say(self, phase: str, doing: Any) -> None: ...
    def account(self, *_: Any) -> None: ...


def main() -> int:
    torch.set_num_threads(1)
    model_path, out, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    settings = {"train__zero_stage": 3, "train__steps": STEPS, "train__checkpoint_every": 1}
    config = make_config(model_path, **settings, train__collective_timeout_s=TENSORS_S)
    policy = Policy(config)
    assert policy.engine.data_parallel_group is torch.distributed.group.WORLD, "ZeRO keeps our time-out"
    train.WAIT_S = leader_of.WAIT_S = 2 * ASLEEP_S
    if what == "dies-training" and rank() == 0:
        policy.step = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment,return-value]
    try:
        with ExitStack() as closing, naming_the_lost():
            if rank() == 0:
                leader = SleepyLeader(policy, config, out, what, closing)
                train.lead(leader, ControllerState())
                assert leader.intake.acknowledged == STEPS
            else:
                train.fetched = Fetch()  # type: ignore[assignment]
                train.follow(None, QuietService(), policy, config, out / "checkpoints", ControllerState())  # type: ignore[arg-type]
    except LeewayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    leave_ranks()
    return 0


class Fetch:
    """This rank's share, made instead of fetched."""

    def __init__(self) -> None:
        self.step = 0

    def __call__(self, queue: None, share: list[tuple[str, list[int], int]]) -> list[Any]:
        by_id = {group.ticket.group_id: group for group in make_groups(4, version=self.step, seed=self.step)}
        self.step += 1
        return [replace(by_id[group_id], micro_batch_S=tuple(numbers)) for group_id, numbers, _ in share]


if __name__ == "__main__":
    sys.exit(main())
