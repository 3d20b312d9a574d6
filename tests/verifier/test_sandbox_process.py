"""A sandbox that does not start leaves nothing, and one that ends hits nobody else."""

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.sandbox import process, room, sandbox
from leeway_rl.common.sandbox.room import SandboxRoom
from leeway_rl.common.sandbox.sandbox import Limits, Sandbox, SandboxError
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code import answer as code_answer
from leeway_rl.verifier.code.answer import CodeGrader

from .code_responses import checking, grade, printing


def descriptors() -> set[str]:
    """Those that are open, without what tests before have left to the garbage collector. What they have left running
    may hold one for a moment."""
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


def of_group(leader: int) -> list[int]:
    """The processes that are alive in the group of a process that was started in a session of its own."""
    found = []
    for each in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(each.pid) == leader and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


def refuse(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "no more processes")


@pytest.mark.parametrize("isolated", [True, False])
def test_a_sandbox_that_cannot_start_a_process_leaves_no_descriptor(monkeypatch, isolated: bool, wait_until) -> None:
    before = descriptors()
    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    with pytest.raises(ConfigError, match="no more processes"):
        Sandbox(isolated=isolated)
    wait_until(lambda: descriptors() <= before, "no descriptor is left")


@pytest.mark.parametrize("call", ["pidfd_open", "pipe"])
def test_a_start_that_fails_half_way_leaves_no_process_and_no_descriptor(monkeypatch, call: str, wait_until) -> None:
    before, works, calls, started = descriptors(), getattr(os, call), iter(range(9)), []
    begin = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda *a, **k: started.append(begin(*a, **k)) or started[-1])
    # The second one: for the zygote, or the pipe that tells it to go on.
    monkeypatch.setattr(process.os, call, lambda *args: works(*args) if next(calls) == 0 else refuse())
    with pytest.raises(ConfigError, match="no more processes"):
        Sandbox()
    wait_until(lambda: descriptors() <= before, "no descriptor is left")
    # bubblewrap's own child, which becomes the zygote, is nobody's once bubblewrap is gone.
    wait_until(lambda: not any(of_group(each.pid) for each in started), "all of them are gone")


OWN = "\n# of this test alone: whoever starts a sandbox on this machine meanwhile does not sweep it away\n"
KILLED_AS_IT_STARTS = f"""
import os, signal
from leeway_rl.common.sandbox import sandbox
from leeway_rl.common.sandbox.sandbox import Sandbox

sandbox.BOOT += {OWN!r}
works, calls = os.pidfd_open, iter(range(9))

def killed(pid):
    if next(calls) == 0:
        return works(pid)
    if os.fork() == 0:  # holds our end of the pipe, so that bubblewrap does not go on for its end
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)

os.pidfd_open = killed  # the second one, for bubblewrap's own child, which has no users yet
Sandbox()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="others need not wait for a map of users")
def test_what_a_verifier_that_was_killed_as_a_sandbox_started_has_left_goes_with_the_next_start(
    monkeypatch, wait_until
) -> None:
    """bubblewrap dies with its verifier, and its own child would wait for it for ever."""

    def waiting() -> list[psutil.Process]:
        """Without users, as bubblewrap's own child has none; bubblewrap is ours, too, until it has died."""
        every = psutil.process_iter(["name", "ppid", "status"])
        left = [each for each in every if each.info["name"] == "bwrap" and each.info["ppid"] == me.pid]
        alive = [each for each in left if each.info["status"] != psutil.STATUS_ZOMBIE]
        return [each for each in alive if not has_users(each.pid)]

    monkeypatch.setattr(sandbox, "BOOT", sandbox.BOOT + OWN)
    me = psutil.Process()
    before = {each.pid for each in me.children()}
    adopt(1)
    try:
        verifier = subprocess.Popen([sys.executable, "-c", KILLED_AS_IT_STARTS])
        assert verifier.wait() == -signal.SIGKILL
        wait_until(lambda: len(waiting()) == 1, "bubblewrap has died")
        Sandbox().close()
        wait_until(lambda: not waiting(), "its child is gone")
    finally:
        for each in me.children():
            if each.pid not in before:
                each.kill()
                each.wait()
        adopt(0)


def has_users(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/uid_map").read_text())
    except OSError:  # it has just gone
        return True


def adopt(switch: int) -> None:
    """Have what our descendants leave become ours (PR_SET_CHILD_SUBREAPER), in the place of the first process's."""
    assert ctypes.CDLL(None).prctl(36, switch) == 0


def test_a_room_that_is_closed_as_its_sandbox_starts_keeps_none(monkeypatch) -> None:
    """A pool that closes has nothing to kill there yet, and waits for what is graded next."""
    made = []

    class Closed(Sandbox):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            made.append(self)
            keeps.kill()

    monkeypatch.setattr(room, "Sandbox", Closed)
    keeps = SandboxRoom(isolated=True)
    with pytest.raises(SandboxError, match="closed"):
        keeps.sandbox()
    assert not made[0].alive
    keeps.close()


def test_a_job_without_a_socket_leaves_no_folder(monkeypatch, tmp_path) -> None:
    box = Sandbox(isolated=False)
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sandbox.socket, "socketpair", refuse)
    with pytest.raises(SandboxError, match="no more processes"), box.job(Limits(memory_bytes=1 << 30)):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    box.kill()
    with pytest.raises(SandboxError), box.job(Limits(memory_bytes=1 << 30)):
        pass
    box.close()
    assert list(tmp_path.iterdir()) == []


def test_a_second_room_that_is_not_to_be_had_gives_back_the_first(sandboxes, monkeypatch, wait_until) -> None:
    grader = CodeGrader(Verifier(code_timeout_s=60))
    tests = checking("assert candidate() == 1")
    assert grade(grader, "def f(): return 1", tests).kind is VerdictKind.CORRECT
    before = descriptors()
    judges, works = sandboxes[-1], Sandbox.job

    def job(self: Sandbox, limits: Limits):
        return refuse() if self is judges else works(self, limits)

    monkeypatch.setattr(code_answer.Sandbox, "job", job)
    verdict = grade(grader, "def f(): return 1", tests)
    assert (verdict.kind, "no more processes" in verdict.reason) == (VerdictKind.ERROR, True)
    wait_until(lambda: descriptors() <= before, "no descriptor is left")
    assert grade(grader, "print(1)", printing("1")).kind is VerdictKind.CORRECT
    grader.close()


BYSTANDER = """
import os, signal, subprocess, time
from pathlib import Path
from leeway_rl.common.sandbox.sandbox import Sandbox

box = Sandbox()
os.kill(box.zygote, signal.SIGKILL)
while box.alive:  # bubblewrap ends with it
    time.sleep(0.01)
Path("/proc/sys/kernel/ns_last_pid").write_text(str(box.zygote - 1))
bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print("the same number" if bystander.pid == box.zygote else f"{bystander.pid} is not {box.zygote}")
box.kill()
box.close()
print(bystander.communicate("alive")[0], bystander.returncode)
"""


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="process ids can be chosen by root only"
)
def test_a_process_with_the_number_of_a_zygote_that_is_gone_lives_on() -> None:
    """With process ids of its own, because nobody else's may come again."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*alone, sys.executable, "-c", BYSTANDER], capture_output=True, text=True, check=False)
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "the same number\nalive 0\n", done.stderr
