"""``leeway server``: the Redis-protocol server of a cluster, with the options that Leeway needs."""

import hashlib
import ipaddress
import os
import re
import secrets
import shutil
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import typer

from ...common import address
from ...common.errors import BrokerError, ConfigError, DataError, why_unread
from ...common.locks import only_writer
from .acl import USERS, acl, passwords_of, user_name
from .server import EmbeddedServer, server_binary, why_not_bound

LOAD_S = 600.0
"""Seconds that a server may take to read its append-only file."""
EVERYWHERE = ("0.0.0.0", "::")
_MEMORY = re.compile(r"[1-9][0-9]*([kmg]b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a server is asked to be."""

    host: str
    """The address it listens at beside the loopback. 127.0.0.1 means no other address, 0.0.0.0 means all of them."""
    port: int
    name: str | None
    """What the nodes call this machine. None means ``host``, or this machine's own name where ``host`` is 0.0.0.0."""
    folder: Path
    password_file: Path | None
    """The file with one password for everybody."""
    passwords: Path | None
    """The file with a user for each role, as ``leeway acl`` makes it."""
    memory: str | None
    """The most memory it may take, with kb, mb or gb. None means as much as there is."""
    binary: Path | None
    """None means ``redis-server`` or ``valkey-server`` from PATH, else the one that comes with leeway-rl[server]."""


def serve(asked: Serving) -> None:
    """Run a server until SIGTERM or Ctrl-C, which end it in order. ``ConfigError`` where it would be open to other
    machines without a password; ``BrokerError`` where it does not start."""
    _refuse_open(asked)
    if asked.memory is not None and not _MEMORY.fullmatch(asked.memory):
        raise ConfigError(f"--memory {asked.memory!r}: a whole number of kb, mb or gb, for instance 16gb")
    binary = _binary(asked.binary)
    _refuse_taken(asked)
    try:
        _run(asked, binary)
    except KeyboardInterrupt:  # both signals raise it
        typer.echo(f"stopped; {asked.folder} has what it held", err=True)


def _run(asked: Serving, binary: str) -> NoReturn:
    with ExitStack() as stack:
        lock = stack.enter_context(only_writer(asked.folder / "lock", f"--folder {asked.folder}"))
        logins, lines = _logins(asked)
        server = EmbeddedServer(
            asked.folder,
            port=asked.port,
            options=_options(asked, lines),
            user=logins["desk"],
            lock=lock,
            binary=binary,
            start_s=LOAD_S,
        )
        stack.callback(server.stop)  # also where we are asked to stop while the server still reads its file
        stack.enter_context(server)
        typer.echo(_words(asked, binary, logins))
        while True:
            threading.Event().wait()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. ``ConfigError`` where it is no address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(
            f"--host {host!r}: expected an IP address of this machine, or 0.0.0.0 for all of them; --name is for what "
            "the nodes call it"
        ) from None


def _refuse_open(asked: Serving) -> None:
    if asked.password_file is not None and asked.passwords is not None:
        raise ConfigError("--password-file is one password for everybody, --passwords a user for each role: name one")
    if not is_loopback(asked.host) and asked.password_file is None and asked.passwords is None:
        raise ConfigError(
            f"--host {asked.host} is reached from other machines, and without a password everybody there could read "
            "and change every run: add --password-file FILE (made where it is not there), or --passwords FILE for a "
            "user for each role; --host 127.0.0.1 is for this machine alone"
        )


def _refuse_taken(asked: Serving) -> None:
    """``BrokerError`` where another server listens at our port, because it would answer in the place of ours."""
    for host in _addresses(asked.host):
        if (why := why_not_bound(host, asked.port)) is not None:
            raise BrokerError(f"cannot listen at {host} port {asked.port}: {why}; name another --port or --host")


def _binary(named: Path | None) -> str:
    """The server's program, named by a path or by a name on PATH."""
    if named is None:
        return server_binary()
    found = str(named.absolute()) if os.access(named, os.X_OK) and named.is_file() else shutil.which(named)
    if found is None:
        raise BrokerError(f"--binary {named}: no program there")
    return found


def _addresses(host: str) -> list[str]:
    """The addresses it listens at. The loopback is one of them, because we check there whether the server lives."""
    if host == "0.0.0.0":
        return [host]
    return list(dict.fromkeys(["127.0.0.1", "127.0.0.1" if host == "localhost" else host]))


def _options(asked: Serving, lines: str) -> tuple[str, ...]:
    options = ["--bind", *_addresses(asked.host)]
    if asked.memory is not None:
        options += ["--maxmemory", asked.memory]
    if lines:
        rules = asked.folder / "users.acl"  # in a file, because everybody can read a command line
        address.keep(lines, rules)
        options += ["--aclfile", str(rules.resolve())]
    return tuple(options)


def _logins(asked: Serving) -> tuple[dict[str, str], str]:
    """(``user:password@`` of each role, the lines of the server's ACL file); both are empty without passwords."""
    if asked.passwords is not None:
        lines = acl(None, asked.passwords)
        known = passwords_of(asked.passwords, [user_name(role, None) for role in USERS])
        return {role: _login(user_name(role, None), known[user_name(role, None)]) for role in USERS}, lines
    if asked.password_file is not None:
        password = _password(asked.password_file)
        digest = hashlib.sha256(password.encode()).hexdigest()
        return dict.fromkeys(USERS, _login("", password)), f"user default on #{digest} ~* &* +@all"
    return dict.fromkeys(USERS, ""), ""


def _login(user: str, password: str) -> str:
    return f"{user}:{quote(password, safe='')}@"


def _password(path: Path) -> str:
    """The password in the file, which is made at random where there is no file."""
    if not path.exists():
        address.keep(secrets.token_urlsafe(24), path)
    try:
        words = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--password-file {path}: {why_unread(error)}") from error
    if len(words) != 1:
        raise DataError(f"--password-file {path}: expected one password without spaces; found {len(words)} words")
    if os.stat(path).st_mode & 0o077:
        raise ConfigError(f"--password-file {path}: others can read it; chmod 600 {path}")
    return words[0]


def _words(asked: Serving, binary: str, logins: dict[str, str]) -> str:
    """Lines on what the server is and how the roles find it. Passwords stand in files that only this user can read, not
    in these lines."""
    most = f", at most {asked.memory}" if asked.memory else ""
    where = f"{asked.host} port {asked.port}{most}; append-only file in {asked.folder.resolve()}"
    lines = [f"{Path(binary).name} at {where}"]
    host = asked.name or (socket.gethostname() if asked.host in EVERYWHERE else asked.host)
    at = f"{f'[{host}]' if ':' in host else host}:{asked.port}/0"
    if len(set(logins.values())) > 1:
        for role, login in logins.items():
            path = asked.folder / f"url-{role}"
            address.keep(f"redis://{login}{at}", path)
            lines.append(f"for a {role}: export LEEWAY_REDIS_URL=@{path.resolve()}")
    elif logins["desk"]:
        path = asked.folder / "url"
        address.keep(f"redis://{logins['desk']}{at}", path)
        lines.append(f"for every role: export LEEWAY_REDIS_URL=@{path.resolve()}")
    else:
        lines.append(f"for every role on this machine: export LEEWAY_REDIS_URL=redis://{at}")
    if logins["desk"]:
        lines.append(f"the file has redis://…@{at} with its password; a node that does not see it needs a copy")
    return "\n".join(lines)
