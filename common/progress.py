"""Follows how far a run is by its ``metrics.jsonl``, for callers that ask again and again while it grows."""

import json
import os
from pathlib import Path
from typing import Any

from .tail import whole_lines


class Progress:
    """Counts training steps. Each look reads what was added since the last one, and keeps only the newest step."""

    def __init__(self, folder: Path) -> None:
        """Follow the run in ``folder``. Its file need not be there yet."""
        self._path = folder / "metrics.jsonl"
        self._start_over(-1)

    def _start_over(self, inode: int) -> None:
        self.made = 0
        """Training steps made."""
        self.newest: dict[str, Any] | None = None
        """The last step's line."""
        self._inode, self._read = inode, 0

    def look(self) -> int:
        """Read what is new. Returns the steps made. After a resume, which writes the file anew, it reads from the
        start."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return self.made
        with file:
            found, newest = os.fstat(file.fileno()), b""
            if found.st_ino != self._inode or found.st_size < self._read:
                self._start_over(found.st_ino)
            file.seek(self._read)
            for text in whole_lines(file):
                self._read, self.made, newest = self._read + len(text), self.made + 1, text
            if newest:
                self.newest = json.loads(newest)
        return self.made
