"""The delta codec: what goes in comes out, and nothing else is accepted."""

import contextlib
import itertools
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.common.delta import BLOCK_BYTES, decode_pieces, encode_pieces
from leeway_rl.common.errors import WeightsError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def encode_delta(base: np.ndarray, new: np.ndarray, item_size: int) -> bytes:
    return b"".join(encode_pieces(base, new, item_size))


def decode_delta(base: np.ndarray, payload: bytes, item_size: int) -> np.ndarray:
    out = np.empty(len(base), np.uint8)
    decode_pieces([payload], out, base, item_size)
    return out


def random_bytes(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def low_bits_flipped(base: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    items = base.view(np.uint16).copy()
    chosen = np.random.default_rng(seed).random(len(items)) < share
    items[chosen] ^= 1
    return items.view(np.uint8)


@st.composite
def two_versions(draw):
    item_size = draw(st.sampled_from([1, 2, 3, 4, 8]))
    items = draw(st.integers(0, 300))
    base = draw(st.binary(min_size=items * item_size, max_size=items * item_size))
    new = draw(st.one_of(st.just(base), st.binary(min_size=len(base), max_size=len(base))))
    return np.frombuffer(base, np.uint8), np.frombuffer(new, np.uint8), item_size


@settings(deadline=None)
@given(two_versions())
def test_a_delta_gives_back_every_bit(versions):
    base, new, item_size = versions
    assert np.array_equal(decode_delta(base, encode_delta(base, new, item_size), item_size), new)


@settings(deadline=None)
@given(two_versions(), st.integers(1, 50))
def test_a_payload_may_be_cut_anywhere(versions, size):
    base, new, item_size = versions
    payload = encode_delta(base, new, item_size)
    out = np.empty_like(new)
    decode_pieces((payload[at : at + size] for at in range(0, len(payload), size)), out, base, item_size)
    assert np.array_equal(out, new)


@pytest.mark.parametrize("item_size", [1, 2, 4])
@pytest.mark.parametrize("extra", [-4, 0, 4])
def test_versions_of_several_blocks_come_back_whole(item_size, extra):
    base = random_bytes(3 * BLOCK_BYTES + extra)
    new = random_bytes(len(base), seed=1)
    assert np.array_equal(decode_delta(base, encode_delta(base, new, item_size), item_size), new)


def test_a_whole_version_needs_no_base():
    new = random_bytes(2 * BLOCK_BYTES + 10)
    out = np.empty_like(new)
    decode_pieces(encode_pieces(None, new, 2), out, None, 2)
    assert np.array_equal(out, new)


def test_a_chain_can_be_followed_within_one_buffer():
    versions = [random_bytes(BLOCK_BYTES + 2, seed) for seed in range(4)]
    buffer = versions[0].copy()
    for base, new in itertools.pairwise(versions):
        decode_pieces([encode_delta(base, new, 2)], buffer, buffer, 2)
        assert np.array_equal(buffer, new)


def test_a_small_change_makes_a_small_delta():
    base = random_bytes(2_000_000)
    new = low_bits_flipped(base, share=0.004)
    payload = encode_delta(base, new, 2)
    assert len(payload) < 0.01 * len(new)


def test_what_does_not_compress_hardly_grows():
    base, new = random_bytes(1_000_000), random_bytes(1_000_000, seed=1)
    assert len(encode_delta(base, new, 2)) < 1_000_000 * 1.001


def test_a_payload_cut_short_is_refused():
    base, new = random_bytes(100_000), random_bytes(100_000, seed=1)
    payload = encode_delta(base, new, 2)
    for length in (0, 3, len(payload) // 2, len(payload) - 1):
        with pytest.raises(WeightsError, match="too early"):
            decode_delta(base, payload[:length], 2)


def test_a_payload_with_something_after_its_end_is_refused():
    base = random_bytes(1000)
    payload = encode_delta(base, base, 2)
    with pytest.raises(WeightsError, match="after its end"):
        decode_delta(base, payload + b"x", 2)
    with pytest.raises(WeightsError, match="after its end"):
        decode_pieces([payload, payload], np.empty_like(base), base, 2)


def test_a_payload_of_another_size_is_refused():
    base = random_bytes(1000)
    with pytest.raises(WeightsError, match="more than"):
        decode_delta(base[:998], encode_delta(base, base, 2), 2)
    with pytest.raises(WeightsError, match="too early"):
        decode_delta(base, encode_delta(base[:998], base[:998], 2), 2)


def test_a_bomb_allocates_no_more_than_the_version():
    bomb = zstd.compress(bytes(256 * 1024 * 1024))
    base = random_bytes(1000)
    tracemalloc.start()
    with pytest.raises(WeightsError, match="more than"):
        decode_delta(base, bomb, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024 * 1024, "other threads may take some, too"


def test_a_window_that_asks_for_much_memory_is_refused():
    options = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    payload = compressor.compress(bytes(1000)) + compressor.flush()
    with pytest.raises(WeightsError, match="damaged"):
        decode_delta(random_bytes(1000), payload, 2)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_payload_is_refused_or_gives_as_many_bytes(data):
    base, new = random_bytes(500), random_bytes(500, seed=1)
    payload = bytearray(encode_delta(base, new, 2))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(WeightsError):
        assert len(decode_delta(base, bytes(payload), 2)) == 500


def test_buffers_that_do_not_fit_are_an_error_of_the_caller():
    with pytest.raises(ValueError, match="one length"):
        encode_delta(random_bytes(10), random_bytes(12), 2)
    with pytest.raises(ValueError, match="whole number"):
        encode_delta(random_bytes(11), random_bytes(11), 2)
