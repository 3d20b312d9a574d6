"""The weights' way through Redis: a broadcast stream of manifests, payloads in pieces, and leases of versions."""

import time
from collections.abc import Iterator

from ..codec import decode_manifest, encode
from ..errors import DecodeError
from ..types import Manifest, Payload
from .connection import Connection, View
from .entries import WEIGHTS, LetterKind, whole

VALUE_BYTES = 1 << 21
"""Most bytes of a shard that lie in one value. Redis takes up to 512 MB; both ends hold a value of each thread at a
time, so a smaller one is less memory. It is part of the format."""


def values_of(payload: Payload, shard: int) -> list[str]:
    """The names of the values that hold a shard of a payload, in order."""
    kind = "keyframe" if payload.base is None else "delta"
    return [f"{kind}:{shard}:{piece}" for piece in range(-(-payload.stored[shard] // VALUE_BYTES))]


def values_of_version(manifest: Manifest) -> Iterator[str]:
    """The names of all values that a version has in Redis."""
    if manifest.transport == "redis":
        for payload in manifest.payloads:
            for shard in range(len(payload.stored)):
                yield from values_of(payload, shard)


class WeightStream(View):
    """Every reader sees every manifest: there is no consumer group here, and nothing is acknowledged. The learner
    writes and deletes; rollout workers read, lease what they load, and say what they cannot read."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._told: set[bytes] = set()  # entries of the stream that a dead letter was written for

    def publish_manifest(self, manifest: Manifest) -> None:
        """Announce a version whose payload is already whole."""
        self._redis.xadd(self.keys.weights, {"m": encode(manifest)})

    def manifests(self) -> list[Manifest]:
        """Every manifest still on the stream, oldest first. Broken ones are passed over, with a dead letter; they leave
        the stream when the learner next deletes a version."""
        return [manifest for _, manifest in self._manifest_entries()[0]]

    def _manifest_entries(self) -> tuple[list[tuple[bytes, Manifest]], list[bytes]]:
        """(entry id, manifest) of the good ones, entry ids of the broken ones."""
        found, broken = [], []
        for entry_id, fields in self._redis.xrange(self.keys.weights):
            try:
                found.append((entry_id, decode_manifest(fields.get(b"m", b""))))
            except DecodeError as error:
                broken.append(entry_id)
                if entry_id not in self._told:
                    self.dead_letter(LetterKind.DAMAGED, WEIGHTS, "", str(error))
        self._told = set(broken)
        return found, broken

    def wait_for_manifest(self, after: tuple[int, int], timeout_s: float) -> bool:
        """Wait until the newest manifest is later than ``after`` = (incarnation, version).

        The incarnation comes first: a learner that went back to a checkpoint publishes smaller versions again.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            entries, _ = self._manifest_entries()
            # The highest, not the last: a superseded learner's late manifest may stand behind a newer one.
            if max(((found.incarnation, found.version) for _, found in entries), default=after) > after:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            last_id = entries[-1][0] if entries else b"0"
            self._redis.xread({self.keys.weights: last_id}, count=1, block=max(1, int(min(left, 5.0) * 1000)))

    def put_value(self, version: int, incarnation: int, name: str, data: bytes) -> None:
        """Store one value of a version's payload. Threads may call it side by side."""
        self.connection.bytes_out += len(data)
        self._redis.set(self.keys.weight_value(version, incarnation, name), data)

    def get_value(self, version: int, incarnation: int, name: str) -> bytes | None:
        """One value of a version's payload, or None where it is gone. Threads may call it side by side."""
        data: bytes | None = self._redis.get(self.keys.weight_value(version, incarnation, name))
        self.connection.bytes_in += len(data or b"")
        return data

    def delete_version(self, manifest: Manifest) -> None:
        """Forget a version: its manifest first, so that nobody starts on a payload that is going."""
        entries, broken = self._manifest_entries()
        stamp = (manifest.version, manifest.incarnation)
        for entry_id in [*broken, *(each for each, found in entries if (found.version, found.incarnation) == stamp)]:
            self._redis.xdel(self.keys.weights, entry_id)
        for name in values_of_version(manifest):
            self._redis.delete(self.keys.weight_value(manifest.version, manifest.incarnation, name))

    def tell_unreadable(self, version: int, incarnation: int) -> None:
        """Say that the newest version cannot be read: the learner then writes it again, whole."""
        self._redis.set(self.keys.unreadable, f"{incarnation}|{version}|{self.connection.worker}")

    def forget_unreadable(self) -> None:
        """The learner has seen to it."""
        self._redis.delete(self.keys.unreadable)

    def lease_version(self, worker: str, version: int, seconds: float) -> None:
        """Keep a version from being deleted while ``worker`` loads it."""
        self._redis.zadd(self.keys.weight_leases, {f"{version}|{worker}": self.connection.now() + seconds})

    def release_version(self, worker: str, version: int) -> None:
        """End that lease."""
        self._redis.zrem(self.keys.weight_leases, f"{version}|{worker}")

    def leased_versions(self) -> set[int]:
        """Versions that somebody is loading."""
        now = self.connection.now()
        self._redis.zremrangebyscore(self.keys.weight_leases, 0, now)
        members = self._redis.zrangebyscore(self.keys.weight_leases, now, "+inf")
        return {whole(member.split(b"|")[0]) for member in members}
