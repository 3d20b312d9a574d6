"""What came back of a group is used only where it is of the group's ticket, and complete."""

from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common.codec import encode
from leeway_rl.common.errors import DecodeError
from leeway_rl.common.scored import parts_of, responses_of
from leeway_rl.common.types import VerdictKind

from tests.samples import a_ticket, some_responses, some_scores

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


def test_a_response_longer_than_its_ticket_allows_is_refused():
    with pytest.raises(DecodeError, match="a response of 3 tokens where 2 is the limit"):
        responses_of(a_ticket(max_new_tokens=2), encode(SAMPLED))
