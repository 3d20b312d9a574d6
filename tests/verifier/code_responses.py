"""Responses and ground truths for tests of the code grader."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from textwrap import dedent
from typing import Any

import psutil
from leeway_rl.common.sandbox.sandbox import Sandbox, descendants
from leeway_rl.common.types import Verdict
from leeway_rl.verifier.code.answer import CodeGrader


def response(source: str) -> str:
    """A response whose answer is ``source``."""
    return f"Here it is.\n\n```python\n{dedent(source).strip()}\n```\n"


def grade(grader: CodeGrader, source: str, tests: dict[str, Any]) -> Verdict:
    """The verdict on ``source``."""
    return grader.grade(response(source), json.dumps(tests), True)


def printing(expected: str, given: str = "", **options: Any) -> dict[str, Any]:
    """A program gets ``given`` and must print ``expected``."""
    return {"inputs": [given], "outputs": [expected], **options}


def calling(name: str, *cases: tuple[list[Any], Any], **options: Any) -> dict[str, Any]:
    """A function gets these arguments and must return that."""
    lines = ["\n".join(map(json.dumps, arguments)) for arguments, _ in cases]
    return {"fn_name": name, "inputs": lines, "outputs": [json.dumps(value) for _, value in cases], **options}


def checking(body: str, entry: str = "f", prefix: str = "") -> dict[str, Any]:
    """A test program of the Skywork form: ``check`` with ``body``."""
    lines = "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    return {"import_prefix": prefix, "test_code": f"def check(candidate):\n{lines}", "entry_point": entry}


def bwraps() -> list[psutil.Process]:
    """The bubblewraps that this process has started and that are there."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "bwrap" in child.name():
                found.append(child)
    return found


def kill_at_work(sandboxes: list[Sandbox], killed: set[int]) -> None:
    """Kill each sandbox in which something runs, once, and note its zygote's process id in ``killed``."""
    for sandbox in sandboxes:
        if sandbox.alive and sandbox.zygote not in killed and len(descendants(sandbox.zygote)) > 1:
            killed.add(sandbox.zygote)
            os.kill(sandbox.zygote, signal.SIGKILL)
