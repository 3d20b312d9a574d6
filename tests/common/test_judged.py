"""What of a row goes to its judges: an answer where one is judged, the row where functions are asked, and no more."""

import json

import pytest
from leeway_rl.common.config import Data, Reward
from leeway_rl.common.errors import DataError
from leeway_rl.common.ground_truth import OWN
from leeway_rl.common.prompts import row_of

OWN_CODE = (Reward(use="mine.py:f"),)
PLAIN = {"prompt": "2+3?", "answer": "5"}


def row(values, rewards=(), **data):
    return row_of(values, "p:1", "rows.jsonl:7", Data(path="", **data), rewards)


def test_without_rewards_no_column_travels_and_an_answer_is_due():
    assert row(PLAIN).columns == ""
    with pytest.raises(DataError, match="a row without an answer"):
        row({"prompt": "Write a poem."})


def test_judges_alone_are_given_no_row():
    assert row(PLAIN, [Reward(use="math")]).columns == ""


def test_a_row_that_functions_judge_needs_no_answer():
    found = row({"prompt": "Write a poem.", "style": {"feet": 5}}, OWN_CODE)
    assert (found.ability, found.ground_truth) == (OWN, ())
    assert json.loads(found.columns) == {"prompt": "Write a poem.", "style": {"feet": 5}}


def test_a_judge_beside_a_function_says_what_the_answer_must_be():
    words = {"prompt": "Spell it backwards: abc", "answer": "cba"}
    assert row(words, [*OWN_CODE, Reward(use="exact")]).ability == "exact"
    with pytest.raises(DataError, match="a row without an answer"):
        row({"prompt": "abc"}, [*OWN_CODE, Reward(use="math")])
    assert row(PLAIN, [*OWN_CODE, Reward(use="row")], ability="exact").ability == "exact"


def test_the_columns_that_travel_are_chosen():
    values = PLAIN | {"notes": "x" * 100_000, "colour": "red"}
    assert json.loads(row(values, OWN_CODE, row_columns=["colour"]).columns) == {"prompt": "2+3?", "colour": "red"}
    with pytest.raises(DataError, match=r"no column 'color', which data\.row_columns names; there: prompt, answer"):
        row(values, OWN_CODE, row_columns=["color"])


def test_a_row_that_is_too_large_is_named_with_its_largest_column():
    with pytest.raises(DataError, match=r"rows\.jsonl:7: column 'notes': the row has 100,0\d\d bytes as JSON, 100,002"):
        row(PLAIN | {"notes": "x" * 100_000}, OWN_CODE)
    assert row(PLAIN | {"notes": "x" * 100_000}, OWN_CODE, max_row_bytes=200_000).columns


@pytest.mark.parametrize("value", [b"\x00", float("nan"), {"at": object()}])
def test_a_column_that_is_no_json_is_named(value):
    with pytest.raises(DataError, match=r"rows\.jsonl:7: column odd.*leave the column out by data\.row_columns"):
        row(PLAIN | {"odd": value}, OWN_CODE)
