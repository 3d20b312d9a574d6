"""Rows of each published set, as its documentation or a real row has them, become working rows."""

import json

import pytest
from leeway_rl.data.sources import FORMATS, RowError, with_columns, without_instructions, working_row

NUMINA = {
    "problem": "Find $x$ if $2x = 6$.",
    "solution": "Halving, $x = 3$.",
    "answer": "3",
    "problem_type": "Algebra",
    "question_type": "math-word-problem",
    "problem_is_valid": "Yes",
    "solution_is_valid": "Yes",
    "source": "olympiads",
    "synthetic": False,
}
LEETCODE = {
    "task_id": "add-two",
    "difficulty": "Easy",
    "problem_description": "Add two integers.",
    "prompt": "from typing import *\n",
    "completion": "class Solution:\n    def add(self, a, b):\n        return a + b\n",
    "entry_point": "Solution().add",
    "test": "def check(candidate):\n    assert candidate(a=1, b=2) == 3\n",
    "query": "You are an expert Python programmer. … Add two integers. …",
    "response": "…",
}
TACO = {
    "question": "Print the sum of two integers.",
    "solutions": json.dumps(
        ["print(sum(map(int, input().split())))", "a, b = map(int, input().split())\nprint(a + b)"]
    ),
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
    "source": "codeforces",
}
SKYWORK = {
    "data_source": "train-math-numinamath1.5_olympiads",
    "prompt": [
        {
            "content": "Find it. Let's think step by step and output the final answer within \\boxed{}.",
            "role": "user",
        }
    ],
    "ability": "math",
    "reward_model": {"ground_truth": '["0.50"]', "style": "rule"},
    "extra_info": {"index": 7, "model_difficulty": {"DeepSeek-R1-Distill-Qwen-7B": 3}},
}


def row_of(values, form, **more):
    return working_row(values | more, FORMATS[form], source="here", file="rows.jsonl", number=1)


def test_numina_rows_keep_subset_type_and_flags():
    row = row_of(NUMINA, "numina-1.5", solution_is_valid="Incomplete")
    assert row["problem"] == row["messages"][0]["content"] == NUMINA["problem"]
    assert (row["subset"], row["question_type"], row["valid"]) == ("olympiads", "math-word-problem", False)
    assert row_of(NUMINA, "numina-1.5")["valid"] is True
    assert json.loads(row["ground_truth"]) == ["3"]


def test_the_other_sets_in_mathematics():
    assert row_of({"problem": "P", "answer": 4, "solution": "S"}, "deepscaler")["ground_truth"] == '["4"]'
    assert row_of({"question": "Q", "answer": "4"}, "still-3")["solution"] is None
    omni = {"domain": ["Algebra"], "difficulty": 5.0, "problem": "P", "solution": "S", "answer": "4", "source": "imo"}
    assert row_of(omni, "omni-math")["subset"] == "imo"


def test_aime_of_2024_is_left_out():
    aime = {"ID": "2023-I-1", "Year": 2023, "Problem Number": 1, "Question": "Q", "Answer": "025", "Part": "I"}
    assert json.loads(row_of(aime, "aime")["ground_truth"]) == ["025"]
    with pytest.raises(RowError, match="of 2024 or later"):
        row_of(aime, "aime", Year="2024")
    with pytest.raises(RowError, match="year is no number"):
        row_of(aime, "aime", Year="last")


def test_leetcode_rows_become_a_test_program_with_its_solution():
    row = row_of(LEETCODE, "leetcode")
    assert json.loads(row["ground_truth"]) == {
        "import_prefix": LEETCODE["prompt"],
        "test_code": LEETCODE["test"],
        "entry_point": "Solution().add",
    }
    assert json.loads(row["solution"]) == [LEETCODE["completion"]]
    assert row["messages"][0]["content"] == LEETCODE["query"]
    assert row["problem"] == "Add two integers."


def test_taco_rows_keep_their_tests_and_every_solution():
    row = row_of(TACO, "taco", starter_code="def f(a):\n")
    assert json.loads(row["ground_truth"]) == json.loads(TACO["input_output"])
    assert len(json.loads(row["solution"])) == 2
    assert row["messages"][0]["content"].endswith("```python\ndef f(a):\n\n```")


@pytest.mark.parametrize("tests", ["", "{}", "not JSON", "null"])
def test_code_without_tests_is_refused(tests):
    with pytest.raises(RowError, match="tests are"):
        row_of(TACO, "taco", input_output=tests)


def test_skywork_rows_keep_golds_difficulty_and_prompt():
    row = row_of(SKYWORK, "skywork")
    assert json.loads(row["ground_truth"]) == ["0.50"]
    assert json.loads(row["difficulty"]) == {"DeepSeek-R1-Distill-Qwen-7B": 3}
    assert row["messages"] == SKYWORK["prompt"]
    assert row["problem"] == "Find it."
    bare = row_of(SKYWORK, "skywork", reward_model={"ground_truth": "204", "style": "rule"})
    assert json.loads(bare["ground_truth"]) == ["204"]


def test_plain_rows_may_have_tests_or_other_columns():
    assert row_of({"prompt": "P", "tests": {"inputs": ["1"], "outputs": ["1"]}}, "plain")["ability"] == "code"
    form = with_columns(FORMATS["plain"], {"problem": "frage", "answer": "antwort"})
    row = working_row({"frage": "P", "antwort": ["1", "2"]}, form, source="here", file="f", number=1)
    assert json.loads(row["ground_truth"]) == ["1", "2"]
    with pytest.raises(ValueError, match=r"columns\.anwser: no such key"):
        with_columns(FORMATS["plain"], {"anwser": "x"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "not an object"),
        ({"answer": "3"}, "column 'problem' or 'question' or 'prompt' is missing"),
        ({"problem": "P"}, "column 'answer' is missing"),
        ({"problem": "P", "answer": None}, "the answer is null"),
        ({"problem": "P", "answer": "  "}, "the answer is empty"),
        ({"problem": "P", "answer": True}, "the answer is no text"),
        ({"problem": "P", "answer": []}, "the answer is no text"),
        ({"problem": " ", "answer": "3"}, "the problem is empty"),
        ({"problem": 3, "answer": "3"}, "the problem is no text"),
        ({"reward_model": {}}, "ground_truth is no text"),
        ({"reward_model": {"ground_truth": "3"}, "prompt": []}, "the prompt is no list"),
        ({"reward_model": {"ground_truth": "3"}, "prompt": [{"role": "user"}]}, "a message is no"),
        ({"reward_model": {"ground_truth": "{"}, "prompt": "P", "ability": "code"}, "the tests are not JSON"),
    ],
)
def test_a_broken_row_says_what_is_wrong(values, reason):
    with pytest.raises(RowError, match=reason):
        working_row(values, FORMATS["plain"], source="here", file="f", number=1)


def test_published_instructions_are_no_part_of_the_problem():
    frame = (
        "You will be given a question (problem specification) and will generate a correct Python program.\n\n"
        "### Question:\nAdd two integers.\n\n### Format: Read from stdin.\n```python\n```\n\n### Answer: (code)"
    )
    assert without_instructions(frame) == "Add two integers."
    asked = "Solve the following problem. What is $3 + 4$? Put your final answer in \\boxed{}."
    assert without_instructions(asked) == "What is $3 + 4$?"
    assert without_instructions("Put your final answer in a box of 3 balls.").endswith("3 balls.")
    assert without_instructions("Let's think about it.") == "Let's think about it."
