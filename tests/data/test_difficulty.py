"""Difficulty: failures of so many are counted as the verifier says, and what could not be rated says so."""

import itertools
import json

import pyarrow.parquet as pq
import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.data import output, recipe
from leeway_rl.data.dataset import Dataset, drop_of
from leeway_rl.data.difficulty import Difficulty, Grades, rating_of

from tests.data.endpoint_double import EndpointDouble, asked, completion

SUMS = [{"problem": f"{number} + 1?", "answer": number + 1} for number in range(4)]
ECHO = {"prompt": "Echo a line.", "tests": {"inputs": ["a\n", "b\n"], "outputs": ["a\n", "b\n"]}}


def rated(folder, rows, server, **options):
    """(working rows kept, dropped rows, counts, what is missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.load_alone(recipe.Source(name="mine", path=str(folder / "rows.jsonl")), folder / "dataset")
    chosen = {"name": "M-1B", "model": "m", "endpoint": server.url, "responses": 4, "responses_code": 2, "tries": 1}
    missing = []
    funnel, _ = recipe.do_step(
        "difficulty", Difficulty(**chosen | options), Dataset(folder / "dataset"), folder / "out", folder, 1, missing
    )
    kept = [row for rows in Dataset(folder / "out").rows() for row in rows]
    return kept, pq.read_table(folder / "out" / "dropped.parquet").to_pylist(), funnel, missing


def by_problem(**solved):
    """A behaviour: the first so many answers about a problem are right."""
    counts = {key: itertools.count() for key in solved}  # next() is one step, whichever threads ask

    def behave(request, _):
        problem = asked(request)
        key = "echo" if "Echo" in problem else f"p{problem[0]}"
        right = next(counts[key]) < solved[key]
        if key == "echo":
            return f"```python\nprint({'input()' if right else '1'})\n```"
        return f"\\boxed{{{int(problem[0]) + 1 if right else 99}}}"

    return behave


def test_failures_are_counted_and_what_teaches_nothing_leaves(tmp_path):
    with EndpointDouble(by_problem(p0=0, p1=1, p2=3, p3=4, echo=1)) as server:
        kept, dropped, funnel, missing = rated(tmp_path, [*SUMS, ECHO], server)
    assert missing == []
    assert [(row["problem"], json.loads(row["difficulty"])) for row in kept] == [
        ("1 + 1?", {"M-1B": 3}),
        ("2 + 1?", {"M-1B": 1}),
        ("Echo a line.", {"M-1B": 1}),
    ]
    assert [(row["problem"], row["reason"], row["detail"], row["difficulty"]) for row in dropped] == [
        ("0 + 1?", "never solved by M-1B", "solved 0 of 4 times", '{"M-1B": 4}'),
        ("3 + 1?", "always solved by M-1B", "solved 4 of 4 times", '{"M-1B": 0}'),
    ]
    assert (funnel.total().rows_in, funnel.total().kept) == (5, 3)
    assert len(server.requests) == 4 * 4 + 2
    assert {(r["temperature"], r["top_p"], r["max_tokens"]) for r in server.requests} == {(1.0, 1.0, 32768)}
    assert len({r["seed"] for r in server.requests}) == 18


def test_a_truncated_response_is_a_failure_and_not_an_error(tmp_path):
    with EndpointDouble(lambda *_: completion("\\boxed{1}", finish="length")) as server:
        kept, _, _, missing = rated(tmp_path, SUMS[:1], server, never_solved="keep")
    assert (json.loads(kept[0]["difficulty"]), missing) == ({"M-1B": 4}, [])


def test_it_goes_on_behind_what_was_answered_and_rates_nothing_on_half_of_it(tmp_path):
    right = by_problem(p0=2, p1=2, p2=2, p3=2)
    with EndpointDouble(lambda request, times: 503 if asked(request)[0] in "13" else right(request, times)) as server:
        kept, dropped, _, missing = rated(tmp_path, SUMS, server)
    assert [row["problem"] for row in kept] == ["0 + 1?", "2 + 1?"]
    assert {(row["reason"], row["detail"], row["difficulty"]) for row in dropped} == {
        ("not rated yet: responses are missing", "0 of 4 responses graded", None)
    }
    assert "difficulty by M-1B at http://127.0.0.1" in missing[0]
    assert "8 requests without an answer: 8 HTTP 503" in missing[0]
    with EndpointDouble(right) as server:
        kept, dropped, _, missing = rated(tmp_path, SUMS, server)
    assert len(server.requests) == 8
    assert ([json.loads(row["difficulty"]) for row in kept], dropped, missing) == ([{"M-1B": 2}] * 4, [], [])
    with EndpointDouble(right) as server:  # done: nothing is asked; and with another rule, the answers serve again
        rated(tmp_path, SUMS, server)
        rated(tmp_path, SUMS, server, never_solved="keep", name="M")
    assert server.requests == []


def test_what_the_endpoint_cannot_take_and_what_nobody_can_grade_leave_for_their_own_reasons(tmp_path):
    broken = {"prompt": "Echo?", "tests": {"inputs": ["a\n"], "outputs": [["not", 3]]}}

    def behave(request, _):
        return 400 if asked(request) == "1 + 1?" else "\\boxed{1}"

    with EndpointDouble(behave) as server:
        kept, dropped, _, missing = rated(tmp_path, [*SUMS[:2], broken], server, always_solved="keep")
    assert [row["problem"] for row in kept] == ["0 + 1?"]
    assert [(row["problem"], row["reason"]) for row in dropped] == [
        ("1 + 1?", "not rated: it cannot be asked"),
        ("Echo?", "not rated: the verifier cannot read it"),
    ]
    assert missing == []


def test_an_error_of_the_verifier_is_no_failure_of_the_model():
    grades = Grades.none(1)
    for verdict in ("wrong", "timeout", "no_answer", "error"):
        grades.count(0, verdict)
    options = Difficulty(name="m", responses=4)
    assert drop_of(rating_of(options, grades, 0, "math")).reason == "not rated: grading fails"
    grades.count(0, "correct")
    assert rating_of(options, grades, 0, "math").failures == 3


def test_ratings_that_rows_bring_serve_without_a_model(tmp_path):
    def row(**failures):
        extra = {"index": 1, "model_difficulty": failures}
        return {"prompt": "Half of 2?", "reward_model": {"ground_truth": '["1"]', "style": "rule"}, "extra_info": extra}

    rows = [row(a=0, b=3), row(a=5, b=16), row(a=16, b=16), row(b=7), row(a=17)]
    with EndpointDouble(lambda *_: "") as server:
        kept, dropped, _, _ = rated(tmp_path, rows, server, name="a", model="", endpoint="", responses=16)
    assert server.requests == []
    assert [row["row"] for row in kept] == [2]
    assert [row["reason"] for row in dropped] == [
        "always solved by a",
        "never solved by a",
        "not rated: the row brings no rating of this model",
        "not rated: more failures than responses",
    ]


@pytest.mark.slow
def test_the_rollout_engine_rates_rows_and_names_what_it_cannot_ask(tmp_path, tiny_model):
    """The model of the tiny preset adds two-digit numbers and gets about two thirds right."""
    rows = [{"problem": f"{a}+{b}", "answer": a + b} for a, b in ((25, 60), (31, 51), (98, 76), (44, 58))]
    rows += [{"problem": "99+" * 40 + "1", "answer": 1}, {"problem": "1+1", "answer": "never"}]
    options = {"model": str(tiny_model), "endpoint": "", "engine": "torch", "max_tokens": 64, "max_prompt_tokens": 32}
    with EndpointDouble(lambda *_: "") as server:
        kept, dropped, funnel, missing = rated(tmp_path, rows, server, **options, responses=8, always_solved="keep")
        again, *_ = rated(tmp_path, rows, server, **options, responses=8, always_solved="keep", never_solved="keep")
    reasons = {row["row"]: row["reason"] for row in dropped}
    assert (reasons[5], reasons[6], missing) == ("not rated: it cannot be asked", "never solved by M-1B", [])
    assert kept
    assert all(0 <= json.loads(row["difficulty"])["M-1B"] < 8 for row in kept)
    assert {row["row"] for row in again} == {row["row"] for row in kept} | {6}
    (file,) = tmp_path.glob("out.*.asked/sample/responses.parquet")
    responses = pq.read_table(file).to_pylist()
    assert len(responses) == 5 * 8
    for row in kept:
        wrong = sum(r["verdict"] != "correct" for r in responses if r["id"] == str(row["row"] - 1))
        assert json.loads(row["difficulty"]) == {"M-1B": wrong}
    assert "M-1B: 1 problem that leeway sample could not ask" in funnel.notes


def test_a_model_that_is_not_there_is_named(tmp_path):
    with (
        EndpointDouble(lambda *_: "") as server,
        pytest.raises(DataError, match=r"model = './nowhere': no such folder"),
    ):
        rated(tmp_path, SUMS, server, model="./nowhere", endpoint="")


def test_the_card_shows_what_was_rated_and_what_stayed(tmp_path):
    with EndpointDouble(by_problem(p0=0, p1=1, p2=3, p3=4)) as server:
        text = (
            '[[source]]\nname = "mine"\npath = "rows.jsonl"\n[[step]]\ndo = "difficulty"\nname = "M-1B"\nmodel = "m"\n'
        )
        (tmp_path / "recipe.toml").write_text(text + f'endpoint = "{server.url}"\nresponses = 4\n')
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SUMS))
        found = recipe.read_recipe(tmp_path / "recipe.toml")
        result = recipe.run(found, tmp_path / "out" / "datasets", jobs=1, say=lambda _: None)
    output.write(result, found, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "data.parquet").to_pylist()
    assert [row["extra_info"]["model_difficulty"] for row in rows] == [{"M-1B": 3}, {"M-1B": 1}]
    card = (tmp_path / "out" / "card.md").read_text()
    assert "- M-1B: 4 rows rated, 2 of them kept" in card
    assert "| never solved by M-1B | 1 | 1 |" in card
    assert "M-1B at http://127.0.0.1" in card
    assert (tmp_path / "out" / "difficulty.png").stat().st_size > 1000
