"""Outputs and values are judged by the rule that the row names, and LiveCodeBench's is what its harness does."""

import json
import math
from collections import OrderedDict, defaultdict, deque
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.common.sandbox.sandboxed.plain import Packer
from leeway_rl.verifier.code.compare import Comparison, same_output, same_value

from tests.speed import units

LIVECODEBENCH, EXACT, TOLERANCE = Comparison.LIVECODEBENCH, Comparison.EXACT, Comparison.TOLERANCE

EQUAL = [
    *[("5\n", "5.0\n"), ("0.50", "0.5"), ("3.0", "3"), ("1  2   3 ", "1 2 3"), ("a b ", "a b"), ("  a b", "a b")],
    *[("1e3", "1000"), ("-0", "0"), ("1\n2\n", "1\n2"), ("\n\n7\n\n", "7"), ("nan", "nan"), ("inf", "Infinity")],
    *[("007", "7"), ("+7", "7"), ("3.14159265358979", "3.141592653589790"), ("1\t2", "1 2"), ("", ""), (" ", "")],
    *[("1_000", "1000"), ("1\r\n2\r\n", "1\n2"), ("x\n1 2", "x\n1.0 2.0"), ("9" * 5000, "9" * 5000 + ".0")],
    *[("1e999999999", "10e999999998"), ("0e99999", "0"), ("٣", "3")],
]
UNEQUAL = [
    *[("a  b", "a b"), ("yes\n", "YES\n"), ("0.1", "0.10000000001"), ("1 x", "1.0 x"), ("1\n\n2", "1\n2")],
    *[("1 2", "1\n2"), ("12", "1 2"), ("7,", "7"), ("True", "true"), ("a\tb", "a b"), ("0x10", "16")],
    *[("nan 1", "nan 1.0"), ("sNaN", "1"), ("sNaN 1", "sNaN 1.0"), ("1 2 3", "1 2"), ("1", "1 2"), ("", "0")],
    *[("1e99999999999999999999", "1e99999999999999999999.0"), ("0.3333333333333333", "0.33333333333333333")],
    *[("1e999999999", "1"), ("-1", "1"), ("1 ", ""), ("\ud800", "1")],
]


@pytest.mark.parametrize(("actual", "expected"), EQUAL)
def test_what_livecodebench_takes_for_equal(actual: str, expected: str) -> None:
    assert same_output(actual, expected, LIVECODEBENCH)
    assert same_output(expected, actual, LIVECODEBENCH)


@pytest.mark.parametrize(("actual", "expected"), UNEQUAL)
def test_what_livecodebench_takes_for_different(actual: str, expected: str) -> None:
    assert not same_output(actual, expected, LIVECODEBENCH)
    assert not same_output(expected, actual, LIVECODEBENCH)


def reference(actual: str, expected: str) -> bool:
    """The rule, once more and plainly."""
    mine, due = ([line.strip() for line in text.strip().split("\n")] for text in (actual, expected))
    if len(mine) != len(due):
        return False
    for a, b in zip(mine, due, strict=True):
        if a == b:
            continue
        try:
            numbers = [[Decimal(word) for word in line.split()] for line in (a, b)]
            if len(numbers[0]) != len(numbers[1]) or any(x != y for x, y in zip(*numbers, strict=True)):
                return False
        except InvalidOperation:
            return False
    return True


SMALL = [
    "1",
    "1.0",
    "01",
    "+1",
    "10e-1",
    "0",
    "-0",
    "0e5",
    ".5",
    "0.5",
    "1.",
    "1_0",
    "10",
    "1__0",
    "0x1",
    "٣",
    "1,",
    "x",
]
LARGE = ["1e999999999", "1e9999999999999999999", "inf", "-inf", "Infinity", "nan", "sNaN", "9" * 40, "9" * 40 + ".0"]
WORDS = st.sampled_from(SMALL + LARGE)
BLANKS = st.sampled_from([" ", "  ", "\t", "\n", "\n\n", "\r\n", " \n", "\x0c", "\u00a0", "\u2028", ""])
TEXTS = st.lists(WORDS | BLANKS, max_size=7).map("".join)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3)


@settings(max_examples=1500, deadline=None)
@given(TEXTS, TEXTS, PAIRS, BLANKS, BLANKS)
def test_outputs_are_equal_where_the_rule_says_so(
    one: str, other: str, pairs: list[tuple[str, str]], a: str, b: str
) -> None:
    close = (f"{a} ".join(x for x, _ in pairs), f"{b} ".join(y for _, y in pairs))
    for actual, expected in ((one, other), close, (one, one + b)):
        same = same_output(actual, expected, LIVECODEBENCH)
        assert same is reference(actual, expected)
        assert same or not same_output(actual, expected, EXACT)
        assert same_output(actual, expected, TOLERANCE, 1e-9) or not same


@pytest.mark.parametrize(
    ("actual", "expected", "tolerance", "same"),
    [
        ("1 2\n3", "1 2  \n3\n\n", None, True),
        ("1  2", "1 2", None, False),
        ("1.0", "1", None, False),
        ("0.30000000000000004", "0.3", None, False),
        ("0.30000000000000004", "0.3", 1e-9, True),
        ("1.5 nan", "1.5 nan", 1e-6, True),
        ("x 1.0001", "x 1", 1e-3, True),
        ("x 1.01", "x 1", 1e-3, False),
        ("nan", "1", 1e-3, False),
        ("inf", "1", 1e-3, False),
        ("9" * 500 + ".0", "9" * 500, 1e-3, True),
    ],
)
def test_exact_takes_text_as_it_stands_and_tolerance_lets_numbers_differ(
    actual: str, expected: str, tolerance: float | None, same: bool
) -> None:
    rule = TOLERANCE if tolerance else EXACT
    assert same_output(actual, expected, rule, tolerance) is same


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ("1 " * 5_000_000, "2"),
        ("\n" * 5_000_000 + "x", "x\n" * 3 + "y"),
        ("1\n" * 5_000_000, "1"),
        ("9" * 10_000_000, "1"),
        ("1e999999999999999999", "1e-999999999999999999"),
        ("1" + "0" * 1_000_000, "1e1000000"),
        ("0." + "0" * 1_000_000 + "1", "1e-1000001"),
    ],
    ids=range(7),
)
def test_an_output_of_any_size_is_compared_in_proportion(actual: str, expected: str) -> None:
    def compare() -> None:
        same_output(actual, expected, LIVECODEBENCH)
        same_output(actual, expected, TOLERANCE, 1e-6)

    assert units(compare) < 60


# --- values ----------------------------------------------------------------------------------------------------------


def opaque(value: Any) -> Any:
    return ["mine", 0]


def same(value: Any, expected: Any, rule: Comparison = LIVECODEBENCH) -> bool:
    packer = Packer(opaque, {})
    ref, nodes = json.loads(json.dumps([packer.pack(value), packer.nodes]))
    return same_value(nodes, ref, expected, rule)


@pytest.mark.parametrize(
    ("value", "expected", "by_livecodebench", "by_exact"),
    [
        ((1, 2), [1, 2], True, True),
        ([(1, 2)], [[1, 2]], False, True),
        ({1: "a"}, {"1": "a"}, False, True),
        ({"a": (1,)}, {"a": [1]}, False, True),
        ({None: 1, True: 2}, {"null": 1, "true": 2}, False, True),
        (1, 1.0, True, True),
        (True, 1, True, True),
        ("1", 1, False, False),
        (None, 0, False, False),
        ({1, 2}, [1, 2], False, False),
        (deque([1]), [1], False, False),
        (range(2), [0, 1], False, False),
        (b"a", "a", False, False),
        (OrderedDict(a=1), {"a": 1}, True, True),
        (defaultdict(int, a=1), {"a": 1}, True, True),
        (10**400, 10**400, True, True),
        (10**400, 1e308, False, False),
        (Decimal("0.5"), 0.5, True, False),
        (Decimal("sNaN"), 0.5, False, False),
        (Fraction(1, 2), 0.5, True, False),
        ([Fraction(4, 2)], [2], True, False),
        (Fraction(1, 3), 1 / 3, False, False),
        (1 + 0j, 1, True, False),
        (float("nan"), float("nan"), False, False),
        (object(), 1, False, False),
    ],
)
def test_values_are_compared_as_python_does_or_by_their_json_form(
    value: Any, expected: Any, by_livecodebench: bool, by_exact: bool
) -> None:
    assert (same(value, expected), same(value, expected, EXACT)) == (by_livecodebench, by_exact)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, -0.0, 1e308, math.inf, 2**53 + 1, 10**30, "1", "a", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["1", "a", "true"]), inner, max_size=2),
    max_leaves=6,
)
CHANGES = {"float": float, "Decimal": Decimal, "Fraction": Fraction, "complex": complex, "tuple": tuple, "key": None}


def changed(value: Any, how: str, depth: int) -> Any:
    """``value`` with something in it of another type, from ``depth`` on."""
    if isinstance(value, list):
        made = [changed(item, how, depth - 1) for item in value]
        return tuple(made) if how == "tuple" and depth <= 0 else made
    if isinstance(value, dict):
        made = {key: changed(item, how, depth - 1) for key, item in value.items()}
        return {1 if how == "key" and key == "1" else key: item for key, item in made.items()}
    if isinstance(value, (int, float)) and how in ("float", "Decimal", "Fraction", "complex") and depth <= 0:
        return CHANGES[how](value) if math.isfinite(value) else value
    return value


@settings(max_examples=1000, deadline=None)
@given(JSON, JSON, st.sampled_from([*CHANGES, "nothing"]), st.integers(0, 2))
def test_values_are_equal_where_python_says_so(one: Any, other: Any, how: str, depth: int) -> None:
    value = changed(json.loads(json.dumps(one)), how, depth)
    for expected in (one, other):
        assert same(value, expected) is (([*value] if isinstance(value, tuple) else value) == expected)


@pytest.mark.parametrize(
    "node",
    [
        ["Fraction", "1e999999999"],
        ["Fraction", "0/0"],
        ["Fraction", "1/00"],
        ["Fraction", "9" * 1_000_000],
        ["Decimal", "5"],
        ["Decimal", "1e999999999999999999"],
        ["Decimal", "9" * 1_000_000],
        ["int", "0x" + "f" * 10_000_000],
    ],
    ids=range(8),
)
def test_a_number_made_by_hand_costs_no_more_than_its_text(node: list[Any]) -> None:
    dues = (2, 0.5, 10**5000, 7 << 5_000_000)
    assert units(lambda: [same_value([node], [0], due, LIVECODEBENCH) for due in dues]) < 60
    assert not any(same_value([node], [0], due, LIVECODEBENCH) for due in dues)
