"""Systems for ``leeway plan`` from measurements: a run's folder, or rollout times on several numbers of GPUs."""

import math
from array import array
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.config import Config
from ...common.errors import DataError
from ...common.ledger import read_standing
from ...common.wording import counted
from ..reporting import rundata
from ..reporting.rundata import RunData
from .simulate import System, simulate

SPEEDUPS = (1.0, 4.0, 16.0, 64.0, 256.0, math.inf)
"""How many times as fast as with one response a replica may be under full load. At infinity, responses do not slow each
other down."""
FIT_STEPS, FIT_ROUNDS = 40, 12
"""The most training steps and rounds in which a replica's speed is searched for."""
FIT_BATCHES = 8
"""Batches of responses that a fit to rollout times averages over."""

SLOWEST = "batch/generation_s_max"
NEEDED = ("time/train_s", "time/wait_for_batch_s", "generated/groups", "generated/seconds_mean", "staleness/head_mean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run as a planned system, and what the run itself did."""

    system: System
    figures: dict[str, float]
    """``steps_per_hour`` and ``head_mean`` over the steps that the plan counts."""


def from_run(folder: Path) -> Measured:
    """The system that the run in ``folder`` is an instance of. ``DataError`` where something needed is missing.

    Where a run has several stages, the stage with the most steps counts, without its first and last η + 1 steps: the
    first ones find an empty queue, and the last ones issue fewer groups. Lengths are those of the trained groups;
    lengths of rejected groups are drawn from the same. A replica's speed is the one at which generation takes as long
    as it did.
    """
    data = rundata.load(folder)
    if data.config is None:
        raise DataError(f"{folder}: {' '.join(data.missing)}")
    stage = Counter(line.get("stage", 0) for line in data.steps).most_common(1)[0][0]
    lines = [line for line in data.steps if line.get("stage", 0) == stage]
    lacking = [key for key in NEEDED if key not in lines[-1]]
    if lacking:
        raise DataError(f"{folder / 'metrics.jsonl'}: no {', '.join(lacking)}: the run was made by an older version")
    config = data.config.at_stage(stage)
    bound = Counter(int(line["flow/max_staleness"]) for line in lines).most_common(1)[0][0]
    lines = lines[bound + 1 : -bound - 1]
    if len(lines) < 2:
        raise DataError(
            f"{folder / 'metrics.jsonl'}: {counted(len(lines), 'step')} beside the first and last {bound + 1}: too few"
        )
    slowest_s = _mean(lines, SLOWEST) if all(SLOWEST in line for line in lines) else None
    system = _system(folder, data, config, lines, stage, bound)
    system = with_speed(system, _graded(lines, "generated/seconds_mean"), slowest_s)
    figures = {
        "steps_per_hour": 3600 / _mean(lines, "time/step_s"),
        "head_mean": _mean(lines, "staleness/head_mean"),
    }
    return Measured(system=system, figures=figures)


def _system(folder: Path, data: RunData, config: Config, lines: list[dict[str, Any]], stage: int, bound: int) -> System:
    train_s, train_s_per_token = line_through([line["batch/tokens"] for line in lines], _values(lines, "time/train_s"))
    beside = sum(line.get("batch/groups_beside", 0) for line in lines)  # they give their places back too
    refunded = sum(line["refunds/zero_advantage"] for line in lines) + beside
    trained = sum(line["batch/groups"] for line in lines) - beside
    pauses = [load["weights/paused_s"] for load in data.loads]
    busy = ("time/wait_for_batch_s", "time/train_s")
    return System(
        lengths_GS=_lengths(folder, {int(line["step"]) for line in data.steps if line.get("stage", 0) == stage}),
        groups_per_step=config.train.groups_per_step,
        steps=len(lines) + bound + 1,
        max_staleness=bound,
        auto=config.flow,
        overflow=config.flow.overflow,
        pipeline_depth=config.flow.pipeline_depth,
        replicas=config.rollout.workers,
        concurrency=config.rollout.at_once,
        turnaround_s=_turnaround_s(data.loads),
        pause_s=float(np.mean(pauses)) if pauses else 0.0,
        verify_s=_graded(lines, "generated/grading_s_mean") / config.verifier.jobs,
        graders=config.verifier.workers,
        train_s=train_s,
        train_s_per_token=train_s_per_token,
        publish_s=float(np.mean([line["time/step_s"] - sum(line[key] for key in busy) for line in lines])),
        rejected=refunded / (refunded + trained),
        checkpoint_every=config.train.checkpoint_every,
    )


def _turnaround_s(loads: list[dict[str, Any]]) -> float:
    """Seconds between two groups in a slot of a worker, where the slot did not wait for a ticket; 0 where an older
    version of Leeway made the run and did not record it."""
    found = [
        (load["generation/turnaround_s_mean"], load["generation/turnarounds"])
        for load in loads
        if "generation/turnarounds" in load
    ]
    if not found:
        return 0.0
    seconds, counts = zip(*found, strict=True)
    return float(np.average(seconds, weights=counts))


def with_speed(system: System, generation_s: float, slowest_s: float | None) -> System:
    """The system whose groups take ``generation_s`` seconds on average, and the slowest group of a batch ``slowest_s``
    (None: not known).

    Where a replica generates one group at a time, a token takes the same time however many responses of the group are
    left, as in one padded batch. Where several groups share the replica, responses become faster the fewer are left,
    and the slowest group of a batch is nearer to the mean. So the slowest group's time tells how much groups slow each
    other down. Where that time is not known, we assume that all responses share one rate.
    """
    if system.concurrency == 1:
        return replace(system, alone=float(system.lengths_GS.max(axis=1).mean()) / generation_s)
    fits = [_at_mean(system, generation_s, speedup) for speedup in (SPEEDUPS if slowest_s is not None else (1.0,))]
    return min(fits, key=lambda fit: abs(fit[1] - slowest_s) if slowest_s is not None else 0.0)[0]


def _at_mean(system: System, generation_s: float, speedup: float) -> tuple[System, float]:
    """(the system, the mean time of a batch's slowest group in seconds), where groups take ``generation_s`` on average
    and a replica under full load is ``speedup`` times as fast as with one response."""
    rate, steps = float(system.lengths_GS.max(axis=1).mean()) / generation_s, min(system.steps, FIT_STEPS)
    for _ in range(FIT_ROUNDS):
        tried = replace(system, alone=rate, peak=rate * speedup)
        outcome = simulate(replace(tried, steps=steps))
        off = outcome.generation_s / outcome.generations / generation_s
        if abs(off - 1) < 0.003:
            break
        rate *= off
    kept = outcome.steps[min(system.largest_bound + 1, steps - 1) :]
    return tried, float(np.mean([step.generation_s for step in kept]))


def _lengths(folder: Path, steps: set[int]) -> np.ndarray:
    """Lengths, int64 [groups, group size], of the groups trained in ``steps``, in the order of their tickets: with a
    heavy tail it matters much which batch meets the slowest group."""
    tickets, lengths_GS = trained_lengths(folder / "ledger.jsonl", steps)
    return lengths_GS[np.argsort(tickets)]


def trained_lengths(path: Path, steps: Container[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(tickets [groups], lengths [groups, group size], int64) of the groups that the ledger at ``path`` has as trained,
    in ``steps`` or in any step. Where stages differ in the group size, only groups of the newest size count.
    ``DataError`` where there is none."""
    found: dict[int, tuple[array[int], array[int]]] = {}  # arrays: a long run has tens of millions of lengths
    size = 0
    for line in read_standing(path):
        if line["event"] == "trained" and (steps is None or line["step"] in steps):
            size = len(line["lengths"])
            tickets, lengths = found.setdefault(size, (array("q"), array("i")))
            tickets.append(line["ticket"])
            lengths.extend(line["lengths"])
    if not found:
        raise DataError(f"{path}: no trained group in this ledger, so no lengths")
    tickets, lengths = found[size]
    return np.array(tickets, dtype=np.int64), np.array(lengths, dtype=np.int64).reshape(-1, size)


def line_through(x: list[float], y: list[float]) -> tuple[float, float]:
    """(value at 0, slope) of the line that fits the points best by least squares, where neither is below 0."""
    slope, at_zero = np.polyfit(x, y, 1) if len(set(x)) > 1 else (0.0, float(np.mean(y)))
    if slope < 0:
        return float(np.mean(y)), 0.0
    if at_zero < 0:
        return 0.0, float(np.mean(y) / np.mean(x))
    return float(at_zero), float(slope)


def _values(lines: list[dict[str, Any]], key: str) -> list[float]:
    return [line[key] for line in lines]


def _mean(lines: list[dict[str, Any]], key: str) -> float:
    return float(np.mean(_values(lines, key)))


def _graded(lines: list[dict[str, Any]], key: str) -> float:
    """The mean of a key over graded groups, from its means by step."""
    return float(np.average(_values(lines, key), weights=_values(lines, "generated/groups")))


# --- rollout times on several numbers of GPUs ------------------------------------------------------------------------


def fitted(times: dict[int, float], lengths_GS: np.ndarray, responses: int) -> System:
    """The system (one replica a GPU) in which ``responses`` responses, dealt out evenly and sampled at once, take
    ``times``: seconds by number of replicas, for two numbers at least.

    A replica's last response ends after ΣL·c + Lmax·(d - c) seconds, with c = 1/peak and d = 1/alone: each token of the
    longest response costs d - c, and every token of the replica costs c. The slowest replica sets the time. So the
    times are linear in c and d once it is known which replica is slowest, and a few rounds of least squares find both.
    """
    rng = np.random.default_rng(0)
    batches = [rng.choice(lengths_GS.ravel(), size=responses) for _ in range(FIT_BATCHES)]
    alone_s, shared_s = 1.0, 0.1
    for _ in range(20):
        rows = []
        for replicas in times:
            slowest = [_slowest(batch, replicas, alone_s, shared_s) for batch in batches]
            rows.append(np.mean(slowest, axis=0))
        (alone_s, shared_s), *_ = np.linalg.lstsq(np.array(rows), np.array(list(times.values())), rcond=None)
    if alone_s <= 0 or shared_s <= 0:
        raise DataError(
            f"--fit: no replica gives these times ({_said(times)}): more replicas have to be faster, less so "
            "than in proportion"
        )
    return System(
        lengths_GS=np.concatenate(batches)[:, None],
        groups_per_step=responses,
        steps=1,
        max_staleness=0,
        concurrency=responses,
        alone=float(1 / alone_s),
        peak=float(1 / shared_s),
        train_s=0.0,
    )


def rollout_s(system: System, replicas: int) -> float:
    """Simulated seconds until the last response of a batch has ended; the mean of ``FIT_BATCHES`` batches."""
    batches = np.split(system.lengths_GS, FIT_BATCHES)
    tried = [simulate(replace(system, replicas=replicas, lengths_GS=batch)) for batch in batches]
    return float(np.mean([outcome.steps[0].began for outcome in tried]))


def _slowest(batch: np.ndarray, replicas: int, alone_s: float, shared_s: float) -> tuple[float, float]:
    """(Lmax, ΣL - Lmax), in tokens, of the replica that ends last."""
    shares = [batch[first::replicas] for first in range(min(replicas, len(batch)))]
    ends = [(int(share.max()), int(share.sum() - share.max())) for share in shares]
    return max(ends, key=lambda end: alone_s * end[0] + shared_s * end[1])


def _said(times: dict[int, float]) -> str:
    return ", ".join(f"{replicas}: {seconds:g} s" for replicas, seconds in times.items())
