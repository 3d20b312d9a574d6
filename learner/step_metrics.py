"""The record of a training step: what the step measured, how old its groups were, and what has come in and left since
the step before."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..common.config import Objective, source_named
from ..common.service import Service
from ..common.types import Heartbeat, Manifest
from .flow.intake import Intake
from .flow.progress import Progress
from .flow.staleness import head_staleness, tokens_past
from .hardware import Hardware
from .objective.advantage import counts
from .packing import ScoredGroup


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Put the seconds that the block takes into ``times`` as ``time/NAME_s``."""
    started = time.monotonic()
    yield
    times[f"time/{name}_s"] = time.monotonic() - started


class StepMetrics:
    """Makes the record of each training step. It remembers what the intake had counted at the record before."""

    def __init__(self, service: Service, intake: Intake, hardware: Hardware) -> None:
        self._service, self._intake, self._hardware = service, intake, hardware
        self._sources = intake.config.source_names
        self._counted, self._ended_at = _counted(intake, self._sources), time.monotonic()

    def record(
        self,
        step: int,
        groups: Sequence[ScoredGroup],
        measured: dict[str, float],
        times: dict[str, float],
        published: Manifest,
        workers: Sequence[Heartbeat],
    ) -> dict[str, Any]:
        """The record of the ``step`` that has just ended. ``measured``: metrics of the step itself and of the intake.
        ``times``: seconds that each part took, as ``timed`` notes them. ``workers``: those who live."""
        intake, now, counted = self._intake, time.monotonic(), _counted(self._intake, self._sources)
        since = {name: count - self._counted[name] for name, count in counted.items()}
        step_s, tokens_in, (live, ready) = now - self._ended_at, since.pop("tokens_in"), intake.depth()
        self._counted, self._ended_at = counted, now
        bound, masked = intake.lifecycle.batch_bound, intake.lifecycle.batch_overflow == "mask"
        progress, oldest = intake.lifecycle.progress, bound if masked else None
        rollout_rate, learner_rate = tokens_in / step_s, measured["batch/tokens"] / step_s
        return {
            "role": "learner",
            "step": step,
            "version": step + 1,
            "stage": groups[0].ticket.stage,
            "at": self._service.now(),
            **measured,
            **since,
            **by_head_staleness(groups, step),
            **where_it_aged(groups, step),
            **in_updates(groups, step, progress, lag=measured.get("staleness/local_lag_mean", 0.0), oldest=oldest),
            **past_bound(groups, step, bound),
            **by_source(groups, self._sources),
            **beside(groups, intake.config.at_stage(groups[0].ticket.stage).objective),
            "progress/groups": progress.groups,
            "progress/updates": progress.updates,
            "batch/generation_s_max": max(group.responses.seconds for group in groups),
            "flow/max_staleness": bound,
            "flow/overflow": intake.lifecycle.batch_overflow,
            "flow/pipeline_depth": intake.book.depth,
            "flow/live": live,
            "flow/nonfinite": intake.counts.nonfinite,
            "flow/overdue": intake.counts.overdue,
            "flow/ready": ready,
            "weights/payload_bytes": published.payload_bytes,
            "weights/full_bytes": published.full_bytes,
            "time/step_s": step_s,
            **times,
            "throughput/rollout_tokens_per_s": rollout_rate,
            "throughput/learner_tokens_per_s": learner_rate,
            **self._hardware.per_gpu(learner_rate, rollout_rate, workers),
            **self._hardware.measured(step, groups, measured, times, oldest=oldest),
        }


def _counted(intake: Intake, sources: Sequence[str]) -> dict[str, int]:
    """What the intake has counted so far: tokens that came in, tokens that expired, and groups that were not trained
    on, by reason. Orphaned groups are those that were made for an older incarnation."""
    refunds = {f"refunds/{reason}": count for reason, count in intake.counts.refunds.items()}
    refunds |= {"refunds/orphaned": intake.counts.orphaned}
    refunds |= {f"source/{name}/refunded": intake.counts.refunds_of[name] for name in sources}
    return {"tokens_in": intake.counts.tokens_in, **refunds, "overflow/expired_tokens": intake.counts.tokens_expired}


def by_source(groups: Sequence[ScoredGroup], sources: Sequence[str]) -> dict[str, int]:
    """Number of groups from each of several sources."""
    trained = Counter(source_named(group.ticket.prompt_id) for group in groups)
    return {f"source/{name}/trained": trained[name] for name in sources}


def beside(groups: Sequence[ScoredGroup], objective: Objective) -> dict[str, int]:
    """Number of groups without a signal, where a KL term over all groups has them trained."""
    if objective.kl_groups == "signal":
        return {}
    counted = sum(counts(group.rewards_S, group.responses.finished_S, objective) for group in groups)
    return {"batch/groups_beside": len(groups) - counted}


def past_bound(groups: Sequence[ScoredGroup], step: int, bound: int) -> dict[str, int]:
    """How many tokens are older than ``bound``, and how many groups have such tokens."""
    past = [tokens_past(group.responses.spans, step, max_staleness=bound) for group in groups]
    return {"overflow/tokens_past_bound": sum(past), "overflow/groups_past_bound": sum(count > 0 for count in past)}


def by_head_staleness(groups: Sequence[ScoredGroup], step: int) -> dict[str, float]:
    """Number of groups, mean reward and mean length in sampled tokens, for each head staleness."""
    of_age: dict[int, list[ScoredGroup]] = {}
    for group in groups:
        of_age.setdefault(head_staleness(group.responses.spans, step), []).append(group)
    metrics: dict[str, float] = {}
    for age, members in sorted(of_age.items()):
        metrics |= {
            f"staleness/head_count_{age}": len(members),
            f"reward/trained_mean/head_{age}": float(np.mean([group.rewards_S.mean() for group in members])),
            f"response/length_mean/head_{age}": float(np.mean([group.responses.sampled_S.mean() for group in members])),
        }
    return metrics


def where_it_aged(groups: Sequence[ScoredGroup], step: int) -> dict[str, float]:
    """Mean staleness of the tokens in two parts, split at the version that sampled the group's newest token: how much
    the tokens aged while their group was still being generated, and how much the group aged afterwards."""
    spans = [group.responses.spans.astype(np.int64) for group in groups]
    tokens = np.concatenate([span[:, 3] - span[:, 2] for span in spans])
    in_flight = np.concatenate([span[:, 1].max() - span[:, 1] for span in spans])
    in_queue = np.concatenate([np.full(len(span), step - span[:, 1].max()) for span in spans])
    return {
        "staleness/in_flight_mean": float(np.average(in_flight, weights=tokens)),
        "staleness/in_queue_mean": float(np.average(in_queue, weights=tokens)),
    }


def in_updates(
    groups: Sequence[ScoredGroup], step: int, progress: Progress, *, lag: float, oldest: int | None
) -> dict[str, float]:
    """Staleness counted in optimizer updates in place of versions, of which each may be several. Of trained tokens the
    mean, up to the update that used them; of groups' oldest tokens mean and maximum, up to the start of the step.
    ``lag``: updates that the step had made before a token was used, on average. ``oldest``: the staleness past which
    tokens are context alone, where there is one."""
    versions_G = np.array([group.responses.spans[:, 1].min() for group in groups], dtype=np.int64)
    spans = np.concatenate([group.responses.spans for group in groups]).astype(np.int64)
    if oldest is not None:
        spans = spans[step - spans[:, 1] <= oldest]
    now = progress.updates_before(np.array([step]))
    heads_G = now - progress.updates_before(versions_G)
    behind = now - progress.updates_before(spans[:, 1])
    return {
        "staleness/token_updates_mean": float(np.average(behind, weights=spans[:, 3] - spans[:, 2])) + lag,
        "staleness/head_updates_mean": float(heads_G.mean()),
        "staleness/head_updates_max": int(heads_G.max()),
    }
