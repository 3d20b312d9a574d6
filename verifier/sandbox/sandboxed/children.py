"""What a forked child does: it runs a program, serves a solution, or runs a test program. It never returns.

A child is a fork of a process that holds nothing but the interpreter, so each run starts from the same state, and
nothing of one is left for the next.
"""

import atexit
import builtins
import decimal
import gc
import os
import random
import resource
import signal
import socket
import struct
import sys
import textwrap
import threading
import time
import traceback
import types
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn

from . import frames
from .frames import ANSWER, ASK, VERDICT
from .objects import solution_serves
from .peer import Peer, mark_class
from .usage import used_as_classes, wanted

PRELUDE = """
from string import *
from re import *
from datetime import *
from collections import *
from heapq import *
from bisect import *
from copy import *
from math import *
from random import *
from statistics import *
from itertools import *
from functools import *
from operator import *
from io import *
from sys import *
from json import *
from builtins import *
from typing import *
import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics, itertools, functools, operator
import io, sys, json
"""
"""Imports that solutions take for granted: LeetCode's, which LiveCodeBench puts before every solution and program."""

_RECURSION = 50_000
"""The recursion limit that LiveCodeBench gives every solution."""
_MODULE = "solution"
"""The module into which a solution is loaded. It is no program, so code under a ``__main__`` guard does not run."""


def run_program(source: str, leash: socket.socket) -> NoReturn:
    """Run like ``python solution.py`` in the scratch folder, once for every input.

    A run that leaves the process as it found it says over ``leash`` how it went, and the next input runs here, in a
    fresh ``__main__``; that saves a fork. Any other run ends with its process. A solution that lies here harms only
    itself.
    """
    before = _Process()
    while True:
        code, namespace = _run_once(source)
        if code or threading.active_count() > 1:
            _finish(code, namespace)
        if not _wind_up(namespace) or not before.is_as_it_was():
            os._exit(code)
        leash.send(struct.pack("=q", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
        if not leash.recv(1):
            os._exit(code)
        before.restore()


def _run_once(source: str) -> tuple[int, dict[str, Any]]:
    namespace = _module("__main__")
    sys.argv = ["solution.py"]
    try:
        exec(_compiled("", source), namespace)
    except SystemExit as end:
        return _exit_code(end.code), namespace
    except BaseException:
        traceback.print_exc()
        return 1, namespace
    return 0, namespace


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _finish(code: int, namespace: dict[str, Any]) -> NoReturn:
    """End as an interpreter does, without the cost: wait for threads, then ``_wind_up``."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException:
        traceback.print_exc()
    if not _wind_up(namespace):
        code = code or 120  # what the interpreter exits with where it cannot flush
    os._exit(code)


def _wind_up(namespace: dict[str, Any]) -> bool:
    """Run exit functions and destructors, and flush buffers. Returns whether all went well."""
    try:
        atexit._run_exitfuncs()
        _flush()
        namespace.clear()
        _flush()
    except BaseException:
        traceback.print_exc()
        return False
    return True


_BUILTINS_AT = 2
"""The place of the builtins in ``_Process._look``. They hold the streams, which are new for every run."""


def _ids_of_builtins() -> list[int]:
    return list(map(id, builtins.__dict__.values()))


class _Process:
    """What a program could change in its process, and what of it can be put back."""

    def __init__(self) -> None:
        self._path, self._random = list(sys.path), random.getstate()
        self._recursion = sys.getrecursionlimit()
        self._state = self._look()

    def _look(self) -> list[Any]:
        """What a run must not change: if it does, the process is not used again."""
        free = os.dup(0)
        os.close(free)
        return [
            free,
            [(found.st_dev, found.st_ino) for found in map(os.fstat, range(3))],
            _ids_of_builtins(),
            os.getcwd(),
            dict(os.environ),
            set(vars(sys)),
            set(sys.modules),
            [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
            threading.stack_size(),
            str(decimal.getcontext()),
            (sys.gettrace(), sys.getprofile(), sys.get_int_max_str_digits(), gc.isenabled()),
        ]

    def is_as_it_was(self) -> bool:
        try:
            return self._look() == self._state and not _has_children()
        except BaseException:
            return False

    def restore(self) -> None:
        """Put things back for the next run. Descriptors 0 to 2 hold new content by now."""
        for fd in range(3):
            os.lseek(fd, 0, os.SEEK_SET)
        open_streams()
        self._state[_BUILTINS_AT] = _ids_of_builtins()
        sys.path[:] = self._path
        random.setstate(self._random)
        sys.setrecursionlimit(self._recursion)


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _flush() -> None:
    for stream in {sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__}:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()


def open_streams() -> None:
    """Fresh text streams over whatever descriptors 0, 1 and 2 now are, under the prelude's names for them too."""
    modes = {"stdin": "r", "stdout": "w", "stderr": "w"}
    for fd, (name, mode) in enumerate(modes.items()):
        errors = "backslashreplace" if name == "stderr" else "surrogateescape"
        stream = open(fd, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        setattr(builtins, name, stream)


def _module(name: str) -> dict[str, Any]:
    """The namespace of a new module, which code that looks for its classes by name can find."""
    made = types.ModuleType(name)
    made.__dict__.update(__builtins__=builtins, __file__="solution.py")
    sys.modules[name] = sys.modules["__main__"] = made
    return made.__dict__


_QUICK_S = 0.005


def serve_solution(link: socket.socket, prefix: str, source: str) -> NoReturn:
    """Load a solution, say so, then answer until the judge hangs up.

    Every case starts from the solution as loaded: one that loads quickly is loaded again, a slow one is forked.
    """
    started = time.perf_counter()
    try:
        solution = _Solution(prefix, source)
        peer = solution.load(link)
    except BaseException as error:
        frames.send(link, ANSWER, ["raised", type(error).__name__, _message(error)])
        os._exit(1)
    quick = time.perf_counter() - started < _QUICK_S and threading.active_count() == 1
    frames.send(link, ANSWER, ["loaded"])
    fresh = True
    while (frame := frames.receive(link)) is not None:
        kind, body, _ = frame
        if kind == ASK:
            peer.answer(body)
        elif body == "end":
            if not quick:
                os._exit(0)
            frames.send(link, ANSWER, ["ended", 0])
        elif not quick:
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
                frames.send(link, ANSWER, ["ended", status])
        elif not fresh:
            peer = solution.load(link)
        fresh = False
    os._exit(0)


class _Solution:
    """A solution's code, to be loaded as often as there are cases."""

    def __init__(self, prefix: str, source: str) -> None:
        self._prefix = prefix
        self._source = _compiled(prefix, source)

    def load(self, link: socket.socket) -> Peer:
        """Run it in a namespace of its own. Returns the peer that answers for it."""
        namespace = _module(_MODULE)
        shared = _set_up(namespace, self._prefix)
        exec(self._source, namespace)
        return Peer(link, shared, solution_serves(namespace))


def _compiled(prefix: str, source: str) -> types.CodeType:
    """Compile the solution. One that begins indented may be only the body of the function that the prefix opens, so it
    is read after the prefix; or else it is indented as a whole."""
    try:
        return compile(source, "solution.py", "exec", dont_inherit=True)
    except SyntaxError:
        if not source[:1].isspace():
            raise
        for other in [prefix + source] * bool(prefix) + [textwrap.dedent(source)]:
            with suppress(SyntaxError):
                return compile(other, "solution.py", "exec", dont_inherit=True)
        raise


def _set_up(namespace: dict[str, Any], prefix: str) -> dict[str, type]:
    """Run the prefix, as both sides do. Returns the classes that it defines: since both ends have them, their instances
    travel as attributes."""
    if prefix:
        exec(compile(prefix, "prefix", "exec", dont_inherit=True), namespace)
    found = {name: value for name, value in namespace.items() if isinstance(value, type)}
    return {name: value for name, value in found.items() if value.__module__ == namespace["__name__"]}


def _message(error: BaseException) -> str:
    try:
        return " ".join(traceback.format_exception_only(error)[-1].split())[:300]
    except BaseException:
        return type(error).__name__


def run_tests(link: socket.socket, prefix: str, tests: str, entry: str) -> NoReturn:
    """Run a test program against the solution at the other end. Only this side gives the verdict."""
    namespace = _module("__main__")
    asked = False
    try:
        shared = _set_up(namespace, prefix)
        known = set(namespace)
        peer = Peer(link, shared, {"call": _call_back}, tests=True)
        program, classes = compile(tests, "tests", "exec", dont_inherit=True), used_as_classes(tests)
        asked = True
        for name in wanted(tests, known):
            if peer.ask("has", name):
                found = peer.ask("lookup", name)
                namespace[name] = mark_class(found) if name in classes else found
        candidate = peer.ask("lookup", entry) if entry else None
        if entry.isidentifier():
            namespace[entry] = candidate
        exec(program, namespace)
        if entry and "check" in namespace:
            namespace["check"](candidate)
        verdict: list[Any] = ["passed", ""]
    except BaseException as error:
        verdict = ["failed" if asked else "broken", _blame(error)]
    frames.send(link, VERDICT, verdict)
    os._exit(0)


def _call_back(target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not isinstance(target, types.FunctionType):
        raise TypeError("only functions may be called back")
    return target(*args, **kwargs)


def _blame(error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "tests"]
    return f"{_message(error)} (line {lines[-1]} of the tests)" if lines else _message(error)


@cache
def _prelude_names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(PRELUDE, names)
    return {name: value for name, value in names.items() if not name.startswith("__")}


def preload() -> None:
    """Import what solutions import, once, so that every fork has it; then keep the collector off all that.

    It also lifts two limits of the interpreter: on recursion, and on the digits of an integer in text. The clock limits
    how long either may take.
    """
    sys.setrecursionlimit(_RECURSION)
    sys.set_int_max_str_digits(0)
    # Every own definition goes before the builtins, so no namespace has to be filled with the prelude's names.
    builtins.__dict__.update(_prelude_names())
    for name in ("array", "dataclasses", "decimal", "enum", "fractions", "io", "statistics", "time", "timeit", "queue"):
        __import__(name)
    gc.collect()
    gc.freeze()
