"""Whole runs whose work is waiting: the real roles in processes of their own, with known times in the place of models.

There is a real server. Rollout's real loop runs around an engine that sleeps, and the verifier's real loop around
graders that sleep. The learner's real loop, books, pacing, weights, checkpoints and ledger run around a training step
that packs its batch and sleeps. So what a run takes beyond the times it was given is what the system itself costs, and
what it does at those times can be compared with ``leeway plan``. ``overlap.py``, ``overflow_policies.py`` and
``plan_against_runs.py`` use this module.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from leeway_rl.benchmarks.whole_runs import Work, whole_run
from leeway_rl.common.config import Config
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.service import Service
from leeway_rl.common.types import Responses, Ticket, Verdict, VerdictKind
from leeway_rl.leeway.planning.lengths import lognormal
from leeway_rl.leeway.planning.simulate import System
from leeway_rl.rollout.engine import Aborted

if TYPE_CHECKING:
    import torch

GROUP_SIZE = 2
"""One right, one wrong: a signal, at the least cost."""
LOADS = 256
"""Loads of weights that an engine remembers: more than come while a group is generated."""
BASE = [
    f"train.group_size={GROUP_SIZE}",
    "train.max_response_tokens=1000000",
    "train.micro_batch_tokens=2000000",
    "rollout.engine=vllm",  # so that rollout.concurrency counts
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What the work takes. Lengths in tokens, times in seconds."""

    length_mean: float
    length_sigma: float = 0.0
    """The σ of lognormal lengths; 0 makes all alike. The responses of a group are of one length."""
    tokens_per_s: float
    """Tokens a second of one response; responses do not slow each other down."""
    train_s: float
    verify_s: float = 0.0
    """Seconds to grade a group; one group is graded at a time."""
    rejected: float = 0.0
    """Share of groups whose responses are all right, which are refunded."""
    seed: int = 0

    def lengths_GS(self) -> np.ndarray:
        """Response lengths by ticket, int64 [n, group size]: the same as ``leeway plan`` draws with --group-size 1."""
        drawn = lognormal(self.length_mean, self.length_sigma, 1_000_000, group_size=1, seed=self.seed)
        return np.repeat(drawn, GROUP_SIZE, axis=1)

    def rejects(self) -> np.ndarray:
        """Whether a ticket's group is refused, bool [n], as ``simulate`` draws it."""
        return np.random.default_rng([self.seed, 1]).random(len(self.lengths_GS())) < self.rejected

    def system(self, config: Config) -> System:
        """What ``leeway plan`` simulates for this run, without its last η + 1 steps, which issue less."""
        return System(
            lengths_GS=self.lengths_GS(),
            groups_per_step=config.train.groups_per_step,
            steps=config.train.steps - config.flow.largest_bound - 1,
            max_staleness=config.flow.max_staleness,
            overflow=config.flow.overflow,
            pipeline_depth=config.flow.pipeline_depth,
            replicas=config.rollout.workers,
            concurrency=config.rollout.concurrency,
            alone=self.tokens_per_s,
            verify_s=self.verify_s,
            graders=config.verifier.workers,
            train_s=self.train_s,
            rejected=self.rejected,
            checkpoint_every=config.train.checkpoint_every,
            seed=self.seed,
        )


class TimedEngine:
    """An engine whose responses take as long as their lengths say; new weights meet them under way, at no cost."""

    def __init__(self, times: Times, concurrency: int, worker: str) -> None:
        self.concurrency, self.version = concurrency, -1
        self._lengths_GS, self._tokens_per_s, self._worker = times.lengths_GS(), times.tokens_per_s, worker
        self._aborts: dict[str, threading.Event] = {}
        self._loads: deque[tuple[float, int]] = deque(maxlen=LOADS)
        """(time, version) of the last loads."""

    def load(self, version: int, tensors: Mapping[str, torch.Tensor], file: Path | None = None) -> float:
        """Sample tokens by ``version`` from now on."""
        self._loads.append((time.monotonic(), version))
        self.version = version
        return 0.0

    def generate(self, ticket: Ticket) -> Responses:
        """Sleep until the longest response has ended. Every token is the ticket's number, for ``TimedPool``."""
        began, version = time.monotonic(), self.version
        lengths_S = self._lengths_GS[ticket.ticket % len(self._lengths_GS)]
        aborted = self._aborts[ticket.group_id] = threading.Event()
        if aborted.wait(float(lengths_S.max()) / self._tokens_per_s):
            raise Aborted
        changes = [(0, version)]
        changes += [(int((at - began) * self._tokens_per_s), new) for at, new in list(self._loads) if new > version]
        total = int(lengths_S.sum())
        return Responses(
            group_id=ticket.group_id,
            tokens_T=np.full(total, ticket.ticket % 2**16, dtype=np.uint16),
            logprobs_T=np.full(total, -1.0, dtype=np.float32),
            lengths_S=lengths_S.astype(np.uint32),
            finished_S=np.ones(len(lengths_S), dtype=np.uint8),
            spans=_spans(changes, lengths_S.tolist()),
            worker=self._worker,
            seconds=time.monotonic() - began,
        )

    def abort(self, group_id: str) -> None:
        """Stop sleeping for this group."""
        if group_id in self._aborts:
            self._aborts[group_id].set()

    def close(self) -> None:
        """There is nothing to give back."""


def _spans(changes: list[tuple[int, int]], lengths: list[int]) -> np.ndarray:
    """Rows (response, version, start, end), uint32 [n, 4], from the tokens at which versions came."""
    ends = [token for token, _ in changes[1:]]
    rows = [
        (response, version, start, min(end, length))
        for response, length in enumerate(lengths)
        for (start, version), end in zip(changes, [*ends, length], strict=True)
        if start < min(end, length)
    ]
    return np.array(rows, dtype=np.uint32)


class TimedPool:
    """Graders that sleep. The first response of a group is right, and all of them are where it is to be refused."""

    def __init__(self, times: Times) -> None:
        self._verify_s, self._rejects, self._turn = times.verify_s, times.rejects(), threading.Lock()

    def grade(self, items: Sequence[Any]) -> list[Verdict]:
        """Verdicts of one group's items, whose texts are the ticket's number; an empty list for no items."""
        if not items:
            return []
        with self._turn:  # one group after the other
            time.sleep(self._verify_s)
        right = self._rejects[int(items[0].response) % len(self._rejects)]
        kinds = [VerdictKind.CORRECT if right or index == 0 else VerdictKind.WRONG for index in range(len(items))]
        return [Verdict(kind=kind, reason="", seconds=self._verify_s / len(items)) for kind in kinds]


class TimedPolicy:
    """Stands in for the learner's ``Policy``: one small weight that every step changes."""

    rank, world, stage = 0, 1, 0

    def __init__(self, config: Config) -> None:
        import torch

        self.config = config
        self.weight = torch.zeros(4096)
        nothing = SimpleNamespace(to_dict=dict, model_type="qwen2")
        self.module = SimpleNamespace(language_model=SimpleNamespace(config=nothing))
        """A model of no known shape."""

    def named_weights(self) -> dict[str, torch.Tensor]:
        """The one weight."""
        return {"weight": self.weight}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the one weight."""
        return {"weight": tuple(self.weight.shape)}

    def copy_weights(self, into: dict[str, torch.Tensor] | None) -> None:
        """Copy the one weight."""
        assert into is not None
        into["weight"].copy_(self.weight)

    def reduce(self, values: torch.Tensor, *, largest: bool = False) -> torch.Tensor:
        """The values themselves, because there is one rank."""
        return values

    def snapshot(self, *, copied: bool) -> Callable[[Path], list[Path]]:
        """What writes nothing: a checkpoint holds only the books."""
        return lambda folder: []

    def sums(self) -> dict[str, Any]:
        """Empty: there is nothing that a checkpoint has to give back."""
        return {"steps": [], "differ": []}


def timed_step(train_s: float) -> Callable[..., Any]:
    """Stands in for the learner's ``train_step``: does all of it but the model's part, then sleeps until
    ``train_s``."""
    from leeway_rl.learner.step import StepResult, cut
    from leeway_rl.learner.tally import batch_metrics

    def step(policy: TimedPolicy, groups: Sequence[Any], *, version: int, controller: Any, config: Config) -> Any:
        ends = time.monotonic() + train_s
        batches = cut(groups, version=version, config=config)
        ages = np.concatenate([batch.staleness_T.numpy() for batch in batches])
        policy.weight += 1
        metrics = {
            **batch_metrics(policy, groups, version),  # type: ignore[arg-type]
            "batch/tokens": float(len(ages)),
            "staleness/token_mean": float(ages.mean()),
            "logprob/ess": 1.0,
            "overflow/tokens_trained_past_bound": int((ages > config.flow.largest_bound).sum()),
        }
        time.sleep(max(0.0, ends - time.monotonic()))
        return StepResult(metrics=metrics, controller=controller)

    return step


# --- runs ------------------------------------------------------------------------------------------------------------


def timed(times: Times, role: str, folder: Path) -> Work:
    """The work of a role, with ``times`` in the place of its models."""
    match role:
        case "learner":
            from leeway_rl.learner import train

            train.Policy = TimedPolicy  # type: ignore[assignment,misc]
            train.train_step = timed_step(times.train_s)
            return lambda queue, service, config: train.learn(queue, service, config, folder)
        case "rollout":
            return partial(_roll_out, times)
        case _:
            return partial(_verify, times)


def _roll_out(times: Times, queue: RolloutQueue, service: Service, config: Config) -> None:
    from leeway_rl.rollout.worker import RolloutWorker

    RolloutWorker(queue, service, TimedEngine(times, config.rollout.concurrency, queue.worker), config).run()


def _verify(times: Times, queue: VerifierQueue, service: Service, config: Config) -> None:
    from leeway_rl.verifier.worker import VerifierWorker

    pool: Any = TimedPool(times)
    VerifierWorker(queue, service, pool, lambda tokens: str(tokens[0]), config).run()


def runs(url: str, folder: Path, wanted: Mapping[str, tuple[Times, Sequence[str]]], side_by_side: int) -> list[Path]:
    """Timed runs in the Redis at ``url``, by name: the times and the settings over the ``tiny`` preset of each. Their
    folders under ``folder``, in the same order. They sleep, so several go on side by side."""
    stopping = threading.Event()
    with ThreadPoolExecutor(side_by_side) as threads:
        going = [
            threads.submit(
                whole_run, url, folder / name, [*BASE, *settings], work_of=partial(timed, times), stopping=stopping
            )
            for name, (times, settings) in wanted.items()
        ]
        try:
            return [run.result() for run in going]
        except BaseException:  # one run has failed, or we are asked to stop: the others stop too
            stopping.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
