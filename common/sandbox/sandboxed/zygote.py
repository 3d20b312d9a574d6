"""The first process of a sandbox: warm, trusted, and forked for every job.

::

    zygote ─ clone with own pid, mount and ipc namespaces ─▶ keeper ─ fork for every run ─▶ solution

bubblewrap builds the outer wall (user, pid, network, mount, ipc namespaces; nothing writable). For each job the zygote
makes another: fresh process ids, so that a solution cannot even name a process that is not its own, a fresh memory
file system for the scratch folder, a fresh socket. The keeper is process 1 of the inner wall. It holds no expected
output, runs each solution without capabilities under a system-call filter, and ends the whole job when the judge hangs
up. Whatever a solution does to its keeper, it can only change what its own job answers.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn

from . import children, frames, scorer

JOB = "/job"
_NEW_NAMESPACES = 0x00020000 | 0x08000000 | 0x20000000 | 0x04000000  # mount, ipc, pid, uts
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2
_SET_DUMPABLE, _KEEPCAPS, _SET_SECCOMP, _NO_NEW_PRIVS, _PDEATHSIG = 4, 8, 22, 38, 1
_CAP_SYS_ADMIN = 21
_MAX_FDS = 256
_STACK_BYTES = 120 << 20
"""Stack of the main thread; recursion through C code needs it. The kernel leaves 128 MiB for it to grow into."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc_held = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during a call


def main(control_fd: int, isolated: bool, packages: str, preload: list[str]) -> NoReturn:
    """Fork a job for every socket that comes over the control socket; say ``done`` when all of the job is gone. Every
    job finds the modules ``preload``, out of the folder ``packages``, imported."""
    control = socket.socket(fileno=control_fd)
    if isolated:
        _become_nobody()
    _prctl(_SET_DUMPABLE, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in [name for name in sys.modules if name.split(".")[0] == __package__]:
        del sys.modules[name]  # loaded, but no solution may import it
    if preload:
        _import(packages, preload, isolated)  # the interpreter stays as those modules expect it
    else:
        children.preload()
    children.open_streams()
    if isolated:
        _system_call_filter()
    gc.disable()  # of no use here, and every object it looks at is a page to copy after a fork
    control.send(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            os._exit(0)
        keeper = _clone() if isolated else os.fork()
        if keeper == 0:
            control.close()
            limits = json.loads(message)
            folder = JOB if isolated else limits["folder"]
            _Keeper(socket.socket(fileno=fds[0]), limits, folder, isolated=isolated).run()
        os.close(fds[0])
        os.waitpid(keeper, 0)
        control.send(b"done")


def _import(packages: str, preload: list[str], isolated: bool) -> None:
    """Import installed modules. Some write a cache then, which goes into a short-lived memory file system."""
    sys.path.append(packages)
    if isolated:
        _checked("mount", _libc.mount(b"tmpfs", JOB.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"size=64m,mode=700"))
        os.mkdir(f"{JOB}/scratch")
    for name in preload:
        __import__(name)
    if isolated:
        _checked("umount2", _libc.umount2(JOB.encode(), _MNT_DETACH))
    gc.collect()
    gc.freeze()


class _Keeper:
    """Runs one job: a fork for every request, one after the other. From its first request on it has no more rights than
    what it runs, except that it cannot be traced and, as process 1, cannot be killed from within."""

    def __init__(self, link: socket.socket, limits: dict[str, Any], folder: str, *, isolated: bool) -> None:
        self._link, self._limits, self._folder, self._isolated = link, limits, folder, isolated
        self._scratch = f"{folder}/scratch"
        self._runner: _Runner | None = None

    def run(self) -> NoReturn:
        """Serve until the judge hangs up."""
        try:
            self._settle()
            frames.send(self._link, frames.SETTLED, [])
            while (frame := frames.receive(self._link)) is not None:
                kind, body, blob = frame
                if kind == frames.PROGRAM:
                    self._program(body, blob)
                else:
                    self._serve(body)
        except Exception as error:  # our own failure, for which the solution must not be graded
            with suppress(OSError):
                frames.send(self._link, frames.FAILED, [f"{type(error).__name__}: {error}"])
        finally:
            self._end_others()
            os._exit(0)

    def _settle(self) -> None:
        """Make a fresh folder, then give up every right, for us and for all that we start."""
        if self._isolated:
            options = f"size={self._limits['folder_bytes']},nr_inodes=20000,mode=700".encode()
            flags = _MS_NOSUID | _MS_NODEV
            _checked("mount", _libc.mount(b"tmpfs", self._folder.encode(), b"tmpfs", flags, options))
        os.mkdir(self._scratch)
        os.chdir(self._scratch)
        self._set_limits()
        if self._isolated:
            _set_capabilities(0)
            _prctl(_SET_DUMPABLE, 0)
            _forbid_system_calls()

    def _set_limits(self) -> None:
        limits = self._limits
        for kind, value in (
            (resource.RLIMIT_AS, limits["address_bytes"]),
            (resource.RLIMIT_FSIZE, limits["output_bytes"]),
            (resource.RLIMIT_NOFILE, _MAX_FDS),
            (resource.RLIMIT_NPROC, limits["processes"]),
            (resource.RLIMIT_STACK, _STACK_BYTES),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            if kind == resource.RLIMIT_NPROC and not self._isolated:
                continue  # it would count the user's other processes
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))

    def _program(self, body: dict[str, Any], stdin: bytes) -> None:
        """Run a program on an input, and answer with its output and how it ended."""
        if self._runner is None:
            self._runner = _Runner(self._folder)
            self._runner.fill(stdin)
            if (child := _fork()) == 0:
                self._step_aside(self._runner.files, keep=self._runner.theirs.fileno())
                children.run_program(body["source"], self._runner.theirs)
            self._runner.started(child)
        else:
            self._runner.fill(stdin)
            self._runner.leash.send(b"x")
        status, peak_bytes = self._outcome(self._runner)
        _, out, err = self._runner.files
        ending = {
            "status": status,
            "peak_bytes": peak_bytes,
            "capped": os.fstat(out).st_size >= self._limits["output_bytes"],
            "complaint": _tail(err),
            "dirty": self._left_traces(),
        }
        output = os.pread(out, self._limits["output_bytes"], 0)
        if not self._runner.alive:
            self._runner.close()
            self._runner = None
        frames.send(self._link, frames.ENDED, ending, output)

    def _left_traces(self) -> bool:
        """Whether the next run must not find the folder as it is. A run that took it from us has left traces."""
        try:
            return len(os.listdir(self._folder)) != 4 or bool(os.listdir(self._scratch))
        except OSError:
            return True

    def _outcome(self, runner: _Runner) -> tuple[int, int]:
        """(exit code, peak memory) of a run: as it says if its process can be used again, else by its end."""
        if self._wait(runner.child, runner.leash):
            return 0, struct.unpack("=q", runner.leash.recv(8))[0]
        status, usage = self._reap(runner.child)
        runner.alive = False
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024

    def _serve(self, body: dict[str, Any]) -> None:
        """Leave the judge's socket to a child, and say when that has ended."""
        null = os.open("/dev/null", os.O_RDWR)
        child = _fork()
        if child == 0:
            self._step_aside([null] * 3, keep=self._link.fileno())
            if body["role"] == "scorer":
                scorer.score(self._link, body["entry"], body["options"])
            if body["role"] == "solution":
                children.serve_solution(self._link, body["prefix"], body["source"])
            children.run_tests(self._link, body["prefix"], body["tests"], body["entry"])
        os.close(null)
        self._wait(child)
        status, _ = self._reap(child)
        frames.send(self._link, frames.GONE, [os.waitstatus_to_exitcode(status)])

    def _wait(self, child: int, leash: socket.socket | None = None) -> bool:
        """Wait until the child speaks over its ``leash`` (true) or ends (false). If the judge hangs up, we end."""
        pidfd = os.pidfd_open(child)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._link, 0)  # hang-up only
        if leash is not None:
            poll.register(leash, select.POLLIN)
        ready = dict(poll.poll())
        os.close(pidfd)
        if pidfd in ready:
            return False
        if leash is not None and leash.fileno() in ready and len(leash.recv(9, socket.MSG_PEEK)) == 8:
            return True
        if self._link.fileno() in ready:
            self._end_others(child)
            os._exit(0)
        os.kill(child, signal.SIGKILL)  # it closed its leash, or spoke nonsense
        return False

    def _reap(self, child: int) -> tuple[int, resource.struct_rusage]:
        """Reap the child, and end what it left running. Returns how it ended."""
        if not self._isolated:  # before it is reaped, since from then on its group's id may be another's
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            self._end_others(child)
        _, status, usage = os.wait4(child, 0)
        if self._isolated:
            self._end_others(child)
        return status, usage

    def _end_others(self, child: int | None = None) -> None:
        """Kill all that a run left. Without a namespace of our own, only its process group can be found."""
        if not self._isolated:
            if child is not None:
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            return
        assert os.getpid() == 1
        with suppress(ProcessLookupError, ChildProcessError):
            while True:
                os.kill(-1, signal.SIGKILL)
                os.waitpid(-1, 0)

    def _step_aside(self, streams: list[int], keep: int) -> None:
        """In the child: take the given streams, and close every other descriptor but ``keep``."""
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.closerange(3, max(keep, 3))
        os.closerange(max(keep, 2) + 1, _MAX_FDS)
        if not self._isolated:
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()


class _Runner:
    """A process that runs a program on one input after the other, its three files, and a leash to it."""

    def __init__(self, folder: str) -> None:
        paths = [f"{folder}/{name}" for name in ("stdin", "stdout", "stderr")]
        self.files = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for path in paths]
        self.leash, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child, self.alive = 0, False

    def fill(self, stdin: bytes) -> None:
        """Give standard input new content, and empty the other files."""
        for fd in self.files:
            os.ftruncate(fd, 0)
        os.pwrite(self.files[0], stdin, 0)

    def started(self, child: int) -> None:
        self.theirs.close()
        self.child, self.alive = child, True

    def close(self) -> None:
        self.leash.close()
        for fd in self.files:
            os.close(fd)


def _tail(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, 2000, max(0, size - 2000)).decode("utf-8", "replace")


# --- the kernel ------------------------------------------------------------------------------------------------------


def _checked(name: str, result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _prctl(option: int, value: int) -> None:
    _checked("prctl", _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _become_nobody() -> None:
    """Take a user id of no one's if root started us, because limits on processes do not bind root."""
    if os.getuid() == 0:
        _prctl(_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(1, 1, 1)
        os.setresuid(1, 1, 1)
    _set_capabilities(1 << _CAP_SYS_ADMIN)


def _set_capabilities(mask: int) -> None:
    header = struct.pack("=Ii", 0x20080522, 0)
    _checked("capset", _libc.capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)))


_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_CLONE, _CLONE3, _CLONE_NEW = (56, 220), 435, 0x7E020080
_PRLIMIT = (302, 261)
"""Calls that are allowed on oneself only, because process 1 of the job belongs to the same user."""

_FORBIDDEN = {
    "other processes": ((101, 117), (310, 270), (311, 271), (312, 272), (438, 438), (424, 424)),
    "memory nobody counts": ((319, 279), (447, 447), (29, 194), (30, 196), (31, 195), (68, 186), (64, 190), (240, 180)),
    "namespaces and mounts": (
        *((272, 97), (308, 268), (165, 40), (166, 39), (155, 41), (161, 51), (442, 442)),
        *((number, number) for number in range(428, 434)),
    ),
    "attack surface of the kernel": (
        *((321, 280), (298, 241), (323, 282), (250, 219), (248, 217), (249, 218), (303, 264), (304, 265)),
        *((103, 116), (300, 262), (425, 425), (426, 426), (427, 427)),
    ),
}
"""(x86-64, AArch64) numbers of: ptrace, process_vm_readv and writev, kcmp, pidfd_getfd, pidfd_send_signal;
memfd_create, memfd_secret, shmget, shmat, shmctl, msgget, semget, mq_open; unshare, setns, mount, umount2, pivot_root,
chroot, mount_setattr, open_tree to fspick; bpf, perf_event_open, userfaultfd, keyctl, add_key, request_key,
name_to_handle_at, open_by_handle_at, syslog, fanotify_init, io_uring."""


@cache
def _system_call_filter() -> tuple[bytes, ctypes.Array[ctypes.c_char]]:
    """(struct sock_fprog, the program it points to). A forbidden call fails with EPERM, a new namespace too; clone3,
    which hides its flags, is absent."""
    architecture, column = _MACHINES[platform.machine()]
    load, equal, at_least, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, absent, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    if column == 0:  # the same calls by their x32 numbers
        program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse)]
    for group in _FORBIDDEN.values():
        for numbers in group:
            program += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, absent)]
    program += [(equal, 0, 3, _CLONE[column]), (load, 0, 0, 16), (bits, 0, 1, _CLONE_NEW), (give, 0, 0, refuse)]
    program += [
        (load, 0, 0, 0),
        (equal, 0, 3, _PRLIMIT[column]),
        (load, 0, 0, 16),
        (equal, 1, 0, 0),
        (give, 0, 0, refuse),
    ]
    program += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    return struct.pack("@HP", len(program), ctypes.addressof(code)), code


def _forbid_system_calls() -> None:
    header, _ = _system_call_filter()
    _checked("seccomp", _libc.prctl(_SET_SECCOMP, ctypes.c_ulong(2), header, 0, 0))


def _fork() -> int:
    """The C library's ``fork``. The interpreter's own would touch two hundred pages more, all to be copied, to repair
    locks and threads that a process of one thread does not have."""
    pid = int(_libc_held.fork())
    if pid < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"fork: {os.strerror(error)}")
    return pid


def _clone() -> int:
    """``fork`` into new namespaces in one step. Without the interpreter's hooks it would not know that it forked."""
    column = _MACHINES[platform.machine()][1]
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _libc_held.syscall(_CLONE[column], ctypes.c_ulong(_NEW_NAMESPACES | signal.SIGCHLD), 0, 0, 0, 0)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return int(pid)
