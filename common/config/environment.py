"""The section ``[environment]``: what answers the policy's turns, where a response has several."""

from typing import Any, Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import LONGEST_CALL_S, MOST_BYTES
from .section import Section
from .user_code import refuse_plain_secrets

PROGRAM_S = 5.0
"""Wall seconds that a program of the environment ``python`` may take, where its options say nothing."""


class Environment(Section):
    use: str = Field(min_length=1)
    """What answers the policy: an environment that ships (docs/reference/environments.md), `path/to/file.py:Class`,
    `package.module:Class`, or an entry point of the group `leeway.environments`. A path is relative to the preset that
    names it. Without this section a response is one turn."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class. The text `env:NAME` stands for a variable of the environment, which only the
    processes of environments look up: so secrets are written."""
    max_turns: int = Field(default=8, ge=1)
    """Most turns that the policy takes in one response. One that reaches it is truncated."""
    turn_s: float = Field(default=10.0, gt=0, le=LONGEST_CALL_S)
    """Wall seconds that one `reset` or `step` may take. After that the process is killed, and the group is generated
    again."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 26, le=MOST_BYTES)
    """Address space of each process that runs environments, in bytes. What an environment cannot get there is an
    error."""
    role: Literal["tool", "user"] = "tool"
    """Whose message an observation is in the model's chat template."""
    digest: str | None = None
    """Digest of the code of the run's own environment, and of all modules of the user's that it imports. `leeway up`
    and `leeway create` fill it in; a rollout worker whose own code is different refuses to start. `any`: it does not
    look."""

    def refuse_impossible(self) -> None:
        """``ConfigError`` if no class is named, a secret stands in plain text, or the clock of a turn is too short for
        the tool ``python``."""
        if self.use.endswith(":"):
            raise ConfigError(f"environment.use = {self.use!r}: no class after the colon; path/to/file.py:Class")
        program_s = self.options.get("timeout_s", PROGRAM_S)
        if self.use == "python" and isinstance(program_s, (int, float)) and program_s >= self.turn_s:
            raise ConfigError(
                f"environment.options.timeout_s = {program_s:g} is not below environment.turn_s = {self.turn_s:g}: a "
                "program that runs too long would fail its group, and the policy would never be told; raise turn_s"
            )
        refuse_plain_secrets(self.options, "environment.options", "rollout workers")
