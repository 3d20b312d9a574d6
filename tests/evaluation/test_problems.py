"""Problems: rows in, tickets out; each bad row named by file and line."""

import json

import pytest
from leeway_rl.common.codec import encode
from leeway_rl.common.config import compose
from leeway_rl.common.errors import DataError
from leeway_rl.common.weights import Stamp
from leeway_rl.evaluation.golds import Source
from leeway_rl.evaluation.problems import load_problems, ticket_of
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


CONFIG = compose(["tiny"], ["flow.seed=3", "train.max_response_tokens=20"])


def read(tmp_path, tokenizer, *lines, responses=4):
    path, said = tmp_path / "p.jsonl", []
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    problems, rows = load_problems(path, CONFIG, tokenizer, responses, said.append)
    return problems, rows, [text.removeprefix(str(tmp_path) + "/") for text in said]


def test_each_bad_row_is_named_and_the_others_are_asked(tmp_path, tokenizer):
    problems, rows, said = read(
        tmp_path,
        tokenizer,
        {"id": 7, "prompt": "1+2", "answer": "3"},
        "{",
        {"prompt": "1+2"},
        {"id": 7, "prompt": "1+3", "answer": "4"},
        {"id": "long", "prompt": "1+" * 40, "answer": "4"},
        {"id": [1], "prompt": "1+3", "answer": "4"},
        {"id": "few", "prompt": "1+3", "answer": "4", "responses": 0},
        {"prompt": "1+3", "answer": "4", "ability": "poetry"},
        {"prompt": [{"role": "user", "content": "1+5"}], "answer": ["6", "six"], "responses": 2},
        {"id": "skywork", "prompt": "1+6", "ability": "math", "reward_model": {"ground_truth": '["7"]'}},
    )
    assert [(p.problem_id, p.place, p.ground_truth, p.responses) for p in problems] == [
        ("7", 0, ("3",), 4),
        ("p.jsonl:9", 8, ("6", "six"), 2),
        ("skywork", 9, ("7",), 4),
    ]
    assert rows == 10
    assert [text.split(": ")[0] for text in said] == [f"p.jsonl:{line}" for line in (2, 3, 4, 5, 6, 7, 8)]
    assert "id '7' is also in an earlier row" in said[2]
    assert "--max-prompt-tokens is 32" in said[3]


def test_a_file_without_a_usable_row_is_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match=r"no row can be used \(1 row\)"):
        read(tmp_path, tokenizer, {"prompt": "1+2"})


def test_versions_are_asked_the_same_under_numbers_of_their_own(tmp_path, tokenizer):
    problems, rows, _ = read(tmp_path, tokenizer, *[{"prompt": f"1+{n}", "answer": "3"} for n in range(3)])
    old, new = ([ticket_of(p, CONFIG, Stamp(2, version), rows, 0.9) for p in problems] for version in (0, 20))
    assert [t.ticket for t in old] == [0, 1, 2]
    assert [t.ticket for t in new] == [60, 61, 62]
    assert [t.seed for t in old] == [t.seed for t in new]
    assert len({t.seed for t in old}) == 3
    assert {(t.incarnation, t.min_version, t.top_p, t.max_new_tokens) for t in new} == {(2, 20, 0.9, 20)}


def test_a_csv_file_of_other_columns_is_asked_by_their_names(tmp_path, tokenizer):
    path, said = tmp_path / "p.csv", []
    path.write_text("number,question,solution,responses\n7,1+2,3,2\n8,1+3,,1\n9,1+4,5,none\n")
    columns = ["data.columns.id=number", "data.columns.prompt=question", "data.columns.answer=solution"]
    config = compose(["tiny"], columns)
    problems, rows = load_problems(path, config, tokenizer, 4, said.append)
    assert (rows, [(p.problem_id, p.ground_truth, p.responses) for p in problems]) == (3, [("7", ("3",), 2)])
    assert ["p.csv:2: a row without an answer" in said[0], "p.csv:3: responses must be a whole" in said[1]] == [
        True,
        True,
    ]


def test_a_sample_is_graded_anew_by_the_columns_that_it_was_asked_by(tmp_path):
    (tmp_path / "p.csv").write_text("question,solution\n1+2,3\n")
    noted = {"problems": str(tmp_path / "p.csv"), "columns": {"prompt": "question", "answer": "solution"}}
    found = Source.of(tmp_path, noted).problems
    assert {own: gold.truth for own, gold in found.items()} == {"p.csv:1": {"ability": "math", "answer": ["3"]}}


def test_a_prepared_row_is_named_by_the_user_s_own_file_row_and_column(tmp_path, tokenizer):
    origin = {"at": "mine.csv:7", "columns": {"prompt": "question", "answer": "solution"}}
    _, _, said = read(
        tmp_path,
        tokenizer,
        {"id": "a/1", "prompt": "1+2", "answer": "3"},
        {"id": "a/2", "prompt": "1+" * 40, "answer": "4", "leeway:row": origin},
        {"id": "a/3", "prompt": "1+3", "answer": "dog, cat", "leeway:row": origin | {"at": "mine.csv:8"}},
    )
    assert said[0].startswith("mine.csv:7: the prompt has 81 tokens; --max-prompt-tokens is 32")
    assert said[0].endswith(" (prompt is column 'question' there)")
    assert said[1].startswith("mine.csv:8: the gold 'dog, cat' is in words")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": "a\ud800"}, r"id: half a character, '\\ud800'"),
        ({"id": "a\0b"}, r"id: the control character '\\x00'"),
        ({"responses": 10**30}, "responses must be a whole number of 1 to 65536"),
        ({"responses": True}, "responses must be a whole number"),
        ({"responses": -1}, "responses must be a whole number"),
    ],
)
def test_what_no_ticket_can_carry_costs_its_row_alone(tmp_path, tokenizer, row, why):
    import re

    good = {"id": "good", "prompt": "1+2", "answer": "3"}
    problems, _, said = read(tmp_path, tokenizer, good, {"prompt": "1+3", "answer": "4"} | row)
    assert [problem.problem_id for problem in problems] == ["good"]
    assert re.match(rf"p.jsonl:2: {why}", said[0]), said
    encode(ticket_of(problems[0], CONFIG, Stamp(1, 0), 2, 1.0))
