"""Keeps what models answered: one line for each reply, added as it comes, so that asking goes on after a stop.

A line is also a row of ``leeway verify``, whose verdicts stand in a second file that grows the same way.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..common.tail import whole_lines
from .endpoint import Answer, Ask


class Replies:
    """Replies to ``rows`` × ``each`` requests, in a file that is only appended to.

    It takes 8 bytes of memory for each request.
    """

    def __init__(self, path: Path, rows: int, each: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._offsets = np.full((rows, each), -1, dtype=np.int64)
        self._file = path.open("a+b")
        self._end = 0
        self._file.seek(0)
        for line in whole_lines(self._file):
            self._note(json.loads(line)["id"])
            self._end += len(line)
        self._file.truncate(self._end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return int((self._offsets >= 0).sum())

    def has(self, row: int, index: int) -> bool:
        """Whether this request has its reply."""
        return bool(self._offsets[row, index] >= 0)

    def get(self, row: int, index: int) -> dict[str, Any] | None:
        """The reply, or None: ``response``, ``tokens``, ``finished`` and what was kept beside it; or ``refused``."""
        if not self.has(row, index):
            return None
        self._file.seek(int(self._offsets[row, index]))
        return json.loads(self._file.readline())

    def add(self, ask: Ask, answer: Answer) -> None:
        """Keep an answer."""
        self._write(ask, {"response": answer.text, "tokens": answer.tokens, "finished": answer.finished, **ask.beside})

    def refuse(self, ask: Ask, why: str) -> None:
        """Keep that this request will never have an answer."""
        self._write(ask, {"refused": why})

    def _write(self, ask: Ask, fields: dict[str, Any]) -> None:
        line = json.dumps({"id": f"{ask.row}:{ask.index}", **fields}).encode() + b"\n"
        self._file.seek(0, os.SEEK_END)
        self._file.write(line)
        self._file.flush()
        self._note(f"{ask.row}:{ask.index}")
        self._end += len(line)

    def _note(self, name: str) -> None:
        row, index = map(int, name.split(":"))
        if index < self._offsets.shape[1]:  # the file may hold more replies than are asked for now
            self._offsets[row, index] = self._end
