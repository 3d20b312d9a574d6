"""Every published form of a ground truth is read; what is none is refused with the reason, never passed."""

import base64
import json
import pickle
import zlib
from typing import Any

import pytest
from leeway_rl.verifier.code.tests import AssertionTest, CallTest, ProgramTest, parse_tests


def parsed(value: Any):
    return parse_tests(json.dumps(value))


def packed(tests: list[dict]) -> str:
    """LiveCodeBench's form of private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def test_programs_of_the_skywork_data() -> None:
    found = parsed({"inputs": ["1\n", ["2", "3"]], "outputs": ["a", ["b"]]})
    assert found.tests == (ProgramTest(stdin="1\n", stdout="a"), ProgramTest(stdin="2\n3", stdout="b"))


def test_calls_of_the_skywork_data_in_both_forms() -> None:
    found = parsed({"fn_name": "f", "inputs": ['[1]\n"x"', [[1], "x"]], "outputs": ["2", [2]]})
    assert found.function == "f"
    assert found.tests == (
        CallTest(arguments=([1], "x"), returns=2),
        CallTest(arguments=([1], "x"), returns=[2], wrapped=True),
    )


def test_test_programs_of_the_skywork_data_and_of_human_eval() -> None:
    check = "def check(candidate):\n    assert candidate(1) == 2\n"
    (skywork,) = parsed({"import_prefix": "import math\n", "test_code": check, "entry_point": "Solution().f"}).tests
    assert skywork == AssertionTest(prefix="import math\n", program=check, entry="Solution().f")
    (human,) = parsed({"task_id": "x/0", "prompt": "def f(x):\n    # to do\n", "test": check, "entry_point": "f"}).tests
    assert human.prefix == "def f(x):\n    # to do\n    pass\n"


def test_keys_of_other_formats_that_are_null_are_no_tests() -> None:
    absent = dict.fromkeys(("inputs", "outputs", "fn_name", "assert_case", "checker", "time_limit_s"))
    program = {"import_prefix": "import math", "test_code": "def check(f): assert f(1) == 1", "entry_point": "g"}
    assert parse_tests(json.dumps(absent | program)) == parse_tests(json.dumps(program))
    asserts = {"assert_case": ["assert f(1) == 1"]}
    assert parse_tests(json.dumps(absent | dict.fromkeys(program) | asserts)) == parse_tests(json.dumps(asserts))


def test_assertions_of_the_skywork_data() -> None:
    found = parsed({"assert_case": ["assert f(1) == 2", "assert f(2) == 3"]})
    assert [test.program for test in found.tests] == ["assert f(1) == 2", "assert f(2) == 3"]


def test_public_and_private_tests_of_livecodebench() -> None:
    one, two = ({"input": f"{n}\n", "output": f"{n}", "testtype": "stdin"} for n in (1, 2))
    for private in ([two], json.dumps([two]), packed([two])):
        found = parsed({"public_test_cases": json.dumps([one]), "private_test_cases": private, "metadata": "{}"})
        assert found.tests == (ProgramTest(stdin="1\n", stdout="1"), ProgramTest(stdin="2\n", stdout="2"))
    assert parsed([one]).tests == (ProgramTest(stdin="1\n", stdout="1"),)


def test_functional_tests_of_livecodebench() -> None:
    row = {"input": "[1, 2]\n3", "output": "true", "testtype": "functional"}
    found = parsed({"public_test_cases": [row], "metadata": json.dumps({"func_name": "g"})})
    assert (found.function, found.tests) == ("g", (CallTest(arguments=([1, 2], 3), returns=True),))


def test_a_pickle_that_would_run_something_is_refused() -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    blob = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(ValueError, match=r"builtins\.print"):
        parsed({"private_test_cases": blob})


def test_our_own_options() -> None:
    checker = "def check(input, expected, actual):\n    return True\n"
    options = {"checker": checker, "time_limit_s": 2, "memory_bytes": 1e9}
    found = parsed({"inputs": [""], "outputs": [""], **options})
    assert (found.checker, found.time_limit_s, found.memory_bytes) == (checker, 2, 1_000_000_000)
    assert parsed({"inputs": [""], "outputs": [""], "tolerance": 1e-6}).tolerance == 1e-6


CHECKER = "def check(input, expected, actual): return True"
PROGRAM = {"inputs": [""], "outputs": [""]}
CALL = {"fn_name": "f", "inputs": ["1"], "outputs": ["1"]}
LIVECODEBENCH = {"public_test_cases": [{"input": "", "output": "", "testtype": "stdin"}], "metadata": "{}"}
ASSERTS = {"assert_case": ["assert f(1) == 1"]}


@pytest.mark.parametrize("row", [PROGRAM, CALL, LIVECODEBENCH])
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, "livecodebench"),
        ({"comparison": None, "tolerance": None}, "livecodebench"),
        ({"comparison": "livecodebench"}, "livecodebench"),
        ({"comparison": "exact"}, "exact"),
        ({"tolerance": 1e-6}, "tolerance"),
        ({"tolerance": 1e-6, "comparison": "tolerance"}, "tolerance"),
        ({"checker": CHECKER}, "checker"),
        ({"checker": CHECKER, "comparison": "checker"}, "checker"),
    ],
)
def test_outputs_are_judged_by_livecodebenchs_rule_unless_a_row_asks_for_another(
    row: dict, options: dict, rule: str
) -> None:
    assert parsed(row | options).comparison == rule


def test_assertions_judge_by_themselves() -> None:
    assert parsed(ASSERTS).comparison == "assertions"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "no tests"),
        (7, "an object or a list"),
        ([], "empty"),
        ({"inputs": [], "outputs": []}, "the list of tests is empty"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs, 0 outputs"),
        ({"inputs": "1", "outputs": "1"}, "are lists"),
        ({"inputs": [{}], "outputs": ["1"]}, r"inputs\[0\] is a text"),
        ({"fn_name": "f", "inputs": ["nope"], "outputs": ["1"]}, "one JSON value a line"),
        ({"fn_name": 3, "inputs": ["1"], "outputs": ["1"]}, "fn_name is a text"),
        ({"test_code": "def check(candidate):\n    pass", "entry_point": "f"}, "asserts nothing"),
        ({"test_code": "def check(candidate):\n    assert 1", "entry_point": ""}, "entry_point is missing"),
        ({"test_code": "def check(", "entry_point": "f"}, "no Python"),
        ({"assert_case": []}, "empty"),
        ({"assert_case": ["f(1) == 2"]}, "asserts nothing"),
        ({"public_test_cases": "nonsense"}, "neither JSON nor"),
        ({"public_test_cases": [{"input": "1"}]}, "input, output, testtype"),
        ({"public_test_cases": [{"input": "1", "output": "1", "testtype": "x"}]}, "stdin or functional"),
        ({"public_test_cases": [{"input": "1", "output": "1", "testtype": "functional"}]}, "func_name"),
        ({"inputs": ["1"], "outputs": ["1"], "tolerance": 0}, "above 0"),
        ({"inputs": ["1"], "outputs": ["1"], "time_limit_s": "2"}, "time_limit_s is a number"),
        ({"inputs": ["1"], "outputs": ["1"], "checker": "x = 1"}, "no function check"),
        (ASSERTS | {"checker": CHECKER}, "a checker judges outputs; assertions judge themselves"),
        (ASSERTS | {"tolerance": 1}, "a tolerance judges outputs; assertions judge themselves"),
        (ASSERTS | {"comparison": "exact"}, "a comparison judges outputs; assertions judge themselves"),
        (PROGRAM | {"comparison": "close"}, "one of livecodebench, exact, tolerance, checker, found 'close'"),
        (PROGRAM | {"comparison": "assertions"}, "one of livecodebench, exact, tolerance, checker, found 'assertions'"),
        (PROGRAM | {"comparison": ["exact"]}, "one of livecodebench, exact, tolerance, checker"),
        (PROGRAM | {"comparison": ""}, "one of livecodebench, exact, tolerance, checker"),
        (PROGRAM | {"comparison": "exact", "tolerance": 1}, "comparison is exact, and the key tolerance"),
        (PROGRAM | {"comparison": "livecodebench", "checker": CHECKER}, "comparison is livecodebench, and the key"),
        (PROGRAM | {"comparison": "tolerance"}, "the key tolerance is missing"),
        (PROGRAM | {"comparison": "checker"}, "the key checker is missing"),
        (PROGRAM | {"tolerance": 1, "checker": CHECKER}, "two rules"),
    ],
)
def test_what_is_no_test_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(value)


def test_text_that_is_no_json_is_refused() -> None:
    for text in ("", "{", "[" * 100_000):
        with pytest.raises(ValueError, match="JSON"):
            parse_tests(text)
