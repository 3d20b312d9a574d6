"""Checkpoints that are whole or not there: ``step-000020/`` with the policy, the caller's state and a list of files.

A checkpoint is taken on the step, as a snapshot, and written later, by another thread where
``train.async_checkpoint`` is set (``background.py``). It is written to a temporary folder, forced to disk, and renamed
once all ranks have written. The list has every rank's files, each with
its size and digest, and the bit sums of weights and optimizer (``sums.py``). A folder counts only if every file of its
list is there in its full size, and it is loaded only if every byte is the one that was written. A checkpoint that a
crash, a disk or a copy has torn is passed over for the one before it. Rank 0 decides which checkpoint is used, and an
error on one rank is raised on all.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..common.activity import Activity, Doing
from ..common.errors import DataError
from ..common.files import checksum, force_to_disk
from ..common.ledger import FORMAT
from . import universal
from .files import TAG, Writing, seen
from .packages import packages
from .ranks import Channel, NoRoom, broadcast_plan, gather, name_of, rank, together

if TYPE_CHECKING:
    from .policy import Policy

log = logging.getLogger(__name__)

STATE = "state.json"
COMPLETE = "complete.json"
FULL_BYTES = 1 << 20
"""A file system with less room than this is full."""
SEEN_S = 30.0
"""How long it may take until a rank sees what another has written; network file systems cache."""
_UNFINISHED = ".unfinished"
Spare = Callable[[Sequence[Path]], Collection[Path]]
"""Which of a run's complete checkpoints, newest first, must stay however old they are."""


class Damaged(DataError):
    """A checkpoint's bytes are not those that were written. All ranks that load the checkpoint raise it together."""

    def __init__(self, path: Path, names: list[str]) -> None:
        super().__init__(
            f"checkpoint {path} is damaged: the bytes of {', '.join(names)} are not those that were written"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a checkpoint will have of this rank."""

    step: int
    """Training steps completed."""
    write_part: Writing
    """Writes this rank's weights and optimizer."""
    made: dict[str, Any]
    """What its list says of all ranks: layout, packages, and the bit sums."""


def take(policy: Policy, step: int, *, copied: bool) -> Snapshot:
    """Take a snapshot after ``step`` training steps. Collective, and the step's own thread calls it. With ``copied`` it
    stays as it is while training goes on."""
    added_up = policy.sums()
    if added_up["differ"] and policy.rank == 0:
        log.error("the ranks' copies of %s are not the same; rank 0's are saved", ", ".join(added_up["differ"]))
    write_part = together(lambda: policy.snapshot(copied=copied))
    made = {"format": FORMAT, "leeway": __version__, "layout": _layout(policy), "packages": packages()}
    return Snapshot(step=step, write_part=write_part, made=made | {"sums": added_up})


def write(
    snapshot: Snapshot,
    folder: Path,
    state: dict[str, Any],
    keep: int,
    write_more: Callable[[Path], object] = lambda _: None,
    spare: Spare = lambda _: (),
) -> Path:
    """Write ``folder/step-<step>/`` and remove all but the ``keep`` newest and those that ``spare`` names of the
    others. Collective, by
    ``Channel.CHECKPOINT`` alone, so any one thread of each rank may call it; all ranks must see one ``folder``. It may
    be tried again.

    ``state``: any JSON (controller, curriculum, ledger position, seeds); ``load`` gives back what rank 0 passed.
    ``write_more``: called on rank 0 alone, to write further files into the folder that it is given.
    Returns the checkpoint's path once it is safe on disk. Raises ``DataError`` where the ranks do not share ``folder``,
    and ``NoRoom`` where some rank's disk is full; older checkpoints then stay as they were.
    """
    final = path_of(folder, snapshot.step)
    unfinished = final.with_name(f"{final.name}{_UNFINISHED}")
    among = Channel.CHECKPOINT
    together(lambda: _begin(unfinished) if rank() == 0 else None, among)
    together(lambda: _refuse_missing(unfinished), among)  # otherwise this rank would make a folder of its own
    wrote = together(lambda: _part(snapshot, unfinished), among)
    parts = gather({"host": socket.gethostname(), "wrote": wrote}, among)

    def finish() -> None:
        if rank() == 0:
            with _full_disk_named(unfinished):
                _refuse_unseen(unfinished, parts)
                (unfinished / STATE).write_text(json.dumps(state))
                write_more(unfinished)
                known = {name: said for part in parts for name, said in part["wrote"].items()}
                _commit(unfinished, snapshot.made, known)
                old = complete(final.parent)
                for path in set(old[keep:]) - set(spare(old)):
                    shutil.rmtree(path)

    together(finish, among)  # so that no rank uses the checkpoint before it exists
    return final


def save(
    policy: Policy,
    folder: Path,
    step: int,
    state: dict[str, Any],
    keep: int,
    write_more: Callable[[Path], object] = lambda _: None,
) -> Path:
    """``take`` and ``write`` at once, without a copy. Collective, and raises what they raise."""
    return write(take(policy, step, copied=False), folder, state, keep, write_more)


def _begin(unfinished: Path) -> None:
    with _full_disk_named(unfinished.parent.parent):
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()


def _refuse_missing(unfinished: Path) -> None:
    if not seen(unfinished, SEEN_S):
        raise DataError(
            f"{unfinished}: rank 0 has made this folder, and it is not there. The learner's ranks need one runs folder "
            "that all of them share: name it by --runs-dir (docs/how-to/shared-files.md)"
        )


def _part(snapshot: Snapshot, unfinished: Path) -> dict[str, tuple[int, str]]:
    """Write this rank's part. Returns size and digest of each file, by name. Every rank forces its own files to disk,
    because they may sit in its own node's cache."""
    with _full_disk_named(unfinished):
        wrote = {path.relative_to(unfinished).as_posix(): _seal(path) for path in snapshot.write_part(unfinished)}
        all_to_disk(unfinished)
        return wrote


def _refuse_unseen(unfinished: Path, parts: list[dict[str, Any]]) -> None:
    """Check, on rank 0, that the files which the other ranks say they wrote are in the folder that it sees."""
    for number, part in enumerate(parts):
        for name, (size, _) in part["wrote"].items():
            path = unfinished / name
            if not seen(path, SEEN_S) or _size(path) != size:
                raise DataError(
                    f"{unfinished}: {name_of(number, part['host'])} has written {size} bytes of {name}; rank 0 sees "
                    f"{_size(path) if path.exists() else 'none'}. The learner's ranks need one runs folder that all of "
                    "them share: name it by --runs-dir (docs/how-to/shared-files.md)"
                )


def _commit(unfinished: Path, made: dict[str, Any], known: dict[str, tuple[int, str]]) -> None:
    """List the files, force everything to disk, and take the final name."""
    own = {name: known.get(name) or _seal(unfinished / name) for name in _names(unfinished)}
    sizes = {name: size for name, (size, _) in own.items()}
    digests = {name: digest for name, (_, digest) in own.items()}
    (unfinished / COMPLETE).write_text(json.dumps(made | {"files": sizes, "sha256": digests}))
    all_to_disk(unfinished)
    final = unfinished.with_name(unfinished.name.removesuffix(_UNFINISHED))
    if final.exists():  # it is torn, or this step would not have been trained again
        shutil.rmtree(final)
    os.rename(unfinished, final)
    force_to_disk(final.parent)


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch wraps what the disk said in a RuntimeError
        if is_full(folder):
            raise NoRoom(f"the disk under {folder} is full: {error}") from error
        raise


def is_full(folder: Path) -> bool:
    """Whether the file system under ``folder`` has no room left. A file that could not be written whole still takes
    room."""
    return shutil.disk_usage(folder).free < FULL_BYTES


def sweep(folder: Path) -> None:
    """Remove what a learner left in ``folder`` that died while it wrote a checkpoint or removed an old one. Only
    whoever holds the run's folder may call it."""
    whole = complete(folder)
    for path in folder.glob("step-*"):
        half_removed = whole and path not in whole and _age(path) < _age(whole[0])
        if path.name.endswith(_UNFINISHED) or half_removed:
            shutil.rmtree(path)


def restore(policy: Policy, folder: Path, tell: Callable[[Doing], None]) -> tuple[Path | None, dict[str, Any] | None]:
    """Restore ``policy`` from the newest whole checkpoint in ``folder``. Returns its path and the caller's state, or
    two ``None`` where there is none. Collective; rank 0 decides. ``tell`` is called with what takes long."""
    if policy.rank == 0:
        sweep(folder)
    damaged: list[str] = []
    while True:
        whole = [path.name for path in complete(folder) if path.name not in damaged] if policy.rank == 0 else []
        name = broadcast_plan({"name": whole[0] if whole else None} if policy.rank == 0 else None)["name"]
        if name is None:
            return None, None
        try:
            return folder / name, load(policy, folder / name, tell)
        except Damaged as error:
            log.warning("%s; it is passed over", error)
            damaged.append(name)


def load(policy: Policy, path: Path, tell: Callable[[Doing], None] = lambda _: None) -> dict[str, Any]:
    """Restore ``policy`` (fresh from its model folder) from the checkpoint ``path`` and return the caller's state.

    Collective. A checkpoint of another number of ranks or another ZeRO stage is converted where DeepSpeed can do that.
    Raises on every rank: ``DataError`` where the checkpoint is torn, where the ranks do not see the same one, where
    DeepSpeed cannot convert it, and where the loaded state is not the saved one; ``Damaged`` where bytes have changed.
    """
    made = together(lambda: _list(path))
    said = gather({"host": socket.gethostname(), "list": checksum(path / COMPLETE)})
    other = [name_of(number, each["host"]) for number, each in enumerate(said) if each["list"] != said[0]["list"]]
    if other:
        raise DataError(
            f"checkpoint {path} is not the same on {', '.join(other)} as on rank 0 (docs/how-to/shared-files.md)"
        )
    if (why := universal.why_not(made["layout"], _layout(policy))) is not None:
        raise DataError(f"checkpoint {path}: {why}")
    tell(Doing(Activity.CHECKING_CHECKPOINT, path=path.name))
    mine = together(lambda: changed(path, made, policy.rank, policy.world))
    if names := sorted(name for each in gather(mine) for name in each):
        raise Damaged(path, names)
    if universal.needed(made["layout"], _layout(policy)):
        tell(Doing(Activity.CONVERTING_CHECKPOINT, path=path.name))
        _load_converted(policy, path)
    else:
        policy.load(path)
    _refuse_unlike(path, made.get("sums"), policy.sums())
    return json.loads((path / STATE).read_text())


def _load_converted(policy: Policy, path: Path) -> None:
    out = path.with_name(f"{path.name}.universal{_UNFINISHED}")  # left for sweep() if this process dies
    try:
        together(lambda: shutil.rmtree(out, ignore_errors=True) if policy.rank == 0 else None)
        universal.convert(path / TAG, out / TAG)
        together(lambda: _refuse_missing(out / TAG))
        policy.load(out, universal=True)
    finally:
        if policy.rank == 0:
            shutil.rmtree(out, ignore_errors=True)


def _list(path: Path) -> dict[str, Any]:
    if not is_complete(path):
        raise DataError(f"checkpoint {path} is not complete: files that its {COMPLETE} names are missing or cut short")
    return json.loads((path / COMPLETE).read_text())


def _refuse_unlike(path: Path, saved: dict[str, Any] | None, loaded: dict[str, Any]) -> None:
    """Raise ``DataError`` where the engine's bit sums are not those that the checkpoint lists: DeepSpeed says nothing
    where a rank has found no files."""
    unlike = [key for key in loaded if saved is not None and saved[key] != loaded[key] and key != "differ"]
    if unlike or loaded["differ"] or len(loaded["steps"]) > 1:
        what = ", ".join(dict.fromkeys(unlike + loaded["differ"])) or "steps"
        raise DataError(
            f"checkpoint {path} was not loaded as it was saved: {what} of the policy differ; it is not used"
        )


def path_of(folder: Path, step: int) -> Path:
    """The folder of the checkpoint that is written after ``step`` training steps."""
    return folder / f"step-{step:06d}"


def step_of(path: Path) -> int:
    """How many training steps were completed when checkpoint ``path`` was written."""
    return int(path.name.removeprefix("step-"))


def newest(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step, or ``None``."""
    return next(iter(complete(folder)), None)


def is_complete(path: Path) -> bool:
    """Whether every file that the checkpoint lists is there in full."""
    try:
        files = json.loads((path / COMPLETE).read_text())["files"]
        return all((path / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def changed(path: Path, made: dict[str, Any], rank: int = 0, world: int = 1) -> list[str]:
    """The names of files whose bytes are not those of the checkpoint's list ``made``. This ``rank`` checks every
    ``world``-th file. Lists that earlier versions of Leeway wrote have no digests, and nothing is checked then."""
    return [name for name, digest in [*made.get("sha256", {}).items()][rank::world] if checksum(path / name) != digest]


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints, newest first."""
    found = []
    for path in folder.glob("step-*"):
        if path.name.endswith(_UNFINISHED):
            continue
        if is_complete(path):
            found.append(path)
        else:
            log.warning("checkpoint %s is torn and passed over", path)
    return sorted(found, key=_age, reverse=True)


def _age(path: Path) -> tuple[int, str]:
    # Names are padded with zeros, so the longer name is the later step, then the greater one.
    return len(path.name), path.name


def _layout(policy: Policy) -> dict[str, Any]:
    found: dict[str, Any] = {"zero_stage": policy.stage, "ranks": policy.world}
    return found if policy.config.train.bfloat16 == "autocast" else found | {"bfloat16": policy.config.train.bfloat16}


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _seal(path: Path) -> tuple[int, str]:
    return _size(path), checksum(path)


def _size(path: Path) -> int:
    with path.open("rb") as file:  # opened, so that a network file system asks its server
        return os.fstat(file.fileno()).st_size


def all_to_disk(folder: Path) -> None:
    """Force every file and folder under ``folder`` to disk, and ``folder`` itself."""
    for path in [*folder.rglob("*"), folder]:
        force_to_disk(path)
