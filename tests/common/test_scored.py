"""What came back of a group is used only where it is of the group's ticket, and complete."""

from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common.codec import encode
from leeway_rl.common.errors import DecodeError
from leeway_rl.common.scored import parts_of, responses_of
from leeway_rl.common.types import VerdictKind

from tests.samples import a_ticket, some_responses, some_scores, two_turns

TICKET = a_ticket()
SAMPLED, SCORES = some_responses(TICKET), some_scores(TICKET)


def uint32(*numbers):
    return np.array(numbers, np.uint32)


def test_what_is_of_the_ticket_is_read():
    responses, scores = parts_of(TICKET, (encode(SAMPLED), encode(SCORES)))
    assert responses.tokens_T.tolist() == SAMPLED.tokens_T.tolist()
    assert scores == SCORES


@pytest.mark.parametrize(
    "changes", [{"kind": VerdictKind.SCORED}, {"score": 0.5}, {"kind": VerdictKind.NO_ANSWER, "score": 0.0}]
)
def test_a_kind_and_a_score_that_do_not_go_together_are_refused(changes):
    first, second = SCORES.verdicts
    odd = replace(SCORES, verdicts=(replace(first, **changes), second))
    with pytest.raises(DecodeError, match="'scored' without a score, or has one and is not"):
        parts_of(TICKET, (encode(SAMPLED), encode(odd)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"group_id": "8-1"}, "Responses: of group 8-1, found under group 7-1"),
        ({"lengths_S": uint32(5)}, "1 responses, expected 2"),
        ({"finished_S": np.array([1], np.uint8)}, "1 responses, expected 2"),
        ({"lengths_S": uint32(3, 3)}, "lengths .* do not add up to 5 tokens"),
        ({"lengths_S": uint32(5, 0)}, "lengths .* do not add up to 5 tokens"),
        ({"logprobs_T": np.zeros(4, np.float32)}, "lengths .* do not add up to 5 tokens"),
        ({"tokens_T": uint32(1, 2, 3, 4, 6)}, "its verdicts are of other responses"),
    ],
)
def test_responses_of_another_ticket_or_of_none_are_refused(changes, why):
    with pytest.raises(DecodeError, match=why):
        parts_of(TICKET, (encode(replace(SAMPLED, **changes)), encode(SCORES)))


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        (replace(SCORES, group_id="7-2"), "Scores: of group 7-2, found under group 7-1"),
        (some_scores(TICKET, (VerdictKind.CORRECT,)), "1 verdicts, expected 2"),
    ],
)
def test_scores_of_another_ticket_are_refused(scores, why):
    with pytest.raises(DecodeError, match=why):
        parts_of(TICKET, (encode(SAMPLED), encode(scores)))


@pytest.mark.parametrize("payload", [(None, encode(SCORES)), (encode(SAMPLED), None)])
def test_a_payload_of_which_a_part_is_gone_is_refused(payload):
    with pytest.raises(DecodeError, match="its payload is not there"):
        parts_of(TICKET, payload)


def test_several_turns_are_read_and_counted():
    responses = responses_of(TICKET, encode(two_turns(TICKET)))
    assert responses.sampled_T.tolist() == [True, True, False, False, True, True, True, True]
    assert responses.sampled_S.tolist() == [4, 2]
    assert responses.turns_S.tolist() == [2, 1]
    assert SAMPLED.sampled_T.all()
    assert SAMPLED.sampled_S.tolist() == [3, 2]
    assert SAMPLED.turns_S.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([[0, 0, 2]], "observed tokens 0..2 of response 0, with 6 tokens, where those before end at 0"),
        ([[0, 4, 6]], "observed tokens 4..6 of response 0, with 6 tokens"),
        ([[0, 4, 7]], "observed tokens 4..7 of response 0, with 6 tokens"),
        ([[0, 3, 3]], "observed tokens 3..3 of response 0"),
        ([[0, 4, 3]], "observed tokens 4..3 of response 0"),
        ([[0, 2, 3], [0, 3, 4]], "observed tokens 3..4 of response 0, with 6 tokens, where those before end at 3"),
        ([[0, 4, 5], [0, 2, 3]], "observed tokens 2..3 of response 0, with 6 tokens, where those before end at 5"),
        ([[2, 1, 2]], "observed tokens of response 2 after 0, of 2 responses"),
        ([[1, 1, 2]], "observed tokens 1..2 of response 1, with 2 tokens"),
    ],
)
def test_observed_tokens_that_leave_a_turn_without_a_sampled_token_are_refused(rows, why):
    with pytest.raises(DecodeError, match=why):
        responses_of(TICKET, encode(two_turns(TICKET, observed=np.array(rows, np.uint32))))


def test_observed_tokens_out_of_the_order_of_responses_are_refused():
    rows = np.array([[1, 1, 2], [0, 1, 2]], np.uint32)
    body = encode(two_turns(TICKET, lengths_S=uint32(4, 4), observed=rows))
    with pytest.raises(DecodeError, match="observed tokens of response 0 after 1, of 2 responses"):
        responses_of(TICKET, body)


@pytest.mark.parametrize("rewards", [[1.0], [0.5, np.nan], [np.inf, 0.0], [0.0, 0.0, 0.0]])
def test_rewards_of_an_environment_that_are_not_a_number_a_response_are_refused(rewards):
    with pytest.raises(DecodeError, match=r"rewards of the environment .* for 2 responses"):
        responses_of(TICKET, encode(two_turns(TICKET, environment_S=np.array(rewards))))


def test_a_response_longer_than_its_ticket_allows_is_refused():
    with pytest.raises(DecodeError, match="a response of 3 tokens where 2 is the limit"):
        responses_of(a_ticket(max_new_tokens=2), encode(SAMPLED))
