import os
import subprocess
import sys

import pytest

ENDING = """
import atexit, threading
from leeway_rl.common.stopping import leave
class Told:
    def __del__(self):
        print("given back")
told = Told()
started = threading.Event()
def late():
    started.wait()
    print("a thread")
threading.Thread(target=late).start()
atexit.register(print, "an exit function")
print("the command")
started.set()
leave(CODE)
"""
BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}


@pytest.mark.parametrize("code", [0, 130])
def test_a_command_leaves_with_its_code_after_its_threads_and_exit_functions_and_gives_no_object_back(code):
    program = [sys.executable, "-c", ENDING.replace("CODE", str(code))]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, env=BUFFERED)
    assert done.stdout.splitlines() == ["the command", "a thread", "an exit function"]
    assert (done.returncode, done.stderr) == (code, "")


def test_a_command_that_nobody_reads_any_more_leaves_with_120():
    program = [sys.executable, "-c", ENDING.replace("CODE", "0")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=BUFFERED) as command:
        command.stdout.close()
        assert command.wait(60) == 120


def test_a_command_whose_streams_were_closed_before_it_began_leaves_with_its_code(tmp_path):
    program = f"{sys.executable} -c 'from leeway_rl.common.stopping import leave; leave(3)'"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(
            f"{program} {closed}", shell=True, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (3, "")


def test_a_command_says_that_what_it_printed_found_no_room():
    program = [sys.executable, "-c", "from leeway_rl.common.stopping import leave; print(1); leave(0)"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=BUFFERED
        )
    assert done.returncode == 120
    assert done.stderr == "standard output is not whole: No space left on device\n"


def test_a_file_that_is_still_open_when_a_command_leaves_is_written_out(tmp_path):
    program = f"""
from leeway_rl.common.stopping import leave
def own_loss(file=open({str(tmp_path / "text")!r}, "w"), raw=open({str(tmp_path / "bytes")!r}, "wb")):
    file.write("a line"), raw.write(b"some bytes")
own_loss()
leave(0)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
    assert [(tmp_path / name).read_text() for name in ("text", "bytes")] == ["a line", "some bytes"]


def test_a_signal_ends_the_wait_for_a_commands_threads_and_changes_no_code():
    program = """
import atexit, os, signal, threading
from leeway_rl.common.stopping import leave, stoppable
def late():
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()
atexit.register(print, "an exit function")
def main():
    leaving = threading.main_thread().join
    threading.Thread(target=lambda: (leaving(0.2), late())).start()
    return 3
leave(stoppable(main))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "an exit function\n", "")
