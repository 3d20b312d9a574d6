"""Wire types to bytes and back: msgpack, a schema version, arrays as raw little-endian bytes. Never pickle.

A message is ``[SCHEMA, type name, [field, field, …]]``, fields in the order of the dataclass: positions, not names,
because a message is small and both ends run the same schema. An array is an extension of type 1 holding
``[dtype, shape, raw bytes]``. Decoding checks everything against the dataclass's annotations and raises
``DecodeError`` on anything else; it allocates no more than the message is long.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgpack
import numpy as np

from .errors import DecodeError

SCHEMA = 1
MAX_MESSAGE_BYTES = 512 * 1024 * 1024  # what Redis takes as one value

_ARRAY = 1
_DTYPES = frozenset({"|u1", "<u2", "<u4", "<i4", "<i8", "<f4", "<f8"})

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """Bytes of a wire-type instance."""
    body = [_plain(getattr(message, field.name)) for field in dataclasses.fields(message)]
    return msgpack.packb([SCHEMA, type(message).__name__, body], use_bin_type=True)


def decode(cls: type[T], data: bytes) -> T:
    """The ``cls`` instance in ``data``; raises ``DecodeError`` naming what is wrong with it."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise DecodeError(f"{cls.__name__}: {len(data)} bytes is above the bound of {MAX_MESSAGE_BYTES}")
    try:
        raw = msgpack.unpackb(data, raw=False, use_list=False, ext_hook=_unpack_ext, strict_map_key=True)
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
        raise DecodeError(f"{cls.__name__}: schema {schema}, this build speaks {SCHEMA}")
    if name != cls.__name__:
        raise DecodeError(f"expected a {cls.__name__}, found a {name[:64]}")
    return _build(cls, body, cls.__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        assert little.dtype.str in _DTYPES, f"no wire form for dtype {array.dtype}"
        return msgpack.ExtType(_ARRAY, msgpack.packb([little.dtype.str, list(little.shape), little.tobytes()]))
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _unpack_ext(code: int, data: bytes) -> np.ndarray:
    if code != _ARRAY:
        raise DecodeError(f"unknown extension type {code}")
    match msgpack.unpackb(data, raw=False, use_list=False):
        case (str(dtype), tuple(shape), bytes(body)) if dtype in _DTYPES and _is_shape(shape):
            pass
        case _:
            raise DecodeError("an array that is not [dtype, shape, bytes]")
    expected = int(np.dtype(dtype).itemsize) * _product(shape)
    if expected != len(body):
        raise DecodeError(f"an array of {len(body)} bytes where {dtype}{list(shape)} needs {expected}")
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _is_shape(shape: tuple[Any, ...]) -> bool:
    return len(shape) <= 2 and all(type(side) is int and 0 <= side < 2**40 for side in shape)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(cls: Any, body: tuple[Any, ...], path: str) -> Any:
    fields = dataclasses.fields(cls)
    if len(body) != len(fields):
        raise DecodeError(f"{path}: {len(body)} fields where {len(fields)} are due")
    hints = _hints(cls)
    return cls(
        **{f.name: _check(hints[f.name], item, f"{path}.{f.name}") for f, item in zip(fields, body, strict=True)}
    )


def _check(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, tuple):
            raise DecodeError(f"{path}: a list is due, found {type(value).__name__}")
        item_hint = typing.get_args(hint)[0]
        return tuple(_check(item_hint, item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return _check(inner, value, path)
    if hint is float and type(value) in (int, float):
        return float(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            raise DecodeError(f"{path}: {str(value)[:64]!r} is not a {hint.__name__}") from error
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, tuple):
            raise DecodeError(f"{path}: fields are due, found {type(value).__name__}")
        return _build(hint, value, path)
    if type(value) is not hint:
        raise DecodeError(f"{path}: {getattr(hint, '__name__', hint)} is due, found {type(value).__name__}")
    return value
