"""The staleness rule: which tickets may be issued, how old data are, and why the bound holds. Pure functions.

v is the number of training steps completed, η is ``max_staleness``, and B_s is the number of groups in a training step
of stage s.

Why ``wait`` keeps the bound. The next η+1 steps v, v+1, …, v+η take groups of known stages: ``places`` counts them,
B_s for each step in stage s. A ticket of stage s is issued while fewer than that are live in s, so fewer than that many
stand before it. Each step of stage s takes the B_s oldest live groups of s; refunds only shorten the queue before us,
and newer tickets queue behind. So the group is trained within the steps v, …, v+η, where v is the version at its issue.
Its tokens are sampled by version v or later (``Ticket.min_version``), so no token is staler than η. In a run of one
stage this is the plain rule: issue while live < (η+1)·B.

At η = 0 exactly B groups live, and the batch is the first B survivors in ticket order whatever the timing: filtering
cannot deadlock, because a refund makes room for the next ticket at once.

A group without a signal, where a KL term over all groups has it trained, gives its place back when it is graded and is
taken with the next group after it that holds one (``tickets.py``). Fewer than (η+1)·B places stood before it at its
issue, and the steps v, …, v+η take (η+1)·B of them in order; so one of these steps takes a place behind it, and the
group with it. A resume makes such groups again, and they hold places until they are graded. So more than (η+1)·B may be
live for a while, and where some now have a signal, a group behind them may come too late: it is then refunded as
``expired`` under ``wait`` too, or as ``stage_ended``. At η = 0 the torch engine gives the same ones: none is late.

The other policies take the groups that are ready, so a straggler may be overtaken and grow older than η. What gives way
then:

``drop``   its group: a group with a token older than η is refunded just before the forward pass. Nothing past the bound
           is trained; long responses, which take longest, are lost more often.
``mask``   its tokens: those older than η leave the loss, and a group of which none is left is refunded. No token past
           the bound is trained.
``soft``   the bound: the group is trained, and counted.

The places are the same for all policies, so none generates more groups at a time than ``wait``.

No batch mixes stages. Under ``finish`` a stage ends with none of its groups live, because its last steps leave places
for no more than they take. Under ``refund`` a stage's queue stays full to its last step, tickets are issued for the
stage under way alone, and the groups that are left at its end are refunded; within a stage the proof is the same.
"""

import bisect
from dataclasses import dataclass

import numpy as np

from ...common.config import Overflow
from ...common.types import NOTHING_OBSERVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Which stage every training step of the run belongs to, and how many groups it takes."""

    starts: tuple[int, ...]
    """First step of each stage; the first is 0."""
    groups_per_step: tuple[int, ...]
    """B of each stage."""
    steps: int
    """Training steps of the whole run."""
    issue_ahead: bool = True
    """Whether tickets of the next stage may be issued before this one ends (``finish``)."""

    def stage_of(self, step: int) -> int:
        """The stage of a training step."""
        return bisect.bisect_right(self.starts, step) - 1

    def places(self, version: int, max_staleness: int) -> dict[int, int]:
        """How many groups the steps ``version`` … ``version + max_staleness`` will take, by stage, in order of
        stages."""
        steps = range(version, min(version + max_staleness + 1, self.steps))
        if not self.issue_ahead:
            # Count as if the stage under way went on to the end of the run.
            return {stage: self.groups_per_step[stage] * len(steps) for stage in {self.stage_of(version)} if steps}
        taken: dict[int, int] = {}
        for stage in map(self.stage_of, steps):
            taken[stage] = taken.get(stage, 0) + self.groups_per_step[stage]
        return taken

    def taken(self, version: int, steps: float) -> float:
        """How many groups the next ``steps`` training steps take over all stages; a fraction of a step takes its
        share."""
        whole = int(steps)
        before, after = (sum(self.places(version, count - 1).values()) for count in (whole, whole + 1))
        return before + (steps - whole) * (after - before)


def expired(spans: np.ndarray, version: int, *, max_staleness: int, overflow: Overflow) -> bool:
    """Whether a training step that starts from ``version`` may use no token of a group. ``spans``: uint32 [n, 4]."""
    match overflow:
        case "soft":
            return False
        case "mask":
            return version - int(spans[:, 1].max()) > max_staleness
        case "wait" | "drop":
            return head_staleness(spans, version) > max_staleness


def tokens_past(spans: np.ndarray, version: int, *, max_staleness: int) -> int:
    """How many tokens of a group are past the bound in a step that starts from ``version``."""
    versions, starts, ends = spans[:, 1:].astype(np.int64).T
    return int((ends - starts)[version - versions > max_staleness].sum())


def head_staleness(spans: np.ndarray, version: int) -> int:
    """Staleness of a group's oldest token when a training step starts from ``version``. ``spans``: uint32 [n, 4]."""
    return version - int(spans[:, 1].min())


def check_spans(
    spans: np.ndarray,
    lengths_S: np.ndarray,
    *,
    min_version: int,
    newest_version: int,
    observed: np.ndarray = NOTHING_OBSERVED,
) -> str | None:
    """What is wrong with a group's spans, as a message; None where they are sound. Sound spans and the rows of
    ``observed`` (uint32 [n, 3], in order) cover every token of every response exactly once and in order. The versions
    of spans never fall within a response and lie in [min_version, newest_version]."""
    if spans.ndim != 2 or spans.shape[1] != 4:
        return f"spans have shape {list(spans.shape)} and not [n, 4]"
    ends = {(owner, start): end for owner, start, end in observed.astype(np.int64).tolist()}
    response, position, last_version = 0, 0, -1
    for owner, version, start, end in spans.astype(np.int64).tolist():
        if owner != response:
            if owner != response + 1 or position != lengths_S[response]:
                return f"the spans of response {response} end at token {position} of {lengths_S[response]}"
            response, position, last_version = owner, 0, -1
        if response >= len(lengths_S):
            return f"a span of response {response}, but the group has {len(lengths_S)} responses"
        position = ends.pop((response, position), position)
        if start != position or end <= start:
            return f"a span {start}..{end} of response {response} that should start at {position}"
        if not min_version <= version <= newest_version:
            return f"version {version} is outside the possible {min_version}..{newest_version}"
        if version < last_version:
            return f"version {version} comes after version {last_version} within response {response}"
        position, last_version = end, version
    if response != len(lengths_S) - 1 or position != lengths_S[response]:
        return f"the spans end in response {response} at token {position}"
    if ends:
        (response, start), end = next(iter(ends.items()))
        return f"a span covers observed tokens {start}..{end} of response {response}"
    return None
