"""Moves a version's payloads: as values in Redis, or as files in a folder that all workers can read."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from ..appending import is_out_of_room
from ..delta import decode_pieces, encode_pieces
from ..errors import ConfigError, WeightsError
from ..files import whole_file
from ..queue.weights import VALUE_BYTES, WeightStream, values_of
from ..types import Encoding, Manifest, Payload, Shard, TensorInfo
from .shards import each, in_order, place_of
from .versions import IO_BYTES, FlatWeights, Stamp, dtype_bytes, item_size_of, stamp_of

_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}

ReadShard = Callable[[int, np.ndarray, np.ndarray | None], None]
"""Fills ``out`` (uint8 [bytes of the shard]) with shard number i of a payload, given the same shard of its base, which
may be ``out`` itself; ``None`` for a keyframe. Threads may call it side by side. Raises ``WeightsError``."""


class RedisStore:
    """Payloads as values in Redis. A keyframe is packed like a delta without the XOR."""

    transport = "redis"

    def __init__(self, stream: WeightStream, threads: int) -> None:
        self._stream, self._threads = stream, threads

    def write(
        self, stamp: Stamp, weights: FlatWeights, shards: tuple[Shard, ...], base: tuple[int, np.ndarray] | None
    ) -> Payload:
        """Store the version as a delta against ``base`` (its version and its flat buffer), or whole."""
        kind, item_size = "keyframe" if base is None else "delta", item_size_of(weights.infos)

        def store(number: int) -> int:
            place, stored = place_of(shards[number]), 0
            pieces = encode_pieces(None if base is None else base[1][place], weights.buffer[place], item_size)
            for index, value in enumerate(_regroup(pieces, VALUE_BYTES)):
                self._stream.put_value(stamp.version, stamp.incarnation, f"{kind}:{number}:{index}", value)
                stored += len(value)
            return stored

        stored = tuple(in_order(store, range(len(shards)), self._threads))
        if base is None:
            return Payload(base=None, encoding=Encoding.PLANES, stored=stored)
        return Payload(base=base[0], encoding=Encoding.DELTA, stored=stored)

    @contextmanager
    def opened(self, manifest: Manifest, payload: Payload, tick: Callable[[], None]) -> Iterator[ReadShard]:
        """What reads the payload's shards. ``tick`` is called every few megabytes, by whichever thread reads."""
        if payload.encoding is Encoding.RAW:
            raise WeightsError(f"a payload in Redis in the encoding {payload.encoding.value!r}")
        item_size = item_size_of(manifest.tensors)

        def values(number: int) -> Iterator[bytes]:
            for name in values_of(payload, number):
                value = self._stream.get_value(manifest.version, manifest.incarnation, name)
                if value is None:
                    raise WeightsError(f"{name} of version {manifest.version} is missing")
                tick()
                yield value

        yield lambda number, out, base: decode_pieces(values(number), out, base, item_size)

    def delete(self, manifest: Manifest) -> None:
        """Do nothing: the stream deletes the values with the manifest."""


class FileStore:
    """Payloads as files in a shared directory: a keyframe is a safetensors file, and a delta is a zstd frame for each
    shard, one after the other.

    A file gets its name only once its bytes are on the disk, so every name stands for a whole payload. What its methods
    do is said at ``RedisStore``.
    """

    transport = "file"
    _PAYLOAD = re.compile(r"weights-(\d+)-(\d+)\.(?:safetensors|delta)")
    _TEMPORARY = re.compile(r"\.weights-\d+-\d+\.(?:safetensors|delta)\.tmp")
    _OLD = re.compile(r"\.?weights-\d+-\d+\.xor\.zst(?:\.tmp)?")

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads

    def sweep(self, incarnation: int, announced: set[Stamp]) -> None:
        """Remove what earlier incarnations left: half-written files, and payloads whose manifest never came or is gone.
        Raises ``ConfigError`` where the folder cannot be made, or holds versions as Leeway wrote them before it cut
        them into shards."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if is_out_of_room(error):  # for which a learner waits
                raise
            raise ConfigError(
                f"weights.folder = {str(self._folder)!r} cannot be made ({error.strerror}); name a folder that the "
                "learner may write and every rollout worker reads"
            ) from error
        for path in self._folder.iterdir():
            payload = self._PAYLOAD.fullmatch(path.name)
            stamp = None if payload is None else Stamp(int(payload[1]), int(payload[2]))
            orphaned = stamp is not None and stamp.incarnation < incarnation and stamp not in announced
            if orphaned or self._TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
            elif self._OLD.fullmatch(path.name):
                raise ConfigError(
                    f"weights.folder = {str(self._folder)!r} holds versions of the weights in an older format "
                    f"({path.name}), which this Leeway does not read: empty the folder, or name another one"
                )

    def write(
        self, stamp: Stamp, weights: FlatWeights, shards: tuple[Shard, ...], base: tuple[int, np.ndarray] | None
    ) -> Payload:
        path = self._path(stamp, keyframe=base is None)
        if base is not None:
            stored = self._write_delta(path, weights, shards, base[1])
            return Payload(base=base[0], encoding=Encoding.DELTA, stored=stored)
        header = _safetensors_header(weights.infos)
        with whole_file(path) as temporary, temporary.open("wb", buffering=0) as file:
            file.write(header)
            file.truncate(len(header) + len(weights.buffer))

            def store(shard: Shard) -> None:
                _write_at(file.fileno(), weights.buffer[place_of(shard)], len(header) + shard.offset)

            each(store, shards, self._threads)
        return Payload(base=None, encoding=Encoding.RAW, stored=tuple(shard.bytes for shard in shards))

    def _write_delta(
        self, path: Path, weights: FlatWeights, shards: tuple[Shard, ...], base: np.ndarray
    ) -> tuple[int, ...]:
        item_size = item_size_of(weights.infos)

        def encoded(shard: Shard) -> bytes:
            place = place_of(shard)
            return b"".join(encode_pieces(base[place], weights.buffer[place], item_size))

        with whole_file(path) as temporary, temporary.open("wb") as file:
            return tuple(file.write(frame) for frame in in_order(encoded, shards, self._threads))

    @contextmanager
    def opened(self, manifest: Manifest, payload: Payload, tick: Callable[[], None]) -> Iterator[ReadShard]:
        path = self._path(stamp_of(manifest), keyframe=payload.base is None)
        if payload.encoding is not (Encoding.RAW if payload.base is None else Encoding.DELTA):
            raise WeightsError(f"a payload in a folder in the encoding {payload.encoding.value!r}")
        header = _safetensors_header(manifest.tensors) if payload.base is None else b""
        starts = np.cumsum([len(header), *payload.stored]).tolist()
        item_size = item_size_of(manifest.tensors)
        with _named(path):
            opened = path.open("rb", buffering=0)
        with opened as file:
            with _named(path):
                size = os.fstat(file.fileno()).st_size
                if size != starts[-1]:
                    raise WeightsError(f"the file has {size} bytes where {starts[-1]} are announced")
                if os.pread(file.fileno(), len(header), 0) != header:
                    raise WeightsError("the file's header is not that of the announced tensors")

            def read(number: int, out: np.ndarray, base: np.ndarray | None) -> None:
                with _named(path):
                    if base is None:
                        _read_at(file.fileno(), out, starts[number], tick)
                    else:
                        pieces = _pieces_at(file.fileno(), starts[number], payload.stored[number], tick)
                        decode_pieces(pieces, out, base, item_size)

            yield read

    def delete(self, manifest: Manifest) -> None:
        """Delete the payloads of a version whose manifest is gone."""
        for payload in manifest.payloads:
            self._path(stamp_of(manifest), keyframe=payload.base is None).unlink(missing_ok=True)

    def _path(self, stamp: Stamp, *, keyframe: bool) -> Path:
        kind = "safetensors" if keyframe else "delta"
        return self._folder / f"weights-{stamp.incarnation}-{stamp.version:08d}.{kind}"


def store_of(transport: str, stream: WeightStream, folder: Path | None, threads: int) -> RedisStore | FileStore:
    """The store that ``transport`` names. Raises ``WeightsError`` if there is none of that name, ``ConfigError`` if the
    file store has no folder."""
    if transport == "redis":
        return RedisStore(stream, threads)
    if transport != "file":
        raise WeightsError(f"weights travel by 'redis' or 'file', not by {transport[:32]!r}")
    if folder is None:
        raise ConfigError("the file transport of weights needs a shared folder, and none is configured")
    return FileStore(folder, threads)


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


def _write_at(file: int, data: np.ndarray, offset: int) -> None:
    while len(data):
        written = os.pwrite(file, data[:IO_BYTES].data, offset)
        data, offset = data[written:], offset + written


def _read_at(file: int, out: np.ndarray, offset: int, tick: Callable[[], None]) -> None:
    while len(out):
        read = os.preadv(file, [out[:IO_BYTES].data], offset)
        if read == 0:
            raise WeightsError("the file ends too early")
        out, offset = out[read:], offset + read
        tick()


def _pieces_at(file: int, offset: int, size: int, tick: Callable[[], None]) -> Iterator[bytes]:
    end = offset + size
    while offset < end and (piece := os.pread(file, min(IO_BYTES, end - offset), offset)):
        offset += len(piece)
        tick()
        yield piece


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in whatever cannot be read of it."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error
    except WeightsError as error:
        if type(error) is not WeightsError:  # not of the file: a turn that was lost
            raise
        raise WeightsError(f"{path}: {error}") from error


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
