"""The walk of docs/concepts/architecture.md: every stop is a function or method that stands where the page says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_STOPS = 11
STOP = re.compile(r"^\| (\d+) \|.*\| \[`([\w.]+)`\]\(\.\./\.\./([\w/.]+)\) \|$", re.MULTILINE)


def stops():
    """(number, name, file) of each stop."""
    return [(int(number), name, ROOT / file) for number, name, file in STOP.findall(page())]


def page():
    return (ROOT / "docs" / "concepts" / "architecture.md").read_text()


def test_the_walk_is_short_and_whole():
    section = page().split("\n## One group, from its prompt to new weights\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| \d", line)]
    assert [number for number, *_ in stops()] == list(range(1, len(rows) + 1))
    assert 0 < len(rows) <= MOST_STOPS
    assert {file.relative_to(ROOT).parts[0] for _, _, file in stops()} == {"learner", "common", "rollout", "verifier"}


@pytest.mark.parametrize(("name", "file"), [stop[1:] for stop in stops()], ids=lambda value: Path(value).name)
def test_every_stop_is_there(name, file):
    nodes = ast.parse(file.read_text()).body
    for part in name.split("."):
        found = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == part]
        assert len(found) == 1, f"{part} of {name} is not in {file}"
        nodes = found[0].body
