"""What a reward function is given, and what it may give back. Users import from here.

A reward function takes a response's text and its prompt's row, and returns a number::

    def reward(response, row):
        return 1.0 if row["answer"] in response else 0.0

It may also take, by these names, ``finished`` (bool: whether the response ended by itself), ``length`` (its sampled
tokens), ``correct`` (bool: whether the first judge among ``[[rewards]]`` found it right) and ``turns`` (what policy and
environment said: a list of ``{"by": "policy" or "environment", "text": ...}``), and the keys of its ``options``. Where
there are several turns, the response's text is the last one of the policy. It may be ``async def``. What it raises is
an error of the reward and never a number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

ENVIRONMENT = "environment"
"""The value of ``use`` that takes what the environment gave."""
JUDGES = {
    "row": None,
    "math": "math",
    "math_verify": "math",
    "exact": "exact",
    "solution": "solution",
    "code": "code",
    "reasoning_gym": "reasoning_gym",
    ENVIRONMENT: None,
}
"""Values of ``use`` that are no functions. They judge the row's own answer, and the ability that a row must have for
them is beside them; None takes the row's. ``math_verify`` is plain Math-Verify by the report's steps; ``reasoning_gym``
gives the scorer's own number. ``environment`` takes the sum of the response's turn rewards, and needs nothing of a
row."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Score:
    """A number with a reason, for functions that want to say why."""

    value: float
    reason: str = ""
    """One short sentence for people."""


def whole_group(function: Function) -> Function:
    """Mark a function that judges all responses of a prompt together, for instance by ranking them. It takes lists
    where others take one value (``response``, ``finished``, ``length``, ``correct``) and returns a list of numbers."""
    function.leeway_whole_group = True  # type: ignore[attr-defined]
    return function


def prepared(function: Function) -> Function:
    """Mark a function that is called once in each grading process, with the ``options``, and returns the reward
    function: for what takes long to load."""
    function.leeway_prepared = True  # type: ignore[attr-defined]
    return function


def scores_truncated(function: Function) -> Function:
    """Mark a function that is asked about truncated responses too. Others are not: their value is 0 there."""
    function.leeway_scores_truncated = True  # type: ignore[attr-defined]
    return function
