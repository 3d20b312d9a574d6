"""The folder of an evaluation. It notes what was asked and which files it was prepared from. A folder that was made
with something else is refused; so is one whose files have changed since, and the file is named."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import DataError
from ..common.files import checksum, write_whole
from ..common.fingerprint import LETTERS, version_of
from ..common.json_text import line_of_ours

NOT_THERE = "not there"
"""What is noted for a file that was not there."""
WAY_ON = "name another --out, or begin this one anew with --anew, which deletes what it has"


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as JSON, whole or not at all (``write_whole``)."""
    write_whole(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote. ``DataError`` where the file is not there or is not JSON."""
    try:
        return line_of_ours(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error


READ = {
    "sha256 of problems": "the problems",
    "weights": "the model's weights",
    "tokenizer": "the model's tokenizer or its chat template",
}
"""The keys that hold a fingerprint, and what each is the fingerprint of."""


def same_or_refused(folder: Path, asked: dict[str, Any], **beside: Any) -> None:
    """Note what was ``asked`` in the folder's ``sample.json``. ``DataError`` where something else is noted there
    already. The notes ``beside`` it are not compared: ``problems`` and ``model`` are the paths that were read."""
    path = folder / "sample.json"
    noted = read_json(path) if path.exists() else {}
    refuse_other(folder, noted, asked, beside.get("problems", ""), beside.get("model", ""))
    now = {**noted, **beside, **asked}
    if now != noted:
        write_json(path, now)


def refuse_other(
    folder: Path, noted: dict[str, Any], asked: dict[str, Any], problems: str = "", model: str = ""
) -> None:
    """Raise ``DataError`` where something ``asked`` differs from what is ``noted``: responses made in two ways may not
    be mixed."""
    for key, value in asked.items():
        if key not in noted or noted[key] == value:
            continue
        if (what := READ.get(key)) is not None:
            where = problems if key == "sha256 of problems" else model
            raise DataError(
                f"{folder}: {what}{f' ({where})' if where else ''} changed since it was begun ({str(noted[key])[:16]} "
                f"then, {str(value)[:16]} now); {WAY_ON}"
            )
        raise DataError(
            f"{folder}: made with {key} = {noted[key]!r}, and now it is {value!r}; ask the same, or {WAY_ON}"
        )


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
