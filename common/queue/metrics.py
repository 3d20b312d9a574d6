"""The metrics stream as its one sink reads it."""

from typing import Any

from ..codec import decode_record
from ..errors import DecodeError
from .connection import View
from .entries import LetterKind, block_ms


class MetricsStream(View):
    """What the roles have measured, oldest first. No consumer group: a sink that comes later starts at the newest."""

    def newest_id(self) -> str:
        """The id of the newest record, ``0`` where there is none."""
        newest = self._redis.xrevrange(self.keys.metrics, count=1)
        return newest[0][0].decode() if newest else "0"

    def ids(self) -> list[str]:
        """The ids of all records, oldest first."""
        return [entry_id.decode() for entry_id, _ in self._redis.xrange(self.keys.metrics)]

    def after(self, last_id: str, block_s: float = 0.0) -> list[tuple[str, dict[str, Any]]]:
        """At most 1000 records after ``last_id`` (``0``: from the first), oldest first; a broken one is empty."""
        reply = self._redis.xread({self.keys.metrics: last_id}, count=1000, block=block_ms(block_s))
        found = []
        for _, entries in reply or ():
            for entry_id, fields in entries:
                try:
                    found.append((entry_id.decode(), decode_record(fields.get(b"m", b""))))
                except DecodeError as error:
                    self.dead_letter(LetterKind.DAMAGED, "metrics", "", str(error))
                    found.append((entry_id.decode(), {}))
        return found
