"""Moves a version's payload: as chunks in Redis, or as files in a folder that all workers can read."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path

import numpy as np

from ..delta import decode_pieces, encode_pieces
from ..errors import ConfigError, WeightsError
from ..files import whole_file
from ..queue.weights import WeightStream
from ..types import Manifest, TensorInfo
from .versions import IO_BYTES, FlatWeights, Stamp, dtype_bytes, stamp_of

CHUNK_BYTES = 64 * 1024 * 1024
_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


class RedisStore:
    """Payloads as chunks, each of which is one value in Redis. A keyframe is packed like a delta without the XOR."""

    transport = "redis"

    def __init__(self, stream: WeightStream, chunk_bytes: int) -> None:
        self._stream = stream
        self._chunk_bytes = chunk_bytes

    def write(self, stamp: Stamp, weights: FlatWeights, base: np.ndarray | None) -> tuple[int, int]:
        """Returns (chunks, bytes stored)."""
        chunks = stored = 0
        for chunk in _regroup(encode_pieces(base, weights.buffer, _item_size(weights.infos)), self._chunk_bytes):
            self._stream.put_chunk(stamp.version, stamp.incarnation, chunks, chunk)
            chunks, stored = chunks + 1, stored + len(chunk)
        return chunks, stored

    def read(self, manifest: Manifest, out: np.ndarray, base: np.ndarray | None, tick: Callable[[], None]) -> None:
        decode_pieces(self._chunks(manifest, tick), out, base, _item_size(manifest.tensors))

    def _chunks(self, manifest: Manifest, tick: Callable[[], None]) -> Iterator[bytes]:
        for index in range(manifest.chunks):
            chunk = self._stream.get_chunk(manifest.version, manifest.incarnation, index)
            if chunk is None:
                raise WeightsError(f"chunk {index} of {manifest.chunks} of version {manifest.version} is missing")
            tick()
            yield chunk


class FileStore:
    """Payloads as files in a shared directory: a keyframe is a safetensors file, and a delta is a zstd frame.

    A file gets its name only once its bytes are on the disk, so every name stands for a whole payload.
    """

    transport = "file"
    _PAYLOAD = re.compile(r"weights-(\d+)-(\d+)\.(?:safetensors|xor\.zst)")
    _TEMPORARY = re.compile(r"\.weights-\d+-\d+\.(?:safetensors|xor\.zst)\.tmp")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self, incarnation: int, announced: set[Stamp]) -> None:
        """Remove what earlier incarnations left: half-written files, and payloads whose manifest never came or is
        gone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            payload = self._PAYLOAD.fullmatch(path.name)
            stamp = None if payload is None else Stamp(int(payload[1]), int(payload[2]))
            orphaned = stamp is not None and stamp.incarnation < incarnation and stamp not in announced
            if orphaned or self._TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def write(self, stamp: Stamp, weights: FlatWeights, base: np.ndarray | None) -> tuple[int, int]:
        """Returns (1, bytes stored)."""
        if base is None:
            return 1, _write_pieces(self._path(stamp, True), [_safetensors_header(weights.infos), weights.buffer.data])
        pieces = encode_pieces(base, weights.buffer, _item_size(weights.infos))
        return 1, _write_pieces(self._path(stamp, False), pieces)

    def read(self, manifest: Manifest, out: np.ndarray, base: np.ndarray | None, tick: Callable[[], None]) -> None:
        path = self._path(stamp_of(manifest), base is None)
        try:
            with path.open("rb") as file:
                if base is not None:
                    decode_pieces(_file_pieces(file, tick), out, base, _item_size(manifest.tensors))
                else:
                    _read_safetensors(file, manifest.tensors, out, tick)
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror or error}") from error
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error

    def delete(self, manifest: Manifest) -> None:
        self._path(stamp_of(manifest), manifest.base is None).unlink(missing_ok=True)

    def _path(self, stamp: Stamp, keyframe: bool) -> Path:
        kind = "safetensors" if keyframe else "xor.zst"
        return self._folder / f"weights-{stamp.incarnation}-{stamp.version:08d}.{kind}"


def store_of(transport: str, stream: WeightStream, folder: Path | None, chunk_bytes: int) -> RedisStore | FileStore:
    """The store that ``transport`` names. Raises ``WeightsError`` if there is none of that name, ``ConfigError`` if the
    file store has no folder."""
    if transport == "redis":
        return RedisStore(stream, chunk_bytes)
    if transport != "file":
        raise WeightsError(f"weights travel by 'redis' or 'file', not by {transport[:32]!r}")
    if folder is None:
        raise ConfigError("the file transport of weights needs a shared folder, and none is configured")
    return FileStore(folder)


def _regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of ``size``; the last one may be shorter."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


def _write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> int:
    """Write the pieces as a whole file. Returns its size in bytes."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        return file.tell()


def _file_pieces(file: io.BufferedReader, tick: Callable[[], None]) -> Iterator[bytes]:
    while piece := file.read(IO_BYTES):
        tick()
        yield piece


def _safetensors_header(infos: Iterable[TensorInfo]) -> bytes:
    """The head of a safetensors file: a length (8 bytes, little-endian), then JSON padded so that data is aligned."""
    entries, start = {}, 0
    for info in infos:
        end = start + dtype_bytes(info) * prod(info.shape)
        dtype = _SAFETENSORS_DTYPES[info.dtype]
        entries[info.name] = {"dtype": dtype, "shape": list(info.shape), "data_offsets": [start, end]}
        start = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _read_safetensors(
    file: io.BufferedReader, infos: tuple[TensorInfo, ...], out: np.ndarray, tick: Callable[[], None]
) -> None:
    header = _safetensors_header(infos)
    if file.read(len(header)) != header:
        raise WeightsError("the file's header is not that of the announced tensors")
    for start in range(0, len(out), IO_BYTES):
        piece = out[start : start + IO_BYTES]
        if file.readinto(piece.data) != len(piece):
            raise WeightsError("the file ends too early")
        tick()
    if file.read(1):
        raise WeightsError("the file is longer than its tensors")


def _item_size(infos: Iterable[TensorInfo]) -> int:
    """Bytes of one weight if all have the same width; else 1, which is right for any and only packs less well."""
    widths = {dtype_bytes(info) for info in infos}
    return widths.pop() if len(widths) == 1 else 1
