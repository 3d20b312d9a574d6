"""The section ``[[rewards]]``: what judges responses, where it is not the row's ability alone."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..errors import ConfigError
from ..limits import LONGEST_CALL_S
from ..rewards import ENVIRONMENT, JUDGES
from .section import Section
from .user_code import refuse_plain_secrets


def _refuse_strange_name(name: str | None) -> str | None:
    if name is not None and (not re.fullmatch(r"[A-Za-z][\w-]{0,39}", name, re.ASCII) or name == "reward"):
        raise ValueError("a name is a letter, then up to 39 letters, digits, '_' or '-', and not 'reward'")
    return name


class Reward(Section):
    use: str = Field(min_length=1)
    """What judges: a reward that ships (docs/reference/rewards.md), `path/to/file.py:function`,
    `package.module:function`, or an entry point of the group `leeway.rewards`. A path is relative to the preset that
    names it."""
    name: Annotated[str | None, AfterValidator(_refuse_strange_name)] = None
    """What it is called in metrics, report and samples. By default the function's name."""
    weight: float = 1.0
    """What its value is multiplied by. 0 only reports it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function. The text `env:NAME` stands for a variable of the environment, which only the
    grading processes look up: so secrets are written."""
    truncated: Literal["zero", "score"] | None = None
    """What a truncated response gets: a value of 0, or what the function says. By default 0, but for functions that are
    marked otherwise."""
    timeout_s: float = Field(default=10.0, gt=0, le=LONGEST_CALL_S)
    """Wall seconds that one call may take. After that its process is killed, and it is an error."""

    @property
    def called(self) -> str:
        """``name``, or the last part of ``use``."""
        return self.name or re.split(r"[.:/]", self.use)[-1]

    @property
    def judges(self) -> bool:
        """Whether it is a judge of ``JUDGES``, and no function."""
        return self.use in JUDGES


def ability_of(rewards: Sequence[Reward]) -> str | None:
    """The ability that rows must have for the rewards that judge their answers; None where the rows say it."""
    return next((JUDGES[reward.use] for reward in rewards if _judges_answers(reward)), None)


def _judges_answers(reward: Reward) -> bool:
    return reward.judges and reward.use != ENVIRONMENT


def refuse_impossible_rewards(rewards: Sequence[Reward], combine: str) -> None:
    """``ConfigError`` if the rewards contradict one another, or hold a secret in plain text."""
    names: set[str] = set()
    for number, reward in enumerate(rewards):
        where = f"rewards.{number}"
        if reward.use.endswith(":"):
            raise ConfigError(f"{where}.use = {reward.use!r}: no function after the colon; path/to/file.py:function")
        if len(rewards) > 1:  # each one's own value is noted by its name, beside the reward of them all
            try:
                _refuse_strange_name(reward.called)
            except ValueError as error:
                raise ConfigError(
                    f'{where}: it would be called {reward.called!r}; give it another name, name = "…": {error}'
                ) from None
        if reward.called in names:
            raise ConfigError(f"{where}: a second reward called {reward.called!r}; give each its own name")
        names.add(reward.called)
        if combine == "product" and reward.weight == 0:
            raise ConfigError(f"{where}.weight = 0 with verifier.combine = 'product': every reward would be 0")
        if reward.judges and reward.options:
            raise ConfigError(f"{where}.options: {reward.use!r} takes none; the section [verifier] has its keys")
        if _judges_answers(reward) and reward.truncated is not None:
            raise ConfigError(f"{where}.truncated: {reward.use!r} finds no answer in a truncated response: 0")
        refuse_plain_secrets(reward.options, f"{where}.options", "verifiers")


def refuse_different_rows(rewards: Sequence[Reward]) -> None:
    """``ConfigError`` if ``rewards``, which judge the same rows, need rows of different kinds."""
    needed = {JUDGES[reward.use] for reward in rewards if _judges_answers(reward)}
    if len(needed) > 1 and not needed <= {"math", "exact", "solution"}:
        uses = ", ".join(repr(reward.use) for reward in rewards if _judges_answers(reward))
        raise ConfigError(f"rewards: {uses} judge different kinds of rows; 'row' judges each row by its own ability")
