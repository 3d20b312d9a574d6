"""Finds reward functions, checks what they take, and gives a digest of the user's code that came with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...common.config import Reward
from ...common.errors import ConfigError
from ...common.rewards import JUDGES
from ...common.user_code import loading
from ...common.user_code.loading import Kind, asked_of, place_of, told
from ...common.user_code.secrets import Secrets

SHIPPED = {
    "answer_tag": "formats:answer_tag",
    "cosine_length": "lengths:cosine_length",
    "llm_judge": "llm:llm_judge",
    "overlong": "lengths:overlong",
    "regex": "formats:regex",
    "repetition": "repetition:repetition",
    "think_tags": "formats:think_tags",
}
"""Rewards that ship, beside ``JUDGES``: where each function is, under ``shipped/``."""
KIND = Kind(
    section="rewards",
    thing="function",
    group="leeway.rewards",
    worker="verifier",
    shipped={name: f"{__package__}.shipped.{place}" for name, place in SHIPPED.items()},
    others=JUDGES,
)
ASKED = ("finished", "length", "correct", "turns")
"""What a function is told of a response where it has a parameter of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One function of ``[[rewards]]``, ready to be called."""

    name: str
    place: str
    """Where it begins, as ``place_of`` says it."""
    call: Callable[..., Any]
    """It takes the response, the row, and what ``asks`` names; its options are bound."""
    asks: frozenset[str]
    """Those of ``ASKED`` that it takes."""
    is_async: bool
    whole_group: bool
    scores_truncated: bool
    timeout_s: float


class Loader(loading.Loader):
    """Loads functions, and remembers which of the user's modules came with them."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(KIND)
        self._secrets = secrets

    def load(self, rewards: Sequence[Reward]) -> list[Loaded]:
        """The functions of ``rewards``, in their order. ``ConfigError`` names the one that cannot be loaded, and says
        why."""
        return [self._load(reward) for reward in rewards]

    def _load(self, reward: Reward) -> Loaded:
        where = f"rewards: {reward.called}: use = {reward.use!r}"
        try:
            function = self.named(reward.use)
            options = self._secrets.resolve(reward.options, f"rewards: {reward.called}")
            if getattr(function, "leeway_prepared", False):
                asked_of(function, (), (), options, where)
                function = function(**options)
                options = {}
            if not callable(function):
                raise ConfigError(f"{where}: it is {type(function).__name__}, and no function")
            _refuse_what_gives_no_number(function, where)
            whole_group = bool(getattr(function, "leeway_whole_group", False))
            _refuse_another_projects(function, where)
            asks = asked_of(function, ("response", "row"), ASKED, options, where)
            if "correct" not in inspect.signature(function).parameters:
                asks -= {"correct"}  # who takes **anything does without the one thing that needs a judge
        except ConfigError:
            raise
        except BaseException as error:  # the user's module may raise anything while it is imported
            raise ConfigError(f"{where}: {self._secrets.hide(told(error))}") from error
        marked = bool(getattr(function, "leeway_scores_truncated", False))
        return Loaded(
            name=reward.called,
            place=place_of(function),
            call=partial(function, **options) if options else function,
            asks=asks,
            is_async=inspect.iscoroutinefunction(function)
            or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004
            whole_group=whole_group,
            scores_truncated=marked if reward.truncated is None else reward.truncated == "score",
            timeout_s=reward.timeout_s,
        )


def _refuse_another_projects(function: Callable[..., Any], where: str) -> None:
    """``ConfigError`` if the parameters are those of a reward function of TRL or verl."""
    names = inspect.signature(function).parameters
    form = (
        "TRL" if {"completions", "row"} & names.keys() == {"completions"} else "verl" if "solution_str" in names else ""
    )
    if form:
        raise ConfigError(
            f"{where}: its parameters are those of {form}; a reward takes (response, row). The few lines that it needs "
            f"around it stand in docs/reference/rewards.md, under 'From TRL or verl'"
        )


def _refuse_what_gives_no_number(function: Callable[..., Any], where: str) -> None:
    """``ConfigError`` if a call makes an object or a generator, which is never a number."""
    if inspect.isclass(function):
        raise ConfigError(
            f"{where}: it is a class, and a call of it gives no number; name a function, or mark the class @prepared "
            "where it has __call__(response, row)"
        )
    together = getattr(function, "leeway_whole_group", False)  # it may yield a number for each response
    if inspect.isasyncgenfunction(function) or (inspect.isgeneratorfunction(function) and not together):
        raise ConfigError(f"{where}: it yields; a reward function returns its number")
