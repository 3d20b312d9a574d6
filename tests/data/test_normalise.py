"""One problem, one token string, however it is spelled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.data.normalise import normalise, signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$\dfrac{1}{2}$", r"\(\frac12\)"),
        (r"\frac{1}{2}", "1/2"),
        (r"x \leq 3", "y ≤ 3"),
        (r"x <= 3", r"\alpha \le 3"),
        ("10,000 coins", r"$10{,}000$ coins"),
        ("10,000 coins", "10000 coins"),
        ("Triangle ABC", r"$\triangle PQR$"),
        ("an angle of 90 degrees", r"an angle of $90^\circ$"),
        (r"x_i + x_{jk}", "a + b"),
        (r"x_1 + x_{12}", "a_{1} + a_{12}"),
        ("from 58 315 to 9", r"from 58{,}315 to 9"),
        ("58\\,315", "58315"),
        (r"\tbinom{n}{2}", r"\dbinom{n}{2}"),
        (r"7 \pmod{3}", "7 (mod 3)"),
        ("5\\%", "5 percent"),
        (r"\left( x + 1 \right)^{2}", "(x+1)^2"),
        ("right-angled", "right angled"),
        ("x − y", "x-y"),
        (r"2 \cdot 3", "2 × 3"),
        ("Find it.", "find  IT"),
        ("12. (10 points) Find it.", "Find it."),
        ("Example 7. Find it.", "Find it."),
        ("0.50 and .50", "0.50 and 0.50"),
        ("x²", "x^2"),
        ("²", "2"),
        (r"\text{ if } n", "if m"),
        ("FIND THE LARGEST NUMBER OF $N$ BOXES.", "Find the largest number of $n$ boxes."),
        ("IN TRIANGLE ABC THE SIDE AB IS 5 CM LONG.", "In triangle PQR the side PQ is 5 cm long."),
        ("Find the value that is NOT one of them.", "Find the value that is not one of them."),
        (r"SHOW $\FRAC{1}{2}$ OF ALL THE CAKE", r"show $\frac{1}{2}$ of all the cake"),
        ("<p>Find <b>the</b> sum.</p>", "Find the sum."),
        ("<div class=\"a b\" id=x><span style='margin: 4px'>Find it</span><br/></div>", "Find it"),
        ("x<sup>2</sup> + a<sub>i</sub>", "y^2 + b"),
        ("x &lt; 3 &amp;&nbsp; y &ge; 4", "x < 3 & y ≥ 4"),
        ("&#36;x&#36; costs &#x24;5", "$x$ costs $5"),
        ("&amp;lt;p&amp;gt;Find it&amp;lt;/p&amp;gt;", "Find it"),
        ("Find<!-- 3 numbers --> it", "Find it"),
        ('Find <img src="a12.png" alt="$x + 3$">', "Find $x + 3$"),
        ("Find it.\n\nNow", "Find it. Now"),
    ],
)
def test_spellings_of_the_same_come_out_the_same(one, other):
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 apples", "4 apples"),
        ("3 apples", "3 pears"),
        ("x + y", "x - y"),
        ("x < 3", "x > 3"),
        (r"\log_2 8", r"\log_3 8"),
        ("12", "1 2"),
        (r"\frac{12}{3}", r"\frac{1}{23}"),
        ("1.5", "15"),
        ("the term $a_{10}$", "the term $a_{100}$"),
        ("1000 200", "1000200"),
        ("a<b and b>3", "a and 3"),
        ("x <b and c> y", "x y"),
        ("Find it. Now", "Find it now"),
    ],
)
def test_what_differs_stays_different(one, other):
    assert normalise(one) != normalise(other)


def test_the_signature_is_numbers_signs_and_relations_in_order():
    assert signature(normalise("With 3 apples and x + y ≤ 10, find -4.")) == normalise("3 + ≤ 10 -4")
    assert signature(normalise("no number")) == ""


def test_a_text_without_a_token_is_empty():
    assert normalise("…  $$ !?") == ""


@given(st.text(alphabet="aBx_ij{}\\\\^12,. 0-=<$f", max_size=40))
def test_ascii_is_read_by_the_same_rules_as_anything_else(text):
    """A last letter keeps the end of a sentence from being the end of the text."""
    assert normalise(f"x {text} é") == normalise(f"x {text} x")[:-1] + normalise("é")
