"""The files that an evaluation was prepared from. One that has changed since is named, and the evaluation does not go
on with it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..common.errors import DataError
from ..common.files import checksum
from ..common.fingerprint import LETTERS, version_of

NOT_THERE = "not there"
WAY_ON = "name another --out, or begin this one anew with --anew, which deletes what it has"


def read_of(files: Iterable[Path], *, generated: bool = False) -> dict[str, str]:
    """The fingerprint of each file, and the version of reasoning-gym where that has ``generated`` problems."""
    read = {str(path): checksum(path)[:LETTERS] if path.is_file() else NOT_THERE for path in files}
    return read | ({"the package reasoning-gym": version_of("reasoning-gym")} if generated else {})


def refuse_changed(folder: Path, then: Mapping[str, str], now: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Raise ``DataError`` where a file is not as it was when ``folder`` was made from it. ``say`` is called for files
    that are gone, since the folder has what it needs of them."""
    for name, mark in then.items():
        found = now.get(name, NOT_THERE)
        if found == mark:
            continue
        if found == NOT_THERE:
            say(f"{name} is not there any more; going on with what {folder} has of it")
            continue
        how = "was not there when" if mark == NOT_THERE else f"has changed ({mark} then, {found} now) since"
        raise DataError(f"{name} {how} {folder} was prepared from it; {WAY_ON}")
