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
