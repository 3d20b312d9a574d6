"""What may stand behind the ? of an address of Redis. Everything else is refused: the client library knows many more
options, but some of them break what we do with an answer, and others fail where they are used.
"""

import re
import ssl
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

LEAST_CONNECTIONS = 8
"""Fewer would do for no run: the learner of the smallest one holds five at once. All commands take the same address."""
_PROTOCOL = "for TLS alone: write rediss in the place of redis, or leave it out"
_BOOLEANS = ("true", "false", "yes", "no", "1", "0")


def _number(least: int, most: int) -> tuple[str, Callable[[str], bool]]:
    return (
        f"a whole number from {least} to {most}",
        lambda text: re.fullmatch("[0-9]{1,9}", text) is not None and least <= int(text) <= most,
    )


def _one_of(*words: str) -> tuple[str, Callable[[str], bool]]:
    return f"{', '.join(words[:-1])} or {words[-1]}", lambda text: text in words


_TEXT = ("a text", bool)
_FILE = ("the path of a file", bool)
_EVERYWHERE: dict[str, tuple[str, Callable[[str], bool]]] = {
    "db": _number(0, 9999),
    "username": _TEXT,
    "password": _TEXT,
    "socket_keepalive": _one_of(*_BOOLEANS),
    "max_connections": _number(LEAST_CONNECTIONS, 1_000_000),
}
_TLS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": ("the path of a folder", bool),
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": _TEXT,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_check_hostname": _one_of(*_BOOLEANS),
}
_SENTINELS: dict[str, tuple[str, Callable[[str], bool]]] = {"sentinel_username": _TEXT, "sentinel_password": _TEXT}
_SECRET = ("password", "sentinel_password", "ssl_password")


class OptionError(ValueError):
    """An option that we do not know, or a value that it cannot have. The words follow "the address"."""


def check(query: str, *, tls: bool, sentinels: bool) -> None:
    """``OptionError`` for what is wrong with the options ``query`` of an address. Names and values are not quoted where
    they may be pieces of a password: beside an option that holds one."""
    known = _EVERYWHERE | (_TLS if tls else {}) | (_SENTINELS if sentinels else {})
    understood = f"Understood are {', '.join(known)}"
    given = parse_qsl(query, keep_blank_values=True)
    open_words = not any(name in _SECRET for name, _ in given)
    seen = set[str]()
    for name, text in given:
        if name in _TLS and not tls:
            raise OptionError(f"has the option {name}, which is {_PROTOCOL}")
        if name in _SENTINELS and not sentinels:
            raise OptionError(f"has the option {name}, which is for Sentinels alone (redis+sentinel://)")
        if name not in known:
            which = f"the option {name!r}" if open_words else "an option"
            raise OptionError(f"has {which}, which Leeway does not understand. {understood}")
        if name in seen:
            raise OptionError(f"has the option {name} twice: say it once")
        seen.add(name)
        right, fits = known[name]
        if not fits(text):
            which = f", not {text!r}" if text and open_words else ""
            raise OptionError(f"has the option {name}, which is to be {right}{which}")


def refuse_unusable_files(query: str) -> None:
    """``OptionError`` where the files of a TLS option are not there, or hold no certificates or keys."""
    given = dict(parse_qsl(query))
    if not given.keys() & _TLS.keys():
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _try(given, ("ssl_ca_certs", "ssl_ca_path"), lambda file, path: context.load_verify_locations(file, path))
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise OptionError("has the option ssl_keyfile without ssl_certfile, the certificate that the key is for")

    def own(certificate: str, key: str | None) -> None:
        context.load_cert_chain(certificate, key, lambda: given.get("ssl_password", ""))

    if "ssl_certfile" in given:
        _try(given, ("ssl_certfile", "ssl_keyfile"), own)


def _try(given: dict[str, str], names: Iterable[str], use: Callable[..., Any]) -> None:
    named = [name for name in names if name in given]
    if not named:
        return
    try:
        use(*(given.get(name) for name in names))
    except OSError as error:
        of_tls = isinstance(error, ssl.SSLError)
        why = "it holds nothing that TLS can use" if of_tls else error.strerror
        places = " and ".join(f"{name}={given[name]}" for name in named)
        raise OptionError(f"has the option {places}, which cannot be used here: {why}") from None
