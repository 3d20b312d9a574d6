"""Which run is meant, and where its Redis is. Every command takes a run by its id, or by a path to its folder or to a
file in it; where no run is named, the newest one is meant."""

import difflib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ..common import address
from ..common.errors import BrokerError, DataError, NoRunError
from ..common.files import path_of

_PARTS = ("config.toml", "ledger.jsonl", "metrics.jsonl")
"""A folder that has one of these files is a run's."""


@dataclass(frozen=True, slots=True)
class Place:
    """A run's id, and the folder of runs that the run is in, or would be in."""

    run: str
    runs_dir: Path

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.runs_dir / self.run

    @property
    def exists(self) -> bool:
        """Whether the folder is there and a run's."""
        return is_run(self.folder)


def is_run(folder: Path) -> bool:
    """Whether ``folder`` is a run's."""
    return any((folder / name).exists() for name in _PARTS)


def runs_under(runs_dir: Path) -> list[Place]:
    """The runs whose folders are in ``runs_dir``; the one that was started last comes first."""
    if not runs_dir.is_dir():
        return []
    found = list[tuple[float, str]]()
    for folder in runs_dir.iterdir():
        with suppress(PermissionError):  # a folder of somebody else's, which says nothing of ours
            if is_run(folder):
                found.append((_started(folder), folder.name))
    return [Place(name, runs_dir) for _, name in sorted(found, reverse=True)]


def place(said: str, runs_dir: Path) -> Place:
    """Where a run of this id or path is, or would be."""
    bare = "/" not in said and said not in (".", "..") and not said.startswith("~")
    if bare and (is_run(runs_dir / said) or not is_run(Path(said))):
        return Place(said, runs_dir)
    path = path_of(said)
    if path.is_file():
        path = path.parent
    if path.name in ("", ".."):
        path = path.resolve()
    return Place(path.name, path.parent)


def find(said: str | None, runs_dir: Path) -> Place:
    """The run that is meant, which must have a folder here. ``DataError`` where it has none; it names similar runs."""
    if said is None:
        runs = runs_under(runs_dir)
        if not runs:
            raise DataError(f"no run under {runs_dir}/: name one by its id or its folder, or name another --runs-dir")
        return runs[0]
    found = place(said, runs_dir)
    if not found.exists:
        raise DataError(unknown(found))
    return found


def find_live(
    said: str | None, redis_url: str | None, runs_dir: Path, *, must_be_known: bool = True
) -> tuple[str, Place]:
    """(the address of the run's Redis, the run) of a run that is at work somewhere; the run needs no folder here.

    The address is the one that was given, else the one noted in the run's folder, else the local one. ``DataError`` or
    ``NoRunError`` where neither a folder nor that Redis knows the run. With ``must_be_known`` false, a run that was
    named needs only a Redis that answers."""
    if said is None and redis_url is not None:
        url = address.resolve(redis_url)
        return url, Place(newest_at(url), runs_dir)
    found = find(None, runs_dir) if said is None else place(said, runs_dir)
    url = address_of(found, redis_url)
    if not found.exists and not _holds(url, found) and must_be_known:
        raise NoRunError(f"{unknown(found)}; nor does the Redis at {address.public(url)} know it")
    return url, found


def address_of(found: Place, redis_url: str | None) -> str:
    """The address of a run's Redis: the one that was given, else the one noted in the run's folder, else the local
    one."""
    noted = noted_address(found)
    return address.resolve(redis_url if redis_url is not None or noted is None else f"@{noted}")


def noted_address(found: Place) -> Path | None:
    """The file in the run's folder that holds the address of its Redis, if there is one. ``leeway up`` writes it."""
    noted = found.folder / "redis-url"
    return noted if noted.exists() else None


def model_of(said: str, runs_dir: Path) -> str:
    """The model that ``said`` names. It may also name a run, which becomes the path of the run's folder; where a folder
    of a model has the same name, the model is meant. ``DataError`` for a path beside other runs where there is no
    run."""
    from ..common.config import expand

    if Path(expand(said)).exists():
        return said
    found = place(said, runs_dir)
    if not found.exists and "/" in said and runs_under(found.runs_dir):
        raise DataError(unknown(found))
    return str(found.folder) if found.exists else said


def unknown(missing: Place) -> str:
    """A sentence saying that a run is not there, with the runs that may have been meant."""
    known = [found.run for found in runs_under(missing.runs_dir)]
    near = difflib.get_close_matches(missing.run, known, n=3, cutoff=0.5)
    near = near or [run for run in known if missing.run and missing.run in run][:3]
    listing = "leeway runs" if missing.runs_dir == Path("runs") else f"leeway runs --runs-dir {missing.runs_dir}"
    no_run = f" ({missing.folder} has none of {', '.join(_PARTS)})" if missing.folder.is_dir() else ""
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"no run {missing.run!r} under {missing.runs_dir}/{no_run}; {meant}`{listing}` lists them"


def newest_at(url: str) -> str:
    """The run that the Redis at ``url`` heard of last. ``NoRunError`` where it holds none."""
    from ..common.queue.desk import runs_at

    held = runs_at(url)
    if not held:
        raise NoRunError(f"the Redis at {address.public(url)} holds no run that this user may see; name one with --run")
    return max(held, key=lambda run: (held[run], run))


def _holds(url: str, found: Place) -> bool:
    """Whether that Redis has the run. ``BrokerError`` where it cannot be asked."""
    from ..common.queue.connection import Connection
    from ..common.queue.desk import DeskQueue

    try:
        queue = DeskQueue(Connection(url, found.run, connect_s=5.0, retry_s=0.0))
    except BrokerError as error:
        raise BrokerError(str(error) if found.exists else f"{unknown(found)}; and {error}") from None
    with closing(queue):
        return queue.has_run()


def _started(folder: Path) -> float:
    """When a run was started last, which is when its configuration was written; unix seconds."""
    return next((folder / name).stat().st_mtime for name in _PARTS if (folder / name).exists())
