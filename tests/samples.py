"""Small, valid wire messages for tests to bend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.types import Heartbeat, Responses, Scores, Ticket, Verdict, VerdictKind


def a_ticket(number: int = 7, *, incarnation: int = 1, **changes) -> Ticket:
    ticket = Ticket(
        ticket=number,
        incarnation=incarnation,
        min_version=0,
        stage=0,
        prompt_id="made-up:1",
        prompt_tokens_P=np.array([5, 6, 7], dtype=np.uint32),
        group_size=2,
        max_new_tokens=8,
        temperature=1.0,
        seed=99,
        ability="math",
        ground_truth=("4",),
    )
    return replace(ticket, **changes)


def some_responses(ticket: Ticket, *, version: int = 0, **changes) -> Responses:
    """Two responses of 3 and 2 tokens, sampled by one version."""
    responses = Responses(
        group_id=ticket.group_id,
        tokens_T=np.array([1, 2, 3, 4, 5], dtype=np.uint16),
        logprobs_T=np.array([-0.1, -0.2, -0.3, -0.4, -0.5], dtype=np.float32),
        lengths_S=np.array([3, 2], dtype=np.uint32),
        finished_S=np.array([1, 1], dtype=np.uint8),
        spans=np.array([[0, version, 0, 3], [1, version, 0, 2]], dtype=np.uint32),
        worker="tester",
        seconds=0.5,
    )
    return replace(responses, **changes)


def two_turns(ticket: Ticket, *, version: int = 0, **changes) -> Responses:
    """A response of two turns, of which an environment wrote tokens 2 and 3 of 6, and one of a single turn."""
    nan = np.nan
    changes = {
        "tokens_T": np.array([1, 2, 8, 9, 3, 4, 5, 6], dtype=np.uint16),
        "logprobs_T": np.array([-0.1, -0.2, nan, nan, -0.3, -0.4, -0.5, -0.6], dtype=np.float32),
        "lengths_S": np.array([6, 2], dtype=np.uint32),
        "spans": np.array([[0, version, 0, 2], [0, version, 4, 6], [1, version, 0, 2]], dtype=np.uint32),
        "observed": np.array([[0, 2, 4]], dtype=np.uint32),
        "environment_S": np.array([0.75, -1.0]),
    } | changes
    return some_responses(ticket, version=version, **changes)


def some_scores(ticket: Ticket, kinds=(VerdictKind.CORRECT, VerdictKind.WRONG)) -> Scores:
    verdicts = tuple(Verdict(kind=kind, reason="", seconds=0.01, peak_bytes=0) for kind in kinds)
    graded = some_responses(ticket).fingerprint
    return Scores(group_id=ticket.group_id, verdicts=verdicts, graded=graded, worker="tester")


def a_heartbeat(role: str = "rollout", **changes) -> Heartbeat:
    """A worker that starts, named after its role."""
    heartbeat = Heartbeat(
        role=role,
        worker=role,
        version=0,
        doing=Doing(Activity.STARTING),
        since=0.0,
        done=0,
        tokens=0,
        busy_s=0.0,
        started=0.0,
    )
    return replace(heartbeat, **changes)
