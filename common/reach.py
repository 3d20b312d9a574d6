"""Finds out what answers at an address if no Redis does: TLS where none was expected, the reverse, or something else.

A server that is spoken to in the wrong way often says nothing at all, and looks frozen. So it is asked once more, in
the other ways.
"""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from .address import Address, parse, public

PROBE_S = 1.0
"""Seconds that each way may take."""
_PING = b"PING\r\n\r\n"  # the empty line is for HTTP servers, which may wait for it


def why_unreachable(url: str, error: BaseException) -> str | None:
    """Why the Redis at ``url`` cannot be spoken to, if asking once more tells; else None. ``error`` is what the
    connection failed with. All nodes at the address are asked at once."""
    address, at = parse(url), public(url)
    if "certificate verify failed" in str(error).lower():
        return (
            f"the certificate of the Redis at {at} is not trusted here ({error}): add ?ssl_ca_certs=FILE to the "
            "address, with the certificate of who signed it"
        )
    if not address.nodes:
        return None
    with ThreadPoolExecutor(len(address.nodes)) as threads:
        told = threads.map(lambda node: _why_unreachable(address, at, *node), address.nodes)
    return next(filter(None, told), None)


def _why_unreachable(address: Address, at: str, host: str, port: int) -> str | None:
    plain = _answer(host, port, tls=False)
    tls = address.scheme == "rediss"
    if _is_redis(plain):
        return f"the Redis at {at} speaks no TLS: write {address.written('redis')} in the address" if tls else None
    secret = b"" if plain and not plain.startswith(b"\x15") else _answer(host, port, tls=True)  # 0x15: an alert of TLS
    if _is_redis(secret):
        return None if tls else f"the Redis at {at} speaks TLS: write {address.written('rediss')} in the address"
    if _is_http(plain) or _is_http(secret):
        return f"no Redis at {at}: what answers there speaks HTTP; name another port with --redis-url"
    if plain and not plain.startswith(b"\x15"):
        said = plain[:40].decode("ascii", errors="replace").strip()
        return f"no Redis at {at}: what answers there says {said!r}; name another port with --redis-url"
    return None


def _is_redis(answer: bytes) -> bool:
    return answer.startswith((b"+PONG", b"-NOAUTH", b"-ERR", b"-DENIED", b"-LOADING", b"-NOPERM", b"-MISCONF"))


def _is_http(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/", b"<"))


def _answer(host: str, port: int, *, tls: bool) -> bytes:
    """The answer to a PING; empty if there is none."""
    with suppress(OSError), socket.create_connection((host, port), PROBE_S) as plain:
        connection = plain
        if tls:
            # Nothing secret is sent, so the owner of the certificate does not matter here.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(plain)
        with connection:
            connection.sendall(_PING)
            return connection.recv(64)
    return b""
