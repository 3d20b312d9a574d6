"""What the roles read, and what they grade with: the model, the rows, the run's own code, the sandbox."""

import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import closing

from ...common.config import Config
from ...common.errors import ConfigError
from ...common.ground_truth import CODE, REASONING_GYM
from ...common.preflight.hub import folder_of
from ...common.preflight.model import Use, check_model, check_reference
from ...common.sandbox.room import SandboxRoom
from ...common.sandbox.sandbox import bubblewrap
from ..running.own_code import with_digests
from ..running.preflight import refuse_missing_rows, rows_of
from .line import Line, State, mend, note, ok

_USES: dict[str, Use] = {"learner": "train", "rollout": "sample"}
_STATES = {"checked": State.OK, "not checked": State.UNKNOWN}


def model(config: Config, roles: Collection[str]) -> Line:
    """Whether ``roles`` can use the model that is named, and the reference models. ``DataError`` or ``ConfigError``
    where they cannot."""
    check_model(config, *(_USES[role] for role in roles if role in _USES))
    for reference in config.references if "learner" in roles else ():
        check_reference(config, reference)
    said, path = config.model.path, folder_of(config.model.path)
    if path is None:
        return note("model", f"{said} is at the hub, and not yet in this machine's cache: each role downloads it")
    return ok("model", f"{path}: its keys, the headers of its weights and its tokenizer's files")


def rows(config: Config) -> tuple[list[Line], list[str]]:
    """(lines on the tokenizer and the rows, the rows' abilities). ``DataError`` where they cannot be used."""
    refuse_missing_rows(config)
    said, abilities = rows_of(config)
    lines = []
    for sentence in said:
        how, found, rest = sentence.partition(": ")
        state = _STATES.get(how, State.NOTE)
        lines.append(Line("rows", state, rest if found and state is not State.NOTE else sentence))
    return lines, abilities


def own_code(config: Config) -> Iterator[Line]:
    """Whether the run's own rewards and environment can be loaded. ``ConfigError`` where they cannot."""
    found = with_digests(config)
    digests = [found.verifier.rewards_digest, found.environment.digest if found.environment is not None else None]
    if any(digests):
        yield ok("own code", "the run's rewards and environment can be loaded")


def needs_sandbox(config: Config, roles: Collection[str], abilities: Collection[str]) -> bool:
    """Whether ``roles`` run code that a model has written. ``abilities``: those of the rows, as far as they are
    known."""
    tool = config.environment is not None and config.environment.use == "python"
    gym = any(source.source == REASONING_GYM for source in config.sources)
    grades = gym or not {CODE, REASONING_GYM}.isdisjoint(abilities)
    return ("rollout" in roles and tool) or ("verifier" in roles and grades)


def sandbox(config: Config | None, *, needed: bool) -> Line:
    """Whether a sandbox really starts here and runs a job. ``needed``: whether the run cannot do without."""
    if config is not None and config.verifier.allow_unsandboxed:
        return note("sandbox", "verifier.allow_unsandboxed is set: solutions run without any isolation")
    started = time.monotonic()
    try:
        with closing(SandboxRoom(isolated=True)) as room:
            room.sandbox()
        found = f"{_bubblewrap()}: a sandbox starts and runs a job, in {time.monotonic() - started:.1f} s"
        return ok("sandbox", found)
    except ConfigError as error:
        why, _, how = str(error).partition("; grading code needs ")
        how = f"grading code needs {how}" if how else ""
        if needed:
            return mend("sandbox", why, how)
        return note("sandbox", f"{why}; code and problems of reasoning-gym could not be graded here", how)


def _bubblewrap() -> str:
    program = str(bubblewrap())
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return f"{done.stdout.strip() or 'bubblewrap'} ({program})"
