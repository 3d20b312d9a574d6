"""Reads files that grow by lines: their whole lines, and their last lines from the end, so that a look does not cost
more as the file grows."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

BLOCK = 1 << 16
"""Bytes that are read at a time."""


def whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file from its current position, with their ends. A last line without its end is left out: its
    writer was killed, or is writing it."""
    for text in file:
        if not text.endswith(b"\n"):
            return
        yield text


class Growing:
    """Follows a file that another process appends lines to, and now and then replaces by a new one."""

    def __init__(self, path: Path) -> None:
        """The file need not exist yet."""
        self.path = path
        self._file: IO[bytes] | None = None
        """Kept open, so that no other file can be given its inode, by which a replaced file is noticed."""
        self._read = 0
        """Bytes read so far: whole lines."""

    def renewed(self) -> bool:
        """Whether the file was replaced, cut off or removed since it was read last. Its lines then come from the first
        on, and what was read before is no longer there. Ask this before ``lines``."""
        if self._file is None:
            return False
        with suppress(FileNotFoundError):
            found, ours = os.stat(self.path), os.fstat(self._file.fileno())
            if found.st_ino == ours.st_ino and found.st_size >= self._read:
                return False
        self.close()
        return True

    def lines(self) -> Iterator[bytes]:
        """The whole lines that came since the last call; none where there is no file. To be read to the end."""
        if self._file is None:
            try:
                self._file = self.path.open("rb")
            except FileNotFoundError:
                return
        self._file.seek(self._read)
        for text in whole_lines(self._file):
            self._read += len(text)
            yield text

    def close(self) -> None:
        """Give the file back; the next ``lines`` begins at the first."""
        if self._file is not None:
            self._file.close()
        self._file, self._read = None, 0


def whole_size(path: Path) -> int:
    """Bytes up to the end of the file's last whole line; fewer than the file has if its writer was killed."""
    with path.open("rb", buffering=0) as file:
        position = file.seek(0, os.SEEK_END)
        while position:
            size = min(BLOCK, position)
            position -= size
            end = os.pread(file.fileno(), size, position).rfind(b"\n")
            if end >= 0:
                return position + end + 1
    return 0


def lines_backwards(path: Path) -> Iterator[bytes]:
    """The whole lines of a file from the last to the first, without their ends. A last line without its end is left
    out: its writer was killed, or is writing it."""
    with path.open("rb", buffering=0) as file:
        position, head, torn = file.seek(0, os.SEEK_END), b"", True
        while position:
            size = min(BLOCK, position)
            position -= size
            head, *ended = (os.pread(file.fileno(), size, position) + head).split(b"\n")
            if torn and ended:
                ended.pop()
                torn = False
            yield from reversed(ended)
        if not torn:
            yield head
