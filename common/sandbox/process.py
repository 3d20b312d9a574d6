"""Starts and ends the processes of one sandbox from outside: bubblewrap, and the zygote behind it.

Everything that is done to the zygote goes by handles of the kernel, never by its process id. bubblewrap may have reaped
it, and then its id may belong to another process, which we could hit as root.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

_WALL = "bwrap\n"
"""What the kernel calls bubblewrap."""


class SandboxProcess:
    """The running processes, and how to end them. ``kill`` is safe from any thread; only the owner calls ``close``."""

    def __init__(self, process: subprocess.Popen[bytes], handles: list[int], zygote: int) -> None:
        self._process, self._handles = process, handles
        self._ending = threading.Lock()  # keeps ``close`` from closing the handles during a kill
        self.zygote = zygote
        """The zygote's process id, only for looking at it."""

    @property
    def alive(self) -> bool:
        """Whether the outermost process is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Send the signal and no more."""
        with self._ending:
            for handle in self._handles:
                with suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)

    def close(self) -> None:
        """Kill and reap the processes, and close the handles."""
        self.kill()
        self._process.wait()
        with self._ending:
            while self._handles:
                os.close(self._handles.pop())


def sweep(word: str) -> None:
    """End what killed processes have left of a start: bubblewrap's own child, which waits for ever for a bubblewrap
    that has died with its parent before the namespace had users. ``word``: one of the words of such a child's command,
    so that none of another program's is looked at."""
    for listed in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _is_left(listed, word):
                handle = os.pidfd_open(int(listed.name))
                try:
                    if _is_left(listed, word):  # still: from here on the handle is that process's
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)


def _is_left(listed: Path, word: str) -> bool:
    if (listed / "comm").read_text() != _WALL or (listed / "uid_map").read_text():
        return False
    parent = (listed / "stat").read_text().rpartition(")")[2].split()[1]
    return (
        os.fsencode(word) in (listed / "cmdline").read_bytes().split(b"\0")
        and (listed.parent / parent / "comm").read_text() != _WALL
    )


def start_bare(
    command: Sequence[str], environment: Mapping[str, str], control: int, errors: IO[bytes]
) -> SandboxProcess:
    """Start the zygote without any wall. Raises ``OSError``."""
    process = _popen(command, [control], environment, errors)
    with _ended_on_failure(process):
        return SandboxProcess(process, [os.pidfd_open(process.pid)], process.pid)


def start_walled(wall: Sequence[str], command: Sequence[str], control: int, errors: IO[bytes]) -> SandboxProcess:
    """Start bubblewrap with the arguments ``wall``, and ``command`` in it. Raises ``OSError`` or ``ValueError``."""
    as_root = os.getuid() == 0
    with ExitStack() as theirs, ExitStack() as ours:
        info, info_out = _pipe(reader=ours, writer=theirs)
        go_in, go = _pipe(reader=theirs, writer=ours)
        words = [*wall, "--info-fd", str(info_out)]
        if as_root:
            words += ["--userns-block-fd", str(go_in), "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        process = _popen([*words, *command], [control, info_out, go_in], {}, errors)
        theirs.close()
        with _ended_on_failure(process), ExitStack() as undo:
            handles = [os.pidfd_open(process.pid)]
            undo.callback(os.close, handles[0])
            zygote = int(json.loads(_until_brace(info))["child-pid"])
            handles.append(os.pidfd_open(zygote))
            undo.callback(os.close, handles[1])
            with _process_folder(zygote, parent=process.pid) as folder:
                if as_root:
                    _map_to_nobody(folder)
                    os.write(go, b"x")
                # If the whole machine runs out of memory, the kernel is to kill a solution, not the verifier.
                _write_there(folder, "oom_score_adj", "800")
            undo.pop_all()
        return SandboxProcess(process, handles, zygote)


def _popen(
    command: Sequence[str], fds: Sequence[int], environment: Mapping[str, str], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        pass_fds=fds,
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


def _pipe(*, reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe. Each end is closed with its stack."""
    ends = os.pipe()
    for stack, end in zip((reader, writer), ends, strict=True):
        stack.callback(os.close, end)
    return ends


@contextmanager
def _ended_on_failure(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End our own child and its group if the block fails: bubblewrap's own child would wait for it for ever. Until we
    reap our child, its process id, which is the group's too, stays its own."""
    try:
        yield
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@contextmanager
def _process_folder(pid: int, parent: int) -> Iterator[int]:
    """A descriptor of /proc/PID. It stays with this process: once that is gone, nothing opens in it any more. Raises
    ``OSError`` if the process is not a child of ``parent``: then the id has passed to another."""
    folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(_there(folder, "stat", os.O_RDONLY), "rb") as stat:
            found = int(stat.read().rpartition(b")")[2].split()[1])
        if found != parent:
            raise ProcessLookupError(f"process {pid} is a child of {found}, not of the wall's {parent}")
        yield folder
    finally:
        os.close(folder)


def _there(folder: int, name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC, dir_fd=folder)


def _write_there(folder: int, name: str, text: str) -> None:
    with open(_there(folder, name, os.O_WRONLY), "w") as file:
        file.write(text)


def _until_brace(info: int) -> bytes:
    """Read bubblewrap's report on itself, one JSON object."""
    data = b""
    while (piece := os.read(info, 4096)) and b"}" not in data + piece:
        data += piece
    return data + piece


def _map_to_nobody(folder: int) -> None:
    """Give the namespace two users: root to set it up, and one that is nobody outside to run things."""
    for kind in ("uid_map", "gid_map"):
        _write_there(folder, kind, "0 0 1\n1 65534 1\n")
