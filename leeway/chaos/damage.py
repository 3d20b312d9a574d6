"""Damage to what a run holds in Redis. This module goes around ``common/queue``, as an accident would; nothing else
may.

Every function returns what it hit, or None where there was nothing to hit. ``SET … XX`` and ``XDEL`` keep it from
creating again what has gone in the meantime.
"""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import redis

from ...common.codec import decode, encode
from ...common.errors import DecodeError
from ...common.keys import PARTS
from ...common.queue.entries import GROUP_ID, WorkStream
from ...common.types import Responses
from .target import Target

Found = tuple[str, bytes, dict[bytes, bytes]]
"""An entry: its stream's key, its id, its fields."""


def connect(port: int) -> Any:
    """A client that waits two seconds at most for an answer, because the server may be frozen."""
    # There are no retries: redis-py would try for half a minute, and meanwhile no other fault would begin or end.
    return redis.Redis.from_url(f"redis://127.0.0.1:{port}", protocol=2, socket_timeout=2.0, retry=None)


def set_memory(target: Target, most: int) -> None:
    """Set the server's ``maxmemory``, in bytes; 0 means no limit."""
    with connect(target.port) as client:
        client.config_set("maxmemory", most)


def _entry(client: Any, target: Target, rng: random.Random) -> Found | None:
    found = [
        (key, entry_id, fields)
        for key in (target.keys.prefix + stream.value for stream in WorkStream)
        for entry_id, fields in client.xrange(key)
    ]
    return rng.choice(found) if found else None


def _replaced(target: Target, rng: random.Random, change: Any, *, keep: bool = False) -> str | None:
    """Add a copy of an entry, its fields changed by ``change``, at the end of its stream. The original is removed
    unless ``keep`` is true."""
    with connect(target.port) as client:
        entry = _entry(client, target, rng)
        if entry is None:
            return None
        key, entry_id, fields = entry
        changed = change(dict(fields))
        if keep or client.xdel(key, entry_id):
            if changed is not None:
                client.xadd(key, changed)
            return f"{key} {entry_id.decode()} {fields!r} -> {changed!r}"
        return None


def flipped(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to three bits changed, all in different bytes."""
    out = bytearray(data)
    for at in rng.sample(range(len(out)), min(len(out), rng.randint(1, 3))):
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))] if data else data


def _of(fields: dict[bytes, bytes], change: Any, rng: random.Random) -> dict[bytes, bytes]:
    return {name: change(value, rng) for name, value in fields.items()} or {b"g": b""}


def entry_twice(target: Target, rng: random.Random) -> str | None:
    """An entry of a work stream stands there twice."""
    return _replaced(target, rng, lambda fields: fields or None, keep=True)


def entry_moved(target: Target, rng: random.Random) -> str | None:
    """An entry of a work stream moves behind all others."""
    return _replaced(target, rng, lambda fields: fields or None)


def entry_gone(target: Target, rng: random.Random) -> str | None:
    """An entry of a work stream is gone."""
    return _replaced(target, rng, lambda fields: None)


def entry_cut(target: Target, rng: random.Random) -> str | None:
    """An entry of a work stream is cut short."""
    return _replaced(target, rng, lambda fields: _of(fields, _cut, rng))


def entry_flipped(target: Target, rng: random.Random) -> str | None:
    """Bits of an entry of a work stream are flipped."""
    return _replaced(target, rng, lambda fields: _of(fields, flipped, rng))


def _parts(client: Any, target: Target) -> list[str]:
    found = client.scan_iter(match=target.keys.prefix + "group:*", count=1000)
    return sorted(key.decode() for key in found if key.decode().rpartition(":")[2] in PARTS)


def _payload(target: Target, rng: random.Random, change: Any) -> str | None:
    with connect(target.port) as client:
        keys = _parts(client, target)
        if not keys:
            return None
        key = rng.choice(keys)
        body = client.get(key)
        if not body:
            return None
        changed = change(client, keys, key, body)
        if changed is None or not client.set(key, changed, xx=True):
            return None
        return f"{key}, {len(body)} bytes -> {len(changed)}"


def payload_cut(target: Target, rng: random.Random) -> str | None:
    """A group's ticket, responses or scores are cut short."""
    return _payload(target, rng, lambda client, keys, key, body: _cut(body, rng))


def payload_flipped(target: Target, rng: random.Random) -> str | None:
    """Bits of a group's ticket, responses or scores are flipped."""
    return _payload(target, rng, lambda client, keys, key, body: flipped(body, rng))


def payload_swapped(target: Target, rng: random.Random) -> str | None:
    """A group has the ticket, responses or scores of another."""

    def other(client: Any, keys: list[str], key: str, body: bytes) -> Any:
        others = [each for each in keys if each != key and each.rpartition(":")[2] == key.rpartition(":")[2]]
        return client.get(rng.choice(others)) if others else None

    return _payload(target, rng, other)


def logprob_nan(target: Target, rng: random.Random) -> str | None:
    """A sampled token of a group that waits for its verdicts has a log-probability that is none"""

    def change(responses: Responses) -> tuple[Responses, str]:
        logprobs_T = responses.logprobs_T.copy()
        at, value = rng.choice(np.flatnonzero(responses.sampled_T)), rng.choice([math.nan, -math.inf, -9999.0])
        logprobs_T[at] = value
        return replace(responses, logprobs_T=logprobs_T), f"token {at}: {value}"

    return _responses(target, rng, change)


def observed_moved(target: Target, rng: random.Random) -> str | None:
    """Tokens of a group that waits for its verdicts count as observed which the policy has sampled, or the reverse"""

    def change(responses: Responses) -> tuple[Responses, str]:
        rows = responses.observed
        if len(rows):
            gone = rng.randrange(len(rows))
            return replace(responses, observed=np.delete(rows, gone, axis=0)), f"{rows[gone].tolist()} is gone"
        row = [rng.randrange(len(responses.lengths_S)), 1, rng.randint(2, 4)]
        return replace(responses, observed=np.array([row], np.uint32)), f"{row} is there"

    return _responses(target, rng, change)


def _responses(target: Target, rng: random.Random, change: Callable[[Responses], tuple[Responses, str]]) -> str | None:
    """Change what was sampled of a group that waits for its verdicts, behind a good seal."""
    with connect(target.port) as client:
        named = [fields.get(b"g", b"").decode(errors="replace") for _, fields in client.xrange(target.keys.responses)]
        rng.shuffle(named)
        for group_id in filter(GROUP_ID.fullmatch, named):
            key = target.keys.group(group_id, "responses")
            body = client.get(key)
            if not body:
                continue
            try:
                responses = decode(Responses, body)
            except DecodeError:  # another fault has damaged it already
                continue
            changed, what = change(responses)
            if client.set(key, encode(changed), xx=True):
                return f"{key}, {what}"
    return None


def weights_flipped(target: Target, rng: random.Random) -> str | None:
    """Bits of a published version of the weights are flipped."""
    with connect(target.port) as client:
        prefix = target.keys.prefix + "weights:"
        keys = sorted(key.decode() for key in client.scan_iter(match=prefix + "*:*:*", count=1000))
        if not keys:
            return None
        versions = {key: tuple(map(int, key.removeprefix(prefix).split(":")[:2])) for key in keys}
        newest = max(versions.values())
        key = rng.choice([key for key in keys if versions[key] == newest])
        body = client.get(key)
        if not body or not client.set(key, flipped(body, rng), xx=True):
            return None
        return f"{key}, {len(body)} bytes"


def manifest_flipped(target: Target, rng: random.Random) -> str | None:
    """Bits of the newest manifest of the weights are flipped."""
    with connect(target.port) as client:
        newest = client.xrevrange(target.keys.weights, count=1)
        if not newest or not client.xdel(target.keys.weights, newest[0][0]):
            return None
        client.xadd(target.keys.weights, {b"m": flipped(newest[0][1].get(b"m", b"\0"), rng)})
        return f"{target.keys.weights} {newest[0][0].decode()}"
