"""The environments of one group inside their process: what they are asked, and what they may answer."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Awaitable
from typing import Any, TypeAlias

from ...common.environments import Step
from ...common.reasons import printable
from ...common.user_code.loading import told
from ...common.user_code.secrets import Secrets
from .loading import Loaded

MOST_CHARACTERS = 1_000_000
"""Longest observation. A conversation has room for far fewer tokens."""
LINE_BYTES = 1 << 28
"""Longest line on the socket. A turn or a row is far shorter."""

Request: TypeAlias = "dict[str, Any]"
"""``n``, its number; ``i``, the response; and of a step ``response``, the text of the policy's turn. Without it the
environment is made and reset."""
Reply: TypeAlias = "dict[str, Any]"
"""``n``; then of a step ``observation``, ``reward`` and ``done``; or ``why``, where there is no answer."""


def method_of(request: Request) -> str:
    """The method that a request is for."""
    return "step" if "response" in request else "reset"


class NoAnswer(ValueError):
    """An environment gave back what it must not."""


class Environments:
    """One group's environments."""

    def __init__(self, loaded: Loaded, secrets: Secrets) -> None:
        self._loaded, self._secrets, self._pid = loaded, secrets, os.getpid()
        self._row, self._seed, self._all = "", 0, dict[int, Any]()

    def begin(self, row: str, seed: int) -> None:
        """Forget the last group. ``row``: the prompt's row as JSON. ``seed``: the first response's."""
        self._row, self._seed = row, seed
        self._all.clear()

    def called(self, request: Request) -> Reply | Awaitable[Reply]:
        """The reply to a request, or what has to be awaited for it."""
        try:
            given = self._given(request)
            if isinstance(given, Awaitable):
                return self._awaited(request, given)
            return self._reply(request, given)
        except BaseException as error:  # the boundary: whatever a call raises is that call's failure
            return self._failed(request, error)

    async def _awaited(self, request: Request, given: Awaitable[Any]) -> Reply:
        try:
            return self._reply(request, await given)
        except BaseException as error:  # as above
            return self._failed(request, error)

    def _given(self, request: Request) -> Any:
        response = request["i"]
        if "response" in request:
            return self._all[response].step(request["response"])
        made = self._all[response] = self._loaded.make()
        # Each has a row of its own: one that changes it must not change another's.
        told_of = {"row": json.loads(self._row) if self._row else {}, "seed": self._seed + response}
        return made.reset(**{name: value for name, value in told_of.items() if name in self._loaded.asks})

    def _reply(self, request: Request, given: Any) -> Reply:
        self._leave_if_copied()
        if "response" not in request:
            if given is not None:
                raise NoAnswer(f"it returned {_shown(given)}, and the prompt is the row's own: it returns nothing")
            return {"n": request["n"]}
        step = answer_of(given)
        said = None if step.observation is None else self._secrets.hide(step.observation)
        return {"n": request["n"], "observation": said, "reward": float(step.reward), "done": bool(step.done)}

    def _failed(self, request: Request, error: BaseException) -> Reply:
        self._leave_if_copied()
        place = self._loaded.places[method_of(request)]
        if isinstance(error, MemoryError):
            why = f"more memory than environment.memory_bytes{place}"
        else:
            why = self._secrets.hide(f"{error}{place}" if isinstance(error, NoAnswer) else told(error))
        return {"n": request["n"], "why": printable(why)}

    def _leave_if_copied(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a copy of this process, forked inside the environment, has nothing to say here


def answer_of(given: Any) -> Step:
    """What a ``step`` gave, checked. ``NoAnswer`` says what is wrong with it."""
    if isinstance(given, str):
        given = Step(given)
    elif isinstance(given, (tuple, list)) and 1 <= len(given) <= 3:
        given = Step(*given)
    if not isinstance(given, Step):
        raise NoAnswer(f"it returned {_shown(given)}; it returns an observation, or Step(observation, reward, done)")
    if given.observation is None and not given.done:
        raise NoAnswer("it returned neither an observation nor done")
    _refuse_no_text(given.observation)
    if isinstance(given.reward, (str, bytes)) or not hasattr(given.reward, "__float__"):
        raise NoAnswer(f"its reward is {_shown(given.reward)}, and a reward is a number")
    if not math.isfinite(float(given.reward)):
        raise NoAnswer(f"its reward is {float(given.reward)}, and a reward is finite")
    if type(given.done).__name__ not in ("bool", "bool_"):  # Python's and numpy's
        raise NoAnswer(f"done is {_shown(given.done)}, and it is true or false")
    return given


def _refuse_no_text(observation: Any) -> None:
    if observation is None:
        return
    if not isinstance(observation, str):
        raise NoAnswer(f"its observation is {_shown(observation)}, and an observation is a text")
    if len(observation) > MOST_CHARACTERS:
        raise NoAnswer(f"its observation has {len(observation):,} characters; at most {MOST_CHARACTERS:,} are right")
    try:
        observation.encode()
    except UnicodeEncodeError as error:
        raise NoAnswer(f"its observation holds half a character: {error}") from error


def _shown(given: Any) -> str:
    return "None" if given is None else f"a {type(given).__name__} ({str(given)[:40]!r})"
