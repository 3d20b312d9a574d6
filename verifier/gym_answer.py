"""Grades answers to problems of reasoning-gym by the package's own scorer, in a sandbox. This is the outer side.

Some scorers evaluate the answer, as Python or through sympy: an answer to ``countdown`` or ``string_insertion`` can run
code. So scorers run behind the same wall as solutions (``sandbox``); there they can also read the installed packages.
One number comes out.

A scorer and the answer that it evaluates share a process, so an answer that is a program could name its own score. An
answer that plainly is a program is not handed over (``is_program``); docs/reference/verifiers.md says what that leaves
open.
"""

import json
import math
import re
import sysconfig
import time
import unicodedata
from importlib.util import find_spec
from typing import Any, TypeAlias

from ..common.config import Verifier
from ..common.errors import ConfigError
from ..common.reasons import printable
from ..common.sandbox.errors import Garbled, OutOfMemory, Overrun, SandboxError
from ..common.sandbox.room import SandboxRoom
from ..common.sandbox.sandbox import Limits, usable_memory
from ..common.sandbox.sandboxed.frames import CASE, SERVE, VERDICT, pack
from ..common.types import Verdict, VerdictKind
from . import boxes

MEMORY_BYTES = 4 << 30
"""Most memory of a scorer and all that it evaluates."""
MAX_ANSWER_CHARS = 100_000
"""No right answer is this long: the largest grids have a few thousand characters."""

_ANSWER_TAG, _ANSWER_END = "<answer>", "</answer>"
_NAMES = re.compile(
    r"\b(?:exec|eval|compile|open|getattr|setattr|delattr|globals|locals|vars|input|breakpoint|print|exit|quit|type|sympify"
    r"|parse_expr|lambdify)\b"
)
_NEVER = re.compile(r"\b(?:lambda|import)\b|__")

Finding: TypeAlias = tuple[VerdictKind, str, int]
"""(kind, reason, peak memory in bytes)."""


def refuse_missing_package() -> None:
    """``ConfigError`` if reasoning-gym is not installed."""
    if find_spec("reasoning_gym") is None:
        raise ConfigError("reasoning-gym's problems are judged by the package's own scorers: pip install reasoning-gym")


class GymGrader:
    """Grades one response at a time, in a sandbox that it keeps warm. One thread uses it."""

    def __init__(self, settings: Verifier, *, partial: bool = False) -> None:
        """With ``partial`` the reward is the scorer's own number, and not 1 or 0."""
        self._settings, self._partial = settings, partial
        self._score: float | None = None
        """What the scorer gave the newest answer, where that is asked for."""
        packages = sysconfig.get_path("purelib")
        self._room = SandboxRoom(isolated=not settings.allow_unsandboxed, packages=packages, preload=("reasoning_gym",))

    def warm_up(self) -> None:
        """Start the sandbox and import the package in it. ``ConfigError`` if one of the two is not available."""
        refuse_missing_package()
        self._room.sandbox()

    def grade(self, response: str, ground_truth: str, finished: bool, *, reasoning_open: bool = False) -> Verdict:
        """The verdict on a response. The ground truth is a JSON text ``{entry, options}``. A row that no scorer can
        read gives an ``error``, and so does any failure of the sandbox."""
        started, self._score = time.monotonic(), None
        answer, why_not = answer_in(response, finished=finished, reasoning_open=reasoning_open)
        if answer is None:
            return Verdict(kind=VerdictKind.NO_ANSWER, reason=why_not, seconds=0.0)
        try:
            truth = json.loads(ground_truth)
            kind, reason, peak_bytes = self._scored(truth["entry"], truth["options"], answer)
        except (SandboxError, ConfigError) as error:
            kind, reason, peak_bytes = VerdictKind.ERROR, str(error), 0
        except (ValueError, KeyError, TypeError) as error:
            kind, reason, peak_bytes = VerdictKind.ERROR, f"no entry of reasoning-gym: {error}", 0
        seconds, score = time.monotonic() - started, self._score
        if score is not None:
            kind = VerdictKind.SCORED
        return Verdict(kind=kind, reason=printable(reason), seconds=seconds, peak_bytes=peak_bytes, score=score)

    def close(self) -> None:
        """End the sandbox."""
        self._room.close()

    def kill(self) -> None:
        """End the sandbox from another thread. What is being graded ends as an ``error``."""
        self._room.kill()

    def _scored(self, entry: dict[str, Any], options: dict[str, Any], answer: str) -> Finding:
        if len(answer) > MAX_ANSWER_CHARS:
            return VerdictKind.WRONG, f"the answer has {len(answer)} characters", 0
        if is_program(answer, entry.get("answer")):
            return VerdictKind.WRONG, "the answer is a program", 0
        sandbox = self._room.sandbox()
        deadline = time.monotonic() + self._settings.timeout_s
        with sandbox.job(Limits(memory_bytes=min(MEMORY_BYTES, usable_memory()))) as job:
            try:
                job.send(pack(SERVE, {"role": "scorer", "entry": entry, "options": options}), deadline=deadline)
                kind, body, _ = job.receive(deadline)
            except (Overrun, OutOfMemory, Garbled) as error:  # only our own scorer has spoken so far
                raise SandboxError(f"no scorer: {type(error).__name__}: {error}") from error
            if kind != VERDICT or body[0] != "ready":
                return VerdictKind.ERROR, f"no scorer for this entry: {body[-1:]}", 0
            try:
                job.send(pack(CASE, answer), deadline=deadline)
                kind, body, _ = job.receive(deadline)
                word, value = body if kind == VERDICT else ("", "")
            except Overrun:
                return VerdictKind.TIMEOUT, f"still scoring after {self._settings.timeout_s:g} s", job.peak_bytes
            except OutOfMemory as error:
                return VerdictKind.TIMEOUT, f"scoring it used {error}", job.peak_bytes
            except (Garbled, ValueError, TypeError) as error:
                if sandbox.lost(error):
                    raise SandboxError("the sandbox was lost") from error
                return VerdictKind.WRONG, f"it broke the scorer: {error}", job.peak_bytes
            found, reason = _found(word, value)
            if self._partial and word == "scored" and reason.startswith("scored"):
                self._score = min(max(float(value), 0.0), 1.0)  # the package's own range
            return found, reason, job.peak_bytes


def answer_in(response: str, *, finished: bool, reasoning_open: bool) -> tuple[str | None, str]:
    """(answer, "") or (None, why there is none): what the last box after the reasoning holds, or else the last pair of
    ``<answer>`` tags, the package's own form."""
    answer, why_not = boxes.answer_in(response, finished=finished, reasoning_open=reasoning_open, read=_boxed_or_tagged)
    return None if answer is None else _bare(answer), why_not


def _boxed_or_tagged(text: str) -> str | None:
    answer = boxes.last_box(text)
    if answer is None:
        before, closed, _ = text.rpartition(_ANSWER_END)
        _, opened, tagged = before.rpartition(_ANSWER_TAG)
        answer = tagged.strip() if closed and opened else None
    return answer


def _bare(answer: str) -> str:
    r"""The answer without ``\text{…}``, in which a word is often boxed."""
    inside = answer.removeprefix(r"\text{")
    return inside[:-1] if inside != answer and answer.endswith("}") and not set("{}") & set(inside[:-1]) else answer


def is_program(answer: str, gold: object) -> bool:
    """Whether an answer may call what no right answer calls, or reaches for Python's internals, while the gold does
    not. Names are compared as in Python: compatible characters are the same."""
    return _calls(answer) and not (isinstance(gold, str) and _calls(gold))


def _calls(text: str) -> bool:
    text = unicodedata.normalize("NFKC", text) if not text.isascii() else text
    return _NEVER.search(text) is not None or ("(" in text and _NAMES.search(text) is not None)


def _found(word: object, value: object) -> tuple[VerdictKind, str]:
    """The verdict in what came back. The answer itself may have spoken, so nothing in it becomes an ``error``."""
    if word == "scored" and type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
        return VerdictKind.CORRECT if value >= 1 else VerdictKind.WRONG, f"scored {value:g}"  # type: ignore[operator]
    return VerdictKind.WRONG, f"the scorer cannot read it: {value}" if word == "raised" else "it broke the scorer"
