"""What an evaluation was prepared from: one that has changed since is named, and nothing goes on with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..common.errors import DataError
from ..common.files import checksum
from ..common.fingerprint import LETTERS, version_of

NOT_THERE = "not there"
WAY_ON = "name another --out, or begin this one anew with --anew, which deletes what it has"


def read_of(files: Iterable[Path], *, generated: bool = False) -> dict[str, str]:
    """Fingerprints by file; and the version of reasoning-gym where problems are its."""
    read = {str(path): checksum(path)[:LETTERS] if path.is_file() else NOT_THERE for path in files}
    return read | ({"the package reasoning-gym": version_of("reasoning-gym")} if generated else {})


def refuse_changed(folder: Path, then: Mapping[str, str], now: Mapping[str, str], say: Callable[[str], None]) -> None:
    """``DataError`` names what is not as it was when ``folder`` was made from it. What is gone is told to ``say``: the
    folder has what it needs of it."""
    for name, mark in then.items():
        found = now.get(name, NOT_THERE)
        if found == mark:
            continue
        if found == NOT_THERE:
            say(f"{name} is not there any more; going on with what {folder} has of it")
            continue
        how = "was not there when" if mark == NOT_THERE else f"has changed ({mark} then, {found} now) since"
        raise DataError(f"{name} {how} {folder} was prepared from it; {WAY_ON}")
