"""What the desk and the learner say to each other of a profile."""

import pytest
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.profiles import Answer, Request, from_json, to_json


def test_a_request_comes_back_from_its_text_and_no_two_are_alike():
    request = Request.new(2, 1_800_000_000.7)
    assert Request.from_text(request.to_text()) == request
    assert (request.steps, request.until) == (2, 1_800_000_000)
    assert Request.new(2, 0).id != request.id


@pytest.mark.parametrize(
    "text", ["", "2", "0123456789abcdef 0 9", "0123456789abcdef 21 9", "0123456789ABCDEF 2 9", "x" * 99]
)
def test_what_is_no_request_is_refused_with_what_would_be_right(text):
    with pytest.raises(ConfigError, match="an id, a number of steps from 1 to 20, a unix time"):
        Request.from_text(text)


def test_an_answer_comes_back_and_foreign_texts_are_none():
    answer = Answer(id="a", phase="done", steps=2, step=7, path="/p", table="/t")
    assert from_json(to_json(answer)) == answer
    assert from_json("") is None
    assert from_json('{"id": "a", "phase": "gone", "steps": 2}') is None
