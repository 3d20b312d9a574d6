"""How the policy did before rejection sampling, for each training step's metrics. No I/O.

The responses of a rejected group are all right or all wrong, so the mean reward of the trained groups alone says little
about the policy. A step therefore reports over every graded group up to its newest ticket, refunded ones included.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...common.config import source_named
from ...common.pass_at_k import pass_at_k, powers_of_two
from ...common.types import Verdict, VerdictKind
from .tickets import Arrival


class _Grade(NamedTuple):
    """What is kept of a graded group."""

    stage: int
    reward_sum: float
    responses: int
    tokens: int
    """Sampled tokens."""
    observed: int
    """Tokens that an environment wrote."""
    turns: int
    solved_in_turns: int
    """Solved responses that took several turns."""
    environment_sum: float | None
    """Sum of the turn rewards; None without an environment."""
    generation_s: float
    grading_s: float
    """Sum over the group's responses, in seconds."""
    solved: int
    """Responses with a reward of at least ``verifier.solved_at``."""
    completed: int
    """Solved responses that ended by themselves."""
    truncated: int
    """Responses that did not."""
    judged: Counter[str]
    """Responses by verdict (``_verdict``)."""
    tokens_of: Counter[str]
    """Their sampled tokens, by verdict."""
    parts: dict[str, float]
    """Of each reward that judged the group, by name: the sum over its responses; empty where there are none."""
    source: str
    """Name of the prompt's source, where there are several."""


def _by_solved(graded: Sequence[_Grade], responses: int) -> dict[str, float]:
    """How many groups have how many solved responses, pass@k as the mean over groups, and the share of the responses
    that are right and have ended by themselves."""
    sizes, solved = [grade.responses for grade in graded], [grade.solved for grade in graded]
    counts = np.bincount(solved, minlength=max(sizes) + 1).tolist()
    return {
        **{f"solved/groups_{number}": count for number, count in enumerate(counts)},
        **{f"solved/pass_at_{k}": float(pass_at_k(sizes, solved, k).mean()) for k in powers_of_two(min(sizes))},
        "solved/completed_share": sum(grade.completed for grade in graded) / responses,
    }


def _by_verdict(graded: Sequence[_Grade], responses: int) -> dict[str, float]:
    """Of each verdict that was given: its share of the responses, and their mean length in sampled tokens."""
    judged, tokens = Counter[str](), Counter[str]()
    for grade in graded:
        judged.update(grade.judged)
        tokens.update(grade.tokens_of)
    metrics: dict[str, float] = {}
    for name in sorted(judged):
        metrics[f"verdict/{name}/share"] = judged[name] / responses
        metrics[f"verdict/{name}/length_mean"] = tokens[name] / judged[name]
    return metrics


def _verdict(verdict: Verdict, solved: bool) -> str:
    """The kind of a verdict. A reward that is a number of its own counts as correct where it is enough, else as
    wrong."""
    if verdict.kind is not VerdictKind.SCORED:
        return verdict.kind.value
    return (VerdictKind.CORRECT if solved else VerdictKind.WRONG).value


def _by_part(graded: Sequence[_Grade]) -> dict[str, float]:
    """The share of solved responses, and the mean of each part over the responses that it judged, where the run has
    rewards of its own. Without, the mean reward says it all."""
    names = list(dict.fromkeys(name for grade in graded for name in grade.parts))
    means = {}
    for name in names:
        judged = [grade for grade in graded if name in grade.parts]
        sums = sum(grade.parts[name] for grade in judged)
        means[f"reward/part/{name}"] = sums / sum(grade.responses for grade in judged)
    return {"reward/solved_share": _solved_share(graded), **means} if names else {}


def _solved_share(graded: Sequence[_Grade]) -> float:
    return sum(grade.solved for grade in graded) / sum(grade.responses for grade in graded)


def _by_source(graded: Sequence[_Grade], sources: Sequence[str]) -> dict[str, float]:
    """How each of several sources did. Of one that no group came from, only that is known."""
    metrics: dict[str, float] = {}
    for name in sources:
        own = [grade for grade in graded if grade.source == name]
        metrics[f"source/{name}/share"] = len(own) / len(graded)
        if own:
            responses = sum(grade.responses for grade in own)
            metrics |= {
                f"source/{name}/reward_mean": sum(grade.reward_sum for grade in own) / responses,
                f"source/{name}/solved_share": _solved_share(own),
                f"source/{name}/length_mean": sum(grade.tokens for grade in own) / responses,
            }
    return metrics


def _by_environment(graded: Sequence[_Grade], responses: int) -> dict[str, float]:
    """The means of what an environment gave and how often it was asked, and its share of the tokens, where there is
    one."""
    sums = [grade.environment_sum for grade in graded if grade.environment_sum is not None]
    if not sums:
        return {}
    observed, sampled = sum(grade.observed for grade in graded), sum(grade.tokens for grade in graded)
    solved = sum(grade.solved for grade in graded)
    of_solved = {"generated/solved_in_turns": sum(grade.solved_in_turns for grade in graded) / solved} if solved else {}
    return {
        **of_solved,
        "reward/environment_mean": sum(sums) / responses,
        "generated/turns_mean": sum(grade.turns for grade in graded) / responses,
        "generated/observed_share": observed / (observed + sampled),
    }


def sums_of_parts(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The sum of each named part over ``verdicts``. One that a verdict lacks counts as 0."""
    sums = defaultdict[str, float](float)
    for verdict in verdicts:
        for part in verdict.parts:
            sums[part.name] += part.value
    return sums


class GradedGroups:
    """The graded groups that no training step has reported yet."""

    def __init__(self, solved_at: float, sources: Sequence[str] = ()) -> None:
        """``sources``: the names of the run's sources of prompts, where there are several."""
        self._solved_at, self._sources = solved_at, sources
        self._grades: dict[int, _Grade] = {}

    def add(self, arrival: Arrival) -> None:
        """Add a group that has come in graded."""
        group, responses = arrival.group, arrival.group.responses
        sampled, turns_S = int(responses.sampled_S.sum()), responses.turns_S
        solved_S, finished_S = group.rewards_S >= self._solved_at, responses.finished_S.astype(bool)
        names = [_verdict(*pair) for pair in zip(arrival.verdicts, solved_S.tolist(), strict=True)]
        tokens_of = Counter[str]()
        for name, length in zip(names, responses.sampled_S.tolist(), strict=True):
            tokens_of[name] += length
        self._grades[group.ticket.ticket] = _Grade(
            stage=group.ticket.stage,
            reward_sum=float(group.rewards_S.sum()),
            responses=len(group.rewards_S),
            tokens=sampled,
            observed=len(responses.tokens_T) - sampled,
            turns=int(turns_S.sum()),
            solved_in_turns=int((solved_S & (turns_S > 1)).sum()),
            environment_sum=float(responses.environment_S.sum()) if len(responses.environment_S) else None,
            generation_s=responses.seconds,
            grading_s=sum(verdict.seconds for verdict in arrival.verdicts),
            solved=int(solved_S.sum()),
            completed=int((solved_S & finished_S).sum()),
            truncated=int((~finished_S).sum()),
            judged=Counter(names),
            tokens_of=tokens_of,
            parts=sums_of_parts(arrival.verdicts),
            source=source_named(group.ticket.prompt_id) if self._sources else "",
        )

    def reached(self, newest: int, stage: int, next_stage: int) -> dict[str, float]:
        """Report and forget the groups up to a training step in ``stage`` whose newest ticket is ``newest``. The step
        after it is in ``next_stage``. Returns metrics by name."""
        # Tickets of the next stage may have lower numbers than the last of this one. A stage that is over reports all.
        numbers = [
            number
            for number, grade in self._grades.items()
            if grade.stage < next_stage or (grade.stage == stage and number <= newest)
        ]
        graded = [self._grades.pop(number) for number in numbers]
        responses = sum(grade.responses for grade in graded)
        return {
            "reward/mean": sum(grade.reward_sum for grade in graded) / responses,
            **_by_solved(graded, responses),
            **_by_verdict(graded, responses),
            **_by_part(graded),
            **_by_source(graded, self._sources),
            **_by_environment(graded, responses),
            "generated/groups": len(graded),
            "generated/length_mean": sum(grade.tokens for grade in graded) / responses,
            "generated/truncated_share": sum(grade.truncated for grade in graded) / responses,
            "generated/seconds_mean": sum(grade.generation_s for grade in graded) / len(graded),
            "generated/grading_s_mean": sum(grade.grading_s for grade in graded) / len(graded),
        }
