"""Messages survive the wire, and nothing else gets through."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.common.codec import (
    MAX_SHARDS,
    SCHEMA,
    decode,
    decode_manifest,
    decode_record,
    encode,
    encode_record,
    sealed,
)
from leeway_rl.common.errors import DecodeError
from leeway_rl.common.types import Encoding, Manifest, Payload, Responses, Scores, Shard, TensorInfo, Ticket

from tests.samples import a_ticket, some_responses, some_scores, two_turns


def test_every_group_message_comes_back_as_it_was():
    ticket = a_ticket()
    for message in (ticket, some_responses(ticket), two_turns(ticket), some_scores(ticket)):
        back = decode(type(message), encode(message))
        for name in message.__slots__:
            sent, got = getattr(message, name), getattr(back, name)
            if isinstance(sent, np.ndarray):
                assert got.dtype == (np.uint32 if sent.dtype.kind == "u" else sent.dtype)
                np.testing.assert_array_equal(got, sent)
            else:
                assert got == sent


def test_a_token_costs_six_bytes_where_the_vocabulary_fits_two():
    ticket, tokens = a_ticket(group_size=1), 10_000
    responses = some_responses(
        ticket,
        tokens_T=np.full(tokens, 49_000, np.uint32),
        logprobs_T=np.zeros(tokens, np.float32),
        lengths_S=np.array([tokens], np.uint32),
    )
    assert len(encode(responses)) < 6.1 * tokens


def test_responses_without_an_environment_have_the_bytes_that_they_had():
    responses = some_responses(a_ticket())
    body = encode(responses).removesuffix(encode(responses)[-4:])
    schema, kind, fields = msgpack.unpackb(body)
    assert (schema, kind, len(fields)) == (SCHEMA, "Responses", 8)
    assert sealed(body) == encode(responses)
    assert responses.__slots__[8:] == ("observed", "environment_S")


def test_an_environment_in_which_nothing_was_observed_costs_the_row_of_its_rewards():
    alone = some_responses(a_ticket(), environment_S=np.array([0.5, 0.25]))
    back = decode(Responses, encode(alone))
    assert back.observed.shape == (0, 3)
    assert back.environment_S.tolist() == [0.5, 0.25]
    assert len(encode(alone)) - len(encode(some_responses(a_ticket()))) < 64


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise):
    with pytest.raises(DecodeError):
        decode(Ticket, noise)


@given(st.data())
def test_a_message_that_lies_under_a_good_seal_decodes_to_its_own_type_or_is_refused(data):
    body = bytearray(encode(some_responses(a_ticket()))[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(decode(Responses, sealed(bytes(body))), Responses)
    except DecodeError:
        return


@given(st.data())
def test_a_message_with_one_flipped_bit_or_cut_short_is_refused(data):
    good = encode(some_responses(a_ticket()))
    flipped = bytearray(good)
    flipped[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), good[: data.draw(st.integers(0, len(good) - 1))]):
        with pytest.raises(DecodeError, match="damaged"):
            decode(Responses, damaged)


def an_array(dtype, shape, body):
    """An array as it travels, whether its header tells the truth or not."""
    header = msgpack.packb([dtype, shape])
    return msgpack.ExtType(1, bytes([len(header)]) + header + bytes(-(1 + len(header)) % 8) + body)


def test_another_schema_another_type_and_another_shape_are_named():
    good = encode(some_scores(a_ticket()))
    with pytest.raises(DecodeError, match="expected a Ticket, found a Scores"):
        decode(Ticket, good)
    newer = sealed(msgpack.packb([SCHEMA + 1, "Scores", []]))
    with pytest.raises(DecodeError, match=f"schema {SCHEMA + 1}"):
        decode(Scores, newer)
    array = an_array("<f4", [1000], b"1234")
    with pytest.raises(DecodeError, match="needs 4000"):
        decode(Scores, sealed(msgpack.packb([SCHEMA, "Scores", [array]])))


def test_a_huge_declared_shape_allocates_nothing():
    array = an_array("<f8", [2**39, 2**39], b"")
    with pytest.raises(DecodeError, match="an array of 0 bytes"):
        decode(Scores, sealed(msgpack.packb([SCHEMA, "Scores", [array]])))


def test_a_message_above_its_types_bound_is_refused_unread_and_never_sent():
    with pytest.raises(DecodeError, match="Scores: 16777217 bytes is above the bound of 16777216"):
        decode(Scores, bytes((1 << 24) + 1))
    with pytest.raises(ValueError, match="a Scores of 17000025 bytes: readers take at most 16777216"):
        encode(Scores(group_id="7-1", verdicts=(), graded=0, worker="w" * 17_000_000))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tokens_T": np.zeros((5, 1), np.uint32)}, "Responses.tokens_T: an array of uint32 [5, 1]"),
        ({"tokens_T": np.zeros(5, np.float32)}, "Responses.tokens_T: an array of float32"),
        ({"logprobs_T": np.zeros(5, np.int32)}, "Responses.logprobs_T: an array of int32"),
        ({"spans": np.zeros((2, 3), np.uint32)}, "Responses.spans: an array of uint32 [2, 3]"),
        ({"observed": np.zeros((2, 4), np.uint32)}, "Responses.observed: an array of uint32 [2, 4]"),
        ({"observed": np.zeros((2, 3), np.int32)}, "Responses.observed: an array of int32 [2, 3]"),
        ({"environment_S": np.zeros(2, np.uint32)}, "Responses.environment_S: an array of uint32"),
        ({"seconds": float("nan")}, "Responses.seconds: nan is not finite"),
    ],
)
def test_arrays_of_another_kind_or_shape_and_numbers_that_are_none_are_refused(changes, what):
    with pytest.raises(DecodeError) as caught:
        decode(Responses, encode(some_responses(a_ticket(), **changes)))
    assert what in str(caught.value)


SHARD = Shard(offset=0, bytes=8, digest="0" * 64)
WHOLE = Payload(base=None, encoding=Encoding.PLANES, stored=(8,))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"shards": (SHARD,) * (MAX_SHARDS + 1)}, "65537 shards in 1 payloads"),
        ({"shards": (replace(SHARD, bytes=-1),)}, "a shard of -1 bytes is outside"),
        ({"shards": (replace(SHARD, bytes=1 << 40),)}, "a shard of 1099511627776 bytes is outside"),
        ({"payloads": ()}, "1 shards in 0 payloads"),
        ({"payloads": (WHOLE,) * 3}, "1 shards in 3 payloads"),
        ({"payloads": (replace(WHOLE, stored=(1 << 62,)),)}, "a shard of 4611686018427387904 bytes is outside"),
        ({"payloads": (replace(WHOLE, stored=(1, 1)),)}, "a payload that does not have all 1 shards"),
        ({"version": -1}, "a negative number"),
        ({"tensors": (TensorInfo(name="x", dtype="bfloat16", shape=(-1,)),)}, "tensor 'x' has an impossible shape"),
        ({"tensors": (TensorInfo(name="x", dtype="bfloat16", shape=(1,) * 9),)}, "tensor 'x' has an impossible shape"),
    ],
)
def test_a_manifest_of_impossible_sizes_is_refused(changes, what):
    info = TensorInfo(name="w", dtype="bfloat16", shape=(2, 2))
    fields = {"version": 0, "incarnation": 1, "transport": "redis", "tensors": (info,), "shards": (SHARD,)}
    fields |= {"payloads": (WHOLE,), "full_bytes": 8, "checksum": "0" * 64}
    assert decode_manifest(encode(Manifest(**fields))).shards == (SHARD,)
    with pytest.raises(DecodeError, match=what):
        decode_manifest(encode(Manifest(**fields | changes)))


@pytest.mark.parametrize("record", [b"", b"\xc1", [1], {"a": [1]}, {1: 2}, {"a": b"raw"}])
def test_a_record_of_measurements_is_names_with_numbers_and_texts(record):
    with pytest.raises(DecodeError, match="record:"):
        decode_record(record if isinstance(record, bytes) else sealed(msgpack.packb(record)))
    good = {"role": "rollout", "weights/load_s": 0.5, "n": 3}
    assert decode_record(encode_record(good)) == good


def test_a_wrong_field_is_named_with_its_path():
    raw = msgpack.unpackb(encode(some_scores(a_ticket()))[:-4], strict_map_key=False)
    raw[2][1][-1][0] = 17
    path = rf"Scores.verdicts\[{len(raw[2][1]) - 1}\].kind"
    assert len(raw[2][1]) > 1
    with pytest.raises(DecodeError, match=rf"^{path}: '17' is not the number of a VerdictKind"):
        decode(Scores, sealed(msgpack.packb(raw)))
