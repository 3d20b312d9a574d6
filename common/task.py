"""Makes the folder that ``leeway init`` gives somebody to start a task of their own from."""

from pathlib import Path

from .config import PRESETS
from .errors import DataError

REWARD, ENVIRONMENT = PRESETS / "new_task", PRESETS / "new_environment"
"""Templates: for a task with a reward of one's own, and for one with an environment."""
NAME = "my-task"
"""What the templates call themselves."""


def make_task(folder: Path, template: Path = REWARD) -> list[Path]:
    """The files of ``template``, made in ``folder``, which must be empty or not there. ``DataError`` if it is neither,
    if it cannot be made, or if its name cannot stand in the files."""
    name = folder.absolute().name or NAME
    if not name.isprintable() or set(name) & set('"\\'):
        raise DataError(
            f"{name!r}: the name of the folder stands in its files; leave out quotes, backslashes, line ends"
        )
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} is there and not empty; name a folder that is not there yet")
        folder.mkdir(parents=True, exist_ok=True)
        return _filled(folder, name, template)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror} ({error.filename})") from error


def _filled(folder: Path, name: str, template: Path) -> list[Path]:
    made = []
    for source in sorted(path for path in template.iterdir() if path.is_file()):
        text = source.read_text(encoding="utf-8")
        made.append(folder / source.name)
        made[-1].write_text(text.replace(NAME, name) if source.suffix != ".jsonl" else text, encoding="utf-8")
    return made
