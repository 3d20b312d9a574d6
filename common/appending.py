"""Lines that are appended to a file whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_out_of_room(error: OSError) -> bool:
    """Whether a write failed because the disk, or what we may use of it, is full."""
    return error.errno in _FULL


class Appending:
    """The only writer of a file that grows by lines."""

    def __init__(self, path: Path) -> None:
        """Open for appending; the file is made where there is none."""
        self.path = path
        # Unbuffered: after a write that failed, a buffer would still have the line, and write it behind the next one.
        self._file = path.open("ab", buffering=0)

    def append(self, text: str) -> None:
        """Append ``text``. It is in the operating system's hands when this returns. ``OSError`` where it cannot be
        written; the file is then as it was before."""
        before, rest = os.fstat(self._file.fileno()).st_size, memoryview(text.encode())
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        except OSError:
            if len(rest) < size:  # a full disk has taken some of it
                os.ftruncate(self._file.fileno(), before)
            raise

    def sync(self) -> None:
        """Put everything written so far on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed
