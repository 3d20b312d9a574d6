"""``leeway fork``: a new run that starts from a checkpoint of another one, with other keys.

What comes along is all that a resume would go back to: policy, optimizer, entropy controller, books, live tickets,
curriculum, pacing, guard, and the live controls as they stood. What the other run counted (refunds, poisoned groups)
stays with it. The new run's folder then is that of a run that was stopped after its checkpoint, and a resume goes on
with it. The other run may be finished or at work: nothing in its folder is changed.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..common.config import Config, compose, dump
from ..common.errors import ConfigError, DataError, RunExistsError, told
from ..common.files import checksum, path_of
from ..common.keys import Keys
from ..common.ledger import Ledger, read
from ..common.lineage import Ancestor, as_json, changes, lineage_of
from ..common.settings import written
from ..common.stopping import stoppable
from ..common.wording import counted
from .export import checkpoint_of, config_of

FIXED = {
    "model.path": "the checkpoint's weights are of that model",
    "data": "the books say which of its prompts are live, dropped and solved",
    "flow.inject_lag": "the checkpoint holds the weights of that many versions",
    "flow.reconsider_every": "the books count the looks that were taken",
}
"""Keys and sections that a fork keeps, and why."""
TURNED = {"entropy.target": "entropy_target", "train.learning_rate": "learning_rate"}
"""Keys that an operator turns for every stage at once, and where a checkpoint's state says so. A key that is given, or
a stage's with another value, lets go of what was turned."""
ALIKE = "leeway export writes its model, from which a run of its own may start"


def fork(parent: Path, into: Path, *, step: int | None = None, settings: list[str] | None = None) -> Ancestor:
    """Make the folder ``into`` a run that starts from the checkpoint of ``step`` (default: the newest) of the run in
    ``parent``, with the ``settings`` (``section.key=value``). Returns where it comes from.

    Raises ``RunExistsError`` where ``into`` exists, ``DataError`` for a missing run or checkpoint and one whose bytes
    have changed, and ``ConfigError`` for a key that is wrong or that a fork keeps.
    """
    from . import checkpoint

    Keys(into.name)  # refuses an unusable id
    if into.exists():
        raise RunExistsError(f"run {into.name!r} exists ({into}); choose another --run")
    before = config_of(parent)
    path = checkpoint_of(parent / "checkpoints", step)
    try:
        state = json.loads((path / checkpoint.STATE).read_text())
        made = json.loads((path / checkpoint.COMPLETE).read_text())
        now = compose([str(parent / "config.toml")], [*_as_turned(before, state), *(settings or [])])
        changed = changes(before, now)
        _refuse(before, now, changed, state, made)
        origin = _origin(parent, state, changed)
        given = {text.partition("=")[0].strip() for text in settings or []}
        given |= {key for key in TURNED if _by_stage(before, key) != _by_stage(now, key)}
        kept = state | {name: "stage" for key, name in TURNED.items() if key in given}
        unfinished = into.absolute().parent / f".{into.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            to = unfinished / "checkpoints" / path.name
            to.mkdir(parents=True)
            for name in made["files"]:
                if name != checkpoint.STATE:
                    _linked(path / name, to / name)
            if names := checkpoint.changed(path, made):
                raise checkpoint.Damaged(path, names)
            _write(unfinished, into.name, to, before, now, kept, made, [origin, *lineage_of(parent)])
            checkpoint.all_to_disk(unfinished)
            os.rename(unfinished, into)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except FileNotFoundError as error:
        raise DataError(f"checkpoint {path} was removed meanwhile, as older ones are: name a newer one") from error
    return origin


def _as_turned(config: Config, state: dict[str, Any]) -> list[str]:
    """The live controls that stood at the checkpoint otherwise than in the configuration, as settings. Those
    of ``TURNED`` are not among them: what was turned holds in every stage, which no key says; it stays in the state."""
    turned = {
        "flow.max_staleness": (config.flow.max_staleness, state["asked_bound"]),
        "flow.overflow": (config.flow.overflow, state["overflow"]),
        "flow.pipeline_depth": (config.flow.pipeline_depth, state["pipeline_depth"]),
    }
    return [written(key, stood) for key, (said, stood) in turned.items() if said != stood]


def _by_stage(config: Config, key: str) -> set[Any]:
    """The values of ``section.key`` in all stages."""
    section, _, own = key.partition(".")
    return {getattr(getattr(view, section), own) for view in config.views()}


def _refuse(
    before: Config, now: Config, changed: dict[str, list[Any]], state: dict[str, Any], made: dict[str, Any]
) -> None:
    """``ConfigError`` where the checkpoint cannot go on as ``now`` says."""
    from . import universal

    for key, (old, new) in changed.items():
        why = FIXED.get(key, FIXED.get(key.partition(".")[0]))
        if key == "flow.seed" and len(before.sources) > 1:
            why = "which of several sources a ticket draws from depends on it, and the books count their tickets"
        if why is not None:
            raise ConfigError(f"{key} = {new!r}: a fork keeps {old!r}: {why}; {ALIKE}")
    if now.train.steps <= state["version"]:
        raise ConfigError(
            f"train.steps = {now.train.steps}: the checkpoint has made {counted(state['version'], 'step')}, so none is "
            f"left to train; set more, --set train.steps={2 * state['version'] or 1}, or take an earlier --step"
        )
    opened = 1 + len(state["curriculum"]["dropped"])
    begun = before.stage_starts[:opened]
    if now.stage_starts[:opened] != begun or now.stage_of(state["version"]) > opened:
        raise ConfigError(
            f"stages begin at steps {list(now.stage_starts)}: by step {state['version']} the run had begun those at "
            f"{list(begun)}, which keep their from_step, and none can be put before them"
        )
    layout: dict[str, Any] = {"zero_stage": now.train.zero_stage, "ranks": now.train.ranks}
    if now.train.bfloat16 != "autocast":
        layout["bfloat16"] = now.train.bfloat16
    if (why := universal.why_not(made["layout"], layout)) is not None:
        raise ConfigError(f"the checkpoint cannot go on with this configuration: {why}")


def _origin(parent: Path, state: dict[str, Any], changed: dict[str, list[Any]]) -> Ancestor:
    """Where a fork comes from that starts from the checkpoint with this ``state``."""
    version, found, line = state["version"], None, dict[str, Any]()
    for line in _until(parent / "ledger.jsonl", state["ledger_line"]):
        if line["event"] == "published" and line["version"] == version:
            found = line["checksum"]
    if line.get("line") != state["ledger_line"]:
        raise DataError(
            f"{parent / 'ledger.jsonl'}: ends before line {state['ledger_line']}, which the checkpoint names"
        )
    own = lineage_of(parent)
    if found is None and own and own[0].step == version:  # a fork of a fork that has not trained
        found = own[0].checksum
    return Ancestor(
        run=parent.resolve().name,
        step=version,
        checksum=found,
        ledger_line=state["ledger_line"],
        chain=line["chain"],
        changed=changed,
    )


def _until(ledger: Path, last: int) -> Iterator[dict[str, Any]]:
    return takewhile(lambda line: line["line"] <= last, read(ledger))


def _linked(source: Path, to: Path) -> None:
    """Have the file ``source`` stand at ``to`` too. A checkpoint's files never change, so on one disk both folders may
    have the same file."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        shutil.copyfile(source, to)


def _write(
    folder: Path,
    run: str,
    to: Path,
    before: Config,
    now: Config,
    state: dict[str, Any],
    made: dict[str, Any],
    lineage: list[Ancestor],
) -> None:
    """Write what is the new run's own: its configuration, its ledger, and the state in its checkpoint."""
    from . import checkpoint
    from .startup import first_line

    state = _state(before, now, state)
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", **first_line(run, now) | {"max_staleness": state["max_staleness"]}, **_books(state, lineage))
    ledger.write("checkpoint", step=state["version"])
    state["ledger_line"] = ledger.line
    ledger.close()
    (folder / "config.toml").write_text(dump(now))
    own = to / checkpoint.STATE
    own.write_text(json.dumps(state))
    files = made["files"] | {checkpoint.STATE: own.stat().st_size}
    digests = made["sha256"] | {checkpoint.STATE: checksum(own)}
    (to / checkpoint.COMPLETE).write_text(json.dumps(made | {"files": files, "sha256": digests}))


def _books(state: dict[str, Any], lineage: list[Ancestor]) -> dict[str, Any]:
    """What the ledger's first line says of a fork beside other runs' first lines."""
    often = state["curriculum"].get("difficulty", {}).get("often", {})
    books = {
        "version": state["version"],
        "next_ticket": state["next_ticket"],
        "live": state["live"],
        "stages_open": 1 + len(state["curriculum"]["dropped"]),
        "dropped": sorted(prompt_id for prompt_id, share in often.items() if share == 0),
    }
    return {"lineage": as_json(lineage), "books": books}


def _state(before: Config, now: Config, state: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's ``state`` as the new run starts from it."""
    flow, turned = now.flow, {}
    if flow.max_staleness != state["asked_bound"]:
        lifted = {"lowered": 0, "calm": 0}
        turned = {"max_staleness": flow.first_bound, "asked_bound": flow.max_staleness, "guard": lifted}
        state = {key: value for key, value in state.items() if key != "auto_bound"}  # what it knew is of another dial
    elif flow.max_staleness == "auto":
        turned = {"max_staleness": min(state["max_staleness"], flow.staleness_ceiling)}
    return (
        state
        | turned
        | {
            "overflow": flow.overflow,
            "pipeline_depth": flow.pipeline_depth,
            "retries": {"poisoned": {}, "waiting": {}, "taken": {}},
            "refunds": {},
            "tokens_expired": 0,
            "spent_s": 0.0,
            "incarnation": 0,
        }
        | _live(before, now, state, (state | turned)["max_staleness"])
    )


def _live(before: Config, now: Config, state: dict[str, Any], bound: int) -> dict[str, Any]:
    """The live tickets that the new run has places for under its ``bound``, the oldest ones; all of them where it has
    as many places as the other run."""
    from .startup import stages_of

    had = stages_of(before).places(state["version"], state["max_staleness"])
    places = stages_of(now).places(state["version"], bound)
    if all(places.get(stage, 0) >= count for stage, count in had.items()):
        return {}
    kept = {}
    for number, stage in sorted(state["live"].items(), key=lambda live: int(live[0])):
        if places.get(stage, 0) > 0:
            places[stage] -= 1
            kept[number] = stage
    asked = state.get("asked", {})
    return {"live": kept, "asked": {number: asked[number] for number in kept if number in asked}}


def main() -> int:
    """Parse the arguments and fork."""
    parser = argparse.ArgumentParser(prog="leeway fork", description=__doc__)
    parser.add_argument("parent", type=path_of, help="the folder of the run to start from")
    parser.add_argument("--into", type=path_of, required=True, help="the new run's folder, which must not exist yet")
    parser.add_argument("--step", type=int, help="the checkpoint's training steps; the newest checkpoint by default")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="section.key=value")
    arguments = parser.parse_args()

    def made() -> None:
        into = arguments.into
        origin = fork(arguments.parent, into, step=arguments.step, settings=arguments.settings)
        print(f"{into}: from {origin.describe()}; leeway up --run {into} --resume starts it")

    return told("leeway fork", made)


if __name__ == "__main__":
    sys.exit(stoppable(main))
