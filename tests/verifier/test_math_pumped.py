"""Answers made to be slow: none holds up the verifier's own process, and none runs over its clock in the other."""

from __future__ import annotations

import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.math import exact
from leeway_rl.verifier.math.answer import MAX_SCANNED_CHARS, grade_math, quickly
from leeway_rl.verifier.math.symbolic import readable
from leeway_rl.verifier.math.work import OutOfWork, allowance
from leeway_rl.verifier.pool import GradeItem, GraderPool

from tests.speed import a_unit, seconds

FAMILIES = {
    # name: what opens, what stands in the middle, what closes; opening and closing are repeated
    "parentheses": ("(", "1", ")"),
    "open parentheses": ("(", "", ""),
    "fractions": (r"\frac{", "1", "}{2}"),
    "open fractions": (r"\frac{", "1", ""),
    "roots": (r"\sqrt{", "2", "}"),
    "roots without braces": (r"\sqrt", "2", ""),
    "root of a root": (r"\sqrt[", "2", "]{3}"),
    "towers": ("2^{", "2", "}"),
    "towers of letters": ("x^{", "x", "}"),
    "towers of e": ("e^{-", "1", "}"),
    "double superscripts": ("2^", "2", ""),
    "grouped double superscripts": ("1,000 ^", "1", ""),
    "subscripts": ("x_{", "1", "}"),
    "strokes": (r"1/2\; ", "1", ""),
    "bars": ("|", "x", "|"),
    "left without right": (r"\left", "", ""),
    "left and right": (r"\left(", "1", r"\right)"),
    "commas": ("1,", "1", ""),
    "ones": ("1 ", "1", ""),
    "equalities": ("=1", "", ""),
    "equations": ("x=1", "", ""),
    "relations": ("<", "x", ""),
    "chains": ("1<", "x", ""),
    "signs": ("√π", "", ""),
    "backslashes": ("\\\\\\\\", "", ""),
    "dollars": ("$ ", "", ""),
    "boxes": (r"\boxed{", "5", "}"),
    "percent": (r"5\% ", "", ""),
    "unions": (r"(1,2)\cup ", "(3,4)", ""),
    "sets": (r"\{", "1", r"\}"),
    "and": ("and ", "", ""),
    "thousands": ("1,000,", "000", ""),
    "units": (r"5\text{ cm}", "", ""),
    "letters in text": (r"1\text{a} \text{a} ", "@", ""),
    "text": (r"\text{a}", "", ""),
    "letters": ("a ", "@", ""),
    "sines": (r"\sin(", "x", ")"),
    "sines without parentheses": (r"\sin ", "x", ""),
    "sines under a stroke": (r"x^2/\sin ", "x", ""),
    "logarithms": (r"\log ", "2", ""),
    "logarithm of many": (r"\ln " + "cm" * 40, "", ""),
    "cosines": (r"\cos(3)", "", ""),
    "integral of many": (r"\int 2" + r"-0.5\;" * 40, "", ""),
    "sums": (r"\sum_{k=1}^{n}", "k", ""),
    "products": (r"\prod_{k=1}^{5}", "k", ""),
    "factorials": ("", "5", "!"),
    "factorial of many": ("22", "", "!"),
    "binomials": (r"\binom{", "4", "}{2}"),
    "matrices": (r"\begin{pmatrix}", "1", r"\end{pmatrix}"),
    "floors": (r"\lfloor ", "2", r"\rfloor "),
    "brackets": ("[1,", "2", "]"),
    "factors": ("(x+y)(x-1)", "", ""),
    "continued fractions": (r"\frac{1}{x+", "1", "}"),
    "words": ("hello ", "", ""),
    "relations joined by and": (r"x\ne 1 and ", r"x\ne 2", ""),
    "relations joined by or": ("1<x<2 or ", "x>3", ""),
    "calls": ("f(", "2", ")=1"),
}


def pumped(name: str, times: int) -> str:
    opening, middle, closing = FAMILIES[name]
    return rf"\boxed{{{opening * times}{middle}{closing * times}}}"


@pytest.fixture(scope="module")
def pool():
    with GraderPool(1, timeout_s=10.0) as pool:
        yield pool


@pytest.mark.parametrize("times", [8, 40, 150])
def test_no_pumped_answer_runs_over_its_clock(pool: GraderPool, times: int) -> None:
    golds = (r"\frac{1}{2}", "x+1", "(1,2)", "x=3")
    items = [
        GradeItem(ability="math", response=pumped(name, times), golds=(gold,), finished=True)
        for name in FAMILIES
        for gold in golds
    ]
    over = {
        (item.response[:60], item.golds): verdict
        for item, verdict in zip(items, pool.grade(items), strict=True)
        if verdict.kind in (VerdictKind.TIMEOUT, VerdictKind.ERROR)
    }
    assert not over


@pytest.mark.parametrize("boxed", [True, False])
def test_no_pumped_sentence_runs_over_its_clock(pool: GraderPool, boxed: bool) -> None:
    items = []
    for name in FAMILIES:
        said = f"So we find 3 and that the answer is {pumped(name, 40)[7:-1]}"
        response = rf"\boxed{{{said}}}" if boxed else said
        items.append(GradeItem(ability="math" if boxed else "solution", response=response, golds=("5",), finished=True))
    assert {verdict.kind for verdict in pool.grade(items)} <= {
        VerdictKind.CORRECT,
        VerdictKind.WRONG,
        VerdictKind.NO_ANSWER,
    }


@pytest.mark.parametrize("times", [12, 40, 400])
def test_no_pumped_answer_holds_up_the_process_that_is_not_killed(times: int) -> None:
    unit = a_unit()
    for name in FAMILIES:
        for response in (pumped(name, times), FAMILIES[name][0] * times + r"\boxed{5}", pumped(name, times) * 9):
            assert seconds(lambda said=response: quickly(said, ("1,2,3", "x=1", "ACD"), True)) < 40 * unit, name


HEAVY = {
    "powers": ",".join(f"(x+{n})^{{59}}" for n in range(40)),
    "the same in decimals": ",".join(f"{n}.0" for n in range(60)),
    "factorials": ",".join(f"{2000 + n}!" for n in range(60)),
    "big powers": ",".join(f"{n}^{{9999}}" for n in range(2, 52)),
    "products": "(x+y+z)(x+y-z)" * 25,
    "pairs": ",".join(f"({n}.0,{n})" for n in range(55)),
    "sets of sets": r"\{" + ",".join(rf"\{{{n}.0\}}" for n in range(50)) + r"\}",
    "holes": " and ".join(rf"x\ne {n}" for n in range(60)),
    "stripes": " or ".join(f"{n}<x<{n}.5" for n in range(60)),
}


@pytest.mark.parametrize("name", HEAVY)
def test_work_that_multiplies_is_left_to_the_process_that_can_be_killed(name: str) -> None:
    answer, unit = HEAVY[name][:490], a_unit()
    for gold in (answer.replace("1", "1.0")[:490], answer[::-1], *(other[:490] for other in HEAVY.values())):
        assert seconds(lambda due=gold: quickly(rf"\boxed{{{answer}}}", (due,), True)) < 40 * unit, gold


def test_a_long_text_after_the_reasoning_is_left_to_the_process_that_can_be_killed() -> None:
    assert quickly("a" * MAX_SCANNED_CHARS + r"\boxed{5}", ("5",), True) is None
    assert quickly("a" * MAX_SCANNED_CHARS + r"</think>\boxed{5}", ("5",), True) is not None


def test_an_allowance_ends_the_work_that_goes_beyond_it() -> None:
    with allowance(50_000):
        assert exact.read("(p+q)^{30}") is not None
    with pytest.raises(OutOfWork), allowance(1_000):
        exact.read("(r+s)^{30}")
    assert exact.read("(r+s)^{30}") is not None, "what was not finished is not kept"


@pytest.mark.parametrize(
    "answer",
    [
        r"\sqrt{2+\sqrt{2+\sqrt{2+\sqrt{2+\sqrt{2}}}}}",
        r"\cfrac{1}{1+\cfrac{1}{2+\cfrac{1}{3+\cfrac{1}{4+\cfrac{1}{5}}}}}",
        r"\frac{-b\pm\sqrt{b^2-4ac}}{2a}",
        "+".join(f"x^{{{n}}}" for n in range(25)),
        r"\begin{pmatrix}"
        + r"\\".join("&".join(rf"\frac{{{i}}}{{{i + j + 1}}}" for i in range(5)) for j in range(5))
        + r"\end{pmatrix}",
        r"\sin A\cos B\cos C+\cos A\sin B\cos C+\cos A\cos B\sin C-\sin A\sin B\sin C",
        r"\sum_{k=0}^{n}\binom{n}{k}\left(\frac{1}{2}\right)^{k}\left(\frac{1}{2}\right)^{n-k}",
        r"(-\infty,-3)\cup\left(-2,-\frac{1}{2}\right]\cup[0,1)\cup(1,2)\cup\{3\}\cup(5,\infty)",
        "2^{2^{2^{2}}}",
        r"\int_{0}^{1}\frac{\sqrt{1-x^2}}{1+x^2}\,dx+\int_{1}^{\infty}e^{-x^2}\,dx",
        r"|x-1|+|x-2|+|x-3|+|x-4|+|x-5|",
    ],
)
def test_what_answers_look_like_is_far_from_the_bounds(answer: str) -> None:
    assert readable(answer)
    assert grade_math(rf"\boxed{{{answer}}}", (answer,), True)[0] is VerdictKind.CORRECT
