"""Packs weights into few bytes and back, without loss: XOR against an older version, byte planes, zstd.

Between two training steps most bf16 weights keep all their bits and the rest change in the lowest, so the XOR of two
versions is nearly all zeros. Splitting it into byte planes (all high bytes of a block, then all low bytes) puts those
zeros into long runs, which zstd all but removes. The same planes without the XOR serve for whole versions: sign and
exponent bytes repeat, mantissas do not.

The payload is one zstd frame. Both directions go block by block, so that beside the buffers themselves they hold a few
megabytes. Decoding writes no byte beyond the size that its caller has set, so a payload cannot make us allocate.
"""

import sys
from collections.abc import Iterable, Iterator

import numpy as np

from .errors import WeightsError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 18
"""Uncompressed bytes that are split into planes together. Both ends must agree on it: it is part of the format."""

_LEVEL = 1
# The decoder's window is memory that the payload asks for; level 1 writes windows of 2^19.
_MAX_WINDOW_LOG = 23
# The decompressor copies what it is given and does not consume at once.
_FEED_BYTES = 1 << 20


def encode_pieces(base: np.ndarray | None, new: np.ndarray, item_size: int) -> Iterator[bytes]:
    """The payload of ``new`` in pieces of any size, to be stored one after the other.

    ``base`` (``None``: the whole version, no XOR) and ``new`` are flat uint8 buffers of one length, a multiple of
    ``item_size``, the width in bytes of one weight (2 for bf16; 1 where widths are mixed, which only costs size).
    """
    _check(base, new, item_size)
    compressor = zstd.ZstdCompressor(level=_LEVEL)
    step = _block(item_size)
    for start in range(0, len(new), step):
        block = new[start : start + step]
        if base is not None:
            block = block ^ base[start : start + step]
        # Plane by plane: numpy runs one long strided copy each, several times faster than a transposed copy.
        planes = np.concatenate([block[byte::item_size] for byte in range(item_size)])
        if piece := compressor.compress(planes):
            yield piece
    yield compressor.flush()


def decode_pieces(pieces: Iterable[bytes], out: np.ndarray, base: np.ndarray | None, item_size: int) -> None:
    """Fill ``out`` with the version that ``encode_pieces(base, …)`` was given. ``pieces`` may be cut anywhere.

    ``out`` is a flat uint8 buffer whose length is the version's; it may be ``base`` itself, to go along a chain of
    deltas without another buffer. Raises ``WeightsError`` where the payload is damaged, too short or too long; ``out``
    then holds nothing of use.
    """
    _check(base, out, item_size)
    source = _Inflate(pieces)
    step = _block(item_size)
    scratch, mixed = np.empty((2, min(step, len(out))), np.uint8)
    for start in range(0, len(out), step):
        block = out[start : start + step]
        planes = scratch[: len(block)]
        source.fill(planes)
        target = block if base is None else mixed[: len(block)]
        for byte, plane in enumerate(planes.reshape(item_size, -1)):
            target[byte::item_size] = plane
        if base is not None:
            np.bitwise_xor(target, base[start : start + step], out=block)
    source.finish()


def _slices(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _FEED_BYTES):
            yield view[start : start + _FEED_BYTES]


def _block(item_size: int) -> int:
    return max(1, BLOCK_BYTES // item_size) * item_size


def _check(base: np.ndarray | None, new: np.ndarray, item_size: int) -> None:
    assert item_size >= 1
    for buffer in (new,) if base is None else (new, base):
        assert buffer.dtype == np.uint8
        assert buffer.ndim == 1
        assert buffer.flags.c_contiguous
    if len(new) % item_size:
        raise ValueError(f"{len(new)} bytes are no whole number of items of {item_size}")
    if base is not None and len(base) != len(new):
        raise ValueError(f"a delta needs buffers of one length, got {len(base)} and {len(new)} bytes")


class _Inflate:
    """Reads an exact number of bytes at a time out of one zstd frame that arrives in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._feed = _slices(pieces)
        self._zstd = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG})

    def fill(self, out: np.ndarray) -> None:
        filled = 0
        while filled < len(out):
            data = self._next(len(out) - filled)
            if data is None:
                raise WeightsError("the payload ends too early")
            out[filled : filled + len(data)] = np.frombuffer(data, np.uint8)
            filled += len(data)

    def finish(self) -> None:
        while (data := self._next(1)) is not None:
            if data:
                raise WeightsError("the payload holds more than the version's bytes")
        if not self._zstd.eof:
            raise WeightsError("the payload ends too early")
        if self._zstd.unused_data or next(self._feed, None) is not None:
            raise WeightsError("the payload goes on after its end")

    def _next(self, limit: int) -> bytes | None:
        """Up to ``limit`` bytes, perhaps none yet; ``None`` once the frame or the input has ended."""
        if self._zstd.eof:
            return None
        data: memoryview | bytes | None = next(self._feed, None) if self._zstd.needs_input else b""
        if data is None:
            return None
        try:
            return self._zstd.decompress(data, limit)
        except zstd.ZstdError as error:
            raise WeightsError(f"the payload is damaged: {error}") from error
