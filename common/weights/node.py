"""A rollout node's copy of the weights: one of its workers decodes each version, and the others map the same file.

There are two buffers. Each is a file that is a safetensors file, so that an engine maps it as it is. A new version is
decoded into the one that does not hold the newest, and the newest is what its delta is against. So what the neighbours
map is never written.

Whoever reads has its *turn*: it holds the lock on ``turn`` for as long as it looks for the newest version, decodes it
if the node has not got it yet, and maps it. The first worker decodes, and the others then find it there. The lock of a
worker that is killed goes with it, and the next one decodes. ``state.json`` says which buffer holds which version
whole; it is replaced only by whoever has the turn, and a version is noted there only once its checksum was compared. So
a half-written buffer is never taken.

A worker holds a shared lock on the buffer while it loads from it, and whoever writes a buffer holds its lock alone. One
that stopped in the middle does not hold up its neighbours for ever: after ``patience_s`` its turn is over, or its
buffer is left to it and another file takes its place.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..activity import Activity, Doing
from ..errors import WeightsError
from ..files import unfinished
from ..locks import holders, try_lock, unlock
from ..types import Manifest
from .node_folder import NodeFolder, bases, members_of, name_of, open_own, place, same_file, sweep
from .transport import _safetensors_header
from .versions import NOTHING, FlatWeights, Stamp, stamp_of

PATIENCE_S = 120.0
"""Seconds without progress after which a neighbour counts as stuck."""
_LOOK_S = 0.02
_STATE, _TURN, _BUFFER = "state.json", "turn", "{number}.safetensors"


class TurnLostError(WeightsError):
    """This process made no progress for so long that a neighbour has taken its turn, or it is to wait no longer."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A buffer that holds a version whole."""

    number: int
    """The buffer's file is ``NUMBER.safetensors``."""
    inode: int
    stamp: Stamp
    checksum: str

    @property
    def file(self) -> str:
        """The name of its file."""
        return _BUFFER.format(number=self.number)


@dataclass(slots=True)
class _Mapped:
    """What this worker has mapped, with the open file whose lock keeps it from being written."""

    whole: Whole
    weights: FlatWeights
    file: IO[bytes]


class NodeCopy:
    """The copy as one of the node's workers sees it. It is made, or joined, when the first version comes."""

    def __init__(
        self,
        redis_url: str,
        run: str,
        *,
        worker: str,
        folder: Path | None = None,
        patience_s: float = PATIENCE_S,
        waits: Callable[[Doing | None], None] = lambda _: None,
    ) -> None:
        """``folder`` is ``weights.node_folder``. ``waits`` is told whom this worker waits for, and ``None`` when it
        waits no longer. It ends the wait by a ``TurnLostError``."""
        self._name, self._said, self._worker = name_of(redis_url, run), folder, worker
        self._patience_s, self._waits = patience_s, waits
        self._folder: NodeFolder | None = None
        self._turn: IO[bytes] | None = None
        self._mapped: _Mapped | None = None
        self._seen = (0, 0, 0.0)
        """Of the neighbour that we wait for: the inode of its turn, its last sign of life, and when we saw that."""

    @property
    def path(self) -> Path | None:
        """The node's folder; None as long as this worker has not joined it."""
        return None if self._folder is None else self._folder.path

    @property
    def file(self) -> Path | None:
        """The safetensors file that ``find`` has mapped."""
        return None if self._mapped is None else self._at(self._mapped.whole.file)

    def join(self, version_bytes: int) -> None:
        """Make or join the node's folder, for versions of this size. Raises ``ConfigError`` where no folder has the
        room, and ``WeightsError`` where it cannot be used."""
        if self._folder is not None and not self._folder.is_there():  # somebody has removed it
            self.leave()
        if self._folder is None:
            sweep(self._said, but=self._name)
            self._folder = NodeFolder(place(self._name, version_bytes, self._said))

    def leave(self) -> None:
        """Unmap, and leave the folder; the last worker removes it. Safe to call twice."""
        self.let_go()
        if self._folder is not None:
            self._folder.leave()
            self._folder = None

    # --- one after the other -----------------------------------------------------------------------------------------

    @contextmanager
    def turn(self, version_bytes: int) -> Iterator[None]:
        """Have the turn within the block. Waits for the neighbour that has it."""
        self.join(version_bytes)
        try:
            while self._turn is None:
                self._turn = self._take_turn()
                if self._turn is None:
                    time.sleep(_LOOK_S)
            self._waits(None)
            yield
        finally:
            self._waits(None)
            if self._turn is not None:
                self._turn.close()
                self._turn = None

    def _take_turn(self) -> IO[bytes] | None:
        """The locked file, or ``None`` while a neighbour has the turn and gets on."""
        file = self._open(_TURN)
        if try_lock(file) and same_file(file, self._at(_TURN)):
            file.truncate(0)
            file.write(self._worker.encode())
            file.flush()
            return file
        self.let_go()  # the neighbour may want to write that buffer
        with file:
            self._waits(Doing(Activity.WAITING_FOR_READER, worker=file.read(256).decode(errors="replace")))
            found = os.fstat(file.fileno())
            if self._seen[:2] != (seen := (found.st_ino, found.st_mtime_ns)):
                self._seen = (*seen, time.monotonic())
            elif time.monotonic() - self._seen[2] > self._patience_s:
                self._end_turn(file)
        return None

    def _end_turn(self, stuck: IO[bytes]) -> None:
        """Take the turn from a neighbour that is stuck. It sees that when it goes on."""
        with self._open("takeover") as only_one:
            if try_lock(only_one) and same_file(stuck, self._at(_TURN)):
                self._at(_TURN).unlink()

    def tick(self) -> None:
        """Say that this worker gets on. Raises ``TurnLostError`` where a neighbour no longer believed it."""
        assert self._turn is not None, "only whoever has the turn reads"
        os.utime(self._turn.fileno())
        if not same_file(self._turn, self._at(_TURN)):
            raise TurnLostError("a neighbour has taken over, because this worker made no progress")

    # --- the buffers -------------------------------------------------------------------------------------------------

    def newest(self) -> tuple[Stamp, np.ndarray] | None:
        """The newest version that the node holds whole, as the base of a delta: uint8 [bytes], not to be written."""
        found = self._newest()
        if found is None:
            return None
        with self._open(found.file) as file:
            return found.stamp, _flat(file, "r")

    def find(self, target: Manifest) -> FlatWeights | None:
        """The weights of ``target``, mapped, if the node holds them. They stay as they are until ``let_go``."""
        wanted = (stamp_of(target), target.checksum)
        for whole in self._state():
            if (whole.stamp, whole.checksum) != wanted:
                continue
            if self._mapped is not None and self._mapped.whole == whole:
                return self._mapped.weights
            self.let_go()
            file = self._open(whole.file)
            header = _safetensors_header(target.tensors)
            if try_lock(file, shared=True) and file.read(len(header)) == header:
                weights = FlatWeights(target.tensors, _flat(file, "c"))
                self._mapped = _Mapped(whole, weights, file)
                return weights
            file.close()
        return None

    @contextmanager
    def written(self, target: Manifest) -> Iterator[np.ndarray]:
        """A buffer to decode ``target`` into: uint8 [bytes]. If the block ends without an error, the node holds the
        version whole."""
        self.let_go()
        kept = self._newest()
        header = _safetensors_header(target.tensors)
        with self._free_buffer(kept) as (number, file):
            self._note([] if kept is None else [kept])
            self._make_room(file, len(header) + target.full_bytes)
            file.write(header)
            file.flush()
            yield _flat(file, "r+")
            self.tick()
            whole = Whole(number, os.fstat(file.fileno()).st_ino, stamp_of(target), target.checksum)
            self._note([whole] if kept is None else [kept, whole])

    def let_go(self) -> None:
        """Let the buffer be written again that ``find`` has mapped. Nobody may use those weights any more."""
        if self._mapped is not None:
            unlock(self._mapped.file)
            self._mapped.file.close()
            self._mapped = None

    @contextmanager
    def _free_buffer(self, kept: Whole | None) -> Iterator[tuple[int, IO[bytes]]]:
        """(number, open file) of the buffer that does not hold ``kept``, locked for this worker alone. A buffer from
        which a neighbour still loads is waited for. After ``patience_s`` the file is left to that neighbour."""
        numbers = sorted(int(path.stem) for path in self._at("").glob("*.safetensors"))
        free = [number for number in numbers if kept is None or number != kept.number]
        number = free[0] if free else max(numbers, default=0) + 1
        until = time.monotonic() + self._patience_s
        while True:
            name = _BUFFER.format(number=number)
            with self._open(name) as file:
                if try_lock(file):
                    self._waits(None)
                    try:
                        yield number, file
                    finally:
                        unlock(file)
                    return
                self._waits(Doing(Activity.WAITING_FOR_NEIGHBOUR, worker=_who(file)))
            self.tick()
            if time.monotonic() > until:
                # Whoever opens it by its name must not find another version there, so the new file has a new name.
                self._at(name).unlink()
                number = max(numbers) + 1
            time.sleep(_LOOK_S)

    def _make_room(self, file: IO[bytes], size: int) -> None:
        """Give the file its size, and its room: writing into a mapped file that finds none kills the process."""
        try:
            os.ftruncate(file.fileno(), size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            os.ftruncate(file.fileno(), 0)
            raise WeightsError(f"{self.path}: no room for a version of {size:,} bytes: {error.strerror}") from error

    def _newest(self) -> Whole | None:
        return max(self._state(), key=lambda whole: whole.stamp, default=None)

    def _state(self) -> list[Whole]:
        return [whole for whole in state_of(self._at("")) if _is_there(self._at(whole.file), whole.inode)]

    def _note(self, whole: list[Whole]) -> None:
        path = self._at(_STATE)
        self.tick()
        try:
            unfinished(path).write_text(json.dumps([_plain(each) for each in whole]))
            os.replace(unfinished(path), path)  # what is in memory alone need not be forced to a disk
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error

    def _open(self, name: str) -> IO[bytes]:
        try:
            return open_own(self._at(name))
        except OSError as error:
            raise WeightsError(f"{self._at(name)}: {error.strerror}") from error

    def _at(self, name: str) -> Path:
        assert self._folder is not None, "the folder is joined first"
        return self._folder.path / name


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the copy of a run on this machine stands."""

    path: str
    workers: int
    """Workers that are in it; 0 where they are gone, and the next one on this machine removes it."""
    bytes: int
    """What it takes of shared memory, or of the disk."""
    version: int
    """The newest version that it holds whole; -1 if none."""


def standing(redis_url: str, run: str, folder: Path | None) -> Standing | None:
    """How this machine's copy of the run stands; None if there is none. ``folder`` is ``weights.node_folder``."""
    name = name_of(redis_url, run)
    for base in bases(folder):
        path = base / name
        try:
            used = sum(512 * file.lstat().st_blocks for file in path.iterdir())
        except OSError:
            continue
        newest = max((whole.stamp for whole in state_of(path)), default=NOTHING)
        workers = members_of(path)
        return Standing(path=str(path), workers=workers, bytes=used, version=newest.version)
    return None


def state_of(folder: Path) -> list[Whole]:
    """The versions that the node's copy in ``folder`` holds whole; none where there is no such copy."""
    try:
        return [
            Whole(each["number"], each["inode"], Stamp(*each["stamp"]), each["checksum"])
            for each in json.loads((folder / _STATE).read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _plain(whole: Whole) -> dict[str, Any]:
    return {"number": whole.number, "inode": whole.inode, "stamp": whole.stamp, "checksum": whole.checksum}


def _is_there(path: Path, inode: int) -> bool:
    try:
        return path.lstat().st_ino == inode
    except FileNotFoundError:
        return False


def _flat(file: IO[bytes], mode: Any) -> np.ndarray:
    """The data of an open safetensors file, mapped: uint8 [bytes]. Mode ``c`` may be written, and the file keeps its
    bytes."""
    file.seek(0)
    start = 8 + int.from_bytes(file.read(8), "little")
    mapped = np.memmap(file, np.uint8, mode, start, (os.fstat(file.fileno()).st_size - start,))
    return mapped.view(np.ndarray)


def _who(file: IO[bytes]) -> str:
    """Who holds the lock on the open file."""
    try:
        found = [pid for pid in holders(file.fileno()) if pid > 0]
    except OSError:
        found = []
    return " and ".join(f"process {pid}" for pid in found) or "a neighbour"
