"""Scores and comparisons by hand."""

import pytest
from leeway_rl.evaluation.compare import compare
from leeway_rl.evaluation.score import score


def row(problem, verdict, *, tokens=10, finished=True):
    return {"id": problem, "verdict": verdict, "tokens": tokens, "finished": finished, "version": 0}


ROWS = [
    row("sums/a", "correct", tokens=4),
    row("sums/a", "wrong", tokens=8),
    row("sums/b", "no_answer", tokens=64, finished=False),
    row("sums/b", "no_answer", tokens=4),
    row("sums/c", "correct"),
    row("sums/c", "error"),
    row("sums/d", "error"),
    row("other/x/1", "correct"),
]


def test_a_benchmark_is_scored_over_what_was_graded():
    found = score(ROWS, seed=0)
    sums = found["sums"]
    assert (sums["problems"], sums["responses"], sums["ungraded"], sums["n"]) == (3, 5, 2, 2)
    assert sums["avg_at_n"]["value"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert list(sums["pass_at_k"]) == ["1"]  # of c a single response is graded
    assert sums["tokens_mean"] == pytest.approx((4 + 8 + 64 + 4 + 10) / 5)
    assert (sums["truncated_share"], sums["no_answer_share"]) == (0.2, 0.4)
    assert sums["by_problem"]["b"] == {
        "graded": 2,
        "correct": 0,
        "tokens": 68,
        "truncated": 1,
        "no_answer": 2,
        "ungraded": 0,
    }
    assert found["other"]["by_problem"].keys() == {"x/1"}


def test_lengths_are_counted_by_how_the_response_ended():
    lengths = score(ROWS, seed=0)["sums"]["lengths"]
    assert lengths["edges"][:3] == [0, 3, 6]
    assert [sum(lengths[kind]) for kind in ("correct", "not correct", "truncated")] == [2, 4, 1]
    assert lengths["truncated"][lengths["edges"].index(63)] == 1


def test_a_benchmark_without_a_graded_response_has_no_share():
    assert "avg_at_n" not in score([row("sums/a", "error")], seed=0)["sums"]


def of(**shares):
    """A result with these shares of 4 correct."""
    by_problem = {own: {"graded": 4, "correct": correct} for own, correct in shares.items()}
    return {"benchmarks": {"sums": {"by_problem": by_problem}}}


def test_a_comparison_pairs_the_problems_that_both_have():
    found = compare(of(a=1, b=2, c=0, only=4), of(a=2, b=4, c=0))["sums"]
    assert (found["problems"], found["only_in_one"]) == (3, 1)
    assert (found["a"], found["b"]) == (pytest.approx(0.25), pytest.approx(0.5))
    assert found["difference"]["value"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert (found["better"], found["worse"]) == (2, 0)


def test_equal_steps_on_every_problem_leave_no_doubt_however_the_problems_differ():
    hard_and_easy = {f"p{n}": n % 4 for n in range(20)}
    found = compare(of(**hard_and_easy), of(**{own: share + 1 for own, share in hard_and_easy.items()}))["sums"]
    assert (found["difference"]["low"], found["difference"]["high"]) == (0.25, 0.25)


def test_results_without_a_problem_in_common_compare_nothing():
    assert compare(of(a=1), of(b=1)) == {}
