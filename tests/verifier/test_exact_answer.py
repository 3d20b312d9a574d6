"""Exact answers: letter by letter, whatever sets them."""

import json

import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.exact_answer import MAX_QUICK_CHARS, grade_exact, quickly_exact

CORRECT, WRONG, NO_ANSWER = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.NO_ANSWER


def kind(answer: str, *golds: str) -> VerdictKind:
    return grade_exact(rf"It is \boxed{{{answer}}}.", golds, True)[0]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("olleh", "olleh"),
        ("dog, cat", "dog, cat"),
        (r"\text{dog,  cat}", "dog, cat"),
        (r"$\text{Yes}$", "Yes"),
        (r"\mathrm{Yes}", r"\text{Yes}"),
        (" 6*(98 - 54) - 34 - 66 ", "6*(98 - 54) - 34 - 66"),
        ("85", "85"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\nb", "a b"),
        (r"\{1\}", r"\{1\}"),
        (r"\text{a} and \text{b}", r"\text{a} and \text{b}"),
    ],
)
def test_what_is_written_alike_is_equal_however_it_is_set(answer, gold) -> None:
    assert kind(answer, gold) is CORRECT
    assert kind(gold, answer) is CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("hello", "olleh"),
        ("abc", "cba"),
        ("cat, dog", "dog, cat"),
        ("eYs", "Yes"),
        ("yes", "Yes"),
        ("164", "6*(98 - 54) - 34 - 66"),
        ("6*(98-54)-34-66", "6*(98 - 54) - 34 - 66"),
        ("25+60", "85"),
        ("085", "85"),
        ("85.0", "85"),
        ("8 5", "85"),
        (r"\text{a} and \text{b}", "a} and \\text{b"),
    ],
)
def test_what_has_the_same_value_or_the_same_letters_is_not_equal(answer, gold) -> None:
    assert kind(answer, gold) is WRONG


def test_golds_are_alternatives_and_the_last_box_counts() -> None:
    assert kind("six", "6", "six") is CORRECT
    assert grade_exact(r"\boxed{no} and \boxed{yes}", ("yes",), True)[0] is CORRECT
    assert grade_exact(r"\boxed{no} and \boxed{yes}", ("no,yes",), True)[0] is WRONG


@pytest.mark.parametrize(
    ("response", "finished", "why"),
    [
        (r"\boxed{yes}", False, "truncated"),
        ("yes", True, "nothing boxed"),
        (r"\boxed{ }", True, "empty"),
        (r"<think>\boxed{yes}", True, "the reasoning never closes"),
    ],
)
def test_a_response_without_an_answer_has_none(response, finished, why) -> None:
    assert grade_exact(response, ("yes",), finished) == (NO_ANSWER, why)


def test_a_long_response_is_left_to_a_process_that_can_be_killed() -> None:
    long = "x" * MAX_QUICK_CHARS + r"\boxed{yes}"
    assert quickly_exact(long, ("yes",), True) is None
    assert grade_exact(long, ("yes",), True)[0] is CORRECT


def test_the_cases_that_are_no_mathematics(tmp_path) -> None:
    """Words reversed and expressions for a target, as rows of the command."""
    from leeway_rl.verifier.offline import read_row

    for answer, gold, due in [
        ("stressed", "desserts", WRONG),
        ("deerssst", "desserts", WRONG),
        ("desserts", "desserts", CORRECT),
        ("309", "94*4 - 61 - 6", WRONG),
        ("94*4 - 61 - 6", "94*4 - 61 - 6", CORRECT),
    ]:
        row = {"id": 1, "ability": "exact", "response": rf"\boxed{{{answer}}}", "answer": gold}
        _, item = read_row(json.dumps(row).encode())
        assert grade_exact(item.response, item.golds, item.finished)[0] is due, (answer, gold)


def test_an_answer_that_composes_slowly_is_left_to_a_process_that_can_be_killed() -> None:
    response = r"\boxed{a" + "\u0300\u0327" * 50_000 + "}"
    assert quickly_exact(response, ("a",), True) is None
