"""Follows how far a run is by its ``metrics.jsonl``, for callers that ask again and again while it grows."""

import json
from pathlib import Path
from typing import Any

from .tail import Growing


class Progress:
    """Counts training steps. Each look reads what was added since the last one, and keeps only the newest step. Close
    it in the end."""

    def __init__(self, folder: Path) -> None:
        """Follow the run in ``folder``. Its file need not be there yet."""
        self._lines = Growing(folder / "metrics.jsonl")
        self.made = 0
        """Training steps made."""
        self.newest: dict[str, Any] | None = None
        """The last step's line."""

    def look(self) -> int:
        """Read what is new. Returns the steps made. After a resume, which writes the file anew, it reads from the
        start."""
        if self._lines.renewed():
            self.made, self.newest = 0, None
        newest = b""
        for text in self._lines.lines():
            self.made, newest = self.made + 1, text
        if newest:
            self.newest = json.loads(newest)
        return self.made

    def close(self) -> None:
        """Give the file back."""
        self._lines.close()
