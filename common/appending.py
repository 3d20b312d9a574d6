"""Appends lines to a file whole or not at all, even if the disk is full."""

import errno
import os
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_out_of_room(error: OSError) -> bool:
    """Whether a write failed because the disk, or our quota of it, is full."""
    return error.errno in _FULL


class Appending:
    """The only writer of a file that grows by lines."""

    def __init__(self, path: Path) -> None:
        """Open for appending; make the file if there is none."""
        self.path = path
        # Unbuffered: after a failed write, a buffer would still hold the line and write it together with the next one.
        self._file = path.open("ab", buffering=0)

    def append(self, text: str) -> None:
        """Append ``text``. The operating system has it when this returns. ``OSError`` if it cannot be written; the file
        is then as it was before."""
        before, rest = os.fstat(self._file.fileno()).st_size, memoryview(text.encode())
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._file.fileno(), rest) :]
        except OSError:
            if len(rest) < size:  # a full disk took only a part
                os.ftruncate(self._file.fileno(), before)
            raise

    def sync(self) -> None:
        """Force everything written so far to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed
