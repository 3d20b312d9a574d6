"""Tests go by what is public, so that what is private may change without them."""

import ast
from textwrap import dedent

import pytest

from tests.test_layout import ROOT, files

OF_OTHERS = {"_replace", "_exit", "_getframe"}
"""Named tuples' and the standard library's, public in all but their spelling."""
BY_NAME = {"setattr", "delattr", "getattr", "hasattr"}
"""Calls that take an attribute by its name: the built-in functions, and ``monkeypatch``'s methods."""


def is_private(name):
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.startswith("__") and last.isidentifier() and last not in OF_OTHERS


def reached(text):
    """(line, what) of each private name of something else that a module's text reaches, in programs within it, too."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield node.lineno, ast.unparse(node)
            case ast.ImportFrom(module=module, level=level, names=names):
                ours = level > 0 or module.split(".")[0] in ("leeway_rl", "tests")
                yield from ((node.lineno, alias.name) for alias in names if ours and is_private(alias.name))
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments) if called in BY_NAME:
                named = {each.value for each in arguments if isinstance(each, ast.Constant)}
                yield from ((node.lineno, name) for name in named if isinstance(name, str) and is_private(name))
            case ast.Constant(value=str(inner)) if "leeway_rl" in inner and "\n" in inner:
                try:
                    yield from reached(dedent(inner))
                except SyntaxError:
                    continue  # a text, no program


@pytest.mark.parametrize("path", files("tests"), ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_no_test_reaches_what_is_private_to_another_module(path):
    assert list(reached(path.read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "engine._model.eval()",
        "self.ledger._file.close()",
        "from leeway_rl.data.difficulty import _rated",
        "from .pieces import _Learner",
        "monkeypatch.setattr(module, '_LIMIT', 1)",
        "monkeypatch.setattr('leeway_rl.common.tail._LIMIT', 1)",
        "getattr(engine, '_model')",
        f"PROGRAM = {chr(10).join(['from leeway_rl import rollout', 'rollout._engine'])!r}",
    ],
)
def test_it_would_be_found(text):
    assert len(list(reached(text))) == 1


def test_what_is_one_s_own_or_of_others_is_left_alone():
    own = "self._at, os._exit, late._replace(at=1), engine.__class__, name.replace('_', ' ')"
    assert list(reached(f"from re import _parser\n{own}")) == []
