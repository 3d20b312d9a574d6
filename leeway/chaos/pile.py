"""Hundreds of leases of a worker that lives, and behind them the leases of one that is gone. This module goes around
``common/queue``, as ``damage`` does and for the same reason."""

import random
import threading
from contextlib import suppress
from typing import Any

import redis

from ...common.queue.entries import GROUP, WorkStream
from .damage import connect
from .hit import Hit, NothingThere
from .target import Target

LIVE, DEAD = 500, 50
ALIVE, GONE = "chaos-alive", "chaos-gone"


def pile_up(target: Target, rng: random.Random) -> Hit:
    """Announce groups that nobody wants, and lease them all to a worker that keeps renewing; then pass the youngest to
    a second worker that never renews. Groups of the run that no worker has taken yet are leased with them. What the
    second worker holds has to be redelivered one lease later; the unwanted groups are then dropped, and the run's are
    made."""
    stream = rng.choice([WorkStream.PROMPTS, WorkStream.RESPONSES])
    key = target.keys.prefix + stream.value
    names = [f"{rng.randrange(10**16, 10**17)}-0" for _ in range(LIVE + DEAD)]
    with connect(target.port) as client:
        known = [group["name"] for group in client.xinfo_groups(key)] if client.exists(key) else []
        if GROUP.encode() not in known:
            raise NothingThere
        pipe = client.pipeline(transaction=True)
        for name in names:
            pipe.xadd(key, {"g": name})
        pipe.xreadgroup(GROUP, ALIVE, {key: ">"}, count=100_000)
        *ours, reply = pipe.execute()
        taken = [entry_id for _, entries in reply for entry_id, _ in entries]
        live = ours[:LIVE]
        gone = [entry_id for entry_id in taken if entry_id not in set(live)]
        client.xclaim(key, GROUP, GONE, 0, gone, justid=True)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(target, key, live, ended), name="alive", daemon=True).start()

    def end() -> str:
        with connect(target.port) as client:
            left = client.xpending_range(key, GROUP, "-", "+", len(gone), GONE) if client.exists(key) else []
            ended.set()
            for start in range(0, len(ours), 100):
                client.xack(key, GROUP, *ours[start : start + 100])
                client.xdel(key, *ours[start : start + 100])
        return f"{len(gone) - len(left)} of {len(gone)} were in work again"

    return Hit(f"{len(live)} live and {len(gone)} dead leases on {stream.value}", target.lease_s + 5, end)


def _renew(target: Target, key: str, live: list[Any], ended: threading.Event) -> None:
    """Renew the leases as the heartbeat of a live worker does."""
    while not ended.wait(target.lease_s / 4):
        with suppress(redis.RedisError, OSError), connect(target.port) as client:
            client.xclaim(key, GROUP, ALIVE, 0, live, justid=True)
