"""The first process of a sandbox: warm, trusted, and forked for every job.

::

    zygote ─ fork ─▶ usher ─ fork, own pid/mount/ipc namespaces ─▶ keeper ─ fork per run ─▶ solution

bubblewrap builds the outer wall (user, pid, network, mount, ipc namespaces; nothing writable). For each job the zygote
makes another: fresh process ids, so that a solution cannot even name a process that is not its own, a fresh memory
file system for the scratch folder, a fresh socket. The keeper is process 1 of the inner wall. It holds no expected
output, runs each solution without capabilities under a system-call filter, and ends the whole job when the judge hangs
up. Whatever a solution does to its keeper, it can only change what its own job answers.
"""

from __future__ import annotations

import ctypes
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
from typing import Any, NoReturn

from . import children, frames

JOB = "/job"
NOT_CONFINED = 119
"""Exit code of a child that could not be confined, so that it ran nothing."""
_NEW_NAMESPACES = 0x00020000 | 0x08000000 | 0x20000000 | 0x04000000  # mount, ipc, pid, uts
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2
_SET_DUMPABLE, _KEEPCAPS, _SET_SECCOMP, _NO_NEW_PRIVS, _PDEATHSIG = 4, 8, 22, 38, 1
_CAP_SYS_ADMIN = 21
_STACK_BYTES = 120 << 20
"""Of the main thread; recursion through C code needs it. The kernel leaves 128 MiB of room for it to grow into."""
_libc = ctypes.CDLL(None, use_errno=True)


def main(control_fd: int, isolated: bool) -> NoReturn:
    """Fork a job for every socket that comes over the control socket; say ``done`` when all of the job is gone."""
    control = socket.socket(fileno=control_fd)
    if isolated:
        _become_nobody()
    _prctl(_SET_DUMPABLE, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children.preload()
    control.send(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            os._exit(0)
        usher = os.fork()
        if usher == 0:
            control.close()
            _usher(socket.socket(fileno=fds[0]), json.loads(message), isolated)
        os.close(fds[0])
        os.waitpid(usher, 0)
        control.send(b"done")


def _usher(link: socket.socket, limits: dict[str, Any], isolated: bool) -> NoReturn:
    if not isolated:
        os.setsid()
        _Keeper(link, limits, limits["folder"], isolated=False).run()
    _checked("unshare", _libc.unshare(_NEW_NAMESPACES))
    keeper = os.fork()
    if keeper == 0:
        _Keeper(link, limits, JOB, isolated=True).run()
    link.close()
    os.waitpid(keeper, 0)
    os._exit(0)


class _Keeper:
    """Runs one job: a fork for every request, one after the other."""

    def __init__(self, link: socket.socket, limits: dict[str, Any], folder: str, *, isolated: bool) -> None:
        self._link, self._limits, self._folder, self._isolated = link, limits, folder, isolated
        self._scratch = f"{folder}/scratch"

    def run(self) -> NoReturn:
        """Until the judge hangs up."""
        try:
            self._fresh_folder()
            while (frame := frames.receive(self._link)) is not None:
                kind, body, blob = frame
                if kind == frames.PROGRAM:
                    self._program(body, blob)
                else:
                    self._serve(body)
        finally:
            self._end_others()
            os._exit(0)

    def _fresh_folder(self) -> None:
        if self._isolated:
            options = f"size={self._limits['folder_bytes']},nr_inodes=20000,mode=700".encode()
            flags = _MS_NOSUID | _MS_NODEV
            _checked("mount", _libc.mount(b"tmpfs", JOB.encode(), b"tmpfs", flags, options))
        os.makedirs(self._scratch, exist_ok=True)
        os.chdir(self._scratch)

    def _renew_folder(self) -> None:
        """A run that left files must not leave them to the next one."""
        names = os.listdir(self._folder)
        if sorted(names) == ["scratch", "stderr", "stdin", "stdout"] and not os.listdir(self._scratch):
            return
        if self._isolated:
            os.chdir("/")
            _checked("umount", _libc.umount2(JOB.encode(), _MNT_DETACH))
            self._fresh_folder()

    def _program(self, body: dict[str, Any], stdin: bytes) -> None:
        """Run a program on an input; answer with its output and how it ended."""
        path = f"{self._folder}/stdin"
        with open(path, "wb") as file:
            file.write(stdin)
        with open(path, "rb") as given, open(f"{self._folder}/stdout", "w+b") as out:
            with open(f"{self._folder}/stderr", "w+b") as err:
                child = os.fork()
                if child == 0:
                    self._confine([file.fileno() for file in (given, out, err)], keep=-1)
                    children.run_program(body["source"])
                status, usage = self._wait(child)
                ending = {
                    "status": os.waitstatus_to_exitcode(status),
                    "peak_bytes": usage.ru_maxrss * 1024,
                    "cpu_s": usage.ru_utime + usage.ru_stime,
                    "capped": os.fstat(out.fileno()).st_size >= self._limits["output_bytes"],
                    "complaint": _tail(err.fileno()),
                }
                output = os.pread(out.fileno(), self._limits["output_bytes"], 0)
        frames.send(self._link, frames.ENDED, ending, output)
        self._renew_folder()

    def _serve(self, body: dict[str, Any]) -> None:
        """Leave the judge's socket to a child, and say when that has ended."""
        child = os.fork()
        if child == 0:
            self._confine([os.open("/dev/null", os.O_RDWR)] * 3, keep=self._link.fileno())
            if body["role"] == "solution":
                children.serve_solution(self._link, body["prefix"], body["source"])
            children.run_tests(self._link, body["prefix"], body["tests"], body["entry"])
        status, _ = self._wait(child)
        frames.send(self._link, frames.GONE, [os.waitstatus_to_exitcode(status)])
        self._renew_folder()

    def _wait(self, child: int) -> tuple[int, resource.struct_rusage]:
        """The child's end, or ours when the judge hangs up. Whatever it left running ends with it."""
        pidfd = os.pidfd_open(child)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._link, 0)  # hang-up only
        ready = dict(poll.poll())
        if pidfd not in ready:
            self._end_others(child)
            os._exit(0)
        os.close(pidfd)
        _, status, usage = os.wait4(child, 0)
        self._end_others(child)
        return status, usage

    def _end_others(self, child: int | None = None) -> None:
        """Kill all that a run left. Without a namespace of our own only its process group can be found."""
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

    def _confine(self, streams: list[int], keep: int) -> None:
        """In the child: no capability, no forbidden system call, limits, no descriptor but the standard three and
        ``keep``. Where that fails, nothing may run."""
        try:
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
            for fd in range(3, 64):
                if fd != keep:
                    with suppress(OSError):
                        os.close(fd)
            if not self._isolated:
                os.setpgid(0, 0)
            self._set_limits()
            if self._isolated:
                _set_capabilities(0)
                _prctl(_NO_NEW_PRIVS, 1)
                _forbid_system_calls()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for name in [name for name in sys.modules if name.split(".")[0] == __package__]:
                del sys.modules[name]
            children.open_streams()
        except BaseException as error:
            os.write(2, f"not confined: {error}\n".encode())
            os._exit(NOT_CONFINED)

    def _set_limits(self) -> None:
        limits = self._limits
        for kind, value in (
            (resource.RLIMIT_AS, limits["address_bytes"]),
            (resource.RLIMIT_FSIZE, limits["output_bytes"]),
            (resource.RLIMIT_NOFILE, 256),
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
    """Where root started us: a user id of no one's, because limits on processes do not bind root."""
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

_FORBIDDEN = {
    "other processes": ((101, 117), (310, 270), (311, 271), (312, 272), (434, 434), (438, 438), (424, 424)),
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
"""(x86-64, AArch64) numbers of: ptrace, process_vm_readv and writev, kcmp, pidfd_open, _getfd, _send_signal;
memfd_create, memfd_secret, shmget, shmat, shmctl, msgget, semget, mq_open; unshare, setns, mount, umount2, pivot_root,
chroot, mount_setattr, open_tree to fspick; bpf, perf_event_open, userfaultfd, keyctl, add_key, request_key,
name_to_handle_at, open_by_handle_at, syslog, fanotify_init, io_uring."""


def _forbid_system_calls() -> None:
    """Install the filter: forbidden calls fail with EPERM, new namespaces too; clone3, which hides its flags, is absent."""
    architecture, column = _MACHINES[platform.machine()]
    load, equal, at_least, bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, absent, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    if column == 0:  # the x32 numbers of the same calls
        program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse)]
    for group in _FORBIDDEN.values():
        for numbers in group:
            program += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse)]
    program += [(equal, 0, 1, _CLONE3), (give, 0, 0, absent)]
    program += [(equal, 0, 3, _CLONE[column]), (load, 0, 0, 16), (bits, 0, 1, _CLONE_NEW), (give, 0, 0, refuse)]
    program += [(give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    _checked("seccomp", _libc.prctl(_SET_SECCOMP, ctypes.c_ulong(2), header, 0, 0))
