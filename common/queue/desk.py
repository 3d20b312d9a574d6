"""An operator's view of a run, and of a server: for ``leeway up``, ``status``, ``set``, ``letters``, ``clean``."""

from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress

import redis

from ..batches import batched
from ..errors import ConfigError
from ..keys import PARTS, Keys
from ..profiles import FIELD, Request
from .connection import Connection
from .entries import number, texts
from .member import Member, RunRecord
from .overview import Overview


class DeskQueue(Member):
    """User ``desk``: reads everything, sets controls, asks for poisoned groups again, cleans up. Takes no work."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.record, self.overview = RunRecord(connection), Overview(connection)

    def set_control(self, name: str, value: str) -> None:
        """Turn a live control; the learner takes it up at its next admission."""
        self._redis.hset(self.keys.controls, name, value)

    def ask_profile(self, request: Request) -> None:
        """Ask the learner to trace its next steps. Another request that it has not taken yet is replaced."""
        self.set_control(FIELD, request.to_text())

    def withdraw_profile(self, request: Request) -> bool:
        """Nobody waits for ``request`` any more. Returns whether the learner had not taken it yet."""
        waiting = self.asks_profile(request)
        if waiting:
            self.set_control(FIELD, "")  # the desk has no right to remove a field; the learner removes it
        return waiting

    def asks_profile(self, request: Request) -> bool:
        """Whether ``request`` still waits for the learner."""
        return self.overview.controls().get(FIELD) == request.to_text()

    def dead_letters(self, newest: int | None = None) -> list[dict[str, str]]:
        """Every dead letter, or so many of the newest, oldest first. ``kind`` (of ``LetterKind``; empty where an older
        build wrote it), ``where`` (stream or key), ``g`` (the group), ``worker`` (who found it), ``reason``."""
        return [
            {"id": entry_id.decode(), "kind": "", "where": "", "g": "", "worker": "", "reason": ""} | texts(fields)
            for entry_id, fields in reversed(self._redis.xrevrange(self.keys.dead_letters, count=newest))
        ]

    def retry(self, group_ids: Iterable[str]) -> list[str]:
        """Ask the learner for the prompts of poisoned groups again; returns those that were not asked for before."""
        return [group_id for group_id in group_ids if self._redis.hsetnx(self.keys.retries, group_id, "")]

    def retries(self) -> dict[str, str]:
        """Groups whose prompts an operator asked for again, and the ticket that took each over, empty before that."""
        return texts(self._redis.hgetall(self.keys.retries))

    def payload_sizes(self, group_id: str) -> dict[str, int]:
        """Bytes of what Redis still holds of a group: ticket, responses, scores."""
        pipe = self._redis.pipeline(transaction=False)
        for key in self.keys.parts(group_id):
            pipe.strlen(key)
        return {part: size for part, size in zip(PARTS, pipe.execute(), strict=True) if size}

    def clean(self) -> dict[str, int]:
        """Remove every key of this run and of no other; how many of each kind. SCAN finds what no stream names any
        more (a payload whose manifest never came); the run id has no character that means something to MATCH."""
        removed: Counter[str] = Counter()
        for keys in batched(self._redis.scan_iter(match=self.keys.prefix + "*", count=1000), 500):
            names = (key.decode(errors="replace").removeprefix(self.keys.prefix) for key in keys)
            removed.update(name.split(":")[0] for name in names)
            self._redis.unlink(*keys)
        return dict(sorted(removed.items()))


def runs_at(url: str, connect_s: float = 5.0) -> dict[str, float]:
    """The runs that the Redis at ``url`` holds, as far as we may see them, with the time of the learner's last word: 0
    before the first."""
    found = dict[str, float]()
    with closing(Connection(url, "any", connect_s=connect_s, retry_s=0.0)) as connection:
        masters = [shard.master for shard in connection.shards()]
    for master in masters:
        with closing(Connection(master, "any", connect_s=connect_s, retry_s=0.0)) as probe:
            for key in probe.redis.scan_iter(match="leeway:{*}:config", count=1000):
                run = key.decode(errors="replace").partition("{")[2].partition("}")[0]
                with suppress(redis.exceptions.NoPermissionError, ConfigError):  # another user's run, or nobody's
                    found[run] = number(texts(probe.redis.hgetall(Keys(run).state)).get("at", "0"))
    return found
