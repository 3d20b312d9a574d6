"""Grades groups by the run's ``[[rewards]]``: judges of answers in the pool, functions in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ...common.config import Config, Reward
from ...common.errors import ConfigError
from ...common.ground_truth import REASONING_GYM
from ...common.rewards import ENVIRONMENT
from ...common.samples import POLICY
from ...common.types import Verdict, VerdictKind
from ..graders import GYM_SCORE, MATH_REPORT
from ..pool import GradeItem, GraderPool
from .calling import Call
from .combining import Given, combined
from .seats import Asked, RewardSeats

ABILITY_OF_USE = {"math_verify": MATH_REPORT, REASONING_GYM: GYM_SCORE}
"""By which grader a judge of ``[[rewards]]`` judges, where that is not the one of the same name."""
TRUNCATED = "the response is truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What an environment adds to a response."""

    turns: list[dict[str, str]]
    """Who each piece is ``by`` (``policy`` or ``environment``), and its ``text``."""
    reward: float
    """The sum of the turn rewards."""


class RewardGrader:
    """Grades groups by the rewards of ``config``. It is safe to use from several threads. Close it, or use it as a
    context manager; the pool is the caller's."""

    def __init__(self, config: Config, pool: GraderPool, *, jobs: int | None = None) -> None:
        """Start the processes and load the functions. ``ConfigError`` if that is impossible, or if the code differs
        from what the run's configuration says."""
        self._config, self._rewards, self._settings, self._pool = config, config.rewards, config.verifier, pool
        functions = [reward for reward in config.rewards if not reward.judges]
        self._numbers = {number: r for r, number in enumerate(self._function_places())}
        self._seats = None
        if functions:
            self._seats = RewardSeats(
                functions,
                jobs=jobs or config.verifier.jobs,
                memory_bytes=config.verifier.rewards_memory_bytes,
                attempts=config.broker.max_attempts,
                digest=config.verifier.rewards_digest,
            )
            self._refuse_blind()

    def _function_places(self) -> list[int]:
        return [number for number, reward in enumerate(self._rewards) if not reward.judges]

    def _refuse_blind(self) -> None:
        """``ConfigError`` if a function asks whether the answer is correct, and nobody can tell it."""
        assert self._seats is not None
        blind = {each["name"] for each in self._seats.described.functions if each["asks_correct"]}
        for source in self._config.sources:
            judging = self._config.rewards_of(source)
            asking = [reward.called for reward in judging if reward.called in blind and not reward.judges]
            if asking and not any(reward.judges for reward in judging):
                self.close()
                of = f" of source {source.name}" if source.name else ""
                raise ConfigError(
                    f"rewards{of}: {asking[0]} asks whether the answer is correct, and nothing judges that; add a "
                    'judge of the answer, for instance use = "row", with weight = 0 where it is only asked'
                )

    def grade(
        self,
        items: Sequence[GradeItem],
        lengths: Sequence[int],
        row: str,
        conversations: Sequence[Conversation] = (),
        prompt_id: str = "",
    ) -> list[Verdict]:
        """A verdict for each response of one group, in order. ``lengths``: sampled tokens of each. ``row``: the
        prompt's row as JSON. ``conversations``: of each response, where there is an environment. ``prompt_id`` says
        which of several sources it is of, and so which rewards judge it."""
        judging = self._config.rewards_of(self._config.source_of(prompt_id))
        numbers = [number for number, reward in enumerate(self._rewards) if reward in judging]
        if not numbers:
            return self._pool.grade(items)
        given: dict[int, list[Given]] = {}
        futures = {
            number: [self._pool.submit(self._as_judged(self._rewards[number].use, item)) for item in items]
            for number in numbers
            if self._rewards[number].judges and self._rewards[number].use != ENVIRONMENT
        }
        for number in numbers:
            if number in futures:
                given[number] = [Given.of(future.result()) for future in futures[number]]
            elif self._rewards[number].use == ENVIRONMENT:
                given[number] = _by_environment(self._rewards[number], items, conversations)
        if self._seats is not None:
            functions = {number: r for number, r in self._numbers.items() if number in numbers}
            given |= self._by_functions(items, lengths, row, given, conversations, functions)
        columns, parts = [given[number] for number in numbers], len(self._rewards) > 1
        return [
            combined(judging, of_response, self._settings, parts=parts) for of_response in zip(*columns, strict=True)
        ]

    @staticmethod
    def _as_judged(use: str, item: GradeItem) -> GradeItem:
        return item if use == "row" else replace(item, ability=ABILITY_OF_USE.get(use, use))

    def _by_functions(
        self,
        items: Sequence[GradeItem],
        lengths: Sequence[int],
        row: str,
        judged: dict[int, list[Given]],
        conversations: Sequence[Conversation],
        numbers: dict[int, int],
    ) -> dict[int, list[Given]]:
        """What functions gave. ``numbers``: their places among the functions, by their places among the rewards."""
        assert self._seats is not None
        functions = self._seats.described.functions
        right = next(iter(judged.values()), None)  # the first judge says what ``correct`` is
        responses: list[dict[str, Any]] = [
            {
                "response": item.response,
                "finished": item.finished,
                "length": int(length),
                "correct": right is not None and right[index].value >= self._settings.solved_at,
            }
            for index, (item, length) in enumerate(zip(items, lengths, strict=True))
        ]
        if any(function["asks_turns"] for function in functions):
            for index, each in enumerate(responses):
                alone = [{"by": POLICY, "text": each["response"]}]
                each["turns"] = conversations[index].turns if conversations else alone
        calls: list[Call] = []
        for r in numbers.values():
            function = functions[r]
            asked_of = [i for i, item in enumerate(items) if item.finished or function["scores_truncated"]]
            calls += [(r, None)] if function["whole_group"] else [(r, i) for i in asked_of]
        asked = self._seats.submit(Asked(responses=responses, row=row, calls=calls)).result()
        return {
            number: [_given(asked, r, i, item, functions[r]) for i, item in enumerate(items)]
            for number, r in numbers.items()
        }

    @property
    def digest(self) -> str | None:
        """The digest of the user's code that the functions came with; None where there is none."""
        return None if self._seats is None else self._seats.described.digest

    def pids(self) -> list[int]:
        """Process ids of the processes that run functions now."""
        return [] if self._seats is None else self._seats.pids()

    def close(self) -> None:
        """End the processes."""
        if self._seats is not None:
            self._seats.close()

    def __enter__(self) -> RewardGrader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _by_environment(reward: Reward, items: Sequence[GradeItem], conversations: Sequence[Conversation]) -> list[Given]:
    """The turn rewards of each response."""
    if not conversations:
        return [Given(kind=VerdictKind.ERROR, reason="no environment has given this response a reward")] * len(items)
    return [
        Given(value=conversation.reward)
        if item.finished or reward.truncated == "score"
        else Given(kind=VerdictKind.NO_ANSWER, reason=TRUNCATED)
        for item, conversation in zip(items, conversations, strict=True)
    ]


def _given(asked: Asked, r: int, i: int, item: GradeItem, function: dict[str, Any]) -> Given:
    """What function ``r`` gave response ``i``."""
    if not item.finished and not function["scores_truncated"]:
        return Given(kind=VerdictKind.NO_ANSWER, reason=TRUNCATED)
    together = function["whole_group"]
    reply = asked.replies[r, None if together else i]
    seconds = reply["s"] / (len(asked.responses) if together else 1)
    if reply["values"] is None:
        return Given(kind=VerdictKind.ERROR, reason=reply["reasons"][0], seconds=seconds, peak_bytes=asked.peak_bytes)
    place = i if together else 0
    value, reason = reply["values"][place], reply["reasons"][place]
    return Given(value=value, reason=reason, seconds=seconds, peak_bytes=asked.peak_bytes)
