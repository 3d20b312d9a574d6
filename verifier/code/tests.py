"""Ground truths for code: every published form, read into one value. Pure.

| form | keys |
|---|---|
| Skywork-OR1-RL-Data, standard input | ``inputs``, ``outputs``: texts |
| the same, function call | also ``fn_name``; an input is JSON, one argument a line, or a list of arguments |
| the same, test program | ``import_prefix``, ``test_code`` (defines ``check``), ``entry_point`` |
| the same, assertions | ``assert_case``: programs, each run on its own |
| HumanEval | ``prompt``, ``test``, ``entry_point`` |
| LiveCodeBench | ``public_test_cases`` and ``private_test_cases``, or a list of ``{input, output, testtype}`` |

Any of them may have our own keys: ``comparison``, ``checker``, ``tolerance``, ``time_limit_s``, ``memory_bytes``.
"""

import ast
import base64
import binascii
import io
import pickle
import re
import sys
import zlib
from dataclasses import dataclass
from typing import Any

from .compare import Comparison
from .numbers import loads_whole
from .numbers import shortly as _short

MAX_TEST_BYTES = 1 << 30
"""Most bytes that a compressed test list may unpack to."""
_LONG_DIGITS = re.compile(r"[0-9][0-9_]{599,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTest:
    """A program reads this and must print that."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """A function gets these arguments and must return that, both plain values as JSON has them."""

    arguments: tuple[Any, ...]
    returns: Any
    wrapped: bool = False
    """Whether ``returns`` may also be a list of one holding the value (the form of APPS and TACO)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionTest:
    """A test program that must run to its end. It is trusted, but it runs apart from the solution all the same."""

    prefix: str
    """Runs before the solution and before the tests, on both sides: imports, classes that both know."""
    program: str
    """The program with the assertions. If it defines ``check``, that is called with the entry point."""
    entry: str
    """The solution's function or an expression for it (``Solution().twoSum``); empty if the program names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTests:
    """All the tests of one problem; every one must pass."""

    tests: tuple[ProgramTest | CallTest | AssertionTest, ...]
    """Never empty."""
    function: str = ""
    """The function that ``CallTest``s call."""
    comparison: Comparison = Comparison.LIVECODEBENCH
    """The rule by which outputs and values are judged."""
    checker: str = ""
    """Python that defines ``check(input, expected, actual)``, which is true if the output is valid."""
    tolerance: float | None = None
    """Numbers may differ by this much, absolutely or relative to the expected one. None: exactly equal."""
    time_limit_s: float | None = None
    """Wall seconds for each test; None for the verifier's limit."""
    memory_bytes: int | None = None
    """Memory of the job in bytes; None for the verifier's limit."""


def parse_tests(text: str) -> CodeTests:
    """The tests in a ground truth's JSON text, never an empty list. Raises ``ValueError``, which says what is wrong."""
    try:
        found = loads_whole(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"tests are a JSON text: {error}") from error
    if isinstance(found, list):
        found = {"public_test_cases": found}
    if not isinstance(found, dict):
        raise ValueError(f"tests are an object or a list of {{input, output, testtype}}, found {_short(found)}")
    # Parquet gives every row every key, so the keys of the other formats are there and null.
    found = {key: value for key, value in found.items() if value is not None}
    options = _options(found)
    if "public_test_cases" in found or "private_test_cases" in found:
        tests, function = _livecodebench(found)
    elif "inputs" in found or "outputs" in found:
        tests, function = _input_output(found)
    elif "assert_case" in found:
        tests, function = _assert_cases(found["assert_case"]), ""
    elif "test_code" in found or "test" in found:
        tests, function = [_test_program(found)], ""
    else:
        raise ValueError(
            "no tests: expected inputs/outputs, test_code/entry_point, assert_case, prompt/test/entry_point or "
            f"public_test_cases, found the keys {_short(sorted(found))}"
        )
    if not tests:
        raise ValueError("the list of tests is empty: that would pass everything")
    comparison = _comparison(found.get("comparison"), options, asserts=isinstance(tests[0], AssertionTest))
    return CodeTests(tests=tuple(tests), function=function, comparison=comparison, **options)


def _options(found: dict[str, Any]) -> dict[str, Any]:
    checker = found.get("checker") or ""
    if not isinstance(checker, str):
        raise ValueError(f"checker is a Python text, found {_short(checker)}")
    if checker:
        _parsed(checker, "checker")
        if "check" not in _functions(checker):
            raise ValueError("checker defines no function check(input, expected, actual)")
    return {
        "checker": checker,
        "tolerance": _positive(found, "tolerance"),
        "time_limit_s": _positive(found, "time_limit_s"),
        "memory_bytes": None if (memory := _positive(found, "memory_bytes")) is None else int(memory),
    }


def _comparison(asked: Any, options: dict[str, Any], *, asserts: bool) -> Comparison:
    """The rule that a row asks for, by name or by the key that only one rule has; otherwise LiveCodeBench's."""
    known = [str(rule) for rule in Comparison if rule is not Comparison.ASSERTIONS]
    if asked is not None and asked not in known:
        raise ValueError(f"comparison is one of {', '.join(known)}, found {_short(asked)}")
    implied = [rule for rule in (Comparison.CHECKER, Comparison.TOLERANCE) if options[rule]]
    if asserts:
        if asked or implied:
            what = f"a {implied[0]}" if implied else "a comparison"
            raise ValueError(f"{what} judges outputs; assertions judge themselves: give one of the two")
        return Comparison.ASSERTIONS
    if len(implied) > 1:
        raise ValueError("a checker and a tolerance are two rules: give one of the two")
    if asked is None:
        return implied[0] if implied else Comparison.LIVECODEBENCH
    if implied and asked != implied[0]:
        raise ValueError(f"comparison is {asked}, and the key {implied[0]} asks for another: give one of the two")
    if not implied and asked in (Comparison.CHECKER, Comparison.TOLERANCE):
        raise ValueError(f"comparison is {asked}: the key {asked} is missing")
    return Comparison(asked)


def _positive(found: dict[str, Any], key: str) -> float | None:
    value = found.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
        raise ValueError(f"{key} is a number above 0, found {_short(value)}")
    return value


def _input_output(found: dict[str, Any]) -> tuple[list[Any], str]:
    inputs, outputs = found.get("inputs"), found.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError(f"inputs and outputs are lists, found {_short(inputs)} and {_short(outputs)}")
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} inputs, {len(outputs)} outputs")
    function = found.get("fn_name") or ""
    if not isinstance(function, str):
        raise ValueError(f"fn_name is a text, found {_short(function)}")
    make = _call if function else _program
    return [make(given, due, number) for number, (given, due) in enumerate(zip(inputs, outputs, strict=True))], function


def _program(given: Any, due: Any, number: int) -> ProgramTest:
    return ProgramTest(stdin=_text(given, f"inputs[{number}]"), stdout=_text(due, f"outputs[{number}]"))


def _text(value: Any, where: str) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise ValueError(f"{where} is a text or a list of lines, found {_short(value)}")
    return value


def _call(given: Any, due: Any, number: int) -> CallTest:
    if isinstance(given, str):
        arguments = tuple(_json(line, f"inputs[{number}]") for line in given.split("\n") if line.strip())
        returns = _json(due, f"outputs[{number}]") if isinstance(due, str) else due
        return CallTest(arguments=arguments, returns=returns)
    if not isinstance(given, list):
        raise ValueError(f"inputs[{number}] of a call is a text or a list of arguments, found {_short(given)}")
    return CallTest(arguments=tuple(given), returns=due, wrapped=True)


def _json(text: str, where: str) -> Any:
    try:
        return loads_whole(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: one JSON value a line, found {_short(text)} ({error})") from error


def _test_program(found: dict[str, Any]) -> AssertionTest:
    key = "test_code" if "test_code" in found else "test"
    parts = {"prefix": found.get("import_prefix", found.get("prompt", "")), key: found[key]}
    parts["entry_point"] = found.get("entry_point", "")
    for name, value in parts.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is a text, found {_short(value)}")
    program, entry = parts[key], parts["entry_point"].strip()
    _refuse_toothless(program, key)
    if "check" in _functions(program) and not entry:
        raise ValueError("entry_point is missing: nothing to hand to check()")
    if entry:
        _parsed(entry, "entry_point")
    return AssertionTest(prefix=_completed(parts["prefix"]), program=program, entry=entry)


def _completed(prefix: str) -> str:
    """A prompt that ends with the head of a function needs a body to be a program."""
    for text in (prefix, prefix.rstrip() + "\n    pass\n"):
        try:
            _syntax(text)
            return text
        except SyntaxError:
            continue
    raise ValueError(f"the prefix is no Python: {_short(prefix)}")


def _assert_cases(cases: Any) -> list[AssertionTest]:
    cases = [cases] if isinstance(cases, str) else cases
    if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
        raise ValueError(f"assert_case is a list of Python texts, found {_short(cases)}")
    for number, case in enumerate(cases):
        _refuse_toothless(case, f"assert_case[{number}]")
    return [AssertionTest(prefix="", program=case, entry="") for case in cases]


def _refuse_toothless(program: str, where: str) -> None:
    nodes = ast.walk(_parsed(program, where))
    if not any(isinstance(node, (ast.Assert, ast.Raise)) for node in nodes):
        raise ValueError(f"{where} asserts nothing: that would pass everything")


def _parsed(text: str, where: str) -> ast.Module:
    try:
        return _syntax(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where} is no Python: {error}") from error


def _syntax(text: str) -> ast.Module:
    """The program's tree, to look at its shape. Integers that are too long for the parser stand in it as 1."""
    return ast.parse(_LONG_DIGITS.sub("1", text))


def _functions(program: str) -> set[str]:
    return {node.name for node in _syntax(program).body if isinstance(node, ast.FunctionDef)}


def _livecodebench(found: dict[str, Any]) -> tuple[list[Any], str]:
    rows = _rows(found.get("public_test_cases", []), "public_test_cases")
    rows += _rows(found.get("private_test_cases", []), "private_test_cases")
    metadata = found.get("metadata", {})
    metadata = _json(metadata, "metadata") if isinstance(metadata, str) else metadata
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata is an object, found {_short(metadata)}")
    function = metadata.get("func_name") or found.get("fn_name") or ""
    tests: list[Any] = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("input"), str) or not isinstance(row.get("output"), str):
            raise ValueError(f"test {number} is {{input, output, testtype}}, found {_short(row)}")
        match row.get("testtype", "stdin"):
            case "stdin":
                tests.append(ProgramTest(stdin=row["input"], stdout=row["output"]))
            case "functional":
                tests.append(_call(row["input"], row["output"], number))
            case other:
                raise ValueError(f"test {number}: testtype is stdin or functional, found {_short(other)}")
    if any(isinstance(test, CallTest) for test in tests) and not function:
        raise ValueError("functional tests need the function's name: metadata.func_name")
    return tests, function


def _rows(value: Any, where: str) -> list[Any]:
    """A list, its JSON, or LiveCodeBench's base64 of zlib of a pickled JSON text."""
    if isinstance(value, str):
        try:
            value = loads_whole(value)
        except ValueError:
            value = _json(_unpickled_text(value, where), where)
    if not isinstance(value, list):
        raise ValueError(f"{where} is a list of tests, found {_short(value)}")
    return value


class _TextOnly(pickle.Unpickler):
    """An unpickler that knows no class, so it can build plain values and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a pickled {module}.{name}")


def _unpickled_text(value: str, where: str) -> str:
    try:
        unzip = zlib.decompressobj()
        data = unzip.decompress(base64.b64decode(value, validate=True), MAX_TEST_BYTES)
        if unzip.unconsumed_tail:
            raise ValueError(f"more than {MAX_TEST_BYTES} bytes")
        text = _TextOnly(io.BytesIO(data)).load()
    except (ValueError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, IndexError, KeyError) as error:
        raise ValueError(f"{where} is neither JSON nor LiveCodeBench's packed form: {error}") from error
    if not isinstance(text, str):
        raise ValueError(f"{where} packs a {type(text).__name__}, not a JSON text")
    return text
