"""One line says why a role is gone, whatever stands in its log."""

import pytest
from leeway_rl.leeway.running.last_words import LONGEST, cause, memory_kills, tail

CHAINED = """\
2026-11-28 17:50:54,530 INFO run=r role=learner leeway_rl.learner.leader: version 0 published
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    1 / 0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes
"""
ENGINE = """\
(EngineCore_DP0 pid=71) ERROR 11-28 17:50:54 [core.py:710] EngineCore failed to start.
(EngineCore_DP0 pid=71) ERROR 11-28 17:50:54 [core.py:710] Traceback (most recent call last):
(EngineCore_DP0 pid=71) ERROR 11-28 17:50:54 [core.py:710]   File "core.py", line 701, in run
(EngineCore_DP0 pid=71) ERROR 11-28 17:50:54 [core.py:710] ValueError: Head size 72 is not supported
Traceback (most recent call last):
  File "worker.py", line 3, in <module>
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (CHAINED, "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        (CHAINED + 270 * "2026-11-28 INFO run=r a thread that still speaks: much\n", "RuntimeError: DefaultCPUAlloc"),
        (ENGINE, "ValueError: Head size 72 is not supported"),
        (ENGINE[ENGINE.index("\nTraceback (") :], "RuntimeError: Engine core initialization failed. See root cause"),
        (CHAINED + "leeway rollout: version 3 cannot be read\n", "version 3 cannot be read"),
        ("no trace, but words\n\n", "no trace, but words"),
        ("\x1b[2Jred\x07\n", "\\x1b[2Jred\\x07"),
        ("x" * 9 * LONGEST, "x" * (LONGEST - 1) + "…"),
    ],
)
def test_what_the_process_said_last_is_in_the_line(said, words):
    line = cause(1, said)
    assert line.startswith("it ended with code 1: ")
    assert words in line
    assert "\n" not in line


def test_a_process_without_words_says_so():
    assert cause(5, "") == "it ended with code 5 and wrote nothing"


@pytest.mark.parametrize(
    ("code", "memory", "words"),
    [
        (-9, True, "it was killed by signal 9 (SIGKILL): out of memory, by what the kernel counts"),
        (-9, False, "it was killed by signal 9 (SIGKILL); where nobody sent that, memory ran out (dmesg tells)"),
        (-11, False, "it was killed by signal 11 (SIGSEGV)"),
    ],
)
def test_a_signal_has_its_name(code, memory, words):
    assert cause(code, CHAINED, killed_for_memory=memory) == words


def test_the_kernels_count_is_a_number_that_never_falls():
    before = memory_kills()
    assert 0 <= before <= memory_kills()


def test_of_a_log_only_what_came_after_the_start_counts(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(CHAINED.encode() + b"new words \xff\n")
    assert tail(log, len(CHAINED.encode())) == "new words \N{REPLACEMENT CHARACTER}\n"
    assert tail(tmp_path / "none") == ""
