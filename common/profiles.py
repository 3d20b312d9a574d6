"""How an operator asks the learner for a profile of its steps, and how the learner answers. Both are texts in Redis: a
request is a field beside the live controls, and an answer a field of the run's state."""

import re
import secrets
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from .errors import ConfigError
from .limits import MOST_TRACED

Phase = Literal["taken", "tracing", "writing", "done", "failed"]

FIELD = "profile"
"""Of both hashes."""
_TEXT = re.compile(r"([0-9a-f]{16}) (\d{1,3}) (\d{1,12})")


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks for a profile. The learner takes the request out of Redis before it begins, so that a learner which
    dies over it does not begin again."""

    id: str
    steps: int
    """Training steps to trace, 1 to ``MOST_TRACED``."""
    until: int
    """Unix time, by the server's clock, after which nobody waits for it any more."""

    def to_text(self) -> str:
        """As ``from_text`` reads it."""
        return f"{self.id} {self.steps} {self.until}"

    @classmethod
    def new(cls, steps: int, until: float) -> "Request":
        """A request with an id of its own."""
        return cls(secrets.token_hex(8), steps, int(until))

    @classmethod
    def from_text(cls, text: str) -> "Request":
        """The request in ``text``; ``ConfigError`` where there is none."""
        found = _TEXT.fullmatch(text)
        if found is None or not 1 <= int(found[2]) <= MOST_TRACED:
            raise ConfigError(f"{FIELD} = {text[:64]!r}: an id, a number of steps from 1 to {MOST_TRACED}, a unix time")
        return cls(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What has become of the newest request."""

    id: str
    phase: Phase
    steps: int
    """Training steps to trace, and when it is done, those that were traced."""
    step: int | None = None
    """The first of them."""
    path: str | None = None
    """The trace, as the learner's machine names it."""
    table: str | None = None
    """The table of the operators that took the most time."""
    why: str | None = None
    """Why there is no trace."""


_JSON = TypeAdapter(Answer)


def to_json(answer: Answer) -> str:
    """``answer`` as a text, because the values of the run's state are texts."""
    return _JSON.dump_json(answer, exclude_none=True).decode()


def from_json(text: str) -> Answer | None:
    """What ``to_json`` made ``text`` of; None if something else wrote it."""
    try:
        return _JSON.validate_json(text)
    except ValueError:
        return None
