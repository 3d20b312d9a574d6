"""How the policy did before rejection sampling, for each training step's metrics. No I/O.

The responses of a rejected group are all right or all wrong, so the mean reward of the trained groups alone says little
about the policy. A step therefore reports over every graded group up to its newest ticket, refunded ones included.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from ...common.config import source_named
from ...common.types import Verdict
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
    parts: dict[str, float]
    """Of each reward that judged the group, by name: the sum over its responses; empty where there are none."""
    source: str
    """Name of the prompt's source, where there are several."""


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
        solved_S = group.rewards_S >= self._solved_at
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
            **_by_part(graded),
            **_by_source(graded, self._sources),
            **_by_environment(graded, responses),
            "generated/groups": len(graded),
            "generated/length_mean": sum(grade.tokens for grade in graded) / responses,
            "generated/seconds_mean": sum(grade.generation_s for grade in graded) / len(graded),
            "generated/grading_s_mean": sum(grade.grading_s for grade in graded) / len(graded),
        }
