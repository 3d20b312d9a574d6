"""The address of Redis: how a command learns it, what it names, and how much of it may be shown.

A URL may hold a password. Leeway never puts it on a command line of its own, where every user of the machine could read
it, nor into a log, the ledger, a report or an error message.
"""

import os
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from .address_options import OptionError, check, refuse_unusable_files
from .errors import BrokerError, why_unread
from .files import path_of, whole_file

VARIABLE = "LEEWAY_REDIS_URL"
"""Environment variable that stands in for ``--redis-url``. Our own commands use it for the roles that they start."""
LOCAL = "redis://127.0.0.1:6379/0"
"""The address if none is given."""
HELP = (
    "redis://user:password@host:port/db, rediss:// with TLS, redis+cluster://host:port,host:port for a Redis Cluster, "
    f"redis+sentinel://host:port,host:port/master/db for Sentinels, or @FILE that holds it; ${VARIABLE} by default."
)


class Kind(StrEnum):
    """What stands at an address."""

    SERVER = "server"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


PORTS = {Kind.SERVER: 6379, Kind.CLUSTER: 6379, Kind.SENTINEL: 26379}
"""The port of a host that is named without one."""
_HOST = re.compile(r"(?P<host>[^\[\]:,\s]+|\[[0-9A-Fa-f:.]+(?:%[^\[\]:,\s]+)?\])(?::(?P<port>[0-9]{1,5}))?")
_SENTINELS_OWN = "sentinel_"
_SERVERS_OWN = ("db", "username", "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL names, taken apart."""

    kind: Kind
    scheme: str
    """``redis``, ``rediss`` or ``unix``: how each server is spoken to."""
    login: str
    """``user:password@`` as the URL has it, or empty."""
    nodes: tuple[tuple[str, int], ...]
    """(host, port) of the server, of nodes of the cluster, or of the Sentinels; empty for a socket of this machine."""
    path: str
    """``/db``, or the socket's path."""
    query: str
    """Options (``address_options``), for every server."""
    master: str = ""
    """What the Sentinels call the master."""
    sentinel_options: tuple[tuple[str, str], ...] = ()
    """Options for the Sentinels alone: ``username`` and ``password``."""

    def written(self, scheme: str) -> str:
        """How an address of this kind begins with another ``scheme``."""
        return f"{scheme}://" if self.kind is Kind.SERVER else f"{scheme}+{self.kind}://"

    def at(self, host: str, port: int) -> str:
        """The URL of one server, with the login, database and options of this address."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.login}{_named(host, port)}{self.path}{query}"

    def at_sentinel(self, host: str, port: int) -> str:
        """The URL of one Sentinel. It has a login of its own and no database."""
        options = {key: text for key, text in parse_qsl(self.query) if key not in _SERVERS_OWN}
        options |= dict(self.sentinel_options)
        return f"{self.scheme}://{_named(host, port)}?{urlencode(options)}"


def _named(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def known(url: str) -> Address:
    """What ``url`` names. ``BrokerError`` where it is no address, has an option that we do not know, or names a file of
    certificates that cannot be used here."""
    try:
        found = parse(url)
        refuse_unusable_files(found.query)
    except OptionError as error:
        raise BrokerError(f"--redis-url: the address {error}") from None
    except ValueError as error:
        advice = "In a password write / as %2F, @ as %40, : as %3A, # as %23, ? as %3F"
        raise BrokerError(f"--redis-url: not an address; {error}. Expected {HELP} {advice}") from None
    return found


def parse(url: str) -> Address:
    """Take ``url`` apart. ``ValueError`` says what is wrong with it; its words hold nothing of the URL that may be a
    piece of a password. An ``OptionError`` names the option."""
    parts = _split(url)
    scheme, plus, kind_name = parts.scheme.partition("+")
    if scheme == "unix" and not plus:
        check(parts.query, tls=False, sentinels=False)
        return Address(kind=Kind.SERVER, scheme=scheme, login="", nodes=(), path=parts.path, query=parts.query)
    if scheme not in ("redis", "rediss") or kind_name not in (*Kind, "") or kind_name == Kind.SERVER:
        raise ValueError("it begins with no scheme that we know")
    kind = Kind(kind_name or Kind.SERVER)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("an @ stands behind the hosts, so a password seems to have a /, a ? or a #")
    if parts.fragment:
        raise ValueError("a # stands in it")
    login, at, hosts = parts.netloc.rpartition("@")
    if kind is Kind.SERVER and hosts[:1] in ("", ":"):
        hosts = f"localhost{hosts}"
    named = [_HOST.fullmatch(each) for each in hosts.split(",")]
    nodes = tuple(
        (unquote(each["host"].strip("[]")), int(each["port"] or PORTS[kind])) for each in named if each is not None
    )
    if len(nodes) < len(named) or any(not 0 < port < 65536 for _, port in nodes):
        raise ValueError("a host is missing, or its port is not a number from 1 to 65535")
    if kind is Kind.SERVER and len(nodes) > 1:
        raise ValueError(
            f"several hosts are nodes of a cluster ({scheme}+cluster://host:port,host:port) or Sentinels "
            f"({scheme}+sentinel://host:port,host:port/master)"
        )
    check(parts.query, tls=scheme == "rediss", sentinels=kind is Kind.SENTINEL)
    found = Address(kind=kind, scheme=scheme, login=login + at, nodes=nodes, path=parts.path, query=parts.query)
    return {Kind.SERVER: _of_server, Kind.CLUSTER: _of_cluster, Kind.SENTINEL: _of_sentinels}[kind](found)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("its brackets or characters are none of an address") from None  # its own words quote the URL


def _of_server(found: Address) -> Address:
    _refuse_database(found, found.path.strip("/"), "the host is a number, as in redis://host:6379/0")
    return found


def _of_cluster(found: Address) -> Address:
    database = dict(parse_qsl(found.query)).get("db", found.path.strip("/"))
    if database not in ("", "0"):
        raise ValueError("a Redis Cluster has database 0 alone: leave the database out")
    return found


def _of_sentinels(found: Address) -> Address:
    master, _, database = found.path.strip("/").partition("/")
    if not master:
        raise ValueError(
            f"the master's name is missing after the Sentinels, as in {found.scheme}+sentinel://host:26379/mymaster/0"
        )
    _refuse_database(found, database, "the master's name is a number, as in /mymaster/0")
    options = dict(parse_qsl(found.query))
    database = options.pop("db", database or "0")
    own = tuple((key.removeprefix(_SENTINELS_OWN), text) for key, text in options.items() if _is_sentinels(key))
    return replace(
        found,
        path=f"/{database}",
        query=urlencode({key: text for key, text in options.items() if not _is_sentinels(key)}),
        master=unquote(master),
        sentinel_options=own,
    )


def _is_sentinels(option: str) -> bool:
    return option.startswith(_SENTINELS_OWN)


def _refuse_database(found: Address, said: str, where_and_how: str) -> None:
    if not re.fullmatch("[0-9]{0,4}", said):
        raise ValueError(f"the database after {where_and_how}")
    if said and "db" in dict(parse_qsl(found.query)):
        raise OptionError("has the option db and a database before it: say it once")


def resolve(said: str | None) -> str:
    """The URL from ``--redis-url`` (a URL, or ``@`` and a file whose first line is one), else from the environment,
    else the local one. ``BrokerError`` if the file cannot be read, or holds no address (``known``)."""
    text = said or os.environ.get(VARIABLE) or LOCAL
    if text.startswith("@"):
        text = _first_word(text)
    known(text)
    return text


def _first_word(text: str) -> str:
    """What stands in the file that ``text`` names after its ``@``."""
    path = path_of(text[1:])
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"--redis-url {text!r}: {why_unread(error)}") from error
    if not lines:
        raise BrokerError(f"--redis-url {text!r}: the file is empty")
    return lines[0]


def forget() -> None:
    """Take the URL out of this process's environment, since what it starts (graders, engines, compilers) needs none."""
    os.environ.pop(VARIABLE, None)


def public(url: str) -> str:
    """``url`` without user, password and options."""
    try:
        parse(url)
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
    except ValueError:
        return "the given --redis-url"


def keep(secret: str, path: Path) -> None:
    """Write a URL or a password into a file that only this user can read. Whoever looks at it meanwhile finds what was
    there before, or all of it."""
    with whole_file(path) as temporary:
        try:
            temporary.unlink(missing_ok=True)  # a file that is there would keep its mode, which may be wider
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        with open(descriptor, "w") as file:
            file.write(secret + "\n")
