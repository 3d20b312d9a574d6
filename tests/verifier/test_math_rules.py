"""The rules of docs/reference/math-rules.md, one example and more a rule; and exact arithmetic against Math-Verify."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.math import exact, units
from leeway_rl.verifier.math.answer import grade_math, quickly
from leeway_rl.verifier.math.leaves import exactly

from tests import speed

from .golds_and_answers import cases

CORRECT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG

RIGHT = {
    "thousands": [
        ("10000", r"10\,000"),
        ("10,000", "10000"),
        ("10{,}000", "10000"),
        ("1000", "1 000"),
        (r"\{1234, 5\}", "1,234, 5"),
    ],
    "decimal comma": [("2.5", "2,5"), ("1,22", "1.22"), ("0,111", "0.111")],
    "mixed numbers": [(r"\frac{7}{3}", r"2\frac{1}{3}"), (r"\frac{7}{3}", "2 1/3"), (r"1\frac12", "1.5")],
    "repeating decimals": [(r"\frac13", r"0.\overline{3}"), (r"0.1\overline{6}", "1/6"), ("5", r"4.\overline{9}")],
    "plain words": [(r"\frac{\pi}{2}", "pi/2"), (r"\sqrt{3}", "sqrt(3)"), ("e^{16}", "exp(16)"), ("1000000", "1e6")],
    "complex numbers": [("1+2i", "i(2-i)"), ("5", "(2+i)(2-i)"), (r"\frac{1+i}{2}", "0.5+0.5i")],
    "percent": [(r"28\%", "28"), (r"28\%", "0.28"), ("0.125", r"12.5\%"), (r"12.5\%", "12.5"), (r"50\%", r"\frac12")],
    "units": [
        ("5", r"5\text{ cm}"),
        (r"5\text{ cm}", "5"),
        (r"5 \text{ m}", "500 cm"),
        (r"60\text{ km/h}", r"60 \text{ kilometers per hour}"),
    ],
    "angles": [(r"90^\circ", "90"), (r"90^\circ", r"\frac{\pi}{2}"), (r"\frac12", r"\cos 60^\circ")],
    "money": [("3.50", r"\$3.50"), ("5", "5 dollars")],
    "several answers": [
        ("3,5", "5,3"),
        (r"\{3,5\}", "5, 3"),
        (r"3 \text{ and } 5", "5,3"),
        ("1,2", r"\{2,1,1\}"),
        (r"1,-1", r"\pm 1"),
    ],
    "tuples": [("(1,2)", "(1.0, 2)"), ("(1,2)", "1,2"), ("(1,2),(3,4)", "(3,4),(1,2)"), ("(x,y)=(1,2)", "(1,2)")],
    "intervals": [
        ("[0,1)", "[0, 1.0)"),
        ("(0,1)", "0<x<1"),
        (r"x\in[-2,7]", r"-2\le x\le 7"),
        (r"x\ne 3", r"(-\infty,3)\cup(3,\infty)"),
        (r"(-\infty,1)\cup(2,3)", r"(2,3)\cup(-\infty,1)"),
        (r"\mathbb{R}", r"(-\infty,\infty)"),
    ],
    "equations": [
        ("3", "x=3"),
        ("x=3", "3"),
        ("x=3,y=5", "y=5,x=3"),
        ("x=3,y=5", "(3,5)"),
        ("11", r"x\approx 11"),
        ("y=2x+1", "2x-y+1=0"),
        ("x=3 or x=5", "5,3"),
        ("7:32", "S:T=7:32"),
        ("5", "2+3=5"),
        ("30", r"\frac12\text{ hour}=30"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&\frac12\\0&1\end{pmatrix}", r"\left[\begin{array}{cc}1&0.5\\0&1\end{array}\right]")
    ],
    "choices": [
        ("C", r"\text{(C)}"),
        ("C", r"\textbf{(C)}\ 12"),
        (r"\textbf{(C)}\ 12", "C"),
        ("C", "Option C"),
        ("(C) 12", "12"),
    ],
    "words": [
        (r"\text{Even}", "even"),
        ("Yes", r"\text{yes.}"),
        (r"\emptyset", "no solution"),
        ("no solution", r"\{\}"),
    ],
    "bases": [("204_5", "204_{5}"), ("1010_2", "10_{10}"), ("204_5", "204")],
    "sequences": [(r"1,2,\ldots,n", r"1, 2, \dots, n")],
    "a formula in a sentence": [("5", "The answer is $5$."), (r"\frac12", r"Therefore \(\frac{1}{2}\)")],
}

DIFFERENT = {
    "thousands": [("1000", "1"), ("1,234", "234")],
    "mixed numbers": [(r"1\frac12", r"\frac{11}{2}")],
    "percent": [(r"25\%", "2.5"), (r"25\%", r"0.25\%")],
    "units": [
        (r"5\text{ cm}", r"5\text{ m}"),
        (r"5\text{ cm}", r"5\text{ s}"),
        ("2m", "2"),
        ("5", r"5 \text{ (or 4)}"),
        ("5", r"5\text{ 6}"),
    ],
    "several answers": [("5", "3,5"), ("5", r"3 \text{ or } 5"), ("5", r"\pm 5"), ("3,5", "3"), ("5", "1,2,3,4,5")],
    "tuples": [
        ("(1,2)", "(2,1)"),
        ("(1,2)", "2,1"),
        (r"\{1,2\}", "(1,2)"),
        ("(1,2)", r"\{1,2\}"),
        ("(1,2)", "(1,2,3)"),
    ],
    "intervals": [
        ("[0,1)", "[0,1]"),
        ("(0,1)", r"0<x\le 1"),
        ("x<3", "y<3"),
        ("x<3", "x>3"),
        ("5", "x>5"),
        ("5", r"\neq 5"),
        ("5", "[0,10]"),
    ],
    "equations": [
        ("x=3", "y=3"),
        ("5", "4=5"),
        ("0", "x^2-4=0"),
        ("2", "x^2-4=0"),
        ("y=2x", "0=0"),
        ("x^2+1=0", "x^2+2=0"),
        (r"\sin x+2=0", r"\sin x+3=0"),
        ("x=3,y=5", "5,3"),
        ("x+y=1", "1"),
        ("a+3z=0", "0"),
        ("y=2x+1", "y=2x-1"),
    ],
    "matrices": [(r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", r"\begin{pmatrix}1&0\\0&0\end{pmatrix}")],
    "choices": [
        ("A", "B"),
        ("A", "(A) or (B)"),
        ("A", "(A)(B)"),
        ("A", r"\text{A or B}"),
        ("A", "ABCD"),
        ("(C) 12", "(C) 13"),
    ],
    "words": [("Yes", "No"), ("Yes", "yes and no"), ("no solution", "5")],
    "bases": [("204_5", "204_6")],
    "sequences": [(r"1,2,\ldots,n", r"1,3,5,\ldots"), ("5", "5...")],
    "small differences": [
        ("1/2004!", "1/2006!"),
        ("2^{-99}", "2^{-98}"),
        ("0.0000001", "0.0000002"),
        (r"\pi\cdot 2^{-99}", r"\pi\cdot 2^{-98}"),
        ("2^{64}", "18446744073709551617"),
        ("1/3", "0.33"),
        (r"\pi", r"\frac{22}{7}"),
        (r"\frac{\sqrt[3]{2}}{2^{90}}", r"\frac{\sqrt[3]{2}}{2^{91}}"),
    ],
    "steps and hints": [
        ("5", r"6 \to 5"),
        ("5", r"\cancel{5}"),
        ("5", r"\sim 5"),
        ("5", r"5 \lor 6"),
        ("5", r"5\phantom{6}"),
    ],
    "prose that hedges": [
        ("5", "The answer is one of 1, 2, 3, 4, 5"),
        ("5", "either 3 or 5"),
        ("5", "I think it is 3, or maybe it is 5"),
        ("5", r"\text{The answer is one of 1, 2 or 5}"),
        ("5", "not $5$"),
        ("5", "at least $5$"),
    ],
}


@pytest.mark.parametrize(("gold", "answer"), cases(RIGHT))
def test_the_rules_find_what_is_the_same(gold: str, answer: str) -> None:
    assert grade_math(rf"\boxed{{{answer}}}", (gold,), True)[0] is CORRECT


@pytest.mark.parametrize(("gold", "answer"), cases(DIFFERENT))
def test_the_rules_tell_apart_what_is_not(gold: str, answer: str) -> None:
    assert grade_math(rf"\boxed{{{answer}}}", (gold,), True)[0] is WRONG


def test_two_boxes_with_and_between_them_are_one_answer() -> None:
    assert grade_math(r"\boxed{1} papers and \boxed{2} bins", ("1,2",), True)[0] is CORRECT
    assert grade_math(r"\boxed{1} papers and \boxed{2} bins", ("2",), True)[0] is WRONG
    assert grade_math(r"It is not \boxed{1} and so \boxed{2}", ("2",), True)[0] is CORRECT


def test_a_gold_may_come_as_a_response_with_boxes() -> None:
    assert grade_math(r"\boxed{4, 35}", (r"So $\boxed{35}$ and $\boxed{4}$.",), True)[0] is CORRECT
    assert grade_math(r"\boxed{1,-1}", (r"\boxed{W(n) = 1 \text{ and } W(n) = -1",), True)[0] is CORRECT, (
        "it never closes"
    )


# --- exact arithmetic ------------------------------------------------------------------------------------------------

small = st.integers(1, 12)
atoms = st.one_of(
    small.map(str),
    st.integers(-30, -1).map(lambda n: f"({n})"),
    st.tuples(small, small).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
    small.map(lambda n: rf"\sqrt{{{n}}}"),
    st.sampled_from(["x", "y", r"\pi", "0.5", "1.25", "x^2"]),
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-"]), inner).map(lambda three: f"({''.join(three)})"),
        st.tuples(inner, inner).map(lambda pair: rf"{pair[0]} \cdot {pair[1]}"),
        st.tuples(inner, small).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
@example(r"2\sqrt{3}", r"\sqrt{12}")
@example("(x+1)^2", "x^2+2x+1")
@example(r"\frac{1}{1+\sqrt{2}}", r"\sqrt{2}-1")
@example(r"1\frac{1}{2}", "1.5")
@example(r"\frac{x^2-1}{x-1}", "x+1")
@example("5!", "120")
@example("3x", "3X")
def test_exact_arithmetic_says_what_math_verify_says_or_nothing(answer: str, gold: str) -> None:
    from math_verify import parse, verify

    truth = exactly(answer, gold)
    if truth is not None:
        assert truth == verify(parse(rf"\boxed{{{gold}}}"), parse(rf"\boxed{{{answer}}}"))
    assert exactly(gold, gold) in (True, None)


@pytest.mark.parametrize(
    "text",
    [
        "1/2x",
        "2 3",
        "even",
        "f(x)",
        "--5",
        "E",
        "x^{0.5}",
        "2^x",
        "1e5",
        r"\frac123",
        "a/b*c",
        "",
        "()",
        "3!!",
        "0^0",
        "1/0",
    ],
)
def test_what_is_ambiguous_is_not_read(text: str) -> None:
    assert exact.read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}",
        "(" * 180 + "1" + ")" * 180,
        "(x+y+z+1)^{64}",
        "2000!" + "+2000!" * 60,
        r"\sqrt{999999937}",
        "9" * 400,
        "(a+b+c+d)(a+b+c+d)(a+b+c+d)(a+b+c+d)(a+b+c+d)(a+b+c+d)(a+b+c+d)(a+b+c+d)",
        r"\frac{" * 24 + "1" + "}{3}" * 24,
    ],
    ids=["tower", "nesting", "expansion", "factorials", "radicand", "digits", "product", "fractions"],
)
def test_nothing_holds_up_exact_arithmetic(text: str) -> None:
    assert speed.units(lambda: (exactly(text, "1/3"), quickly(rf"\boxed{{{text}}}", ("1/3",), True))) < 25


@pytest.mark.parametrize(
    "text",
    [
        "{" * 900,
        "(" * 900,
        "a," * 450,
        "1 " * 450,
        "$" * 900,
        r"\text{" * 150,
        "<" * 900,
        "x=" * 450,
        "5\\text{ }" * 90,
    ],
)
def test_nothing_holds_up_the_reading_of_shapes(text: str) -> None:
    assert speed.units(lambda: quickly(rf"\boxed{{{text}}}", ("1,2",), True)) < 25


def test_units_have_dimensions_and_sizes() -> None:
    metre, square_foot, litre = units.unit("m"), units.unit("square feet"), units.unit("L")
    assert metre is not None
    assert square_foot is not None
    assert litre is not None
    assert (metre.dimension, metre.size) == ((("length", 1),), 1)
    assert square_foot.dimension == (("length", 2),)
    assert litre.dimension == (("length", 3),), "volumes are cubes of lengths"
    assert units.unit("apples") is None


def test_the_table_in_the_docs_says_what_the_verifier_says() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "reference" / "math-rules.md").read_text()
    table = docs.split("## Rules")[1].split("\n**Left to Math-Verify")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")][1:]
    checked = 0
    for row in rows:
        (gold,), *answers = (re.findall(r"`([^`]*)`", cell) for cell in row[1:])
        for expected, examples in zip((CORRECT, WRONG), answers, strict=True):
            for answer in examples:
                assert (answer, grade_math(rf"\boxed{{{answer}}}", (gold,), True)[0]) == (answer, expected), row[0]
                checked += 1
    assert checked > 60
