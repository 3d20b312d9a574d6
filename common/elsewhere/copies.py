"""What a copy is: a list of files with their sizes and digests, which is written last."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import DataError
from .place import OutOfReach, Place

LIST = "copy.json"
PULLED = "pulled.json"
"""In the folder of a run that was brought here: where from, and which later copies there were passed over."""
FORMAT = 1
"""What a copy looks like. A copy of another format is refused by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One file of a copy."""

    at: str
    """Where it is in the copy."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A whole copy, as its list says."""

    run: str
    step: int
    """Training steps completed."""
    incarnation: int
    """The incarnation of the learner that wrote the checkpoint."""
    ledger_line: int
    """How many lines its ledger has. Of two copies of one run, that with more is the later one."""
    chain: str
    """The chain of the last of these lines, which no other history has."""
    leeway: str
    """The version of Leeway that made the copy."""
    files: Mapping[str, Copied]
    """By the name that each file has in the run's folder."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return name_of(self.step, self.incarnation)

    @property
    def size(self) -> int:
        """The size of all its files."""
        return sum(each.bytes for each in self.files.values())

    def to_json(self) -> bytes:
        """What its list has."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()


def name_of(step: int, incarnation: int) -> str:
    """The name of the folder of a checkpoint's copy. Within an incarnation each step is trained once."""
    return f"step-{step:06d}-{incarnation}"


def read_copy(run: Place, name: str) -> Copy | None:
    """The copy in the folder ``name``; None where its list is not there, so that it does not count. ``DataError`` where
    another version of Leeway made it in another format, or the list is damaged."""
    try:
        body = run.read(f"{name}/{LIST}")
    except FileNotFoundError:
        return None
    where = f"{run.address}/{name}/{LIST}"
    try:
        found: dict[str, Any] = json.loads(body)
        number = found.pop("format")
        if number != FORMAT:
            from ... import __version__

            raise DataError(
                f"{where}: Leeway {found.get('leeway', 'of an unknown version')} made this copy, in format {number}; "
                f"this is Leeway {__version__}, which reads format {FORMAT}: take that version, or a later one, here"
            )
        return Copy(**found | {"files": {key: Copied(**each) for key, each in found["files"].items()}})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: it is damaged, so this copy cannot be used ({type(error).__name__})") from error


def copies_at(run: Place) -> tuple[list[Copy], dict[str, str]]:
    """(the whole copies of a run, the latest first; by the folder's name, what is wrong with lists that cannot be
    used). ``run``: the run's folder at its place."""
    found, damaged = list[Copy](), dict[str, str]()
    for name in run.folders():
        try:
            copy = read_copy(run, name)
        except OutOfReach:
            raise
        except DataError as error:
            damaged[name] = str(error)
        else:
            found += [copy] if copy is not None else []
    return sorted(found, key=lambda copy: (copy.ledger_line, copy.step), reverse=True), damaged


def wrong_files(folder: Place, files: Mapping[str, Copied], *, read_back: bool) -> list[str]:
    """What is wrong with files of the copy in ``folder``, a few words each. With ``read_back`` every byte is read;
    otherwise the sizes are asked for alone."""

    def look(_: str, meant: Copied) -> tuple[int, str]:
        return folder.digest(meant.at) if read_back else (folder.size(meant.at), meant.sha256)

    return differing(files, look)


def differing(files: Mapping[str, Copied], look: Callable[[str, Copied], tuple[int, str]]) -> list[str]:
    """Which files are not what they are meant to be, a few words each. ``look``: the (size, SHA-256) that a file has,
    by its name and what it is meant to be; ``FileNotFoundError`` where it is not there."""
    wrong = []
    for name, meant in files.items():
        try:
            size, sha256 = look(name, meant)
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if size != meant.bytes:
            wrong.append(f"{name} has {size} bytes where {meant.bytes} were written")
        elif sha256 != meant.sha256:
            wrong.append(f"the bytes of {name} are not those that were written")
    return wrong


def probe(place: Place) -> None:
    """Write a small file at a place, read it back and remove it. ``OutOfReach`` where that is not possible."""
    name, content = ".leeway-probe", b"leeway\n"
    place.write(name, content)
    try:
        if place.read(name) != content:
            raise OutOfReach(f"{place.address}: what was written is not what is read back")
    except FileNotFoundError as error:
        raise OutOfReach(f"{place.address}: what was written is not there") from error
    place.remove(name)
