"""Copies one checkpoint, and what else a resume needs of the run's folder, to another place. ``copier.py`` starts it as
a process of its own, so that neither its threads nor its memory are the learner's; ``leeway copy`` starts it by hand.

A copy is whole or not there: its list is written last, once every file has been written and looked at again. Old copies
go only after that. Nothing here imports torch, except where it is started by hand and looks for the newest checkpoint.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..common.elsewhere.address import under
from ..common.elsewhere.copies import LIST, PULLED, Copied, Copy, copies_at, name_of, read_copy, wrong_files
from ..common.elsewhere.place import TRIES, WAIT_S, OutOfReach, Place
from ..common.errors import ConfigError, DataError, told
from ..common.files import checksum, path_of
from ..common.json_text import line_of_ours
from ..common.ledger import last
from ..common.stopping import stoppable
from ..common.tail import lines_backwards, whole_lines
from ..common.wording import counted
from . import keeping

if TYPE_CHECKING:
    from ..common.config import Config

SMALL = ("config.toml", "ledger.jsonl", "metrics.jsonl", "samples.jsonl", "workers.jsonl")
"""What a run's folder has beside its checkpoints that a resume, the audit or the report reads."""
PATTERNS = ("trackers/*.json", "evaluations/*/evaluations.jsonl")
HELD = ".copying-"
"""How the folder's name begins that has those files meanwhile, in the run's folder."""
METRICS_S = 5.0
"""Seconds to wait for the record of the last step, which is written a little later than its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be copied where."""

    folder: str
    """The run's folder."""
    to: str
    """The address of the folder for this run's copies."""
    checkpoint: str
    """The name of the checkpoint's folder in ``checkpoints/``."""
    step: int
    incarnation: int
    ledger_line: int
    """How many lines of the ledger the copy gets."""
    keep: int
    """How many of the latest copies stay."""
    keep_best: str | None = None
    verify: str = "bytes"
    digests: dict[str, str] | None = None
    """SHA-256 of the checkpoint's files as they were written, by their names there."""
    unless_there: bool = False
    """Whether there is nothing to do where the copy is whole already."""
    tries: int = TRIES
    wait_s: float = WAIT_S


def copy(order: Order) -> dict[str, Any]:
    """Make the copy. Returns what was done: ``bytes`` written, and ``unremoved``, why old copies could not be removed.
    ``OutOfReach`` where the place fails after all tries, ``DataError`` where it has copies of another history."""
    run, folder = Place(order.to, tries=order.tries, wait_s=order.wait_s), Path(order.folder)
    _refuse_other_history(run, folder, order)
    name = name_of(order.step, order.incarnation)
    before = read_copy(run, name)
    if before is not None and order.unless_there:
        return {"bytes": 0, "unremoved": ""}
    with tempfile.TemporaryDirectory(prefix=HELD, dir=folder) as held:
        sources = _checkpoint_files(folder, order) | _small_files(folder, Path(held), order)
        meant = {key: at for key, (_, at) in sources.items()}
        chain = _chain_of(Path(held) / "ledger.jsonl")
        made = Copy(
            run=folder.name,
            step=order.step,
            incarnation=order.incarnation,
            ledger_line=order.ledger_line,
            chain=chain,
            leeway=__version__,
            files=meant,
        )
        there = {} if before is None else before.files
        due = {key: source for key, (source, _) in sources.items() if there.get(key) != meant[key]}
        target = run.at(name)
        if before is not None and any(key in there and there[key].at == meant[key].at for key in due):
            target.remove(LIST)  # a file that it names is about to change
        for key, source in due.items():
            _put(target, key, source, meant[key], order)
    target.write(LIST, made.to_json())
    if read_copy(run, name) != made:
        raise OutOfReach(f"{target.address}/{LIST}: what was written is not what is read back")
    return {"bytes": sum(meant[key].bytes for key in due), "unremoved": _prune(run, made, order)}


def _put(target: Place, key: str, source: Path, meant: Copied, order: Order) -> None:
    """Write one file, and look at it again. It is written anew where it is not what was meant."""
    for _ in range(order.tries):
        target.put(source, meant.at)
        wrong = wrong_files(target, {key: meant}, read_back=order.verify == "bytes")
        if not wrong:
            return
    raise OutOfReach(f"{target.address}: {wrong[0]}, although it was written {counted(order.tries, 'time')}")


def _refuse_other_history(run: Place, folder: Path, order: Order) -> None:
    """``DataError`` where the place has copies that this ledger does not lead to: another machine may go on with the
    run, or it is another run of the same name."""
    found, _ = copies_at(run)
    passed_over = _passed_over(folder)
    lines = {copy.ledger_line for copy in found}
    chains = dict[int, str]()
    with (folder / "ledger.jsonl").open("rb") as file:
        for number, text in enumerate(whole_lines(file), start=1):
            if number in lines:
                chains[number] = line_of_ours(text)["chain"]
    other = [copy.name for copy in found if chains.get(copy.ledger_line) != copy.chain and copy.name not in passed_over]
    if other:
        raise DataError(
            f"{run.address}: {', '.join(other)} there is of another history than this run's ledger: another run of "
            "this name, or a machine that goes on with this one. Remove it there, or name another place"
        )


def _passed_over(folder: Path) -> set[str]:
    path = folder / PULLED
    return set(json.loads(path.read_text())["passed_over"]) if path.exists() else set()


def _checkpoint_files(folder: Path, order: Order) -> dict[str, tuple[Path, Copied]]:
    """By its name in the run's folder: each file of the checkpoint, and what the copy's list will say of it. The
    digests are those of when it was written, where they are known."""
    checkpoint = folder / "checkpoints" / order.checkpoint
    found = {}
    for path in sorted(each for each in checkpoint.rglob("*") if each.is_file()):
        name = path.relative_to(checkpoint).as_posix()
        sha256 = (order.digests or {}).get(name) or checksum(path)
        meant = Copied(at=f"checkpoint/{name}", bytes=path.stat().st_size, sha256=sha256)
        found[path.relative_to(folder).as_posix()] = path, meant
    if not found:
        raise DataError(f"{checkpoint}: this checkpoint is not there any more")
    return found


def _small_files(folder: Path, held: Path, order: Order) -> dict[str, tuple[Path, Copied]]:
    """The same for what is beside the checkpoints. These files grow, so a copy of each is held meanwhile."""
    _await_metrics(folder / "metrics.jsonl", order.step)
    paths = [folder / name for name in SMALL] + [path for each in PATTERNS for path in sorted(folder.glob(each))]
    found = {}
    for path in filter(Path.is_file, paths):
        name = path.relative_to(folder).as_posix()
        own = held / name
        own.parent.mkdir(parents=True, exist_ok=True)
        if name == "ledger.jsonl":
            _first_lines(path, own, order.ledger_line)
        else:
            shutil.copyfile(path, own)
        meant = Copied(at=f"run-{order.ledger_line}/{name}", bytes=own.stat().st_size, sha256=checksum(own))
        found[name] = own, meant
    return found


def _first_lines(ledger: Path, own: Path, count: int) -> None:
    with ledger.open("rb") as file, own.open("wb") as cut:
        written = 0
        for text in islice(whole_lines(file), count):
            cut.write(text)
            written += 1
    if written < count:
        raise DataError(f"{ledger}: it has {counted(written, 'line')}, and the checkpoint names line {count}")


def _chain_of(ledger: Path) -> str:
    """The chain of the ledger's last line."""
    chain: str = line_of_ours(next(lines_backwards(ledger)))["chain"]
    return chain


def _await_metrics(path: Path, step: int) -> None:
    """Wait for the record of the last step, for ``METRICS_S`` seconds at most: without it the report lacks a point."""
    deadline = time.monotonic() + METRICS_S
    while time.monotonic() < deadline:
        newest = next(lines_backwards(path), None) if path.exists() else None
        if step == 0 or (newest is not None and line_of_ours(newest).get("version", 0) >= step):
            return
        time.sleep(0.1)


def _prune(run: Place, made: Copy, order: Order) -> str:
    """Remove the copies that are not kept, what a dead process left of one, and what this copy had before. Returns why
    not, where the place does not let us remove: the copy is whole all the same."""
    try:
        found, damaged = copies_at(run)
        passed_over = _passed_over(Path(order.folder))
        found = [copy for copy in found if copy.name not in passed_over]
        kept = {copy.name for copy in found[: order.keep]} | {made.name} | _best(found[order.keep :], order)
        spared = kept | (damaged.keys() - passed_over)
        for name in run.folders():
            if name.startswith("step-") and name not in spared:
                run.remove(f"{name}/{LIST}")  # first, so that it never counts as whole while it is removed
                run.remove(name)
        listed = {each.at for each in made.files.values()} | {LIST}
        for name in run.at(made.name).files():
            if name not in listed:
                run.remove(f"{made.name}/{name}")
    except OutOfReach as error:
        return str(error)
    return ""


def _best(older: Sequence[Copy], order: Order) -> set[str]:
    if order.keep_best is None:
        return set()
    known = [(Path(copy.name), copy.step, copy.incarnation) for copy in older]
    return {path.name for path in keeping.spared(Path(order.folder), order.keep_best, known)}


def order_of(folder: Path, to: str | None) -> Order:
    """The order for the newest checkpoint of the run in ``folder``, as somebody asks for it by hand. ``to``: the place;
    None: that of the run's configuration."""
    from . import checkpoint
    from .export import checkpoint_of, config_of

    config = config_of(folder)
    address = to or config.checkpoints.copy_to
    if address is None:
        raise ConfigError("no place is named: --to s3://bucket/folder, for instance; checkpoints.copy_to is not set")
    path = checkpoint_of(folder / "checkpoints", None)
    state = json.loads((path / checkpoint.STATE).read_text())
    newest = last(folder / "ledger.jsonl")
    if newest is None:
        raise DataError(f"{folder / 'ledger.jsonl'}: the ledger is empty")
    order = ordered(config, path, under(address, folder.name), state["incarnation"], newest["line"])
    return replace(order, digests=digests_of(path))


def ordered(
    config: "Config", checkpoint: Path, to: str, incarnation: int, ledger_line: int, *, unless_there: bool = False
) -> Order:
    """The order for ``checkpoint``, a folder of a run's ``checkpoints/``, to be copied as its configuration says."""
    from .checkpoint import step_of

    return Order(
        folder=str(checkpoint.parent.parent),
        to=to,
        checkpoint=checkpoint.name,
        step=step_of(checkpoint),
        incarnation=incarnation,
        ledger_line=ledger_line,
        keep=config.train.keep_checkpoints,
        keep_best=config.train.keep_best,
        verify=config.checkpoints.verify,
        unless_there=unless_there,
    )


def digests_of(checkpoint: Path) -> dict[str, str]:
    """SHA-256 by name, as they stood when the checkpoint in this folder was written."""
    from .checkpoint import COMPLETE

    found: Mapping[str, str] = json.loads((checkpoint / COMPLETE).read_text()).get("sha256", {})
    return dict(found)


def main() -> int:
    """Copy what the order on standard input says, or the newest checkpoint of the run that is named."""
    parser = argparse.ArgumentParser(prog="leeway copy", description=__doc__)
    parser.add_argument("folder", nargs="?", type=path_of, help="the run's folder; without it an order is read")
    parser.add_argument("--to", help="the place; checkpoints.copy_to by default")
    arguments = parser.parse_args()

    def by_hand(folder: Path) -> None:
        order = order_of(folder, arguments.to)
        done = copy(order)
        print(f"{under(order.to, name_of(order.step, order.incarnation))}: whole and verified")
        if done["unremoved"]:
            print(f"older copies could not be removed: {done['unremoved']}", file=sys.stderr)

    def by_order() -> None:
        print(json.dumps(copy(Order(**json.load(sys.stdin)))))

    return told("leeway copy", by_order if arguments.folder is None else lambda: by_hand(arguments.folder))


def as_text(order: Order) -> str:
    """An order, for the standard input of this program."""
    return json.dumps(asdict(order))


if __name__ == "__main__":
    sys.exit(stoppable(main))
