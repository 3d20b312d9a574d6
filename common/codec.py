"""Wire types to bytes and back: msgpack, a schema version, arrays as raw little-endian bytes. Never pickle.

A message is ``[SCHEMA, type name, [field, field, …]]``, fields in the order of the dataclass: positions, not names,
because a message is small and both ends run the same schema; so is an enum's member. Trailing fields that are marked
``types.RARE`` are left off where they have their default. Four bytes follow, the CRC-32 of
the others: a flipped bit inside an array would decode, and train. An array is an extension of
type 1: one byte with the length of a msgpack ``[dtype, shape]``, that, zeros up to a multiple of 8, the raw bytes.
Unsigned integers travel in the fewest bytes that hold them and arrive as uint32.

Decoding checks everything against the dataclass's annotations and raises ``DecodeError`` on anything else. A message
longer than its type's bound is refused unread; what is read allocates at most ``MOST_TIMES`` its length beside a
constant (tuples of one element nested in one another are the worst; maps, which would be worse, are refused).
"""

import dataclasses
import types
import typing
import zlib
from collections.abc import Callable
from enum import Enum
from functools import cache, lru_cache
from math import isfinite, prod
from operator import attrgetter
from typing import Any, TypeVar

import msgpack
import numpy as np

from .errors import DecodeError, OtherSchemaError
from .types import Manifest

SCHEMA = 9
ONE_BUILD = "every role of a run has to be of the same Leeway: start the others again with this one"
MAX_BYTES = {
    "Heartbeat": 1 << 16,
    "Manifest": 1 << 24,
    "Responses": 1 << 29,  # what Redis takes as one value
    "Scores": 1 << 24,
    "Ticket": 1 << 28,
}
"""Longest message of each type, in bytes."""
MAX_RECORD_BYTES = 1 << 20
"""Longest record of measurements."""
MOST_TIMES = 64
"""Most bytes that decoding allocates for a byte of the message."""
MAX_TENSORS, MAX_SIDES, MAX_SHARDS, MAX_SHARD_BYTES = 1 << 17, 8, 1 << 16, 1 << 28
"""Of a manifest: tensors, sides of one tensor, shards, bytes of one shard."""

_ARRAY = 1
_SEAL_BYTES = 4
_DTYPES = {name: np.dtype(name) for name in ("|u1", "<u2", "<u4", "<i4", "<i8", "<f4", "<f8")}
_UINT32 = np.dtype("<u4")
_PLAIN = (str, int, bool)  # of which every value is good, and that cost nothing to look at
_HEADS = 4096  # of arrays, (dtype, shape), that are known by heart: most of a group's are those of the group before
_ARRAYS = {
    "prompt_tokens_P": ("u", 1, None),
    "tokens_T": ("u", 1, None),
    "logprobs_T": ("f", 1, None),
    "lengths_S": ("u", 1, None),
    "finished_S": ("u", 1, None),
    "spans": ("u", 2, 4),
    "observed": ("u", 2, 3),
    "environment_S": ("f", 1, None),
}
"""Of every array field: kind of its dtype, number of axes, length of the last one where it is fixed."""

T = TypeVar("T")
Check = Callable[[Any], Any]
"""Takes a raw value; gives the typed value or raises ``DecodeError``. Each that it passes through on its way out puts
before it where the value stands: a path costs nothing until it is needed."""


def encode(message: Any) -> bytes:
    """Bytes of a wire-type instance; ``ValueError`` where no reader would take that many."""
    name = type(message).__name__
    body = sealed(msgpack.packb([SCHEMA, name, message], default=_plain, strict_types=True))
    if len(body) > MAX_BYTES[name]:
        raise ValueError(f"a {name} of {len(body)} bytes: readers take at most {MAX_BYTES[name]}")
    return body


def decode(cls: type[T], data: bytes) -> T:
    """The ``cls`` instance in ``data``; raises ``DecodeError`` naming what is wrong with it."""
    name = cls.__name__
    raw = _unpacked(data, name, MAX_BYTES[name], use_list=False, ext_hook=_unpack_ext, max_map_len=0)
    match raw:
        case (int(schema), str(name), tuple(body)):
            pass
        case _:
            raise DecodeError(f"{cls.__name__}: not a [schema, type, fields] message")
    if schema != SCHEMA:
        raise OtherSchemaError(f"{cls.__name__}: schema {schema}, this build speaks {SCHEMA}; {ONE_BUILD}")
    if name != cls.__name__:
        raise DecodeError(f"expected a {cls.__name__}, found a {name[:64]}")
    try:
        return _build(cls)(body)  # type: ignore[no-any-return, arg-type]
    except DecodeError as error:
        raise DecodeError(f"{name}{error}") from None


def decode_manifest(data: bytes) -> Manifest:
    """As ``decode``, and refuses sizes that no version has: who reads a manifest allocates and loops by them."""
    manifest = decode(Manifest, data)
    if len(manifest.tensors) > MAX_TENSORS:
        raise DecodeError(f"Manifest: {len(manifest.tensors)} tensors is above the bound of {MAX_TENSORS}")
    if len(manifest.shards) > MAX_SHARDS or len(manifest.payloads) not in (1, 2):
        raise DecodeError(f"Manifest: {len(manifest.shards)} shards in {len(manifest.payloads)} payloads")
    if any(len(payload.stored) != len(manifest.shards) for payload in manifest.payloads):
        raise DecodeError(f"Manifest: a payload that does not have all {len(manifest.shards)} shards")
    stored = [size for payload in manifest.payloads for size in payload.stored]
    for size in (*(shard.bytes for shard in manifest.shards), *stored):
        if not 0 <= size <= MAX_SHARD_BYTES:
            raise DecodeError(f"Manifest: a shard of {size} bytes is outside 0..{MAX_SHARD_BYTES}")
    for info in manifest.tensors:
        if len(info.shape) > MAX_SIDES or any(not 0 <= side < 1 << 40 for side in info.shape):
            raise DecodeError(f"Manifest: tensor {info.name[:64]!r} has an impossible shape")
    if min(manifest.version, manifest.incarnation, manifest.full_bytes) < 0:
        raise DecodeError("Manifest: a negative number")
    return manifest


def sealed(body: bytes) -> bytes:
    """``body`` and its CRC-32, 4 bytes, little-endian."""
    return body + zlib.crc32(body).to_bytes(_SEAL_BYTES, "little")


def _unsealed(data: bytes, name: str) -> memoryview:
    """What was sealed; ``DecodeError`` where it is not what was sealed any more."""
    body = memoryview(data)[:-_SEAL_BYTES]
    if zlib.crc32(body) != int.from_bytes(data[-_SEAL_BYTES:], "little") or not body:
        raise DecodeError(f"{name}: damaged ({len(data)} bytes that do not match their CRC-32), or of a schema below 3")
    return body


def _unpacked(data: bytes, name: str, most: int, **options: Any) -> Any:
    """The raw value in a sealed message of at most ``most`` bytes; ``options`` of ``msgpack.unpackb``."""
    if len(data) > most:
        raise DecodeError(f"{name}: {len(data)} bytes is above the bound of {most}")
    try:
        return msgpack.unpackb(_unsealed(data, name), raw=False, **options)
    except DecodeError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"{name}: not msgpack ({type(error).__name__}: {error})") from error


def encode_record(record: dict[str, Any]) -> bytes:
    """Bytes of a record of measurements: names, each with a number or a text."""
    return sealed(msgpack.packb(record))


def decode_record(data: bytes) -> dict[str, Any]:
    """The record in ``data``; raises ``DecodeError`` where it is none."""
    record = _unpacked(data, "record", MAX_RECORD_BYTES)
    if type(record) is not dict or not all(type(name) is str for name in record):
        raise DecodeError("record: names with values are due")
    if not all(type(value) in (int, float, str, bool, type(None)) for value in record.values()):
        raise DecodeError("record: a value that is neither a number nor a text")
    return record


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    return _form(kind)(value)


@cache
def _form(kind: Any) -> Callable[[Any], Any]:
    """What makes of a value of ``kind``, which msgpack does not know, one that it knows."""
    if kind is np.ndarray:
        return _pack_array
    if kind is tuple:
        return list
    if issubclass(kind, Enum):
        return _members(kind).index
    assert dataclasses.is_dataclass(kind), f"no wire form for {kind.__name__}"
    values = attrgetter(*[field.name for field in dataclasses.fields(kind)])
    rare: tuple[Any, ...] = _rare_defaults(kind)  # type: ignore[arg-type]
    if not rare:
        return lambda message: list(values(message))

    def without_defaults(message: Any) -> list[Any]:
        body = list(values(message))
        for default in reversed(rare):
            if not _is_default(body[-1], default):
                break
            body.pop()
        return body

    return without_defaults


@cache
def _rare_defaults(kind: Any) -> tuple[Any, ...]:
    """Defaults of the trailing fields that stay off the wire where they have them, in their order."""
    fields = [field for field in dataclasses.fields(kind) if field.metadata.get("rare")]
    return tuple(
        field.default if field.default_factory is dataclasses.MISSING else field.default_factory() for field in fields
    )


def _is_default(value: Any, default: Any) -> bool:
    """Whether a rare field has its default, which of an array is one without rows."""
    return not len(value) if type(default) is np.ndarray else value == default


def _pack_array(array: np.ndarray) -> msgpack.ExtType:
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        largest = int(array.max()) if array.size else 0
        array = array.astype("|u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4", copy=False)
        assert largest < 1 << 32
    if array.dtype.str not in _DTYPES or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        assert array.dtype.str in _DTYPES, f"no wire form for dtype {array.dtype}"
    return msgpack.ExtType(_ARRAY, b"".join((_array_head(array.dtype.str, array.shape), array.data)))


@lru_cache(_HEADS)
def _array_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    head: bytes = msgpack.packb([dtype, shape])
    # Padded, so that the array can be used where it lies in the message: no copy on arrival.
    return bytes([len(head)]) + head + bytes(-(1 + len(head)) % 8)


def _unpack_ext(code: int, data: bytes) -> np.ndarray:
    if code != _ARRAY:
        raise DecodeError(f"unknown extension type {code}")
    size = 1 + (data[0] if data else 0)
    dtype, shape, expected = _read_head(data[1:size])
    start = size + -size % 8
    if expected != len(data) - start:
        raise DecodeError(f"an array of {len(data) - start} bytes where {dtype.str}{list(shape)} needs {expected}")
    array: np.ndarray = np.ndarray(shape, dtype, data, start) if expected else np.empty(shape, dtype)
    return array.astype(_UINT32) if dtype.kind == "u" and dtype is not _UINT32 else array


@lru_cache(_HEADS)
def _read_head(head: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """(dtype, shape, bytes) of the array that follows ``head``."""
    match msgpack.unpackb(head, raw=False, use_list=False):
        case (str(name), tuple(shape)) if (
            name in _DTYPES and len(shape) <= 2 and all(type(side) is int and 0 <= side < 2**40 for side in shape)
        ):
            return _DTYPES[name], shape, _DTYPES[name].itemsize * prod(shape)
        case _:
            raise DecodeError("an array whose header is not [dtype, shape]")


# --- checks, made once a type from its annotations ------------------------------------------------------------------


@cache
def _build(cls: Any) -> Check:
    """The check that turns a tuple of raw fields into an instance of dataclass ``cls``."""
    hints = typing.get_type_hints(cls)
    fields = [
        (
            field.name,
            hints[field.name] if hints[field.name] in _PLAIN else None,
            _array_check(field.name) if hints[field.name] is np.ndarray else _check_of(hints[field.name]),
            getattr(cls, field.name).__set__,
        )
        for field in dataclasses.fields(cls)
    ]

    rare = _rare_defaults(cls)

    def build(body: Any) -> Any:
        if type(body) is not tuple:
            raise DecodeError(f": fields are due, found {type(body).__name__}")
        if len(body) != len(fields):
            missing = len(fields) - len(body)
            if not 0 < missing <= len(rare):
                raise DecodeError(f": {len(body)} fields where {len(fields)} are due")
            body += rare[-missing:]
        message = object.__new__(cls)  # filled by its slots: a frozen dataclass of 13 fields takes 2 us to fill itself
        try:
            for (name, plain, check, put), item in zip(fields, body, strict=False):  # noqa: B007
                put(message, item if type(item) is plain else check(item))
        except DecodeError as error:
            raise DecodeError(f".{name}{error}") from None
        return message

    return build


@cache
def _check_of(hint: Any) -> Check:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _tuple_check(_check_of(typing.get_args(hint)[0]))
    if origin in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        check = _check_of(inner)
        return lambda value: None if value is None else check(value)
    if issubclass(hint, Enum):
        return _enum_check(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint)  # type: ignore[arg-type]
    return _float_check if hint is float else _type_check(hint)


def _array_check(name: str) -> Check:
    kind, axes, last = _ARRAYS[name]

    def array(value: Any) -> Any:
        if type(value) is not np.ndarray:
            raise DecodeError(f": an array is due, found {type(value).__name__}")
        if value.dtype.kind != kind or value.ndim != axes or (last is not None and value.shape[-1] != last):
            raise DecodeError(f": an array of {value.dtype} {list(value.shape)}")
        return value

    return array


def _tuple_check(check: Check) -> Check:
    def items(value: Any) -> Any:
        if type(value) is not tuple:
            raise DecodeError(f": a list is due, found {type(value).__name__}")
        found: list[Any] = []
        try:
            for item in value:
                found.append(check(item))  # its length says which one was wrong
        except DecodeError as error:
            raise DecodeError(f"[{len(found)}]{error}") from None
        return tuple(found)

    return items


@cache
def _members(kind: Any) -> tuple[Enum, ...]:
    return tuple(kind)


def _enum_check(kind: type[Enum]) -> Check:
    members = _members(kind)

    def member(value: Any) -> Any:
        if type(value) is not int or not 0 <= value < len(members):
            found = repr(str(value)) if type(value) is int else type(value).__name__
            raise DecodeError(f": {found} is not the number of a {kind.__name__}")
        return members[value]

    return member


def _float_check(value: Any) -> float:
    if type(value) not in (int, float):
        raise DecodeError(f": float is due, found {type(value).__name__}")
    if not isfinite(value):
        raise DecodeError(f": {value} is not finite")
    return float(value)


def _type_check(kind: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise DecodeError(f": {kind.__name__} is due, found {type(value).__name__}")
        return value

    return check
