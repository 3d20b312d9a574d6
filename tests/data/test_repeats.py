"""The steps that compare rows look at golds, too: real rows, the real verifier."""

import json

import pytest
from leeway_rl.benchmarks import third_planted_set as third
from leeway_rl.data import recipe
from leeway_rl.data.dataset import Dataset
from leeway_rl.data.naming import asks_for_another, same_wording
from leeway_rl.data.same_answer import different, plainly

TEXT = (
    "A lantern maker has 14 red lamps and 9 green lamps and hangs 5 of them in a row over the door of the old mill. "
    "She writes down the {} number of lamps that a row of hers may hold."
)


def judged(folder, step, rows, **options):
    """(reasons, notes) of a step on rows (problem, gold)."""
    lines = ({"problem": problem, "answer": gold, "ability": "math"} for problem, gold in rows)
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe.load_alone(recipe.Source(name="mine", path=str(folder / "rows.jsonl")), folder / "dataset")
    chosen = recipe.STEPS[step]
    context = recipe.Context(folder, folder / "work", folder / "asked", 1)
    judge = chosen.judge(Dataset(folder / "dataset"), chosen.options(**options), context)
    return [drop and drop.reason for batch in judge for drop in batch], context.notes


def test_rows_whose_golds_differ_are_two_problems(tmp_path):
    one, other, copy = TEXT.format("common"), TEXT.format("prettiest"), TEXT.format("common").replace("old ", "")
    rows = [(one, r"\frac{1}{2}"), (other, "3"), (copy, "0.5"), (other, r"\sqrt{9}"), (one, "1/2")]
    reasons, notes = judged(tmp_path, "duplicates", rows)
    near, exact = "near duplicate within its source", "exact duplicate within its source"
    assert reasons == [None, None, near, exact, exact]
    assert notes == []


def test_a_copy_to_the_letter_with_another_gold_leaves_and_is_told(tmp_path):
    rows = [(TEXT.format("common"), "5"), (TEXT.format("common").upper(), "6")]
    reasons, notes = judged(tmp_path, "duplicates", rows)
    assert reasons == [None, "exact duplicate within its source"]
    assert notes == ["1 dropped with another gold than the row that stays, word for word the same problem"]


def test_another_letter_that_is_asked_for_is_another_problem(tmp_path):
    text = "Let $x + y = 10$ and $x - y = 4$ hold for two real numbers. Find ${}$."
    rows = [(text.replace("{}", "x"), "7"), (text.replace("{}", "y"), "3"), (text.replace("{}", "x"), "7")]
    assert judged(tmp_path, "duplicates", rows)[0] == [None, None, "exact duplicate within its source"]


SIGNED = [
    ("$12 \\cdot 4$", "$12 / 4$", "48", "3"),
    ("$2(3 + 4)$", "$2 \\cdot 3 + 4$", "14", "10"),
    ("$|t - 9|$ at $t = 4$", "$t - 9$ at $t = 4$", "5", "-5"),
    ("$n!$ at $n = 4$", "$n$ at $n = 4$", "24", "4"),
    ("$\\lfloor 7 / 2 \\rfloor$", "$7 / 2$", "3", "3.5"),
    ("$f'(3)$ for $f(t) = t^2$", "$f(3)$ for $f(t) = t^2$", "6", "9"),
    ("how many integers lie in $[1, 10)$", "how many integers lie in $(1, 10)$", "9", "8"),
    ("$\\overline{z}$ for $z = 2 + i$", "$z$ for $z = 2 + i$", "2-i", "2+i"),
]


@pytest.mark.parametrize(("one", "other", "gold", "another"), SIGNED)
def test_a_sign_that_is_no_token_tells_two_problems_apart_where_golds_differ(tmp_path, one, other, gold, another):
    text = "On the board of the old school stands a task for today, and Mira works out {}."
    rows = [(text.format(one), gold), (text.format(other), another), (text.format(one).upper(), gold)]
    reasons, notes = judged(tmp_path, "duplicates", rows)
    assert reasons == [None, None, "exact duplicate within its source"]
    assert notes == []


def test_contaminations_are_told_apart_by_golds_where_both_have_one(tmp_path):
    rows = [(TEXT.format("common"), "5"), (TEXT.format("prettiest"), "6"), (TEXT.format("common"), "6")]
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"problem": TEXT.format("common"), "answer": "5.0"}) + "\n")
    dirty = "contaminated by evaluation.jsonl"
    reasons, notes = judged(tmp_path, "decontaminate", rows, against=("evaluation.jsonl",))
    assert reasons == [dirty, None, dirty]
    assert notes == ["1 dropped with another gold than the evaluation problem, word for word the same problem"]
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"question": TEXT.format("common")}) + "\n")
    assert judged(tmp_path, "decontaminate", rows, against=("evaluation.jsonl",))[0] == [dirty] * 3


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("5", "7", True),
        ("5", "5.0", False),
        (r"$\frac{1}{2}$", "0.5", False),
        ("10{,}000", "10000", False),
        ("x = 5", "5", False),
        (r"\boxed{12}", "12", False),
        (r"2\sqrt{3}", r"\sqrt{12}", False),
        (r"2\sqrt{3}", r"3\sqrt{2}", True),
        ("(1, 2)", "(1,2)", False),
        (r"\frac{\pi}{4}", r"\frac{\pi}{3}", True),
        ("(x+1)^2", "x^2+2x+1", False),
        ("B", "12", False),
        ("B", "C", True),
        ("proof", "12", False),
        (r"\frac{1}{", "12", False),
    ],
)
def test_two_golds_are_two_answers_only_where_that_is_plain(tmp_path, one, other, differ):
    pair = (("math", [one]), ("math", [other]))
    assert different([pair, (pair[1], pair[0])], tmp_path, jobs=1) == [differ, differ]


def test_alternatives_that_meet_are_one_answer_and_tests_say_nothing(tmp_path):
    assert plainly(["1", "2"], ["2.0"]) is True
    assert different([(("code", []), ("code", [])), (("exact", ["cat"]), ("exact", ["Dog"]))], tmp_path, jobs=1) == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("one", "other", "another"),
    [
        ("Let $x > y$. Find $x$.", "Let $x > y$. Find $y$.", True),
        ("Let $x > y$. Find $x$.", "Let $a > b$. Find $a$.", False),
        ("Let $x > y$. Find $x$.", "Let $y > x$. Find $y$.", False),
        ("In triangle $ABC$ we know $AB = 3$. Find $AC$.", "In triangle $ABC$ we know $AB = 3$. Find $BC$.", True),
        ("In triangle $ABC$ we know $AB = 3$. Find $AC$.", "In triangle $PQR$ we know $PQ = 3$. Find $PR$.", False),
        ("A box holds $b$ balls. Find $b$.", "A box holds $a$ balls. Find $a$.", False),
    ],
)
def test_a_copy_names_all_letters_anew_or_none(one, other, another):
    assert asks_for_another(one, other) is another
    assert same_wording(one, other) is not another


@pytest.mark.parametrize(("seed", "by_hand"), [(3, False), (1, True)])
def test_copies_from_other_sites_are_found_and_near_misses_are_not(tmp_path, seed, by_hand):
    planted = third.planted_by_hand(seed) if by_hand else third.planted_set(600, seed)
    found = third.origins_found(planted, tmp_path, golds=True)
    right = sum(found[row] == origin for row, (_, origin) in planted.copies.items())
    assert right >= 0.95 * len(planted.copies)
    assert right >= 0.99 * sum(origin is not None for origin in found)
