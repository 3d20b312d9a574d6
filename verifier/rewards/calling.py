"""Calls loaded reward functions on the responses of one group. A clock for what is ``async`` is kept here; what is not
can only be stopped from outside, by its process's end."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

from ...common.reasons import printable
from ...common.rewards import Score
from ...common.user_code.loading import told
from ...common.user_code.secrets import Secrets
from ...common.wording import counted
from .loading import ASKED, Loaded

Call: TypeAlias = "tuple[int, int | None]"
"""(number of the function, number of the response, or None for the whole group)."""
Reply: TypeAlias = "dict[str, Any]"
"""``r``, ``i``: the call; ``values``: numbers, one or the group's, or None; ``reasons``: as many, or one that says why
there are no numbers; ``s``: wall seconds."""
Found: TypeAlias = "tuple[list[float] | None, list[str]]"
"""The numbers, or None, and the reasons of one call."""


class NotANumber(ValueError):
    """A function gave something else than a finite number."""


class Caller:
    """Calls functions, in the order in which they are asked for: first those that are not ``async``, then the others
    at once."""

    def __init__(self, functions: Sequence[Loaded], secrets: Secrets) -> None:
        self._functions, self._secrets, self._pid = functions, secrets, os.getpid()
        self._loop = asyncio.Runner() if any(function.is_async for function in functions) else None

    def close(self) -> None:
        """End the loop of ``async`` functions."""
        if self._loop is not None:
            self._loop.close()

    def call(
        self, responses: list[dict[str, Any]], row: str, calls: Iterable[Call], reply: Callable[[Reply], None]
    ) -> None:
        """Make the ``calls`` on a group and ``reply`` to each as it is done. ``responses``: each one's ``response``
        (text), ``finished``, ``length`` and ``correct``, and ``turns`` where a function asks for it. ``row``: JSON."""
        at_once = []
        for call in calls:
            if self._functions[call[0]].is_async:
                at_once.append(call)
            else:
                reply(self._called(call, responses, row))
        if at_once:
            assert self._loop is not None
            self._loop.run(self._called_at_once(at_once, responses, row, reply))

    def _called(self, call: Call, responses: list[dict[str, Any]], row: str) -> Reply:
        function, started = self._functions[call[0]], time.perf_counter()
        found: Found
        try:
            given = function.call(*_arguments(call, responses, row), **_asked(function, call, responses))
            found = self._told(*numbers_of(given, function, len(responses)))
        except BaseException as error:  # the boundary: whatever one call raises is that call's error
            found = None, [self._why(error, function, row)]
        if os.getpid() != self._pid:
            os._exit(0)  # a copy of this process, forked inside the function, has nothing to say here
        return _reply(call, found, started)

    async def _called_at_once(
        self, calls: list[Call], responses: list[dict[str, Any]], row: str, reply: Callable[[Reply], None]
    ) -> None:
        async def one(call: Call) -> None:
            function, started = self._functions[call[0]], time.perf_counter()
            clock = asyncio.timeout(function.timeout_s)
            found: Found
            try:
                made = function.call(*_arguments(call, responses, row), **_asked(function, call, responses))
                # In this task: in one of its own, sys.exit would end the loop and with it every other call.
                async with clock:
                    given = await made
                found = self._told(*numbers_of(given, function, len(responses)))
            except BaseException as error:  # as above
                late = isinstance(error, TimeoutError) and clock.expired()
                said = f"{function.name}: no answer within {function.timeout_s:g} s{function.place}"
                found = None, [said if late else self._why(error, function, row)]
            if os.getpid() != self._pid:
                os._exit(0)
            reply(_reply(call, found, started))

        await asyncio.gather(*map(one, calls))

    def _told(self, values: list[float], reasons: list[str]) -> Found:
        return values, [printable(self._secrets.hide(reason)) for reason in reasons]

    def _why(self, error: BaseException, function: Loaded, row: str) -> str:
        if isinstance(error, MemoryError):
            return f"{function.name}: more memory than verifier.rewards_memory_bytes{function.place}"
        said = f"{error}{function.place}" if isinstance(error, NotANumber) else told(error) + _instead(error, row)
        return printable(f"{function.name}: {self._secrets.hide(said)}")


def _instead(error: BaseException, row: str) -> str:
    """Which columns a row has, where the error may be that it has not the one that was asked for."""
    columns = json.loads(row) if row and isinstance(error, KeyError) else {}
    if not columns or error.args[:1] in [(name,) for name in columns]:
        return ""
    return f"; the row has {', '.join(columns)}"


def _arguments(call: Call, responses: list[dict[str, Any]], row: str) -> tuple[Any, Any]:
    # Each call has a row of its own: a function that changes it must not change another's.
    texts = [each["response"] for each in responses] if call[1] is None else responses[call[1]]["response"]
    return texts, json.loads(row) if row else {}


def _asked(function: Loaded, call: Call, responses: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in ASKED if name in function.asks]
    if call[1] is None:
        return {name: [deepcopy(each[name]) for each in responses] for name in names}
    return {name: deepcopy(responses[call[1]][name]) for name in names}  # its own, as the row is


def _reply(call: Call, found: Found, started: float) -> Reply:
    values, reasons = found
    return {"r": call[0], "i": call[1], "values": values, "reasons": reasons, "s": time.perf_counter() - started}


def numbers_of(given: Any, function: Loaded, size: int) -> tuple[list[float], list[str]]:
    """The numbers that a function gave and their reasons; one each, or one for each of a group's ``size`` responses.
    ``NotANumber`` if it gave something else."""
    if not function.whole_group:
        value, reason = _number(given, function.name)
        return [value], [reason]
    if isinstance(given, (str, bytes, dict)) or not hasattr(given, "__iter__"):
        raise NotANumber(f"it returned {_shown(given)}; a function of the whole group returns a list of {size} numbers")
    found = [_number(each, function.name) for each in given]
    if len(found) != size:
        raise NotANumber(f"it returned {counted(len(found), 'number')} for a group of {size} responses")
    return [value for value, _ in found], [reason for _, reason in found]


def _number(given: Any, name: str) -> tuple[float, str]:
    reason = ""
    if isinstance(given, Score):
        given, reason = given.value, str(given.reason)
    if isinstance(given, (str, bytes)) or not hasattr(given, "__float__"):
        raise NotANumber(f"it returned {_shown(given)}, and a reward is a number, such as 1.0")
    value = float(given)
    if not math.isfinite(value):
        raise NotANumber(f"it returned {value}, and a reward is finite")
    return value, reason


def _shown(given: Any) -> str:
    return "None" if given is None else f"a {type(given).__name__} ({str(given)[:40]!r})"
