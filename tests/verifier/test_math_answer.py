"""The four steps, against verdicts worked out by hand."""

import signal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier import boxes
from leeway_rl.verifier.clocked import clocked
from leeway_rl.verifier.graders import judge_of
from leeway_rl.verifier.math.answer import MAX_ANSWER_CHARS, grade_math, grade_solution, quickly_solution

CORRECT, WRONG, NO_ANSWER = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.NO_ANSWER


def kind(response: str, *golds: str, finished: bool = True, **options: object) -> VerdictKind:
    return grade_math(response, golds, finished, **options)[0]  # type: ignore[arg-type]


def extracted(response: str, *, finished: bool = True) -> str | None:
    return boxes.answer_in(response, finished=finished, reasoning_open=False, read=boxes.boxed)[0]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("5", "5"),
        (" 5\n", "5"),
        ("007", "7"),
        ("+5", "5"),
        ("-0", "0"),
        ("5.0", "5"),
        ("1,000", "1000"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\frac12", "0.5"),
        ("1/2", r"\frac{1}{2}"),
        (r"\frac{2}{4}", r"\frac{1}{2}"),
        ("x=3", "3"),
        ("3", "x=3"),
        ("5,3", "3,5"),
        (r"\{3,5\}", "3,5"),
        (r"2\sqrt{3}", r"\sqrt{12}"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"5 \text{ cm}", "5"),
        (r"90^\circ", "90"),
        ("$7$", "7"),
        (r"\text{C}", "C"),
        (r"\boxed{5}", "5"),
        ("no solution", "no solution"),
    ],
)
def test_equal_answers_are_correct(answer: str, gold: str) -> None:
    assert kind(rf"So the answer is $\boxed{{{answer}}}$.", gold) is CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("5", "6"),
        ("5", "-5"),
        ("9" * 40, "9" * 39 + "8"),
        (r"\frac{1}{2}", r"\frac{1}{3}"),
        ("x=3", "4"),
        ("3", "3,5"),
        ("no solution", "5"),
        ("A", "C"),
    ],
)
def test_different_answers_are_wrong(answer: str, gold: str) -> None:
    assert kind(rf"\boxed{{{answer}}}", gold) is WRONG


def test_any_of_several_golds_will_do() -> None:
    assert kind(r"\boxed{0.5}", "7", r"\frac{1}{2}") is CORRECT
    assert kind(r"\boxed{7}", r"\frac{1}{2}", "7") is CORRECT
    assert kind(r"\boxed{8}", r"\frac{1}{2}", "7") is WRONG


def test_a_response_without_gold_is_refused_rather_than_wrong() -> None:
    with pytest.raises(ValueError, match="no gold"):
        kind(r"\boxed{5}")
    with pytest.raises(ValueError, match="no gold"):
        kind(r"\boxed{5}", " ")


def test_a_truncated_response_has_no_answer() -> None:
    assert kind(r"<think>a</think> \boxed{5}", "5", finished=False) is NO_ANSWER
    assert extracted(r"\boxed{5}", finished=False) is None


def test_the_answer_follows_the_last_close_of_the_reasoning() -> None:
    assert extracted(r"<think>\boxed{1}</think>\boxed{2}") == "2"
    assert extracted(r"<think>\boxed{1}</think>\boxed{2}</think>\boxed{3}") == "3"
    assert extracted(r"\boxed{1}</think>\boxed{2}") == "2", "the prompt opened it"


def test_reasoning_that_never_closes_has_no_answer() -> None:
    assert kind(r"<think>\boxed{5}", "5") is NO_ANSWER
    assert kind(r"<think>a</think>b<think>\boxed{5}", "5") is NO_ANSWER
    assert kind(r"\boxed{5}", "5", reasoning_open=True) is NO_ANSWER
    assert kind(r"a</think>\boxed{5}", "5", reasoning_open=True) is CORRECT


def test_a_box_inside_the_reasoning_is_no_answer() -> None:
    assert kind(r"<think>\boxed{5}</think> The answer is 5.", "5") is NO_ANSWER


def test_a_response_without_tags_is_all_answer() -> None:
    assert kind(r"First \boxed{4}? No, it is surely \boxed{5}.", "5") is CORRECT


@pytest.mark.parametrize("response", ["", "The answer is 5.", r"\boxed{}", r"\boxed{ }", r"\boxed{5", r"\boxed{5\}"])
def test_nothing_boxed_is_no_answer(response: str) -> None:
    assert kind(response, "5") is NO_ANSWER


def test_the_box_wins_over_the_prose_around_it() -> None:
    assert kind(r"\boxed{8}. The final answer is $7$. I hope it is correct.", "7") is WRONG
    assert kind(r"The final answer is $7$. I hope it is correct. \boxed{8}", "8") is CORRECT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{3} and \boxed{5}", "3,5"),
        (r"$\boxed{3}$, $\boxed{5}$", "3,5"),
        (r"\(x = \boxed{3}\) \text{ or } \(x = \boxed{5}\)", "3,5"),
        (r"\boxed{5} \boxed{5}", "5"),
        (r"\boxed{3} would be wrong, so \boxed{5}", "5"),
        (r"$\boxed{3}$ blah $\boxed{5}$", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{x = \boxed{5}}", r"x = \boxed{5}"),
        (r"{ \boxed {5}", "5"),
        (r"} \boxed{5} }", "5"),
        (r"\boxed{5} then \boxed{6", "5"),
    ],
)
def test_the_last_box_and_those_joined_to_it_are_the_answer(text: str, answer: str) -> None:
    assert extracted(text) == answer


@settings(max_examples=60, deadline=None)
@given(st.from_regex(r"[+-]?[0-9]{1,40}", fullmatch=True), st.from_regex(r"[+-]?[0-9]{1,3}", fullmatch=True))
@example("-0", "+000")
@example("0012", "12")
@example("12", "12")
def test_plain_integers_get_the_verdict_of_math_verify(answer: str, gold: str) -> None:
    from math_verify import parse, verify

    bare = verify(parse(rf"\boxed{{{gold}}}"), parse(rf"\boxed{{{answer}}}"))
    assert (kind(rf"\boxed{{{answer}}}", gold) is CORRECT) == bare


def test_an_endless_comparison_ends_at_the_clock_and_gives_back_a_foreign_alarm() -> None:
    before = signal.getsignal(signal.SIGALRM)
    foreign_s, foreign_interval_s = signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        endless = r"\boxed{\binom{10^9}{5\cdot 10^8}}"
        assert clocked(0.5, lambda: grade_math(endless, ("4",), True))[0] is VerdictKind.TIMEOUT
        left_s = signal.getitimer(signal.ITIMER_REAL)[0]
        assert 40 < left_s < 60
        assert signal.getsignal(signal.SIGALRM) is before
    finally:
        signal.setitimer(signal.ITIMER_REAL, foreign_s, foreign_interval_s)


def test_a_longer_answer_than_any_gold_is_wrong_unparsed() -> None:
    assert kind(rf"\boxed{{{'1+' * MAX_ANSWER_CHARS}1}}", "4") is WRONG


@pytest.mark.parametrize("opening", ["{", r"\boxed{"])
def test_a_megabyte_of_braces_is_scanned_in_passing(opening: str) -> None:
    half = (1 << 19) // len(opening)
    assert kind(r"\boxed{" + opening * half + "}" * half + "}", "4") is WRONG
    assert kind(opening * half + r"\boxed{4}", "4") is CORRECT


def test_an_unknown_ability_names_itself_and_the_known_ones() -> None:
    with pytest.raises(ConfigError, match='"poetry"; known abilities: code, exact, math'):
        judge_of("poetry")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"So \fbox{5}.", "5"),
        (r"So $\boxed 57$.", "57"),
        (r"So $\boxed-3/4$", "-3/4"),
        (r"So \boxed C", "C"),
        (r"First \boxed{4}, in the \boxed form.", "4"),
        (r"So \fbox 5", None),
    ],
)
def test_a_box_in_other_words_is_a_box(response, answer):
    assert extracted(response) == answer


@pytest.mark.parametrize(
    ("solution", "gold", "kind"),
    [
        (r"Six of 36 outcomes, so $\frac{1}{6}$.", r"\frac{1}{6}", VerdictKind.CORRECT),
        (r"$360 = 2^3 \cdot 3^2 \cdot 5$ has $4 \cdot 3 \cdot 2 = 24$ divisors.", "24", VerdictKind.CORRECT),
        ("There are 24.", "24", VerdictKind.CORRECT),
        ("There are 25.", "24", VerdictKind.WRONG),
        ("It is so.", "24", VerdictKind.WRONG),
        (r"There are 24: \boxed{25}.", "24", VerdictKind.WRONG),
        (r"There are 25: \boxed{24}.", "24", VerdictKind.CORRECT),
        ("", "24", VerdictKind.NO_ANSWER),
    ],
)
def test_a_written_solution_answers_by_its_box_or_else_in_prose(solution, gold, kind):
    assert grade_solution(solution, (gold,), True)[0] is kind
    quick = quickly_solution(solution, (gold,), True)
    assert quick is None or quick[0] is kind
