"""Scores and comparisons by hand."""

import json

import pytest
from leeway_rl.evaluation.compare import compare, main
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
    """A result with these shares of 4 correct; a problem's text is its own id, its gold the same everywhere."""
    return results({own: (own, "gold", correct) for own, correct in shares.items()})


def results(problems):
    """A result of {id: (text, gold, correct of 4)}."""
    by_problem = {
        own: {"graded": 4, "correct": correct, "text": text, "gold": gold}
        for own, (text, gold, correct) in problems.items()
    }
    return {"benchmarks": {"sums": {"by_problem": by_problem}}}


def test_a_comparison_pairs_the_problems_that_both_have():
    found = compare(of(a=1, b=2, c=0, only=4), of(a=2, b=4, c=0))["sums"]
    assert (found["problems"], found["only_in_a"], found["only_in_b"]) == (3, ["only"], [])
    assert (found["a"], found["b"]) == (pytest.approx(0.25), pytest.approx(0.5))
    assert found["difference"]["value"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert (found["better"], found["worse"]) == (2, 0)


def test_problems_are_paired_by_what_they_ask_and_not_by_their_rows():
    a = results({str(row): (f"problem {row}", "gold", 1) for row in range(1, 21)})
    moved = results({str(row + 1): (f"problem {row}", "gold", 2) for row in range(20)})
    found = compare(a, moved)["sums"]
    assert (found["problems"], found["only_in_a"], found["only_in_b"]) == (19, ["20"], ["1"])
    assert found["difference"]["low"] == found["difference"]["high"] == 0.25
    assert len(found["renamed"]) == 19 + 1
    others = results({str(row): (f"another {row}", "gold", 2) for row in range(1, 21)})
    found = compare(a, others)["sums"]
    assert (found["problems"], len(found["only_in_a"]), len(found["only_in_b"])) == (0, 20, 20)
    assert "difference" not in found


def test_a_problem_with_another_gold_is_named_and_left_out():
    found = compare(
        results({"1": ("p", "5", 4), "2": ("q", "6", 1)}), results({"1": ("p", "7", 0), "2": ("q", "6", 1)})
    )["sums"]
    assert (found["problems"], found["other_golds"], found["only_in_a"], found["only_in_b"]) == (
        1,
        [["1", "1"]],
        [],
        [],
    )
    assert found["difference"]["value"] == 0


def test_a_problem_that_stands_there_several_times_counts_once_with_all_its_responses():
    a = results({"1": ("p", "g", 4), "2": ("p", "g", 2), "3": ("q", "g", 0)})
    b = results({"x": ("p", "g", 3), "y": ("q", "g", 0), "z": ("q", "other", 0)})
    found = compare(a, b)["sums"]
    assert (found["problems"], found["repeated"]) == (2, [["1", "2"]])
    assert (found["a"], found["b"]) == (0.375, 0.375)
    assert found["other_golds"] == [["3", "z"]], "the third of B asks as the third of A and is judged otherwise"


def folder(path, result, **asked):
    path.mkdir()
    whole = {"asked": {"temperature": 1.0, "max_tokens": 8} | asked, "judges": ["verifier 1"], "missing": {}}
    (path / "eval.json").write_text(json.dumps(whole | result))
    return str(path)


def compared(capsys, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["compare", *words])
    code = main()
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_says_what_it_leaves_out_and_refuses_what_has_nothing_in_common(tmp_path, capsys, monkeypatch):
    a = folder(tmp_path / "a", results({"1": ("p", "5", 4), "2": ("q", "6", 1), "3": ("r", "6", 1)}))
    b = folder(tmp_path / "b", results({"1": ("p", "5", 2), "2": ("q", "7", 1)}), temperature=0.6)
    c = folder(tmp_path / "c", results({"1": ("s", "5", 2)}))
    code, out, _ = compared(capsys, monkeypatch, a, b)
    assert code == 0
    assert "sums: 1 problem in A alone, left out: 3" in out
    assert "sums: 1 problem with the same question and different golds, left out: 2" in out
    assert "A was asked with temperature = 1.0, B with 0.6" in out
    code, _, err = compared(capsys, monkeypatch, a, c)
    assert code == 3
    assert f"{a} and {c} have no problem in common, so there is nothing to compare" in err
    assert "sums: 3 problems in A alone" in err
    d = folder(tmp_path / "d", {"benchmarks": {"products": results({"1": ("p", "5", 2)})["benchmarks"]["sums"]}})
    code, _, err = compared(capsys, monkeypatch, a, d)
    assert (code, f"({a}: sums; {d}: products)" in err) == (3, True)
    old = folder(tmp_path / "old", {"benchmarks": {"sums": {"by_problem": {"1": {"graded": 4, "correct": 1}}}}})
    code, _, err = compared(capsys, monkeypatch, a, old)
    assert (code, f"leeway eval regrade {old} writes it anew" in err) == (3, True)


def test_equal_steps_on_every_problem_leave_no_doubt_however_the_problems_differ():
    hard_and_easy = {f"p{n}": n % 4 for n in range(20)}
    found = compare(of(**hard_and_easy), of(**{own: share + 1 for own, share in hard_and_easy.items()}))["sums"]
    assert (found["difference"]["low"], found["difference"]["high"]) == (0.25, 0.25)
