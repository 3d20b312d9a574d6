"""Wire types to bytes and back: msgpack, a schema version, arrays as raw little-endian bytes. Never pickle.

A message is ``[SCHEMA, type name, [field, field, …]]``, fields in the order of the dataclass: positions, not names,
because a message is small and both ends run the same schema; so is an enum's member. Four bytes follow, the CRC-32 of
the others: a flipped bit inside an array would decode, and train. An array is an extension of
type 1: one byte with the length of a msgpack ``[dtype, shape]``, that, zeros up to a multiple of 8, the raw bytes.
Unsigned integers travel in the fewest bytes that hold them and arrive as uint32.

Decoding checks everything against the dataclass's annotations and raises ``DecodeError`` on anything else. A message
longer than its type's bound is refused unread; what is read allocates at most ``MOST_TIMES`` its length beside a
constant (tuples of one element nested in one another are the worst; maps, which would be worse, are refused).
"""

from __future__ import annotations

import dataclasses
import types
import typing
import zlib
from collections.abc import Callable
from enum import Enum
from functools import cache
from math import isfinite, prod
from operator import attrgetter
from typing import Any, TypeVar

import msgpack
import numpy as np

from .errors import DecodeError, OtherSchemaError
from .types import Manifest

SCHEMA = 4
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
MAX_TENSORS, MAX_SIDES, MAX_CHUNKS = 1 << 17, 8, 1 << 20
"""Of a manifest: tensors, sides of one tensor, pieces of the payload."""

_ARRAY = 1
_SEAL_BYTES = 4
_DTYPES = {name: np.dtype(name) for name in ("|u1", "<u2", "<u4", "<i4", "<i8", "<f4", "<f8")}
_UINT32 = np.dtype("<u4")
_ARRAYS = {
    "prompt_tokens_P": ("u", 1, None),
    "tokens_T": ("u", 1, None),
    "logprobs_T": ("f", 1, None),
    "lengths_S": ("u", 1, None),
    "finished_S": ("u", 1, None),
    "spans": ("u", 2, 4),
}
"""Of every array field: kind of its dtype, number of axes, length of the last one where it is fixed."""

T = TypeVar("T")
Check = Callable[[Any, str], Any]
"""Takes a raw value and the path to it; gives the typed value or raises ``DecodeError``."""


def encode(message: Any) -> bytes:
    """Bytes of a wire-type instance; ``ValueError`` where no reader would take that many."""
    name = type(message).__name__
    body = sealed(msgpack.packb([SCHEMA, name, _plain_fields(message)], use_bin_type=True))
    if len(body) > MAX_BYTES[name]:
        raise ValueError(f"a {name} of {len(body)} bytes: readers take at most {MAX_BYTES[name]}")
    return body


def decode(cls: type[T], data: bytes) -> T:
    """The ``cls`` instance in ``data``; raises ``DecodeError`` naming what is wrong with it."""
    if len(data) > MAX_BYTES[cls.__name__]:
        raise DecodeError(f"{cls.__name__}: {len(data)} bytes is above the bound of {MAX_BYTES[cls.__name__]}")
    try:
        raw = msgpack.unpackb(
            _unsealed(data, cls.__name__), raw=False, use_list=False, ext_hook=_unpack_ext, max_map_len=0
        )
    except DecodeError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"{cls.__name__}: not msgpack ({type(error).__name__}: {error})") from error
    match raw:
        case (int(schema), str(name), tuple(body)):
            pass
        case _:
            raise DecodeError(f"{cls.__name__}: not a [schema, type, fields] message")
    if schema != SCHEMA:
        raise OtherSchemaError(f"{cls.__name__}: schema {schema}, this build speaks {SCHEMA}")
    if name != cls.__name__:
        raise DecodeError(f"expected a {cls.__name__}, found a {name[:64]}")
    return _build(cls)(body, cls.__name__)  # type: ignore[no-any-return, arg-type]


def decode_manifest(data: bytes) -> Manifest:
    """As ``decode``, and refuses sizes that no version has: who reads a manifest allocates and loops by them."""
    manifest = decode(Manifest, data)
    if len(manifest.tensors) > MAX_TENSORS:
        raise DecodeError(f"Manifest: {len(manifest.tensors)} tensors is above the bound of {MAX_TENSORS}")
    if not 0 <= manifest.chunks <= MAX_CHUNKS:
        raise DecodeError(f"Manifest: {manifest.chunks} chunks is outside 0..{MAX_CHUNKS}")
    for info in manifest.tensors:
        if len(info.shape) > MAX_SIDES or any(not 0 <= side < 1 << 40 for side in info.shape):
            raise DecodeError(f"Manifest: tensor {info.name[:64]!r} has an impossible shape")
    if min(manifest.version, manifest.incarnation, manifest.payload_bytes, manifest.full_bytes) < 0:
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


def encode_record(record: dict[str, Any]) -> bytes:
    """Bytes of a record of measurements: names, each with a number or a text."""
    return sealed(msgpack.packb(record))


def decode_record(data: bytes) -> dict[str, Any]:
    """The record in ``data``; raises ``DecodeError`` where it is none."""
    if len(data) > MAX_RECORD_BYTES:
        raise DecodeError(f"record: {len(data)} bytes is above the bound of {MAX_RECORD_BYTES}")
    try:
        record = msgpack.unpackb(_unsealed(data, "record"), raw=False)
    except DecodeError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"record: not msgpack ({type(error).__name__}: {error})") from error
    if type(record) is not dict or not all(type(name) is str for name in record):
        raise DecodeError("record: names with values are due")
    if not all(type(value) in (int, float, str, bool, type(None)) for value in record.values()):
        raise DecodeError("record: a value that is neither a number nor a text")
    return record


@cache
def _values_of(cls: Any) -> Callable[[Any], tuple[Any, ...]]:
    names = [field.name for field in dataclasses.fields(cls)]
    assert len(names) > 1
    return attrgetter(*names)


def _plain_fields(message: Any) -> list[Any]:
    kind: Any = type(message)
    return [_plain(value) for value in _values_of(kind)(message)]


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in (str, int, float, bool, type(None)):
        return value
    if kind is np.ndarray:
        return _pack_array(value)
    if isinstance(value, Enum):
        return _members(kind).index(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    assert dataclasses.is_dataclass(kind), f"no wire form for {kind.__name__}"
    return _plain_fields(value)


def _pack_array(array: np.ndarray) -> msgpack.ExtType:
    if array.dtype.kind == "u":
        largest = int(array.max(initial=0))
        array = array.astype("|u1" if largest < 1 << 8 else "<u2" if largest < 1 << 16 else "<u4", copy=False)
        assert largest < 1 << 32
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    assert little.dtype.str in _DTYPES, f"no wire form for dtype {array.dtype}"
    header = msgpack.packb([little.dtype.str, little.shape])
    # Padded, so that the array can be used where it lies in the message: no copy on arrival.
    return msgpack.ExtType(_ARRAY, b"".join((bytes([len(header)]), header, bytes(-(1 + len(header)) % 8), little.data)))


def _unpack_ext(code: int, data: bytes) -> np.ndarray:
    if code != _ARRAY:
        raise DecodeError(f"unknown extension type {code}")
    size = 1 + (data[0] if data else 0)
    match msgpack.unpackb(data[1:size], raw=False, use_list=False):
        case (str(name), tuple(shape)) if name in _DTYPES and _is_shape(shape):
            pass
        case _:
            raise DecodeError("an array whose header is not [dtype, shape]")
    dtype, start = _DTYPES[name], size + -size % 8
    expected = dtype.itemsize * prod(shape)
    if expected != len(data) - start:
        raise DecodeError(f"an array of {len(data) - start} bytes where {name}{list(shape)} needs {expected}")
    array = np.frombuffer(data, dtype=dtype, offset=start).reshape(shape) if expected else np.empty(shape, dtype)
    return array.astype(_UINT32) if dtype.kind == "u" and dtype is not _UINT32 else array


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= 2 and all(type(side) is int and 0 <= side < 2**40 for side in shape)


# --- checks, made once a type from its annotations ------------------------------------------------------------------


@cache
def _build(cls: Any) -> Check:
    """The check that turns a tuple of raw fields into an instance of dataclass ``cls``."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    checks = [(name, _array_check(name) if hints[name] is np.ndarray else _check_of(hints[name])) for name in names]

    def build(body: Any, path: str) -> Any:
        if type(body) is not tuple:
            raise DecodeError(f"{path}: fields are due, found {type(body).__name__}")
        if len(body) != len(checks):
            raise DecodeError(f"{path}: {len(body)} fields where {len(checks)} are due")
        return cls(**{name: check(item, f"{path}.{name}") for (name, check), item in zip(checks, body, strict=True)})

    return build


@cache
def _check_of(hint: Any) -> Check:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _tuple_check(_check_of(typing.get_args(hint)[0]))
    if origin in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        check = _check_of(inner)
        return lambda value, path: None if value is None else check(value, path)
    if issubclass(hint, Enum):
        return _enum_check(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint)  # type: ignore[arg-type]
    return _float_check if hint is float else _type_check(hint)


def _array_check(name: str) -> Check:
    kind, axes, last = _ARRAYS[name]

    def array(value: Any, path: str) -> Any:
        if type(value) is not np.ndarray:
            raise DecodeError(f"{path}: an array is due, found {type(value).__name__}")
        if value.dtype.kind != kind or value.ndim != axes or (last is not None and value.shape[-1] != last):
            raise DecodeError(f"{path}: an array of {value.dtype} {list(value.shape)}")
        return value

    return array


def _tuple_check(check: Check) -> Check:
    def items(value: Any, path: str) -> Any:
        if type(value) is not tuple:
            raise DecodeError(f"{path}: a list is due, found {type(value).__name__}")
        return tuple([check(item, f"{path}[{index}]") for index, item in enumerate(value)])

    return items


@cache
def _members(kind: Any) -> tuple[Enum, ...]:
    return tuple(kind)


def _enum_check(kind: type[Enum]) -> Check:
    members = _members(kind)

    def member(value: Any, path: str) -> Any:
        if type(value) is not int or not 0 <= value < len(members):
            found = repr(str(value)) if type(value) is int else type(value).__name__
            raise DecodeError(f"{path}: {found} is not the number of a {kind.__name__}")
        return members[value]

    return member


def _float_check(value: Any, path: str) -> float:
    if type(value) not in (int, float):
        raise DecodeError(f"{path}: float is due, found {type(value).__name__}")
    if not isfinite(value):
        raise DecodeError(f"{path}: {value} is not finite")
    return float(value)


def _type_check(kind: type) -> Check:
    def check(value: Any, path: str) -> Any:
        if type(value) is not kind:
            raise DecodeError(f"{path}: {kind.__name__} is due, found {type(value).__name__}")
        return value

    return check
