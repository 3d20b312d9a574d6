"""Asking an endpoint: every request is answered, refused or failed, and nothing is asked for ever."""

import json
from contextlib import closing
from threading import Barrier

import pytest
from leeway_rl.data.endpoint import GIVE_UP, Answer, Ask, Endpoint, ask_all
from leeway_rl.data.replies import Replies
from leeway_rl.leeway.running.server import free_port

from tests.data.endpoint_double import CUT, EndpointDouble, asked, completion


def ask(behave, requests=6, **options):
    """(answers by row, tally, the server) of asking rows "row 0", "row 1", ..."""
    with EndpointDouble(behave) as server:
        return *ask_at(server.url, requests, **options), server


def ask_at(url, requests, concurrency=2, tries=3):
    endpoint = Endpoint(
        name="judge",
        url=url,
        model="some/model",
        key_variable="NO_SUCH_KEY",
        concurrency=concurrency,
        timeout_s=200,
        tries=tries,
    )
    asks = (
        Ask(row=row, index=0, messages=[{"role": "user", "content": f"row {row}"}], seed=row) for row in range(requests)
    )
    answers = {}
    (tally,) = ask_all([(endpoint, asks, lambda ask, answer: answers.update({ask.row: answer}))], {"temperature": 1})
    return answers, tally


def test_every_request_gets_its_answer_and_no_more_are_under_way_than_allowed():
    together = Barrier(3)  # each waits for two others

    def behave(request, _):
        together.wait(200)
        return f"re: {asked(request)}"

    answers, tally, server = ask(behave, requests=21, concurrency=3)
    assert answers == {row: Answer(f"re: row {row}", 7, True) for row in range(21)}
    assert (tally.answered, tally.complaint, tally.refused) == (21, "", [])
    assert server.most_at_once == 3
    assert {(r["model"], r["temperature"], r["seed"]) for r in server.requests} == {
        ("some/model", 1, row) for row in range(21)
    }


@pytest.mark.parametrize("trouble", [429, 500, 503, CUT])
def test_what_fails_once_is_tried_again(trouble):
    answers, tally, server = ask(lambda _, times: trouble if times == 0 else "yes", requests=3)
    assert len(answers) == 3
    assert not tally.complaint
    assert len(server.requests) == 6


def test_what_fails_at_every_try_is_counted_and_the_others_are_answered():
    def behave(request, _):
        return {"row 0": 503, "row 1": CUT, "row 2": b"<html>proxy</html>", "row 3": {"choices": []}}.get(
            asked(request), "yes"
        )

    answers, tally, _ = ask(behave, tries=2)
    assert sorted(answers) == [4, 5]
    assert dict(tally.failed) == {"HTTP 503": 1, "no connection": 1, "what came back is no chat completion": 2}
    assert "judge at http://127.0.0.1" in tally.complaint
    assert "4 requests without an answer: 1 HTTP 503 (" in tally.complaint


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"yes",
        {},
        [],
        3,
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": None, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": ["a"]}, "finish_reason": "stop"}]},
        completion("yes", finish=None),
    ],
)
def test_what_is_no_answer_is_never_taken_for_one(body):
    what = json.dumps(body).encode() if isinstance(body, (list, int)) else body
    answers, tally, _ = ask(lambda *_: what, requests=1)
    assert (answers, tally.failed.total()) == ({}, 1)


def test_a_request_that_the_endpoint_cannot_take_is_refused_for_good():
    answers, tally, server = ask(lambda request, _: 400 if asked(request) == "row 2" else "yes")
    assert sorted(answers) == [0, 1, 3, 4, 5]
    assert [(ask.row, str(why)[:8]) for ask, why in tally.refused] == [(2, "HTTP 400")]
    assert not tally.complaint
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_endpoint_that_refuses_everything_is_named_and_soon_left_alone(status):
    answers, tally, server = ask(lambda *_: status, requests=500)
    assert (answers, tally.refused, tally.given_up) == ({}, [], True)
    assert GIVE_UP <= len(server.requests) <= GIVE_UP + 2
    assert f"HTTP {status} (" in tally.complaint
    assert f"not asked any more behind {GIVE_UP} in a row" in tally.complaint


def test_nobody_there_is_named_without_the_password():
    url = f"http://somebody:secret@127.0.0.1:{free_port()}/v1"
    answers, tally = ask_at(url, 2, tries=1)
    assert answers == {}
    assert tally.complaint.startswith("judge at http://127.0.0.1:")
    assert "2 requests without an answer: 2 no connection" in tally.complaint
    assert "secret" not in tally.complaint


def test_reasoning_that_a_server_took_apart_is_put_back():
    def behave(request, _):
        return {
            "row 0": completion("7", reasoning="3 + 4"),
            "row 1": completion(None, finish="length", reasoning_content="3 +"),
        }[asked(request)]

    answers, _, _ = ask(behave, requests=2)
    assert answers[0] == Answer("<think>\n3 + 4\n</think>\n7", 7, True)
    assert answers[1] == Answer("<think>\n3 +", 7, False)


def test_two_endpoints_are_asked_side_by_side():
    with EndpointDouble(lambda *_: "a") as one, EndpointDouble(lambda *_: 401) as other:
        jobs, answers = [], []
        for name, server in (("one", one), ("other", other)):
            endpoint = Endpoint(
                name=name, url=server.url, model="m", key_variable="NO", concurrency=2, timeout_s=200, tries=1
            )
            asks = (Ask(row=row, index=0, messages=[{"role": "user", "content": "?"}], seed=0) for row in range(4))
            jobs.append((endpoint, asks, lambda _, answer: answers.append(answer.text)))
        tallies = ask_all(jobs, {})
    assert answers == ["a"] * 4
    assert [tally.answered for tally in tallies] == [4, 0]


def test_replies_outlive_a_stop_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "asked" / "replies.jsonl"
    one, other = (Ask(row=row, index=1, messages=[], seed=0, beside={"answer": ["7"]}) for row in (0, 2))
    with closing(Replies(path, 3, 2)) as replies:
        replies.add(other, Answer("é\n", 3, True))
        replies.refuse(one, "HTTP 400")
    with path.open("ab") as file:
        file.write(b'{"id": "1:0", "resp')
    with closing(Replies(path, 3, 2)) as replies:
        assert [(row, index) for row in range(3) for index in range(2) if replies.has(row, index)] == [(0, 1), (2, 1)]
        assert replies.get(2, 1) == {"id": "2:1", "response": "é\n", "tokens": 3, "finished": True, "answer": ["7"]}
        assert replies.get(1, 0) is None
        replies.add(Ask(row=1, index=0, messages=[], seed=0), Answer("", 0, False))
    with closing(Replies(path, 3, 1)) as fewer:  # of what is there, only the first of each row is asked for now
        assert len(fewer) == 1
        assert fewer.get(1, 0)["finished"] is False
    assert path.read_bytes().count(b"\n") == 3
