"""What each rank reads from its own disk, and whether it is the same everywhere.

DeepSpeed trains on whatever each rank has: another model folder, another version of the code, or a runs folder of the
rank's own would give wrong weights without an error. So the ranks compare what they have before they train: first all
that takes milliseconds to read, and then the bytes of the weights, where they are not of one file.
"""

import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.config import Config, expand
from ..common.errors import DataError
from ..common.files import checksum
from ..common.identity import this_machine
from . import own_loss
from .files import seen
from .packages import packages
from .ranks import broadcast_plan, gather, name_of, rank, together, world

SHARED_S = 10.0
"""How long it may take until the other ranks see a file that rank 0 has written; network file systems cache."""
_WHOLE_BYTES, _SAMPLES, _SAMPLE_BYTES = 1 << 20, 16, 1 << 16
PIECE_BYTES = 1 << 26
_SHOWN = 4
_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("common", "learner")
"""The wings whose code a learner runs."""


def refuse_different(config: Config, folder: Path) -> None:
    """Raise ``DataError`` on every rank, within seconds, where the ranks would not train the same run: where the
    configuration, the code, the packages or the files of the model folder differ, or ``folder`` (``runs/ID``) is not
    one folder that all ranks share.

    Collective; called before the model is loaded. Big files are compared by their size and by samples of their bytes.
    """
    if world() == 1:
        return
    _refuse_other_than(together(lambda: what_is_read(config, folder.name)))
    _refuse_folders_apart(folder)


def _refuse_other_than(mine: dict[str, str]) -> None:
    """Raise ``DataError`` on every rank where another rank does not read the same as ``mine``. Collective."""
    said = gather({"host": socket.gethostname(), "reads": mine})
    if (why := differences([each["host"] for each in said], [each["reads"] for each in said])) is not None:
        raise DataError(why)


def what_is_read(config: Config, run: str) -> dict[str, str]:
    """Everything that this rank trains by, by name. Each text is equal on two ranks where what it stands for is."""
    found = {"run": run, "source code of leeway_rl": _source()}
    found |= {f"version of {name}": text for name, text in packages().items()}
    for section, values in config.model_dump(mode="json").items():
        keys = values.items() if isinstance(values, dict) else [("", values)]
        found |= {f"configuration {section}.{key}".removesuffix("."): repr(value) for key, value in keys}
    if (own := own_loss.of(config.objective)) is not None:
        found["code of objective.loss"] = str(own.digest)
    found |= _model_files(config.model.path, "model")
    for path in config.references:
        found |= _model_files(path, f"reference {path}:") if path != config.model.path else {}
    return found


def _model_files(said: str, whose: str) -> dict[str, str]:
    model = Path(expand(said))
    files = [
        model / "config.json",
        *sorted(model.glob("*.safetensors")),
        *sorted(model.glob("*.safetensors.index.json")),
    ]
    return {f"{whose} file {path.name}": _outline(path) for path in files if path.is_file()}


def differences(hosts: list[str], reads: list[dict[str, str]]) -> str | None:
    """A message for the operator that says what differs between the ranks; ``None`` where nothing does."""
    found = []
    for name in dict.fromkeys(key for each in reads for key in each):
        first = reads[0].get(name, "not there")
        for number, each in enumerate(reads):
            if (here := each.get(name, "not there")) != first:
                found.append(f"{name}: {first} on {name_of(0, hosts[0])}, {here} on {name_of(number, hosts[number])}")
                break
    if not found:
        return None
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"the learner's ranks do not read the same: {'; '.join(found[:_SHOWN])}{more}. Every rank needs the same "
        "model, code and packages (docs/how-to/shared-files.md)"
    )


def _outline(path: Path) -> str:
    """A file's size and digest. Of a big file only samples are digested, so that a model takes milliseconds."""
    size = path.stat().st_size
    if size <= _WHOLE_BYTES:
        return f"{size} bytes, sha256 {checksum(path)[:12]}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return f"{size} bytes, samples {digest.hexdigest()[:12]}"


def _source() -> str:
    digest = hashlib.sha256()
    for wing in _SOURCES:
        for path in sorted((_PACKAGE / wing).rglob("*.py")):
            digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {checksum(path)}\n".encode())
    return digest.hexdigest()[:12]


def _refuse_folders_apart(folder: Path) -> None:
    """Raise ``DataError`` where some rank does not see a file that rank 0 writes: each rank would otherwise write its
    part of a checkpoint where no other finds it."""
    token = broadcast_plan({"token": os.urandom(8).hex()} if rank() == 0 else None)["token"]
    mark = folder / f".shared-{token}"

    def write() -> None:
        if rank() == 0:
            mark.touch()

    together(write)
    sees = together(lambda: seen(mark, SHARED_S))
    said = gather({"host": socket.gethostname(), "folder": str(folder.absolute()), "sees": sees})
    if rank() == 0:
        mark.unlink(missing_ok=True)
    apart = [
        name_of(number, each["host"]) + f" has {each['folder']}" for number, each in enumerate(said) if not each["sees"]
    ]
    if apart:
        raise DataError(
            f"{name_of(0, said[0]['host'])} writes this run's checkpoints into {said[0]['folder']}, but "
            f"{'; '.join(apart)}, which is another folder. The learner's ranks need one runs folder that all of them "
            "share, wherever each has mounted it: name it by --runs-dir (docs/how-to/shared-files.md)"
        )


def refuse_different_models(files: list[Path], shape: Mapping[str, Any]) -> None:
    """Raise ``DataError`` where the ranks are about to read weights from ``files`` whose bytes differ, or models of
    another ``shape`` (the model's configuration). Collective. Afterwards each rank may read its own part of the
    weights, and the parts are of one model.

    Ranks that see the very same files on one machine have nothing to compare. Where there are several copies, every
    byte of each is read once, by the ranks that see it.
    """
    if world() == 1:
        return
    named = {key: value for key, value in shape.items() if key not in ("_name_or_path", "transformers_version")}
    mine = {f"model configuration {key}": repr(value) for key, value in named.items()}
    copies = gather(together(lambda: _identity(files)))
    if any(each != copies[0] for each in copies):
        mates = [number for number, each in enumerate(copies) if each == copies[rank()]]
        own = together(lambda: digests(files, mates.index(rank()), len(mates)))
        everyones = gather(own)
        pieces = sorted(piece for number in mates for piece in everyones[number].items())
        mine["weights"] = hashlib.sha256(repr(pieces).encode()).hexdigest()[:12]
    _refuse_other_than(mine)


def _identity(files: list[Path]) -> list[str]:
    """What two ranks have in common only if they see the same files, of which they need compare nothing."""
    found = [(path.name, path.stat()) for path in files]
    return [this_machine(), *(f"{name} {at.st_dev} {at.st_ino} {at.st_size} {at.st_mtime_ns}" for name, at in found)]


def digests(files: list[Path], share: int, shares: int) -> dict[str, str]:
    """Digests of every ``shares``-th piece of the files, from number ``share`` on, by the piece's name."""
    pieces = [(path, start) for path in files for start in range(0, path.stat().st_size, PIECE_BYTES)]
    found = {}
    for path, start in pieces[share::shares]:
        with path.open("rb") as file:
            file.seek(start)
            found[f"{path.name} {start:015d}"] = hashlib.sha256(file.read(PIECE_BYTES)).hexdigest()[:16]
    return found
