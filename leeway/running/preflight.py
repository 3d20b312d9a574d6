"""What is checked before anything starts, in seconds and without loading weights: the model folder, the tokenizer, the
rows, and whether this machine can grade them. ``leeway up`` and its ``--dry-run`` check this; each role checks its own
part again."""

import difflib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...common.config import Config, Data, dump, expand
from ...common.errors import ConfigError, DataError
from ...common.ground_truth import CODE, MATH, REASONING_GYM, SOLUTION
from ...common.preflight.folder import has_weights, read_folder
from ...common.preflight.hub import folder_of, is_hub_name
from ...common.preflight.model import check_model, check_reference
from ...common.preflight.tokens import why_no_tokenizer
from ...common.wording import counted
from .elsewhere import refuse_missing_package
from .trackers import refuse_missing

_MISTAKES = {kind.exit_code: kind for kind in (ConfigError, DataError)}
ANSWER_S = 600.0
"""Seconds that a look at the rows may take."""


def preflight(config: Config, *, dry_run: bool) -> list[str]:
    """Sentences on what was found, and on what could not be checked here. ``DataError`` and ``ConfigError`` say what
    cannot work. A dry run asks no hub. It also goes on where the model, its weights or the rows are not on this
    machine, because in a cluster they are where the roles are."""
    if not dry_run:
        refuse_missing(config.metrics.trackers)
        refuse_missing_package(config)
    if not (elsewhere := dry_run and _is_elsewhere(config.model.path)):
        check_model(config, "train", "sample", dry_run=dry_run)
    said = _references(config, dry_run=dry_run)
    if elsewhere or (folder := folder_of(config.model.path)) is None:
        said.append(f"not checked: the model {config.model.path}, which is not on this machine; each role does")
        elsewhere = True
    elif dry_run and not has_weights(folder):
        said.append(f"not checked: the weights of {config.model.path}, which are not on this machine; the learner does")
    return said + _rows(config, dry_run=dry_run, elsewhere=elsewhere)


def _rows(config: Config, *, dry_run: bool, elsewhere: bool) -> list[str]:
    """Check the rows, by the model's tokenizer, and whether this machine can grade them. ``elsewhere``: whether the
    model is not on this machine."""
    for source in config.sources:
        try:
            refuse_missing_source(source)
        except DataError:
            if not dry_run or Path(expand(source.path)).exists():  # a folder is no file anywhere
                raise
            return [f"not checked: the rows: {_not_here(source.path)}; the learner does"]
    if elsewhere or (dry_run and _lacks_its_tokenizer(config.model.path)):
        return ["not checked: the rows, which need the model's tokenizer; the learner does"]
    rows, abilities = rows_of(config)
    return ["checked: the model's folder", *rows, *_grading(config, abilities)]


def rows_of(config: Config) -> tuple[list[str], list[str]]:
    """(sentences on the tokenizer and the rows, the rows' abilities as far as they could be read). ``DataError`` where
    they cannot be used."""
    rows, why = _ask("learner.preflight", config)
    if rows is None:
        return [f"not checked: the tokenizer and the rows ({why}); the learner does"], []
    abilities = {ability for source in rows.get("sources", ()) for ability in source.get("abilities", ())}
    return _told(config, rows), sorted(abilities)


def _grading(config: Config, abilities: list[str]) -> list[str]:
    """A sentence where it could not be looked at whether this machine can grade ``abilities``. ``ConfigError`` where it
    cannot."""
    if not {MATH, SOLUTION}.isdisjoint(abilities) and find_spec("math_verify") is None:
        raise ConfigError(
            "mathematics is judged with Math-Verify, which is not here: pip install 'leeway-rl[verifier]'"
        )
    if not {CODE, REASONING_GYM}.isdisjoint(abilities):
        _, why = _ask("verifier.preflight", config, *abilities)
        return [f"not checked: whether this machine can grade ({why}); the verifier does"] if why else []
    return []


def _references(config: Config, *, dry_run: bool) -> list[str]:
    """Check the models of the KL terms, and say which of them are not on this machine."""
    said = []
    for path in config.references:
        if not (elsewhere := dry_run and _is_elsewhere(path)):
            check_reference(config, path, dry_run=dry_run)
        if path == config.model.path:
            continue
        if elsewhere or (folder := folder_of(path)) is None:
            said.append(f"not checked: the reference {path}, which is not on this machine; the learner does")
        elif dry_run and not has_weights(folder):
            said.append(
                f"not checked: the weights of the reference {path}, which are not on this machine; the learner does"
            )
    return said


def refuse_missing_model(said: str) -> None:
    """``DataError`` where ``model.path`` is no hub name and no model folder."""
    if (path := folder_of(said)) is not None:
        read_folder(path, weights=False)


def refuse_missing_rows(config: Config) -> None:
    """``DataError`` where a file of rows is not there."""
    for source in config.sources:
        refuse_missing_source(source)


def refuse_missing_source(source: Data) -> None:
    """``DataError`` where the file of rows of one source is not there."""
    path = expand(source.path)
    if source.source == "file" and not Path(path).is_file():
        wrong = "a folder; name one file of rows" if Path(path).is_dir() else "no such file"
        key = f"data.{source.name}.path" if source.name else "data.path"
        raise DataError(f"{key} = {source.path!r}: {wrong}: {path}")


def _not_here(said: str) -> str:
    """A sentence saying that a file is not on this machine, with a file beside it of a similar name."""
    path = Path(expand(said))
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, there, n=1)
    return f"{said} is not on this machine" + (f" (there is {close[0]} beside it)" if close else "")


def _is_elsewhere(said: str) -> bool:
    path = folder_of(said)
    return path is not None and not path.exists()


def _lacks_its_tokenizer(said: str) -> bool:
    """Whether the tokenizer is where the weights are: at the hub, or on another machine."""
    path = folder_of(said)
    return path is None or ((is_hub_name(said) or not has_weights(path)) and why_no_tokenizer(path) is not None)


def _ask(module: str, config: Config, *words: str) -> tuple[dict[str, Any] | None, str]:
    """(what a role's own check reports, or None; why it reports nothing). A user's mistake is raised as its own
    error."""
    command = [sys.executable, "-W", "ignore", "-m", f"leeway_rl.{module}", *words]
    try:
        done = subprocess.run(
            command, input=dump(config), capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {ANSWER_S:.0f} s"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode in _MISTAKES:
        raise _MISTAKES[done.returncode](lines[-1])
    if done.returncode:
        return None, lines[-1] if lines else f"exit code {done.returncode}"
    return json.loads(done.stdout or "{}"), ""


def _told(config: Config, rows: dict[str, Any]) -> list[str]:
    said = []
    if not rows.get("template", True):
        said.append("the tokenizer has no chat template: the texts of a row's messages are joined by line ends")
    if "unchecked" in rows:
        return [*said, f"not checked: {rows['unchecked']}"]
    for source, share, found in zip(config.sources, config.shares, rows["sources"], strict=True):
        whose = f"{source.name} (share {share:.4g}): " if source.name else ""
        said += [f"{line.partition(': ')[0]}: {whose}{line.partition(': ')[2]}" for line in _told_of(source, found)]
    return said


def _told_of(source: Data, rows: dict[str, Any]) -> list[str]:
    if "unchecked" in rows:
        return [f"not checked: {rows['unchecked']}"]
    which = ("all " if rows["all"] else "the first ") + counted(rows["rows"], "row")
    abilities = ", ".join(f"{count:,} {ability}" for ability, count in rows["abilities"].items())
    lengths = f"{rows['shortest']:,} to {rows['longest']:,} tokens, data.max_prompt_tokens {source.max_prompt_tokens:,}"
    said = [f"checked: {which}: {abilities}; prompts of {lengths}"]
    return said + [f"dropped: {count:,} of these rows: {reason}" for reason, count in rows["dropped"].items()]
