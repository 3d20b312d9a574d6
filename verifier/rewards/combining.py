"""Makes one verdict of what several rewards say of a response. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...common.config import Reward, Verifier
from ...common.types import Part, Verdict, VerdictKind
from ..reasons import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What one reward gave a response."""

    value: float = 0.0
    kind: VerdictKind = VerdictKind.SCORED
    """``SCORED`` for a function's number; a judge's own kind; ``NO_ANSWER`` where a function was not asked, because the
    response is truncated; ``ERROR`` where there is no number."""
    reason: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0

    @classmethod
    def of(cls, verdict: Verdict) -> Given:
        """What a judge's verdict gives."""
        value = 0.0 if verdict.kind is VerdictKind.ERROR else verdict.reward
        seconds, peak_bytes = verdict.seconds, verdict.peak_bytes
        return cls(value=value, kind=verdict.kind, reason=verdict.reason, seconds=seconds, peak_bytes=peak_bytes)


def combined(rewards: Sequence[Reward], given: Sequence[Given], settings: Verifier, *, parts: bool = True) -> Verdict:
    """The verdict on one response, to which ``rewards`` gave ``given``. An error in one of them is an error of the
    whole. So is a time-out where ``verifier.on_timeout`` refunds; else its value is 0. ``parts``: whether it says what
    each of them gave."""
    seconds, peak_bytes = sum(each.seconds for each in given), max(each.peak_bytes for each in given)

    def verdict(kind: VerdictKind, reason: str, score: float | None = None) -> Verdict:
        each = tuple(Part(name=reward.called, value=found.value) for reward, found in zip(rewards, given, strict=True))
        noted, reason = each * (parts and kind is not VerdictKind.ERROR), printable(reason)
        return Verdict(kind=kind, reason=reason, seconds=seconds, peak_bytes=peak_bytes, score=score, parts=noted)

    gives_up = {VerdictKind.ERROR} | ({VerdictKind.TIMEOUT} if settings.on_timeout == "refund" else set())
    for each in given:
        if each.kind in gives_up:
            return verdict(each.kind, each.reason)
    alone = given[0]
    if len(given) == 1 and rewards[0].weight == 1 and alone.value == float(alone.kind is VerdictKind.CORRECT):
        if alone.kind is not VerdictKind.SCORED:
            return verdict(alone.kind, alone.reason)  # as without [[rewards]]
    elif all(each.kind is VerdictKind.NO_ANSWER for each in given):
        return verdict(VerdictKind.NO_ANSWER, alone.reason)
    weighted = [reward.weight * each.value for reward, each in zip(rewards, given, strict=True)]
    total = math.fsum(weighted) if settings.combine == "sum" else math.prod(weighted)
    if not math.isfinite(total):
        return verdict(VerdictKind.ERROR, f"the rewards come to {total} together ({_reasons(rewards, given)})")
    return verdict(VerdictKind.SCORED, _reasons(rewards, given), total)


def _reasons(rewards: Sequence[Reward], given: Sequence[Given]) -> str:
    if len(given) == 1:
        return given[0].reason
    words = []
    for reward, each in zip(rewards, given, strict=True):
        why = ": ".join(filter(None, ["" if each.kind is VerdictKind.SCORED else each.kind.value, each.reason]))
        words.append(f"{reward.called} {each.value:g}" + (f" ({why})" if why else ""))
    return "; ".join(words)
