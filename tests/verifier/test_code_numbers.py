"""Integers of tests may be longer than Python reads, up to a bound that is said."""

import json

import pytest
from leeway_rl.common.long_integers import MARK, loads
from leeway_rl.common.prompts import row_of
from leeway_rl.verifier.code.numbers import MAX_DIGITS, loads_whole, whole
from leeway_rl.verifier.code.tests import parse_tests
from leeway_rl.verifier.offline import read_row

from tests.speed import units

LONG = "1" + "0" * 4999 + "7"
VALUE = 10**5000 + 7


@pytest.mark.parametrize("digits", [1, 599, 600, 601, 1200, 1201, 5000, 30_000])
def test_a_long_integer_has_its_value(digits: int) -> None:
    text = "9" * digits
    assert whole(text) == 10**digits - 1
    assert whole(f"-{text}") == 1 - 10**digits
    assert whole(f"1{'0' * digits}") == 10**digits


def test_a_million_digits_are_read_in_seconds_and_more_are_refused() -> None:
    text = "7" * MAX_DIGITS
    assert units(lambda: whole(text)) < 200
    assert whole(text) % 9 == 7 * MAX_DIGITS % 9
    with pytest.raises(ValueError, match="1,000,001 digits; 1,000,000 are read"):
        loads_whole("[" + "7" * (MAX_DIGITS + 1) + "]")


def test_rows_carry_a_long_integer_by_its_digits() -> None:
    row = loads(f'{{"a": [1, -{LONG}], "b": 2}}')
    assert row == {"a": [1, {MARK: f"-{LONG}"}], "b": 2}
    assert loads_whole(json.dumps(row)) == {"a": [1, -VALUE], "b": 2}
    assert loads(LONG, long=str) == LONG


@pytest.mark.parametrize("digits", ["", "1_0", "0x1", 7, "- 1", "١a"])
def test_a_mark_that_is_no_integer_is_refused(digits: object) -> None:
    with pytest.raises(ValueError, match="a text of digits"):
        loads_whole(json.dumps({MARK: digits}))


FORMS = {
    "a list of arguments": '{"fn_name": "f", "inputs": [[%s]], "outputs": [%s]}',
    "a text": '{"fn_name": "f", "inputs": ["%s"], "outputs": ["%s"]}',
    "LiveCodeBench": '{"metadata": {"func_name": "f"}, "public_test_cases":'
    ' [{"input": "%s", "output": "%s", "testtype": "functional"}]}',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_text", [True, False])
def test_a_long_integer_in_the_tests_of_a_row_is_read(form: str, as_text: bool) -> None:
    tests = FORMS[form] % (LONG, LONG)
    line = '{"id": 1, "prompt": "p", "response": "r", "tests": %s}' % (json.dumps(tests) if as_text else tests)
    _, item = read_row(line.encode())
    (trained,) = row_of(loads(line), "p", "here").ground_truth
    for text in (*item.golds, trained):
        (test,) = parse_tests(text).tests
        assert (test.arguments, test.returns) == ((VALUE,), VALUE)


def test_a_long_gold_stays_as_it_is_written() -> None:
    _, item = read_row(b'{"id": 1, "response": "r", "answer": %s}' % LONG.encode())
    assert item.golds == (LONG,)
    for text in (LONG, f"[{LONG}]"):  # only a list of texts is alternatives
        row = row_of({"prompt": "p", "reward_model": {"ground_truth": text}}, "p", "here")
        assert row.ground_truth == (text,)


def test_programs_that_test_may_write_a_long_integer() -> None:
    assert parse_tests(json.dumps({"assert_case": [f"assert f() == {LONG}"]})).tests
    check = f"def check(candidate):\n    assert candidate() == {LONG}"
    assert parse_tests(json.dumps({"prompt": "def f():\n", "test": check, "entry_point": "f"})).tests


@pytest.mark.parametrize("key", ["time_limit_s", "memory_bytes", "tolerance"])
def test_a_limit_that_is_no_finite_number_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        parse_tests(f'{{"inputs": [""], "outputs": [""], "{key}": {LONG}}}')
