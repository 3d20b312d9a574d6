"""``leeway watch``: serves the page of one run until it is stopped."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import typer

from ...common.errors import ConfigError
from .source import Source

PORT = 8420
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where and how the page is served."""

    host: str
    port: int
    """0 takes one that is free."""
    allow_control: bool


@contextmanager
def watch_extra() -> Iterator[None]:
    """A context for imports that the ``watch`` extra brings. ``ConfigError`` says what is missing and how to get it."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"leeway watch needs {error.name}: pip install 'leeway-rl[watch]'") from error


def watch(url: str, folder: Path, serving: Serving, *, local: bool) -> None:
    """Serve the page of the run in ``folder``, whose Redis is at ``url``, until SIGTERM or Ctrl-C. ``local`` says that
    the address was not given but noted in the folder."""
    with watch_extra():
        import uvicorn

        from .server import Watching

    token = secrets.token_urlsafe(24) if serving.allow_control else None
    watching = Watching(Source(url, folder, local=local), token=token)

    class Server(uvicorn.Server):
        """A server that sends its viewers away before it waits for them."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            watching.board.end()
            await super().shutdown(sockets)

    application = watching.application(names(serving.host))
    options = uvicorn.Config(application, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
    with closing(listen_at(serving)) as listening:
        port = listening.getsockname()[1]
        typer.echo(f"{folder.name}: {address(serving.host, port, token)}   Ctrl-C ends it, and the run goes on")
        if not _is_loopback(serving.host):
            typer.echo("Whoever reaches this address may read the run's prompts and answers, over an open connection.")
        Server(options).run(sockets=[listening])


def address(host: str, port: int, token: str | None) -> str:
    """The page's address. The token is in the part that a browser keeps to itself."""
    name = socket.gethostname() if host in ANYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + ("" if token is None else f"#token={token}")


def names(host: str) -> list[str]:
    """The names that the page answers to: on the loopback its own alone. Elsewhere it is for the network to say who may
    reach it, and a machine has names that it does not know."""
    return ["127.0.0.1", "localhost", "[::1]"] if _is_loopback(host) else ["*"]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen_at(serving: Serving) -> socket.socket:
    """A socket there. ``ConfigError`` where there can be none. An empty host is refused: it comes from a shell variable
    that is not set, and would be every address of this machine."""
    if not serving.host:
        raise ConfigError("--host '': no address; 127.0.0.1 is for this machine alone, 0.0.0.0 for whoever reaches it")
    try:
        serving.host.encode("idna")  # a socket is not closed where the name of its machine can be none
        family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
        return socket.create_server((serving.host, serving.port), family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {serving.host} --port {serving.port}: cannot listen there "
            f"({getattr(error, 'strerror', None) or error}); "
            "--port 0 takes a port that is free"
        ) from error
