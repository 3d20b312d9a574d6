"""Reads and writes files at a place. What fails there is tried again a few times, and then is ``OutOfReach``."""

import copy
import hashlib
import os
import posixpath
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError, DataError
from ..files import force_to_disk, write_whole
from .address import LOCAL, masked, scheme_of, why_missing, why_not

T = TypeVar("T")

TRIES = 4
WAIT_S = 2.0
"""Seconds before the second try; twice as many before each further one."""
BLOCK = 1 << 24
"""Bytes that are read back at a time."""
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "ocilake", "oss")
"""Places without folders of their own. To "make a folder" there may make a bucket."""
_SETTLED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Answers that another try would not change."""


class OutOfReach(DataError):
    """A place that does not let us read or write, or has not what is asked for."""


class Place:
    """A folder at a place. Every name is relative to it."""

    def __init__(self, address: str, *, tries: int = TRIES, wait_s: float = WAIT_S) -> None:
        """``ConfigError`` where ``address`` is not one, or the package for it is not here; ``OutOfReach`` where the
        place cannot be reached, which some kinds find out at once."""
        if (why := why_not(address) or why_missing(address)) is not None:
            raise ConfigError(why)
        from fsspec.core import url_to_fs

        self.address, self._tries, self._wait_s = address.rstrip("/"), tries, wait_s
        self._local = scheme_of(address) in LOCAL
        # Listings are not kept, because what matters here is what is there now.
        whole = os.path.expanduser(address)
        self._fs, self._root = self._tried("cannot be opened", lambda: url_to_fs(whole, use_listings_cache=False))
        self._has_folders = scheme_of(address) not in _OBJECT_STORES

    def at(self, name: str) -> "Place":
        """The folder ``name`` of this place."""
        inside = copy.copy(self)
        inside.address, inside._root = f"{self.address}/{name}", self._path(name)
        return inside

    def put(self, source: Path, name: str) -> None:
        """Write a file of this machine as ``name``."""

        def put() -> None:
            self._make_room_for(name)
            self._fs.put_file(str(source), self._path(name))
            if self._local:
                force_to_disk(Path(self._path(name)))

        self._tried(f"cannot write {name}", put)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file that is whole or not there."""

        def write() -> None:
            self._make_room_for(name)
            if self._local:
                write_whole(Path(self._path(name)), content)
            else:
                self._fs.pipe_file(self._path(name), content)

        self._tried(f"cannot write {name}", write)

    def read(self, name: str) -> bytes:
        """A small file's bytes; ``FileNotFoundError`` where there is none."""
        found: bytes = self._tried(f"cannot read {name}", lambda: self._fs.cat_file(self._path(name)), settled=True)
        return found

    def size(self, name: str) -> int:
        """A file's size in bytes; ``FileNotFoundError`` where there is none."""
        return int(self._tried(f"cannot see {name}", lambda: self._fs.info(self._path(name))["size"], settled=True))

    def digest(self, name: str) -> tuple[int, str]:
        """(size in bytes, SHA-256) of a file, of which every byte is read back; ``FileNotFoundError`` where there is
        none."""

        def digest() -> tuple[int, str]:
            found, size = hashlib.sha256(), 0
            with self._fs.open(self._path(name), "rb", block_size=BLOCK) as file:
                while block := file.read(BLOCK):
                    found.update(block)
                    size += len(block)
            return size, found.hexdigest()

        return self._tried(f"cannot read {name}", digest, settled=True)

    def get(self, name: str, target: Path) -> None:
        """Write the file ``name`` to this machine; ``FileNotFoundError`` where there is none."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._tried(f"cannot read {name}", lambda: self._fs.get_file(self._path(name), str(target)), settled=True)

    def folders(self) -> list[str]:
        """The names of the folders here; none where the place itself is not there."""

        def names() -> list[str]:
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
            return [posixpath.basename(each["name"].rstrip("/")) for each in found if each["type"] == "directory"]

        return sorted(self._tried("cannot list what is there", names))

    def files(self) -> list[str]:
        """The names of all files here, at any depth."""

        def names() -> list[str]:
            root = self._root.rstrip("/")
            return [path[len(root) + 1 :] for path in self._fs.find(root)]

        return sorted(self._tried("cannot list what is there", names))

    def remove(self, name: str) -> None:
        """Remove a file or a folder with all that is in it. It is no error where there is none."""

        def remove() -> None:
            try:
                self._fs.rm(self._path(name), recursive=True)
            except FileNotFoundError:
                return

        self._tried(f"cannot remove {name}", remove)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _make_room_for(self, name: str) -> None:
        if self._has_folders:
            self._fs.makedirs(posixpath.dirname(self._path(name)), exist_ok=True)

    def _tried(self, what: str, work: Callable[[], T], *, settled: bool = False) -> T:
        """What ``work`` returns, after a few tries at most. With ``settled``, ``FileNotFoundError`` is passed on."""
        for number in range(1, self._tries + 1):
            try:
                return work()
            except Exception as error:  # each kind of place has its own, and most are no OSError
                if settled and isinstance(error, FileNotFoundError):
                    raise
                if number == self._tries or isinstance(error, _SETTLED):
                    raise OutOfReach(f"{self.address}: {what}: {_words(error)}") from error
                time.sleep(self._wait_s * 2 ** (number - 1))
        raise AssertionError("at least one try")


def _words(error: Exception) -> str:
    said: Any = getattr(error, "strerror", None) or str(error)
    return masked(f"{type(error).__name__}: {' '.join(str(said).split())}")
