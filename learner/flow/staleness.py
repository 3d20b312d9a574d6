"""The stale rule: who may be issued, how old data is, and why the bound holds. Pure functions.

Words: v is the number of training steps completed, η is ``max_staleness``, B is groups a training step.

Why ``wait`` keeps the bound. A ticket is issued while fewer than (η+1)·B groups are live, so at most (η+1)·B - 1
older groups are live at that moment. Every training step takes the B oldest live groups; refunds only shorten the
queue before us, and newer tickets queue behind. So the group is trained within the η+1 steps that start at v, v+1, …,
v+η, where v is the version at its issue. Its tokens are sampled by version v or later (``Ticket.min_version``), so no
token is staler than η. At η = 0 exactly B groups live, and the batch is the first B survivors in ticket order whatever
the timing: filtering cannot deadlock, because a refund makes room for the next ticket at once.
"""

from __future__ import annotations

import numpy as np


def room(live: int, *, max_staleness: int, groups_per_step: int, steps_left: int) -> int:
    """Tickets that may be issued now: up to (η+1)·B live, and no more than the remaining steps can train."""
    return max(0, min(max_staleness + 1, steps_left) * groups_per_step - live)


def head_staleness(spans: np.ndarray, version: int) -> int:
    """Staleness of a group's oldest token when a training step starts from ``version``; spans are uint32 [n, 4]."""
    return version - int(spans[:, 1].min())


def check_spans(spans: np.ndarray, lengths_S: np.ndarray, *, min_version: int, newest_version: int) -> str | None:
    """What is wrong with a group's spans, or None where they cover every token of every response exactly once, in
    order, with versions that never fall and lie in [min_version, newest_version]."""
    if spans.ndim != 2 or spans.shape[1] != 4:
        return f"spans of shape {list(spans.shape)} where [n, 4] is due"
    response, position, last_version = 0, 0, -1
    for owner, version, start, end in spans.astype(np.int64).tolist():
        if owner != response:
            if owner != response + 1 or position != lengths_S[response]:
                return f"spans leave response {response} at token {position} of {lengths_S[response]}"
            response, position, last_version = owner, 0, -1
        if response >= len(lengths_S):
            return f"a span of response {response} where there are {len(lengths_S)}"
        if start != position or end <= start:
            return f"a span {start}..{end} of response {response} where one from {position} is due"
        if not min_version <= version <= newest_version:
            return f"version {version} outside the possible {min_version}..{newest_version}"
        if version < last_version:
            return f"version {version} after version {last_version} within response {response}"
        position, last_version = end, version
    if response != len(lengths_S) - 1 or position != lengths_S[response]:
        return f"spans end in response {response} at token {position}"
    return None
