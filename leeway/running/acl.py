"""``leeway acl``: users with the least rights that each role needs, as Redis reads them from its ACL file.

A role's rights are a root rule and selectors (Redis 7.0: a command passes if one of them allows it with its keys). The
root rule allows what touches no key, and the call of a script. Redis checks each command of a script against all of the
user's rules, so the right to call a script gives nothing more.

For example, a rollout user can take prompts, write responses and announce them. It cannot write a score, a version of
the weights, a control, or another role's heartbeat, and it cannot announce a scored group.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from ...common import address
from ...common.errors import ConfigError, DataError, why_unread
from ...common.keys import Keys

USERS = ("rollout", "verifier", "learner", "desk")

_ANY = "*"
_SESSION = "+ping +select +multi +exec +time +cluster|slots"
"""The last one is for a Redis Cluster, where a client asks which node has the run."""
_SCRIPTS = "+evalsha +script|load +script|exists"
_ENDS = ("+multi", "+exec")
"""Commands that begin and end a transaction."""
_TAKE = "+xreadgroup +xclaim +xpending +xack +xdel +xgroup|create"
"""Take, renew and acknowledge entries of a work stream; make its consumer group again where Redis came back empty."""


def acl(run: str | None, passwords: Path | None) -> str:
    """The lines of an ACL file: the four users of ``run``, or of every run, and no password for anybody else.

    ``passwords``: a file with ``USER PASSWORD`` lines, made with random passwords where it does not exist. The ACL has
    only their SHA-256. Without such a file the users cannot log in until they are given a password.
    """
    if run is not None:
        Keys(run)  # refuses an unusable id
    names = {role: user_name(role, run) for role in USERS}
    hashes = {}
    if passwords is not None:
        known = passwords_of(passwords, list(names.values()))
        hashes = {name: hashlib.sha256(known[name].encode()).hexdigest() for name in names.values()}
    lines = [] if run is not None else ["user default off resetpass resetkeys resetchannels -@all"]
    for role, name in names.items():
        login = f"on #{hashes[name]}" if name in hashes else "on resetpass"
        lines.append(f"user {name} {login} resetkeys resetchannels -@all {' '.join(rules(role, run or _ANY))}")
    return "\n".join(lines)


def user_name(role: str, run: str | None) -> str:
    """What a role's user is called."""
    return f"leeway-{role}" + (f"-{run}" if run is not None else "")


def rules(role: str, run: str) -> list[str]:
    """A role's rules after ``-@all``: the root rule, then the selectors. ``run`` is an id, or ``*`` for every run."""
    prefix = f"leeway:{{{run}}}:"
    return [f"{_SESSION} {_SCRIPTS} ~{prefix}*", *(_selector(prefix, *each) for each in _selectors(role))]


def needed(role: str, run: str) -> list[tuple[str, str]]:
    """Each command that a role's rules allow, as an ACL names it, with a key of ``run`` that it may be used with."""
    prefix = Keys(run).prefix
    found = [(command, f"{prefix}doctor") for command in f"{_SESSION} {_SCRIPTS}".split()]
    for commands, _, *patterns in _selectors(role):
        keys = [prefix + pattern.replace("*", "doctor") for pattern in patterns]
        found += [(command, key) for command in commands.split() for key in keys]
    return [(command.removeprefix("+"), key) for command, key in found if command not in _ENDS]


def _selectors(role: str) -> Sequence[tuple[str, ...]]:
    """A role's selectors, as (commands, kind of access, key patterns…)."""
    known: dict[str, Sequence[tuple[str, ...]]] = {
        "rollout": [*_worker("rollout"), *_ROLLOUT],
        "verifier": [*_worker("verifier"), *_VERIFIER],
        "learner": [(_LEARNER, "~", "*")],
        "desk": _DESK,
    }
    return known[role]


def _selector(prefix: str, commands: str, rights: str, *patterns: str) -> str:
    return f"({commands} {' '.join(rights + prefix + pattern for pattern in patterns)})"


def _worker(role: str) -> list[tuple[str, ...]]:
    """What every worker needs, as (commands, kind of access, key patterns…)."""
    return [
        ("+get +exists", "%R~", "config"),
        ("+hgetall", "%R~", "state"),
        ("+set +del", "%W~", f"heartbeat:{role}/*"),
        ("+zadd +zrem", "~", "workers"),
        ("+xadd", "%W~", "metrics", "dead"),
    ]


_ROLLOUT = [
    (_TAKE, "~", "prompts"),
    ("+exists +mget", "%R~", "group:*:ticket"),
    ("+exists", "%R~", "group:*:responses"),
    ("+setnx", "%W~", "group:*:responses"),
    ("+xadd", "%W~", "responses"),
    ("+xrange +xread +get", "%R~", "weights", "weights:*"),
    ("+zadd +zrem", "~", "weights:leases"),
    ("+set", "%W~", "weights:unreadable"),
]
_VERIFIER = [
    (_TAKE, "~", "responses"),
    ("+exists +mget", "%R~", "group:*:ticket", "group:*:responses"),
    ("+exists", "%R~", "group:*:scores"),
    ("+setnx", "%W~", "group:*:scores"),
    ("+xadd", "%W~", "scored"),
    ("+hincrby +hset +hget +expire", "~", "verdicts:*", "alike"),
]
_LEARNER = (
    f"{_TAKE} +xadd +xrange +xrevrange +xread +xlen +get +set +setnx +mget +incr +incrby +exists +del +unlink "
    "+hset +hsetnx +hget +hdel +hgetall +hmget +type +zadd +zrem +zrange +zrangebyscore +zremrangebyscore +info"
)
_DESK = [
    ("+get +exists +mget +strlen +hgetall +hmget +xlen +xrange +xrevrange +xread +xpending +zrange", "%R~", "*"),
    ("+set", "%W~", "config"),
    ("+hset", "%W~", "state", "controls"),
    ("+hsetnx", "%W~", "retries"),
    ("+scan +info", "%R~", "*"),
    ("+unlink", "%W~", "*"),
]


def passwords_of(path: Path, names: list[str]) -> dict[str, str]:
    """Passwords by user, from a file of ``USER PASSWORD`` lines; the file is made at random where there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        known = {name: secrets.token_urlsafe(24) for name in names}
        address.keep("\n".join(f"{name} {password}" for name, password in known.items()), path)
        return known
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {why_unread(error)}") from error
    known = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) != 2:
            raise DataError(f"{path}:{number}: expected a user and a password")
        known[words[0]] = words[1]
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(f"{path}: no password for {', '.join(missing)}; name another file to have them made")
    if os.stat(path).st_mode & 0o077:
        raise ConfigError(f"{path}: others can read it; chmod 600")
    return known
