"""One writer a place: who has it is named, it goes with its process, and with what that started."""

import os
import subprocess
import sys
import threading
import time

import pytest
from leeway_rl.common import locks
from leeway_rl.common.children import leaving_with_parent
from leeway_rl.common.errors import DataError, RunExistsError
from leeway_rl.common.locks import hold, holders, is_held, only_writer, try_lock

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from leeway_rl.common.locks import only_writer
with only_writer(Path(sys.argv[1]), "there") as lock:
    if sys.argv[2] == "child":
        subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=[lock.fileno()])
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds a lock, alone or with a child that lives until their input is closed."""
    started = []

    def start(with_child):
        words = [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), "child" if with_child else "alone"]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_the_second_is_told_at_once_who_is_at_work_and_where(holder, tmp_path):
    process = holder(with_child=False)
    named = pytest.raises(RunExistsError, match=rf"^run 'x': process {process.pid} on .* is at work there; stop it")
    with named, only_writer(tmp_path / "lock", "run 'x'", error=RunExistsError, leaving_s=600):
        pass  # it does not wait for somebody who is alive


def test_a_lock_goes_with_its_process_and_with_what_that_left_running(holder, tmp_path):
    process = holder(with_child=True)
    process.kill()
    process.wait()
    left = pytest.raises(DataError, match="what it started has not left yet")
    with left, only_writer(tmp_path / "lock", "there", leaving_s=0.0):
        pass
    threading.Timer(0.3, process.stdin.close).start()
    with only_writer(tmp_path / "lock", "there"):  # waits until the child has left
        assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} ")


def test_one_who_was_told_to_leave_has_his_time_for_it(holder, tmp_path, capsys):
    process = holder(with_child=False)
    still = pytest.raises(DataError, match=rf"^there: process {process.pid} on .* is at work there; stop it first")
    with still, only_writer(tmp_path / "lock", "there", alive_s=0.2):
        pass
    assert f"there: waiting until process {process.pid} has left" in capsys.readouterr().err
    threading.Timer(0.3, process.kill).start()
    with only_writer(tmp_path / "lock", "there", alive_s=600):
        assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} ")


def test_another_process_that_has_got_the_id_of_the_holder_is_not_told_to_stop(holder, tmp_path):
    process = holder(with_child=True)
    process.kill()
    process.wait()
    lock = tmp_path / "lock"
    _, said = lock.read_text().split(" ", 1)
    lock.write_text(f"{os.getpid()} {said}")  # as if we had its id
    left = pytest.raises(DataError, match="what it started has not left yet")
    with left, only_writer(lock, "there", leaving_s=0.0):
        pass
    assert locks.holder(lock) is None


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="there: "), only_writer(tmp_path / "file" / "lock", "there"):
        pass


def test_a_file_has_one_writer(tmp_path):
    path = tmp_path / "out.jsonl"
    with path.open("ab") as first, path.open("ab") as second:
        hold(first, "--out out.jsonl")
        with pytest.raises(DataError, match=r"^--out out.jsonl: another process writes there"):
            hold(second, "--out out.jsonl", leaving_s=0.2)
    with path.open("ab") as third:
        hold(third, "--out out.jsonl")


def test_a_file_on_another_disk_with_the_same_inode_is_another_file(tmp_path, monkeypatch):
    with (tmp_path / "lock").open("a") as file:
        assert try_lock(file)
        assert (holders(file.fileno()), is_held(tmp_path / "lock")) == ([os.getpid()], True)
        inode = os.fstat(file.fileno()).st_ino
        listed = locks.LISTED.read_text()
        ours = next(line for line in listed.splitlines() if f":{inode} " in line and f" {os.getpid()} " in line)
        device = ours.split()[5].rpartition(":")[0]
        (tmp_path / "locks").write_text(ours.replace(device, "00:01"))
        monkeypatch.setattr(locks, "LISTED", tmp_path / "locks")
        assert (holders(file.fileno()), is_held(tmp_path / "lock")) == ([], False)


def test_a_child_leaves_with_the_process_that_started_it(tmp_path):
    started = tmp_path / "pid"
    child = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = (
        "import subprocess, sys; from leeway_rl.common.children import leaving_with_parent; "
        f"subprocess.Popen(leaving_with_parent([sys.executable, '-c', {child!r}])).wait()"
    )
    assert leaving_with_parent(["x"])[-1] == "x"
    parent = subprocess.Popen([sys.executable, "-c", script])
    until = time.monotonic() + 60
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    while os.path.exists(f"/proc/{started.read_text()}"):
        assert time.monotonic() < until
        time.sleep(0.01)
