"""Reads files that grow by lines: their whole lines, and their last lines from the end, so that a look does not cost
more as the file grows."""

import os
from collections.abc import Iterator
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
