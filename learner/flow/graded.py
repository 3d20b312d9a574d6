"""How the policy did before rejection sampling, for each training step's metrics. No I/O.

The responses of a rejected group are all right or all wrong, so the mean reward of the trained groups alone says little
about the policy. A step therefore reports over every graded group up to its newest ticket, refunded ones included.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

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
    environment_sum: float | None
    """Sum of the turn rewards; None without an environment."""
    generation_s: float
    grading_s: float
    """Sum over the group's responses, in seconds."""
    solved: int
    """Responses with a reward of at least ``verifier.solved_at``."""
    parts: dict[str, float]
    """Of each of the run's rewards, by name: the sum over the group's responses; empty where there are none."""


def _by_part(graded: Sequence[_Grade], responses: int) -> dict[str, float]:
    """The share of solved responses and the mean of each part, where the run has rewards of its own. Without, the mean
    reward says it all."""
    names = graded[0].parts
    means = {f"reward/part/{name}": sum(grade.parts[name] for grade in graded) / responses for name in names}
    return {"reward/solved_share": sum(grade.solved for grade in graded) / responses, **means} if names else {}


def _by_environment(graded: Sequence[_Grade], responses: int) -> dict[str, float]:
    """The means of what an environment gave and how often it was asked, and its share of the tokens, where there is
    one."""
    sums = [grade.environment_sum for grade in graded if grade.environment_sum is not None]
    if not sums:
        return {}
    observed, sampled = sum(grade.observed for grade in graded), sum(grade.tokens for grade in graded)
    return {
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

    def __init__(self, solved_at: float) -> None:
        self._solved_at = solved_at
        self._grades: dict[int, _Grade] = {}

    def add(self, arrival: Arrival) -> None:
        """Add a group that has come in graded."""
        group, responses = arrival.group, arrival.group.responses
        self._grades[group.ticket.ticket] = _Grade(
            stage=group.ticket.stage,
            reward_sum=float(group.rewards_S.sum()),
            responses=len(group.rewards_S),
            tokens=int(sampled := responses.sampled_S.sum()),
            observed=len(responses.tokens_T) - int(sampled),
            turns=int(responses.turns_S.sum()),
            environment_sum=float(responses.environment_S.sum()) if len(responses.environment_S) else None,
            generation_s=responses.seconds,
            grading_s=sum(verdict.seconds for verdict in arrival.verdicts),
            solved=int((group.rewards_S >= self._solved_at).sum()),
            parts=sums_of_parts(arrival.verdicts),
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
            **_by_part(graded, responses),
            **_by_environment(graded, responses),
            "generated/groups": len(graded),
            "generated/length_mean": sum(grade.tokens for grade in graded) / responses,
            "generated/seconds_mean": sum(grade.generation_s for grade in graded) / len(graded),
            "generated/grading_s_mean": sum(grade.grading_s for grade in graded) / len(graded),
        }
