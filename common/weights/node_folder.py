"""Where a rollout node keeps its copy of the weights: one folder for each run, which the node's workers share.

The folder lies in shared memory, or where that is absent or too small, in the temporary folder. Its name is made of the
user, the run, the address of Redis and this start of the machine; nobody but the user can enter it. Every worker that
is at work holds a shared lock on the file ``members`` in it. The last one that leaves removes the folder. A folder that
nobody holds, since its workers were killed, is used again by the run's next worker, and removed by that of another run.
"""

import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..address import public
from ..errors import ConfigError, WeightsError
from ..identity import this_machine
from ..locks import holders, share, try_lock
from ..wording import byte_size

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
ROOM = 1.1
"""Room that is asked for, as a share of what the copy takes. The rest is for what else uses shared memory: vLLM."""
COPIES = 2
"""Versions of the weights that lie there: one that the workers have, and one that is being decoded."""
_MEMBERS = "members"
_GONE = ".gone-"
ADVICE = (
    "give the container more shared memory (shm_size in docker-compose.yml, --shm-size with docker run), "
    "or name a folder of this node that has the room: weights.node_folder"
)


def name_of(redis_url: str, run: str) -> str:
    """The name of the folder for the ``run`` in the Redis at ``redis_url``, whatever its password."""
    of = f"{public(redis_url)} {this_machine()}"  # nodes may share a temporary folder
    return f"{_prefix()}{run}-{hashlib.sha256(of.encode()).hexdigest()[:12]}"


def _prefix() -> str:
    return f"leeway-weights-{os.geteuid()}-"


def bases(said: Path | None) -> list[Path]:
    """The folders that may hold the copy, the preferred one first. ``said`` is ``weights.node_folder``."""
    return [SHARED_MEMORY, Path(tempfile.gettempdir())] if said is None else [said]


def place(name: str, version_bytes: int, said: Path | None) -> Path:
    """The folder in which the copy lies or shall lie: where the neighbours have it, or killed workers of the run left
    it; else the first with room for two versions of ``version_bytes``. ``ConfigError`` where none has the room."""
    candidates = bases(said)
    for base in candidates:
        if _is_own(base / name):
            return base / name
    need, room = COPIES * version_bytes, {base: room_in(base) for base in candidates}
    rooms = ", ".join(f"{base} has {byte_size(each)} free" for base, each in room.items())
    asked = f"a node keeps two versions of the weights: 2 x {byte_size(version_bytes)} = {byte_size(need)}, and {rooms}"
    for base, each in room.items():
        if each >= ROOM * need:
            if base != candidates[0]:
                log.warning("%s; using %s, which is slower. To avoid that, %s", asked, base, ADVICE)
            return base / name
    raise ConfigError(f"{asked}; {ADVICE}")


def room_in(base: Path) -> int:
    """Bytes that this user can still write into ``base``; 0 where there is no such folder."""
    try:
        return shutil.disk_usage(base).free if os.access(base, os.W_OK | os.X_OK) else 0
    except OSError:
        return 0


class NodeFolder:
    """A worker's membership in the folder at ``path``. It is made if it is not there."""

    def __init__(self, path: Path) -> None:
        """Raises ``WeightsError`` where the folder is somebody else's, or cannot be made."""
        self.path = path
        while True:
            try:
                _make_private(path)
                self._members = open_own(path / _MEMBERS)
                share(self._members)
                if same_file(self._members, path / _MEMBERS):
                    return
            except FileNotFoundError:  # the last worker was just leaving, and has removed it
                if not path.parent.is_dir():
                    raise WeightsError(f"{path.parent}: there is no such folder for the node's copy") from None
                continue
            except OSError as error:
                raise WeightsError(f"{path}: the node's copy cannot lie there: {error.strerror}") from error
            self._members.close()

    def is_there(self) -> bool:
        """Whether the folder that was joined is still the one of that name."""
        return same_file(self._members, self.path / _MEMBERS)

    def leave(self) -> None:
        """Leave the folder, and remove it if nobody else is in it. Safe to call twice."""
        if not self._members.closed:
            self._members.close()
            remove_if_left(self.path)


def _make_private(path: Path) -> None:
    """Make the folder for this user alone. Raises ``WeightsError`` if what is there is not such a folder."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not _is_own(path):
            raise WeightsError(
                f"{path} is not a folder of this user alone (mode 0700), so what it holds is not trusted: remove it"
            ) from None


def _is_own(path: Path) -> bool:
    """Whether ``path`` is a folder, and no link to one, that this user owns and nobody else can enter."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def open_own(path: Path) -> IO[bytes]:
    """Open a file of the folder for reading and writing, and make it if it is not there. A link is not followed."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b")


def same_file(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def remove_if_left(path: Path) -> bool:
    """Remove the folder if it is this user's and no worker is in it. Returns whether it was removed."""
    if not _is_own(path):
        return False
    try:
        with open_own(path / _MEMBERS) as members:
            if not try_lock(members) or not same_file(members, path / _MEMBERS):
                return False
            gone = path.with_name(f"{path.name.partition(_GONE)[0]}{_GONE}{os.getpid()}-{time.monotonic_ns()}")
            path.rename(gone)  # a worker that comes just now makes a folder of its own
            shutil.rmtree(gone)
    except OSError:
        return False
    return True


def sweep(said: Path | None, *, but: str = "") -> list[Path]:
    """Remove the copies of this user that no worker holds, of whatever run, ``but`` the one of that name. Returns what
    was removed."""
    pattern = re.compile(re.escape(_prefix()) + r".+-[0-9a-f]{12}(\.gone-.+)?")
    found = (path for base in bases(said) for path in _matching(base, pattern) if path.name != but)
    return [path for path in found if remove_if_left(path)]


def _matching(base: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    try:
        yield from [path for path in base.iterdir() if pattern.fullmatch(path.name)]
    except OSError:
        return


def members_of(path: Path) -> int:
    """How many workers hold the folder at ``path``; 0 where there is no such folder of this user."""
    if not _is_own(path):
        return 0
    try:
        with (path / _MEMBERS).open("rb") as file:
            try:
                return len(holders(file.fileno()))
            except OSError:  # the system does not say who holds a lock
                return 0 if try_lock(file) else 1
    except FileNotFoundError:
        return 0
