"""Near-duplicates and contaminations: planted ones are found, hard negatives are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.benchmarks.near_duplicates import found_in, planted_set
from leeway_rl.data.near import EvaluationSet, is_part, near_duplicates, same_problem
from leeway_rl.data.normalise import normalise
from leeway_rl.data.sketch import candidates, candidates_between, sketch
from leeway_rl.data.turns import turned

PROBLEM = (
    "A lantern maker has 14 red lamps and 9 green lamps and hangs 5 of them in a row over the door of the old mill. "
    "In how many ways can the colours of the row be chosen?"
)


def found(*problems, kinds=None):
    matches = near_duplicates([normalise(problem) for problem in problems], kinds or [0] * len(problems))
    return [match and match.of for match in matches]


def _best(evaluation, texts):
    """For each text the most similar evaluation problem that it repeats or contains; None if it is clean."""
    return [matches[0] if matches else None for matches in evaluation.alike(texts)]


@pytest.mark.parametrize("seed", [1, 2])
def test_planted_rows_are_found_and_siblings_are_not(seed):
    evaluation, rows, planted = planted_set(1500, seed)
    origins = found_in(evaluation, rows)
    right = [origins[row] == origin for _, row, origin in planted]
    dropped = [row for row, origin in enumerate(origins) if origin is not None]
    assert sum(right) >= 0.98 * len(planted)
    assert sum(right) >= 0.98 * len(dropped)


def test_the_first_one_stays():
    assert found(PROBLEM, "Something else entirely, about 3 geese.", PROBLEM.replace("old ", "")) == [None, None, 0]


def test_what_is_shown_beside_a_dropped_row_is_kept():
    """The third equals the second, which repeats the first."""
    assert found(PROBLEM, PROBLEM.replace("old ", ""), PROBLEM.replace("old ", "")) == [None, 0, 0]


def test_problems_without_spaces_are_compared_by_their_signs():
    chinese = "小明有12个苹果和7个梨，他把其中的一半送给了住在河边的朋友，问他还剩下多少个水果？"
    assert found(chinese, chinese.replace("朋友", "同学"), chinese.replace("12", "13")) == [None, 0, None]


def test_another_number_is_another_problem():
    assert found(PROBLEM, PROBLEM.replace("14", "15")) == [None, None]


def test_rows_of_different_kinds_are_not_compared():
    assert found(PROBLEM, PROBLEM, kinds=["math", "code"]) == [None, None]


def test_what_repeats_a_dropped_row_is_compared_with_the_kept_one():
    """b repeats a, c repeats b; c does not repeat a, so it stays."""
    letters = "bcdfghjklm"
    a = [f"{one}e{other}a" for one in letters for other in letters][:40]
    b = ["seven", "geese", "flew", *a[3:]]
    c = [*b[:35], "over", "an", "old", "grey", "hill"]
    assert same_problem(normalise(" ".join(b)), normalise(" ".join(c)))
    assert found(" ".join(b), " ".join(c)) == [None, 0]
    assert found(" ".join(a), " ".join(b), " ".join(c)) == [None, 0, None]


def test_fillings_of_one_long_template_are_different_problems():
    template = "Sort these words in ascending order of their letters and return them with commas between them: {}"
    filled = [template.format(" ".join(f"{stem}{number}ish" for stem in ("alpha", "beta"))) for number in range(60)]
    filled = [text.translate({ord(digit): "abcdefghij"[int(digit)] for digit in "0123456789"}) for text in filled]
    assert found(*filled) == [None] * 60


def test_empty_and_tiny_texts_do_no_harm():
    assert near_duplicates([], []) == []
    assert found("", "?", "a", "b") == [None, 0, None, 2]
    assert _best(EvaluationSet([]), ["x"]) == [None]
    assert _best(EvaluationSet([normalise("x")]), []) == []


def test_a_problem_inside_instructions_is_found_and_shown():
    evaluation = EvaluationSet([normalise("Find the least positive integer with 10 divisors."), normalise(PROBLEM)])
    text = f"Think step by step. {PROBLEM.replace('lantern', 'lamp')} Answer in a box, please, and take all your time."
    (match,) = _best(evaluation, [normalise(text)])
    assert match.of == 1
    assert match.similarity > 0.9


def test_turns_of_phrase_are_no_contamination():
    phrase = "The answer is m/n where m and n are relatively prime positive integers. Find m + n."
    evaluation = EvaluationSet([normalise("A square of side 7 lies in a circle. " + phrase)])
    assert _best(evaluation, [normalise("Three dice of 9 faces show a sum above 11. " + phrase)]) == [None]


def test_a_piece_of_an_evaluation_problem_is_no_contamination():
    assert _best(EvaluationSet([normalise(PROBLEM)]), [normalise("over the door of the old mill")]) == [None]


def test_a_signature_with_a_few_left_out_is_a_part():
    assert is_part("135", "12345")
    assert is_part("12345", "135")
    assert not is_part("153", "12345")
    assert not is_part("1", "12345")


@given(st.lists(st.text(alphabet="abc", max_size=12), max_size=30))
@settings(deadline=None)
def test_equal_texts_always_meet(texts):
    """Both ways of pairing see every pair of equal texts, in every band, the smaller index first."""
    sketches = sketch(texts)
    expected = {(i, j) for j in range(len(texts)) for i in range(j) if texts[i] == texts[j]}
    for pairs in candidates(sketches):
        assert expected <= set(map(tuple, pairs.tolist()))
        assert (pairs[:, 0] < pairs[:, 1]).all()
    for pairs in candidates_between(sketches, sketches):
        assert expected <= set(map(tuple, pairs.tolist()))


def test_a_text_sketches_alike_in_any_company():
    texts = [normalise(f"{PROBLEM} And {number}.") for number in range(1200)]
    alone, together = sketch(texts[1100:1101]), sketch(texts)
    for name in ("bands", "signatures", "orders", "lengths"):
        assert np.array_equal(getattr(alone, name)[..., 0], getattr(together, name)[..., 1100]), name


CONTEXT = (
    "Ines keeps 14 red lamps in the mill. Oskar keeps 9 green lamps at the harbour. "
    "Every lamp of the two costs 35 cents a day. The mill is open on 6 days of the week. "
)


def test_the_context_may_come_in_another_order():
    facts = [f"{fact}." for fact in CONTEXT.strip(" .").split(". ")]
    question = "How many cents do all the red lamps cost in one week?"
    stirred = " ".join([facts[2], facts[0], facts[3], facts[1], question])
    assert found(f"{CONTEXT}{question}", stirred) == [None, 0]
    assert found(f"{CONTEXT}{question}", stirred.replace("14 red", "9 red").replace("9 green", "14 green")) == [
        None,
        None,
    ]
    (match,) = _best(EvaluationSet([normalise(CONTEXT + question)]), [normalise(f"Solve this.\n\n{stirred} Think.")])
    assert match is not None


def test_what_then_happens_may_not_come_first():
    steps = ("Amir writes the number 7 on a card.", "Then he doubles the number.", "Next he adds 5 to the number.")
    question = "Which number does Amir have at the very end of all this?"
    one, other = (" ".join([*(steps[step] for step in order), question]) for order in ((0, 1, 2), (0, 2, 1)))
    assert found(one, other) == [None, None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("largest", "smallest"),
        ("sum", "product"),
        ("at least", "at most"),
        ("even", "odd"),
        ("with", "without"),
        ("area", "perimeter"),
        ("inscribed", "circumscribed"),
        ("three", "four"),
        ("hours", "minutes"),
        ("can", "cannot"),
        ("is", "is not"),
    ],
)
def test_a_word_that_turns_the_problem_makes_another_one(one, other):
    text = f"{PROBLEM} Write down the {{}} number that the maker counts when all lamps are hung."
    assert found(text.format(one), text.format(other)) == [None, None]
    assert _best(EvaluationSet([normalise(text.format(one))]), [normalise(text.format(other))]) == [None]
    assert found(text.format(one), text.format(one).replace("old ", "")) == [None, 0]


def test_a_word_is_turned_by_two_words_in_its_place_read_from_either_side():
    text = "A cube has edge 6. A sphere is inscribed in the cube. Find the {} of the sphere in {} units."
    volume, surface = (normalise(text.format(*words)) for words in (("volume", "cubic"), ("surface area", "square")))
    assert turned(volume, surface)
    assert turned(surface, volume)


def test_another_question_about_the_same_context_is_another_problem():
    one, other = CONTEXT + "How many lamps are green?", CONTEXT + "What does the harbour pay in a month?"
    assert found(one, other) == [None, None]
    assert _best(EvaluationSet([normalise(one)]), [normalise(other)]) == [None]


def test_two_things_of_the_context_exchanged_in_the_question_make_another_problem():
    one = CONTEXT + "How many cents do all the red lamps cost in one week?"
    assert found(one, one.replace("all the red", "all the green")) == [None, None]


@pytest.mark.parametrize("after", ["", " Give only the number.", "\n\nPut it in a box."])
def test_a_last_number_beyond_what_matched_counts(after):
    text = "A function satisfies $f(n + 1) = 3 f(n) - 4$ for all integers $n$ and $f(0) = 5$. Find $f({})$."
    evaluation = EvaluationSet([normalise(text.replace("{}", "9"))])
    other = "Answer the question.\n\n" + text.replace("{}", "7") + after
    assert _best(evaluation, [normalise(other)]) == [None]
    assert _best(evaluation, [normalise(other.replace("7", "9"))]) != [None]


def test_who_knows_more_tells_two_problems_apart():
    texts = [normalise(text) for text in (PROBLEM, PROBLEM.replace("old ", ""), PROBLEM, PROBLEM)]
    asked = []

    def two_problems(pairs):
        asked.extend(pairs)
        return {(one, other) for one, other in pairs if {one, other} & {2} and {one, other} != {2, 3}}

    matches = near_duplicates(texts, [0] * 4, two_problems)
    assert [match and match.of for match in matches] == [None, 0, None, 0]
    assert all(other < one for one, other in asked)
