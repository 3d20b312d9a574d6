"""The report's four steps against plain Math-Verify, called directly."""

import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.math.answer import grade_math
from leeway_rl.verifier.math.report import grade_report

CORRECT, WRONG, NO_ANSWER = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.NO_ANSWER

RESPONSES = [
    (r"\boxed{5}", "5"),
    (r"\boxed{5}", "6"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    (r"\boxed{\frac12}", r"\frac{1}{2}"),
    (r"\boxed{0.333333}", r"\frac13"),
    (r"So the answer is $\boxed{2\sqrt{3}}$.", r"\sqrt{12}"),
    (r"The final answer is $7$. I hope it is correct. \boxed{8}", "7"),
    (r"The final answer is $7$. I hope it is correct. \boxed{8}", "8"),
    ("The answer is 5.", "5"),
    ("nothing to see", "5"),
    ("", "5"),
    (r"\boxed{}", "5"),
    (r"\boxed{3}. So \boxed{5}", "5"),
    (r"\boxed{3}. So \boxed{5}", "3,5"),
    (r"\boxed {5}", "5"),
    (r"\boxed{10\,000}", "10000"),
    (r"\boxed{i(2-i)}", "1+2i"),
    (r"\boxed{x=3}", "3"),
    (r"\boxed{y=3}", "x=3"),
    (r"\boxed{5 \text{ cm}}", "5"),
    (r"\boxed{5 \text{ m}}", r"5 \text{ cm}"),
    (r"\boxed{1/2004!}", "1/2006!"),
    (r"\boxed{(1,2)}", "(1,2)"),
    (r"\boxed{\{1,2\}}", r"\{2,1\}"),
    (r"\boxed{(-\infty,2)\cup(3,\infty)}", r"(3,\infty)\cup(-\infty,2)"),
    (r"\boxed{0 < x < 1}", "(0,1)"),
    (r"\boxed{\begin{pmatrix}1&2\\3&4\end{pmatrix}}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    (r"\boxed{x^2+2x+1}", "(x+1)^2"),
    (r"\boxed{\text{C}}", "C"),
    (r"\boxed{(C)}", "C"),
    (r"\boxed{\text{No solution}}", r"\text{No solution}"),
    (r"\boxed{12.5\%}", "0.125"),
    (r"\boxed{1,2,\ldots,n}", r"1,3,5,\ldots"),
    (r"\boxed{\log_2 8}", "3"),
    (r"\boxed{f(x)=2x}", "2x"),
    ("<think>\\boxed{4}</think>\\boxed{5}", "5"),
    ("<think>\\boxed{5}</think>The answer is 4.", "5"),
]


@pytest.mark.parametrize(("response", "gold"), RESPONSES)
def test_a_verdict_is_that_of_plain_math_verify_on_what_follows_the_reasoning(response: str, gold: str) -> None:
    from math_verify import parse, verify

    answer = parse(response.split("</think>")[-1])
    if not answer:
        expected = NO_ANSWER
    else:
        same = gold in answer or verify(parse(rf"\boxed{{{gold}}}"), answer)
        expected = CORRECT if same else WRONG
    assert grade_report(response, (gold,), True)[0] is expected


def test_a_response_that_is_truncated_or_still_reasons_has_no_answer() -> None:
    assert grade_report(r"<think>a</think>\boxed{5}", ("5",), False)[0] is NO_ANSWER
    assert grade_report(r"<think>\boxed{5}", ("5",), True)[0] is NO_ANSWER
    assert grade_report(r"\boxed{5}", ("5",), True, reasoning_open=True)[0] is NO_ANSWER
    assert grade_report(r"a</think>\boxed{5}", ("5",), True, reasoning_open=True)[0] is CORRECT


def test_golds_are_alternatives_and_one_is_due() -> None:
    assert grade_report(r"\boxed{5}", ("4", "", "5.0"), True)[0] is CORRECT
    assert grade_report(r"\boxed{5}", ("4", "6"), True)[0] is WRONG
    with pytest.raises(ValueError, match="no gold"):
        grade_report(r"\boxed{5}", (" ",), True)


@pytest.mark.parametrize(
    ("response", "gold", "report", "ours"),
    [
        (r"\boxed{8}. The final answer is $7$. I hope it is correct.", "7", CORRECT, WRONG),
        ("The answer is 5.", "5", CORRECT, NO_ANSWER),
        (r"\boxed{10\,000}", "10000", WRONG, CORRECT),
        (r"\boxed{1/2004!}", "1/2006!", CORRECT, WRONG),
    ],
)
def test_our_rules_are_not_part_of_it(response: str, gold: str, report: VerdictKind, ours: VerdictKind) -> None:
    assert grade_report(response, (gold,), True)[0] is report
    assert grade_math(response, (gold,), True)[0] is ours
