"""Processes that do not outlive the one that started them."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leave_with_parent(signum: int = signal.SIGTERM) -> None:
    """Have the kernel send this process ``signum`` when the process that started it dies, even by SIGKILL (on Linux).
    It holds across exec. The caller must check whether that process had died before this call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)


def leaving_with_parent(command: list[str]) -> list[str]:
    """``command``, changed so that it gets SIGTERM when the process that starts it ends, in any way (on Linux)."""
    return [sys.executable, "-m", "leeway_rl.common.children", str(os.getpid()), *command]


if __name__ == "__main__":
    leave_with_parent()
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])
