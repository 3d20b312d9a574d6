"""What a row is judged by: its ability, its golds; and what nobody called mathematics."""

import json

import pytest
from leeway_rl.common.config import Data
from leeway_rl.common.errors import DataError
from leeway_rl.common.golds import escaping_slip, why_not_mathematics
from leeway_rl.common.ground_truth import (
    ABILITIES,
    ability_of,
    golds_of_text,
    ground_truth_of,
)


def schema(text: str, **others: object) -> dict[str, object]:
    return {"reward_model": {"ground_truth": text, "style": "rule"}, **others}


@pytest.mark.parametrize(
    ("text", "golds"),
    [
        ('["2", "5"]', ("2", "5")),
        ("[2,5]", ("[2,5]",)),
        ("[2, 5]", ("[2, 5]",)),
        ("[[1,2],[3,4]]", ("[[1,2],[3,4]]",)),
        ('["2", 5]', ('["2", 5]',)),
        ("[0.50]", ("[0.50]",)),
        ('"[2,5]"', ("[2,5]",)),
        ("0.50", ("0.50",)),
        ("null", ("null",)),
        ("[", ("[",)),
        ("[" * 100_000, ("[" * 100_000,)),
        ("9" * 5000, ("9" * 5000,)),
        ("(2,5]", ("(2,5]",)),
    ],
)
def test_only_a_json_list_of_texts_is_alternatives(text, golds) -> None:
    assert golds_of_text(text) == golds
    assert ground_truth_of(schema(text, ability="math"), "f:1").golds == golds


def test_a_plain_list_of_numbers_is_one_answer_or_alternatives_and_must_say_which() -> None:
    with pytest.raises(DataError, match=r"f:1: answer = \[2, 5\] is no list of texts: write it as a text where"):
        ground_truth_of({"answer": [2, 5]}, "f:1")
    assert ground_truth_of({"answer": "[2,5]"}, "f:1").golds == ("[2,5]",)
    assert ground_truth_of({"answer": ["2", "5"]}, "f:1").golds == ("2", "5")
    assert ground_truth_of({"answer": 5}, "f:1").golds == ("5",)


@pytest.mark.parametrize("text", ["", "[]", '[""]', '" "'])
def test_a_ground_truth_that_holds_nothing_is_refused(text) -> None:
    with pytest.raises(DataError, match="f:1: "):
        ground_truth_of(schema(text), "f:1")


@pytest.mark.parametrize(
    ("row", "ability"),
    [
        ({"answer": "5"}, "math"),
        ({"answer": "5", "ability": None}, "math"),
        ({"answer": "5", "ability": "MATH"}, "math"),
        ({"answer": "5", "ability": " Exact "}, "exact"),
        ({"tests": {"inputs": [""], "outputs": [""]}}, "code"),
        ({"entry": {"answer": "5", "metadata": {"source_dataset": "chain_sum"}}}, "reasoning_gym"),
    ],
)
def test_an_ability_is_named_or_told_by_what_the_row_holds(row, ability) -> None:
    assert ability_of(row, "f:1") == ability
    assert ground_truth_of(row, "f:1").ability == ability


@pytest.mark.parametrize(
    ("named", "guess"), [("words", ""), ("maths", "math"), ("reasoning-gym", "reasoning_gym"), (7, "")]
)
def test_an_ability_that_nothing_grades_is_named_with_the_known_ones(named, guess) -> None:
    hint = f"; did you mean '{guess}'" if guess else ""
    with pytest.raises(DataError, match=rf"f:1: ability = '{named}': nothing grades that; known: .*{hint}"):
        ground_truth_of({"answer": "5", "ability": named}, "f:1")


def test_every_ability_has_who_judges_it() -> None:
    from leeway_rl.verifier.graders import GYM_SCORE, IN_SANDBOXES, JUDGES, MATH_REPORT

    assert {*JUDGES, *IN_SANDBOXES} - {MATH_REPORT, GYM_SCORE} == set(ABILITIES)


NOT_MATHEMATICS = [
    *("desserts", "olleh", "cba", "ab", "no", "Yes", "True", "dog, cat", "cat dog", "b a", "c b a", "z, y, x"),
    *(
        "June 20",
        "Jan 5, 2024",
        "北京",
        "hello 5",
        "the larger of the two",
        "(abc)",
        "$abc$",
        "abc=cba",
        "GHI",
        "A-B-C",
    ),
    *("6*(98 - 54) - 34 - 66", "94*4 - 61 - 6", "25+60", "9 / 3 * 2", "82 + 20 + 67 - 50", "3 - 4", "2 × 3", "-1 + 2"),
    *("(1 + 2) * 3", "8/2", "(8)/(4)", "24/6/2", "90/(45/15)", "8(3)", "3(4)(5)", "10 // 3", "4! + 3"),
    *("a1b2", "3f2a", "AB12", "D4", "R2-D2", "e2e4", "Nf3", "O-O", "e4 e5", "0xff", "H2O", "12h30", "192.168.0.1"),
    *("10:30", "12:45", "1/2/2024", "05/01/2024", "2020-01-05", "2 3 1", "5 3 8 1", "[1 2 3]", "3 cats, 2 dogs"),
]
MATHEMATICS = [
    *("85", "-3/4", "1/2", "100/3", "5 cm", "12 hours", "3:2", "2:3:5", "(A)", "A", "ACD", "A, C, D", "B and D", "x"),
    *("x=5", "f(x)=2x", "y = 2x + 1", "x = -2, y = 3", "[2,5]", "(1,2)", "-5", "- 5", "+7", "10,000", "10 000", "50%"),
    *("$5", "$18", "3ab+1", "xy + 1", "pi/2", "infinity", "sqrt(2)", "1.5", "1e5", "2x", "{1,2}", "(-oo, 3]", "ab - c"),
    *("No solution", "infinitely many", "all real numbers", "10!", "x<2 or x>3", r"\text{dog}", "0.5, 0.75", "1,-1"),
    *("(-1, -2)", "-1, -2", "2 cos(x)", "[-3,-1]", "ln 2", "1 + sqrt 5", "x-y", "7 apples", "-oo", "14-i", "12 - i"),
    *("2^{10}-1", "3-2√2", "1-√2", "2 1/3", "±2", "C(5,2)", "90°", "x(x+1)", "(x+1)(x-2)", "n(n+1)/2", "033", "5π"),
    *(r"\frac{1}{2}", r"3 \times 10^8", r"$\sqrt{2}$", "2 + 3i", "x^2+1"),
]


@pytest.mark.parametrize("gold", NOT_MATHEMATICS)
def test_words_and_bare_sums_are_not_taken_for_mathematics_in_silence(gold) -> None:
    assert why_not_mathematics([gold]) is not None
    with pytest.raises(DataError, match=r'say how .*: "ability": "exact"'):
        ground_truth_of({"answer": gold}, "f:1")
    for ability in ("math", "exact"):
        assert ground_truth_of({"answer": gold, "ability": ability}, "f:1").ability == ability
        assert ground_truth_of({"answer": gold}, "f:1", Data(path="", ability=ability)).ability == ability


def test_a_solution_as_of_gsm8k_is_told_from_its_answer() -> None:
    with pytest.raises(DataError, match="a whole solution with its answer behind ####: leave the answer alone"):
        ground_truth_of({"answer": "She has $\\frac{6}{2}$ = 3.\n#### 3"}, "f:1")


@pytest.mark.parametrize("gold", MATHEMATICS)
def test_mathematics_is_taken_for_it(gold) -> None:
    assert why_not_mathematics([gold]) is None
    assert ground_truth_of({"answer": gold}, "f:1").ability == "math"


def test_words_beside_a_number_are_its_alternatives() -> None:
    assert ground_truth_of({"answer": ["6", "six"]}, "f:1").golds == ("6", "six")


def test_the_entry_of_a_generator_travels_whole_and_in_any_of_three_places() -> None:
    entry = {"question": "q", "answer": None, "metadata": {"source_dataset": "boxnet", "n": [1, 2]}}
    due = json.dumps({"entry": entry, "options": {}})
    for row in ({"entry": entry}, {"entry": json.dumps(entry)}, schema(json.dumps(entry), ability="reasoning_gym")):
        assert ground_truth_of(row, "f:1").golds == (due,)
    options = {"min_terms": 3, "size": 3, "seed": 1, "max_terms": None}
    (text,) = ground_truth_of({"entry": entry, "options": options}, "f:1").golds
    assert json.loads(text)["options"] == {"min_terms": 3}
    assert ground_truth_of(schema(text, ability="reasoning_gym"), "f:1").golds == (text,)


def test_a_source_may_ask_for_another_comparison_than_its_rows_do() -> None:
    data = Data(path="", comparison="exact")
    pairs = {"inputs": ["1"], "outputs": ["1"]}
    for tests, due in [
        (pairs, {**pairs, "comparison": "exact"}),
        ({**pairs, "comparison": "livecodebench"}, {**pairs, "comparison": "livecodebench"}),
        ({**pairs, "tolerance": 0.1}, {**pairs, "tolerance": 0.1}),
        (
            [{"input": "1", "output": "1"}],
            {"public_test_cases": [{"input": "1", "output": "1"}], "comparison": "exact"},
        ),
    ]:
        (text,) = ground_truth_of({"tests": tests}, "f:1", data).golds
        assert json.loads(text) == due
        (text,) = ground_truth_of({"tests": tests}, "f:1").golds
        assert json.loads(text) == tests


def test_what_a_table_fills_with_nulls_is_not_there() -> None:
    nulls = {"tests": {"inputs": None, "outputs": None}, "entry": {"question": None, "answer": None, "metadata": None}}
    assert ground_truth_of({"answer": "5", **nulls}, "f:1").ability == "math"
    row = {"answer": None, **nulls, "tests": {"inputs": ["1"], "outputs": ["1"], "fn_name": None}}
    assert ground_truth_of(row, "f:1").ability == "code"


def test_numbers_that_are_none_and_those_that_are_long() -> None:
    with pytest.raises(DataError, match="answer is a text or a list of texts"):
        ground_truth_of({"answer": 1e999, "ability": "math"}, "f:1")
    assert ground_truth_of({"answer": {"leeway:int": "9" * 5000}}, "f:1").golds == ("9" * 5000,)


@pytest.mark.parametrize(
    "gold", ["\times 5", "\theta", "5\text{ cm}", "\rho", "\right)", "x\neq 3", "\nu + 1", "2\rightarrow 3"]
)
def test_a_slip_of_escaping_in_a_gold_is_named(gold) -> None:
    assert escaping_slip(gold) is not None
    with pytest.raises(DataError, match=r"f:1: the gold has .* where a command is meant, double its backslash"):
        ground_truth_of({"answer": gold, "ability": "math"}, "f:1")


@pytest.mark.parametrize("gold", ["2 1\n1 2", "a\nb", "5\n", "\\times 5", "x \t= 5", "one\ntwo\nnone"])
def test_lines_and_blanks_are_no_slips(gold) -> None:
    assert escaping_slip(gold) is None
