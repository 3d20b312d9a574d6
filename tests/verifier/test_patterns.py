"""Every regular expression that may meet somebody else's text takes time in proportion to the text.

A regular expression holds the interpreter's lock, so one that is slow stops the whole process, clocks and all. The
patterns are collected from the source, so that a new one is pumped without being listed here.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WINGS = ("verifier", "data", "evaluation", "common")
CLOCK_S = 800
SCANS = ("search", "sub", "subn", "split", "findall", "finditer")
WAY = {**dict.fromkeys(SCANS, "scan"), "match": "match", "fullmatch": "fullmatch"}
USERS = {"verifier/rewards/shipped/formats.py:compiled"}
"""Patterns of the user's own. They are used in processes that can be killed, with a clock."""
Pumped = tuple[str, str, int, str]
"""(where, pattern, flags, way)."""


def sources(wing: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / wing).glob("**/*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def ways_of_names() -> dict[tuple[str, str], set[str]]:
    """How each pattern is used: by (file, NAME) where it is ``NAME.search(…)``, by ("", NAME) as ``module.NAME``."""
    ways = defaultdict(set)
    for wing in WINGS:
        for name, tree in sources(wing):
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and node.attr in WAY:
                    if isinstance(node.value, ast.Attribute):
                        ways["", node.value.attr].add(WAY[node.attr])
                    elif isinstance(node.value, ast.Name):
                        ways[name, node.value.id].add(WAY[node.attr])
    return ways


def calls_of_re(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and (node.func.attr == "compile" or node.func.attr in WAY)
        ):
            yield node.func.attr, node


def patterns(wing: str) -> list[Pumped]:
    """Every pattern of a wing with each way in which it is used; fails on one whose text cannot be told."""
    ways, found = ways_of_names(), []
    for name, tree in sources(wing):
        calls = list(calls_of_re(tree))
        if not calls:
            continue
        scope = vars(importlib.import_module(f"leeway_rl.{name.removesuffix('.py').replace('/', '.')}"))
        names = {
            id(node.value): ast.unparse(node.targets[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        }
        for function, call in calls:
            assigned = names.get(id(call))
            where = f"{name}:{assigned or call.lineno}"
            if where in USERS:
                continue
            pattern, flags = resolved(call, function, scope, where)
            known = ways[name, assigned or ""] | ways["", assigned or ""]
            used = {WAY[function]} if function != "compile" else known or {"scan"}
            found += [(where, pattern, flags, way) for way in sorted(used)]
    return found


def resolved(call: ast.Call, function: str, scope: dict[str, Any], where: str) -> tuple[str, int]:
    """The text and the flags of the pattern in a call of ``re``, by evaluating them in their module."""

    def value(node: ast.expr) -> Any:
        try:
            return eval(compile(ast.Expression(node), where, "eval"), dict(scope))
        except NameError as error:
            pytest.fail(f"{where}: the pattern is not a constant of its module: {error}")

    flags_at = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(function, 2)
    given = [keyword.value for keyword in call.keywords if keyword.arg == "flags"] + call.args[flags_at : flags_at + 1]
    pattern = value(call.args[0])
    if isinstance(pattern, re.Pattern):
        return pattern.pattern, pattern.flags & ~re.UNICODE
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    return text, int(value(given[0])) if given else 0


def complaints(pumped: list[Pumped]) -> list[str]:
    """What a child process finds that grows faster than its text, or does not come back from at all."""
    child = [sys.executable, str(Path(__file__).with_name("pumped_patterns.py"))]
    try:
        done = subprocess.run(child, input=json.dumps(pumped), capture_output=True, text=True, timeout=CLOCK_S)
    except subprocess.TimeoutExpired as over:
        said = ["its start", *(over.stdout or b"").decode().splitlines()]
        return [f"not back after {CLOCK_S} s from {said[-1]}"]
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    tried = {line[0] for line in lines if isinstance(line, list)}
    assert tried == {where for where, *_ in pumped}, "each was pumped"
    return [f"{line['where']} ({line['way']}): {line['attack']}" for line in lines if isinstance(line, dict)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("wing", WINGS)
def test_every_pattern_of_a_wing_takes_time_in_proportion_to_the_text(wing: str) -> None:
    found = patterns(wing)
    assert found
    assert not complaints(found)


def test_re_is_only_used_by_its_name_so_that_the_patterns_can_be_collected() -> None:
    for wing in WINGS:
        for name, tree in sources(wing):
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    assert node.module != "re", name
                elif isinstance(node, ast.Import):
                    assert all(alias.asname is None for alias in node.names if alias.name == "re"), name
                    assert all(alias.name != "regex" for alias in node.names), name


@pytest.mark.parametrize(
    ("pattern", "way"),
    [
        (r"\s*x$", "scan"),
        (r"(?:a\s*,?\s*)*\)", "match"),
        (r"\d+-", "scan"),
        (r"\[.*?\]", "scan"),
        (r"\s*\(?\s*x", "match"),
    ],
)
def test_a_pattern_that_is_not_linear_is_found_out(pattern: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.CLOCK_S", 3)
    assert complaints([("here", pattern, 0, way)])
