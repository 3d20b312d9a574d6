"""What a forked child does: run a program, serve a solution, run a test program. Never returns.

A child is a fork of a process that holds nothing but the interpreter, so each run starts from the same state, and
nothing of one is left for the next.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import gc
import os
import socket
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from . import frames
from .frames import ANSWER, ASK, VERDICT
from .peer import Peer, mark_class, solution_serves

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
"""The names that function-call problems take for granted: LeetCode's, as LiveCodeBench gives them."""

_RECURSION = 50_000
"""What LiveCodeBench gives function-call problems; a program sets its own, as in plain Python."""


def run_program(source: str) -> NoReturn:
    """As ``python solution.py`` with the scratch folder as the current one."""
    namespace = _main_module()
    sys.argv = ["solution.py"]
    sys.path.insert(0, os.getcwd())
    code = 1
    try:
        compiled = compile(source, "solution.py", "exec", dont_inherit=True)
        exec(compiled, namespace)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    _finish(code, namespace)


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _finish(code: int, namespace: dict[str, Any]) -> NoReturn:
    """The end of an interpreter without its cost: wait for threads, run exit functions and destructors, flush."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        _flush()
        namespace.clear()
        _flush()
    except BaseException:
        traceback.print_exc()
        code = code or 120
    os._exit(code)


def _flush() -> None:
    for stream in {sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__} - {None}:
        if not getattr(stream, "closed", False):
            stream.flush()


def open_streams() -> None:
    """Fresh text streams over whatever descriptors 0, 1 and 2 now are."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _main_module() -> dict[str, Any]:
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __file__="solution.py")
    sys.modules["__main__"] = main
    return main.__dict__


def serve_solution(link: socket.socket, prefix: str, source: str) -> NoReturn:
    """Load a solution, say so, then answer until the judge hangs up. ``case`` forks: what follows leaves no trace."""
    sys.setrecursionlimit(_RECURSION)
    namespace = _main_module()
    try:
        exec(compile(PRELUDE, "prelude", "exec", dont_inherit=True), namespace)
        prelude = dict(namespace)
        exec(compile(prefix, "prefix", "exec", dont_inherit=True), namespace)
        shared = _classes(namespace, prelude)
        exec(_compiled(prefix, source), namespace)
    except BaseException as error:
        frames.send(link, ANSWER, ["raised", type(error).__name__, _message(error)])
        os._exit(1)
    frames.send(link, ANSWER, ["loaded"])
    peer = Peer(link, shared, solution_serves(namespace, prelude))
    while (frame := frames.receive(link)) is not None:
        kind, body, _ = frame
        if kind == ASK:
            peer.answer(body)
        elif body == "case":
            child = os.fork()
            if child:
                _, status = os.waitpid(child, 0)
                frames.send(link, ANSWER, ["ended", status])
        else:
            os._exit(0)
    os._exit(0)


def _compiled(prefix: str, source: str) -> types.CodeType:
    """The solution; where it is but the body of the function that the prefix opens, both together."""
    try:
        return compile(source, "solution.py", "exec", dont_inherit=True)
    except SyntaxError:
        if not prefix or not source[:1].isspace():
            raise
        return compile(prefix + source, "solution.py", "exec", dont_inherit=True)


def _classes(namespace: dict[str, Any], prelude: dict[str, Any]) -> dict[str, type]:
    """Classes that the prefix defines: both ends know them, so their instances travel as attributes."""
    return {
        name: value
        for name, value in namespace.items()
        if name not in prelude and isinstance(value, type) and value.__module__ == "__main__"
    }


def _message(error: BaseException) -> str:
    try:
        return " ".join(traceback.format_exception_only(error)[-1].split())[:300]
    except BaseException:
        return type(error).__name__


def run_tests(link: socket.socket, prefix: str, tests: str, entry: str) -> NoReturn:
    """Run a test program against the solution at the other end; the verdict is ours alone to say."""
    sys.setrecursionlimit(_RECURSION)
    namespace = _main_module()
    asked = False
    try:
        exec(compile(PRELUDE, "prelude", "exec", dont_inherit=True), namespace)
        prelude = dict(namespace)
        exec(compile(prefix, "prefix", "exec", dont_inherit=True), namespace)
        peer = Peer(link, _classes(namespace, prelude), {"call": _call_back})
        program = compile(tests, "tests", "exec", dont_inherit=True)
        asked = True
        for name in _wanted(tests, set(namespace) - set(prelude)):
            if peer.ask("has", name):
                namespace[name] = mark_class(peer.ask("lookup", name), name)
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


def _wanted(tests: str, prefix_names: set[str]) -> list[str]:
    """Names that the tests use and nobody but the solution can define. Never a builtin: those stay ours."""
    nodes = list(ast.walk(ast.parse(tests)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    stored = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    imported = {(alias.asname or alias.name).split(".")[0] for node in nodes for alias in _aliases(node)}
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    known = stored | defined | imported | arguments | prefix_names | set(dir(builtins))
    return sorted({node.id for node in names} - known)


def _aliases(node: ast.AST) -> list[ast.alias]:
    return node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else []


def _call_back(target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not isinstance(target, types.FunctionType):
        raise TypeError("only functions may be called back")
    return target(*args, **kwargs)


def _blame(error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "tests"]
    return f"{_message(error)} (line {lines[-1]} of the tests)" if lines else _message(error)


def preload() -> None:
    """Import what solutions import, once, so that every fork has it; then keep the collector off all that."""
    namespace: dict[str, Any] = {}
    exec(compile(PRELUDE, "prelude", "exec", dont_inherit=True), namespace)
    for name in ("array", "dataclasses", "decimal", "enum", "fractions", "io", "statistics", "time", "timeit", "queue"):
        __import__(name)
    gc.collect()
    gc.freeze()
