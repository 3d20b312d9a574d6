"""Says what an error of Redis means and what to do about it, in words that follow "Redis …" or "the Redis at URL …".

Errors are told apart by the code that begins the answer (``OOM``, ``NOAUTH``, …). The client library keeps it in
``status_code`` or leaves it in the text. Pure.
"""

OUT_OF_MEMORY = "is out of memory and refuses every write: give it more (CONFIG SET maxmemory)"

_BY_CODE = {
    "OOM": OUT_OF_MEMORY,
    "NOAUTH": "refuses this user: it asks for a password, as in redis://user:password@host",
    "WRONGPASS": "refuses this user: the name or the password in the address is wrong",
    "NOPERM": "refuses this user: its rights do not cover what we need; leeway acl prints those that do",
    "MISCONF": "takes no writes because it cannot save to its disk: make room there, its log says more",
    "READONLY": "is a replica and takes no writes: name its primary",
    "NOREPLICAS": "takes no writes because too few replicas follow it (min-replicas-to-write): start more",
    "MASTERDOWN": "is a replica that has lost its primary: name another server",
    "LOADING": "is still loading its data: it answers once that is done",
    "CLUSTERDOWN": "is a node of a cluster that does not serve this run's slot: CLUSTER INFO tells why",
    "MOVED": "is a node of a cluster, and the run's keys lie on another: write redis+cluster:// in the address",
    "DENIED": "answers on its own machine alone: it runs in protected mode, without a password",
    "BUSY": "is busy with somebody's script: it answers when that has ended",
}
_BY_TEXT = {
    "without any password configured": "refuses this user: it knows no password; leave it out of the address",
    "Authentication required": _BY_CODE["NOAUTH"],
    "invalid username-password": _BY_CODE["WRONGPASS"],
    "DB index is out of range": "has no database of this number: leave it out of the address, or raise its databases",
    "max number of clients reached": "has as many connections as it takes: raise its maxclients",
    "Too many connections": "is asked over every connection that max_connections in the address allows this process, "
    "and more are needed: allow more, or leave it out",
    "unknown command": "does not know a command that we need: it is a Sentinel, a proxy, or older than Redis 7.0; "
    "for Sentinels write redis+sentinel:// in the address",
}


def code_of(error: BaseException) -> str:
    """The code of an error that Redis answered; empty for other errors."""
    kept = getattr(error, "status_code", None)
    if isinstance(kept, str) and kept in _BY_CODE:
        return kept
    said = str(error).removeprefix("-").partition(" ")[0]
    return said if said in _BY_CODE else ""


def meaning(error: BaseException) -> str | None:
    """What Redis does and what to do about it; None for an unknown error."""
    by_text = next((words for part, words in _BY_TEXT.items() if part in str(error)), None)
    return by_text or _BY_CODE.get(code_of(error))
