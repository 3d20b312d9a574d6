"""What a rehearsal strikes at: a run's processes, its server and its disk, all found from outside the run."""

import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from ...common import address
from ...common.config import config_in
from ...common.errors import BrokerError
from ...common.keys import Keys
from .clock import Clock
from .hanging import Hanging
from .proxy import Proxy

ROLES = ("learner", "rollout", "verifier")
SMALL_DISK_BYTES = 192 << 20
"""Size of the file system that is mounted under the checkpoints: room for a dozen checkpoints of the tiny preset."""


@dataclass(slots=True)
class Target:
    """A run on this machine, and what was put between its parts before they started."""

    run: str
    folder: Path
    """The run's folder, ``runs/RUN``."""
    port: int
    """The port of the run's Redis on the loopback."""
    proxy: Proxy | None = None
    clock: Clock | None = None
    hanging: Hanging | None = None
    disk: Path | None = None
    """The checkpoints' folder, where it is a small file system of its own."""
    missing: dict[str, str] = field(default_factory=dict)
    """By name, why there is no ``proxy``, ``clock``, ``hanging`` or ``disk``."""

    @property
    def keys(self) -> Keys:
        return Keys(self.run)

    @property
    def lease_s(self) -> float:
        """``broker.lease_s`` of the run."""
        return config_in(self.folder / "config.toml").broker.lease_s

    def processes(self, *roles: str) -> list[tuple[str, int]]:
        """(role, process id) of the run's living processes of ``roles``, by default of all roles. Another run of the
        same name has another Redis, and its processes are left alone."""
        wanted = {f"leeway_rl.{role}": role for role in roles or ROLES}
        ports = {self.port} if self.proxy is None else {self.port, self.proxy.own_port}
        return [
            (wanted[word], pid)
            for pid, words in command_lines()
            if self.run in words
            for word in words
            if word in wanted and _redis_port(pid, words) in ports
        ]

    def graders(self) -> list[int]:
        """Process ids of the verifiers' grading processes."""
        parents = {str(pid) for _, pid in self.processes("verifier")}
        return [
            pid for pid, words in command_lines() if "leeway_rl.verifier.grading_child" in words and parents & {*words}
        ]

    def server(self) -> int | None:
        """Process id of the run's Redis; None where it is not on this machine."""
        for pid, words in command_lines():
            line = " ".join(words)
            if "-server" in line and (line.rstrip().endswith(f":{self.port}") or f"--port {self.port}" in line):
                return pid
        return None


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """(process id, words of the command line) of every process of this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if (entry / "stat").read_text().rpartition(") ")[2][:1] != "Z":
                    yield int(entry.name), words


def _redis_port(pid: int, words: list[str]) -> int | None:
    """The port of the Redis that a role was started with; None where that cannot be read, or the role has ended."""
    given = dict(pairwise(words)).get("--redis-url")
    try:
        started_with = (Path("/proc") / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
        variables = dict(each.split("=", 1) for each in started_with if "=" in each)
        return urlsplit(address.resolve(given or variables.get(address.VARIABLE))).port or 6379
    except (OSError, ValueError, BrokerError):
        return None


def send(pid: int, signum: signal.Signals) -> None:
    """Signal a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of ``SMALL_DISK_BYTES`` on ``folder``; what was written there lies in the plain folder afterwards.
    ``OSError`` where we may not mount: it takes root, or ``unshare --user --map-root-user --mount leeway chaos …``."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={SMALL_DISK_BYTES}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        raise OSError(f"no small file system on {folder}: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        with tempfile.TemporaryDirectory(dir=folder.parent) as kept:
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            subprocess.run(["umount", "--lazy", folder], check=True)
            shutil.copytree(kept, folder, dirs_exist_ok=True)


def fill(folder: Path) -> Path:
    """Fill the file system of ``folder`` to the last byte; returns the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for piece in (bytes(1 << 20), bytes(4096)):
            try:
                while True:
                    file.write(piece)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return ballast


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of the run in ``folder`` whose files are there in full size, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("step-*") if _is_whole(path))


def _is_whole(path: Path) -> bool:
    try:
        files = json.loads((path / "complete.json").read_text())["files"]
        return not path.name.endswith(".unfinished") and all(
            (path / name).stat().st_size == size for name, size in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False
