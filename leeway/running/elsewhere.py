"""Copies of runs at another place, for the operator: what is there, bringing a run here, and whether a run may copy
to its place."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...common.config import Config
from ...common.elsewhere.address import masked, under, why_missing
from ...common.elsewhere.copies import PULLED, Copied, Copy, copies_at, differing, probe
from ...common.elsewhere.place import Place
from ...common.errors import ConfigError, DataError, RunExistsError
from ...common.files import checksum, force_to_disk, write_whole
from ...common.keys import Keys
from ...common.ledger import is_complete
from ...common.wording import byte_size


class Found(NamedTuple):
    """What there is of a run at a place."""

    place: Place
    """The run's folder there."""
    copies: list[Copy]
    """The whole copies, the latest first."""
    damaged: dict[str, str]
    """By a folder's name, what is wrong with its list."""

    @classmethod
    def at(cls, address: str) -> "Found":
        """Look there."""
        place = Place(address)
        return cls(place, *copies_at(place))


def refuse_missing_package(config: Config) -> None:
    """``ConfigError`` where the package that speaks to ``checkpoints.copy_to`` is not here."""
    if (why := why_missing_package(config)) is not None:
        raise ConfigError(why)


def why_missing_package(config: Config) -> str | None:
    """A sentence on the package that speaks to ``checkpoints.copy_to``, where it is not here."""
    why = None if config.checkpoints.copy_to is None else why_missing(config.checkpoints.copy_to)
    return why and f"checkpoints.copy_to = {why}"


def copies_of(config: Config, run: str) -> Found | None:
    """What there is of ``run`` at its ``checkpoints.copy_to``; None where it has no such place, or no whole copy there.
    ``DataError`` where nothing can be written there: it is better known before a model is loaded."""
    if config.checkpoints.copy_to is None:
        return None
    refuse_missing_package(config)
    probe(Place(config.checkpoints.copy_to, tries=2, wait_s=1.0))
    found = Found.at(under(config.checkpoints.copy_to, run))
    return found if found.copies else None


def refuse_copied(config: Config, run: str) -> None:
    """``RunExistsError`` where a run of this name has copies at the place that a new one would be copied to."""
    if (found := copies_of(config, run)) is not None:
        address = found.place.address
        raise RunExistsError(
            f"run {run!r} is not here, and has copies up to step {found.copies[0].step} at {address}: leeway pull "
            f"{address} brings it here; else choose another --run"
        )


def brought(config: Config, run: str, runs_dir: Path) -> str | None:
    """Bring ``run`` here from its place, where this machine has nothing of it yet and there are copies. Returns a
    sentence on what was brought."""
    if _has_something(runs_dir / run) or (found := copies_of(config, run)) is None:
        return None
    return _bring(found, runs_dir, step=None)


def pull(address: str, runs_dir: Path, *, step: int | None) -> str:
    """Bring the run at ``address`` (the place, and the run's name) into ``runs_dir``: its latest copy, or the latest of
    ``step``. It is there whole or not at all, and every byte is checked. Returns a sentence on it. ``DataError`` where
    there is none, or it is not whole, and ``RunExistsError`` where the run is here."""
    place = Place(address)
    run = PurePosixPath(place.address).name
    Keys(run)  # refuses what is no run's name
    folder = runs_dir / run
    if _has_something(folder):
        raise RunExistsError(
            f"run {run!r} exists ({folder}); it is not overwritten: move it away, or --runs-dir another"
        )
    return _bring(Found.at(place.address), runs_dir, step=step)


def _bring(found: Found, runs_dir: Path, *, step: int | None) -> str:
    place, copies, damaged = found
    run = PurePosixPath(place.address).name
    folder = runs_dir / run
    chosen = _chosen(place, copies, damaged, step)
    unfinished = runs_dir / f".{run}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        if wrong := _fetched(place.at(chosen.name), chosen.files, unfinished):
            raise DataError(
                f"{place.address}/{chosen.name} cannot be used: {'; '.join(wrong)}. {_before(place, copies, chosen)}"
            )
        later = [copy.name for copy in copies[: copies.index(chosen)]] + sorted(damaged)
        write_whole(
            unfinished / PULLED, json.dumps({"from": place.address, "copy": chosen.name, "passed_over": later}) + "\n"
        )
        force_to_disk(unfinished)
        if folder.exists():
            folder.rmdir()
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    passed = f"; passed over: {', '.join(later)}" if later else ""
    return (
        f"{folder}: step {chosen.step} from {place.address}/{chosen.name} ({byte_size(chosen.size)}, every byte "
        f"checked{passed}); "
        + ("the run is complete" if is_complete(folder) else f"leeway up --run {run} --resume goes on")
    )


def _has_something(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _chosen(place: Place, copies: list[Copy], damaged: Mapping[str, str], step: int | None) -> Copy:
    if step is not None:
        found = [copy for copy in copies if copy.step == step]
        if not found:
            raise DataError(f"{place.address} has no whole copy of step {step}; {_there(copies)}")
        return found[0]
    if damaged:
        raise DataError(f"{next(iter(damaged.values()))}. {_there(copies)}: --step N takes one of them")
    if not copies:
        runs = [name for name in place.folders() if not name.startswith("step-")]
        hint = f"; there are {', '.join(runs)} under it: name one of them" if runs else ""
        raise DataError(f"{masked(place.address)} has no whole copy of a run{hint}")
    return copies[0]


def _there(copies: list[Copy]) -> str:
    return f"there is {', '.join(f'step {copy.step}' for copy in copies)}" if copies else "there is none"


def _before(place: Place, copies: list[Copy], chosen: Copy) -> str:
    earlier = [copy for copy in copies if copy.ledger_line < chosen.ledger_line]
    if not earlier:
        return "There is no copy before it"
    return f"The copy before it is of step {earlier[0].step}: leeway pull {place.address} --step {earlier[0].step}"


def _fetched(source: Place, files: Mapping[str, Copied], folder: Path) -> list[str]:
    """Write the files of a copy into ``folder``. Returns what is wrong with them, a few words each."""

    def fetch(name: str, meant: Copied) -> tuple[int, str]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{source.address}: its list names {name!r}, which would lie outside the run's folder")
        target = folder / path
        source.get(meant.at, target)
        force_to_disk(target)
        return target.stat().st_size, checksum(target)

    return differing(files, fetch)
