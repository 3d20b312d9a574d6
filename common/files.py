"""Writes files that are whole or not there, and tells files apart by their checksums."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def path_of(text: str) -> Path:
    """A path as somebody wrote it on a command line or in a file: a leading ``~`` is their home. A shell fills it in
    only at the beginning of a word, not after ``--out=`` and not in a file."""
    return Path(os.path.expanduser(text))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The name under which to write what ``path`` shall hold. Whoever looks at ``path``, also after a crash or a power
    cut, finds all of it or what was there before, because the file takes its name once its bytes are on the disk. If
    writing fails, what was written stays under ``unfinished`` until the next try."""
    temporary = unfinished(path)
    yield temporary
    force_to_disk(temporary)
    os.replace(temporary, path)
    force_to_disk(path.parent)  # the new name itself is stored in the folder


def unfinished(path: Path) -> Path:
    """The name under which ``path`` is written until it is whole."""
    return path.with_name(f".{path.name}.tmp")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) as the ``whole_file`` at ``path``."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def force_to_disk(path: Path) -> None:
    """Force the bytes of a file, or the names in a folder, out of the system's cache to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
