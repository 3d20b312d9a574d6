"""Checkpoints that are whole or not there: ``step-000020/`` with the policy, the caller's state and a list of files.

Everything is written to a temporary folder, forced to disk and then renamed. A folder counts only if every file its
list names is there in its full size, so one torn by a crash or a copy is passed over for the one before.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import DataError

if TYPE_CHECKING:
    from .model import Policy

log = logging.getLogger(__name__)

STATE = "state.json"
COMPLETE = "complete.json"
FULL_BYTES = 1 << 20
"""A file system with less room than this is full."""
_UNFINISHED = ".unfinished"


def save(
    policy: Policy,
    folder: Path,
    step: int,
    state: dict[str, Any],
    keep: int,
    write_more: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write ``folder/step-<step>/``, remove all but the ``keep`` newest. Collective; all ranks see the same ``folder``.

    ``state``: any JSON (controller, curriculum, ledger position, seeds), given back by ``load``; rank 0's counts.
    ``write_more``: writes further files into the folder it is given; rank 0's is called.
    Returns the checkpoint's path once it is safe on disk.
    """
    final = path_of(folder, step)
    unfinished = folder / f"{final.name}{_UNFINISHED}"
    if policy.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    policy.barrier()  # nobody writes into a folder that is about to be removed
    policy.save(unfinished)
    force_to_disk(unfinished)  # by every rank: its files may sit in its own node's cache
    policy.barrier()
    if policy.rank == 0:
        (unfinished / STATE).write_text(json.dumps(state))
        write_more(unfinished)
        made = {"layout": _layout(policy), "packages": packages(), "files": _sizes(unfinished)}
        (unfinished / COMPLETE).write_text(json.dumps(made))
        force_to_disk(unfinished)
        if final.exists():  # torn, else this step would not have been trained again
            shutil.rmtree(final)
        os.rename(unfinished, final)
        _sync(folder)
        for old in complete(folder)[keep:]:
            shutil.rmtree(old)
    policy.barrier()  # no rank acts on the checkpoint before it exists
    return final


def is_full(folder: Path) -> bool:
    """Whether the file system under ``folder`` has no room left; what failed to be written still takes it."""
    return shutil.disk_usage(folder).free < FULL_BYTES


def sweep(folder: Path) -> None:
    """Remove what a learner that died while it wrote, or while it removed an old one, left in ``folder``. Only for who
    holds the run's folder."""
    whole = complete(folder)
    for path in folder.glob("step-*"):
        half_removed = whole and path not in whole and _age(path) < _age(whole[0])
        if path.name.endswith(_UNFINISHED) or half_removed:
            shutil.rmtree(path)


def load(policy: Policy, path: Path) -> dict[str, Any]:
    """Restore ``policy`` (fresh from its model folder) from the checkpoint ``path`` and return the caller's state.

    Collective. Raises ``DataError`` where the checkpoint is torn or was made by another ZeRO stage or number of ranks.
    """
    if not is_complete(path):
        raise DataError(f"checkpoint {path} is not complete: files that its {COMPLETE} names are missing or cut short")
    layout = json.loads((path / COMPLETE).read_text())["layout"]
    if layout != _layout(policy):
        raise DataError(f"checkpoint {path} was made with {layout}; this learner has {_layout(policy)}")
    policy.load(path)
    return json.loads((path / STATE).read_text())


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` training steps lies."""
    return folder / f"step-{step:06d}"


def step_of(path: Path) -> int:
    """Training steps made when checkpoint ``path`` was written."""
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


def packages() -> dict[str, str]:
    """Versions of what computes here, for whoever wants to make a checkpoint again."""
    found = {"python": platform.python_version()}
    for name in ("leeway-rl", "torch", "deepspeed", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout on the path, not installed
            continue
    return found


def _layout(policy: Policy) -> dict[str, int]:
    return {"zero_stage": policy.stage, "ranks": policy.world}


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def force_to_disk(folder: Path) -> None:
    """Every file and folder under ``folder``, and itself."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
