"""Files that are whole or not there, and what tells them apart."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def path_of(text: str) -> Path:
    """A path as somebody wrote it on a command line or in a file: a leading ``~`` is their home. A shell fills it in
    only at the beginning of a word, not behind ``--out=`` and not in a file."""
    return Path(os.path.expanduser(text))


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path``: whoever looks, also after a crash, finds all of it or what was there before."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
