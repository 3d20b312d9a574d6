"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import os
import sys

_LEAVE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, kept across exec
    if os.getppid() != int(sys.argv[1]):  # it was gone before we asked
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def leaving_with_parent(command: list[str]) -> list[str]:
    """``command`` so that it gets SIGTERM when the process that starts it is gone, however that ended (on Linux)."""
    return [sys.executable, "-c", _LEAVE_WITH_PARENT, str(os.getpid()), *command]
