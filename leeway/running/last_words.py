"""Why a process died, in a few words: from its exit code, from what it wrote last, and from what the kernel counts."""

import re
import signal
from contextlib import suppress
from pathlib import Path

from ...common.texts import visible

READ_BYTES = 256_000
"""Bytes at the end of a log that are read."""
LONGEST = 300
"""The most characters of a process's own words that are repeated."""

_PREFIX = re.compile(r"^(\[rank\d+\]: ?|\([^)]*pid=\d+\) ?(?:[A-Z]+ \S+ \S+ \[[^\]]*\] ?)?)")
"""What torchrun and vLLM put before the lines of a process that they started."""
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(:|$)")
_NOT_THE_CAUSE = re.compile(r"[Ss]ee root cause above")
"""Exceptions that only report the exception of another process, which stands before them."""
_NAMED = re.compile(r"leeway (?:learner|rollout|verifier): ")
"""How a role's last line begins where it names a user's mistake."""


def cause(code: int, said: str, *, killed_for_memory: bool = False) -> str:
    """Why a process died, in one line. ``code``: its exit code, negative for a signal. ``said``: the end of what it
    wrote. ``killed_for_memory``: whether the kernel killed some process for lack of memory while this one
    lived."""
    if code < 0:
        return _killed(-code, killed_for_memory=killed_for_memory)
    words = named(said) or _last_line(said)
    return f"it ended with code {code}" + (f": {words}" if words else " and wrote nothing")


def named(said: str) -> str:
    """The mistake that a role names, or the last exception that is itself a cause, whichever was written later; empty
    where there is neither."""
    found, only_told, open_trace = "", "", False
    for line in (_PREFIX.sub("", line) for line in said.splitlines()):
        if line.startswith("Traceback (most recent call last)"):
            open_trace = True
        elif _NAMED.match(line):
            found, open_trace = _NAMED.sub("", line, count=1), False
        elif open_trace and _EXCEPTION.match(line):
            open_trace = False
            if _NOT_THE_CAUSE.search(line):
                only_told = line
            else:
                found = line
    return _short(found or only_told)


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return _short(_PREFIX.sub("", lines[-1])) if lines else ""


def _short(line: str) -> str:
    text = visible(line.strip())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _killed(number: int, *, killed_for_memory: bool) -> str:
    name = next((each.name for each in signal.Signals if each == number), "no name")
    text = f"it was killed by signal {number} ({name})"
    if number != signal.SIGKILL:
        return text
    if killed_for_memory:
        return f"{text}: out of memory, by what the kernel counts"
    return f"{text}; where nobody sent that, memory ran out (dmesg tells)"


def tail(log: Path, start: int = 0) -> str:
    """The end of a log, but nothing before byte ``start``; bytes that are no UTF-8 are replaced."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - READ_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def last_lines(log: Path, count: int) -> str:
    """The last ``count`` lines of a log, under its name, for people."""
    return "\n".join([f"{log} ends with:", *tail(log).splitlines()[-count:]])


def memory_kills() -> int:
    """How many processes the kernel has killed so far for lack of memory: in this process's control group where there
    is one, else on this machine. 0 where the kernel does not say."""
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", path.read_text(), re.M):
                return int(found[1])
    return 0
