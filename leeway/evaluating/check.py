"""``leeway check``: what a configuration's rewards say of a few rows and responses, before anything is trained.

The rows are graded by the verifier's own command, and the responses are sampled and graded as in ``leeway sample``: by
the workers and the queue of training, with the configuration's own sections.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from ...common.config import Config, Environment, compose, dump, expand
from ...common.errors import DataError, LeewayError
from ...common.gym import gym_rows
from ...common.hub import hub_rows
from ...common.prompts import row_of
from ...common.rewards import ENVIRONMENT
from ...common.rows import raw_rows, under_known_names
from ...common.settings import written
from ...common.stopping import STOPPED
from ...common.texts import flaw, visible
from ...common.wording import counted
from ..running.own_code import with_digests
from ..running.preflight import preflight
from .sampling import Asking, sample

CARRIED = ("model", "data", "rollout", "verifier", "objective", "broker", "environment")
"""Sections of the configuration that sampling takes over."""
WIDE = 60
"""Characters of a prompt or response that are shown."""


def check(preset: list[str], settings: list[str], *, rows: int, responses: int) -> None:
    """Print what is found. Raises as ``leeway up`` does where the configuration cannot work, and ``LeewayError`` where
    a reward fails."""
    config = with_digests(compose(preset, settings))
    for line in preflight(config, dry_run=False):
        typer.echo(line)
    if config.objective.own_loss:
        typer.echo(f"loss: {config.objective.loss}; digest of your code {config.objective.loss_digest}")
    failed = 0
    for source, share in zip(config.sources, config.shares, strict=True):
        if config.source_names:
            typer.echo(f"\nsource {source.name}, {share:.4g} of the tickets")
        failed += _check_source(with_digests(config.alone(source)), rows, responses)
    if failed:
        raise LeewayError(
            f"rewards failed on {counted(failed, 'response')}: such a group is tried again and never trained on"
        )


def _check_source(config: Config, rows: int, responses: int) -> int:
    """Print what is found of the one source of ``config``. Returns on how many responses rewards failed."""
    typer.echo(f"rewards: {_rewards(config)}")
    if config.environment is not None:
        typer.echo(f"environment: {_environment(config.environment)}")
    with _until_it_is_read() as folder:
        few = folder / "rows.jsonl"
        few.write_text("".join(json.dumps(values) + "\n" for values in _first(config, rows)), encoding="utf-8")
        data = config.source.model_copy(update={"source": "file", "path": str(few), "difficulty_model": None})
        config = config.model_copy(update={"data": data})
        # What fails is known at once, and a function that hangs is not waited for again.
        config = config.model_copy(update={"broker": config.broker.model_copy(update={"max_attempts": 1})})
        failed = 0
        if not any(reward.use == ENVIRONMENT for reward in config.rewards):  # it rewards what is said to it alone
            graded = trial(config, rows)
            failed = _show_graded(graded)
            if failed and failed == sum(len(row["graded"]) for row in graded):
                typer.echo("\nno response is sampled before the rewards work: each line marked error says why not")
                return failed
        groups = sampled(config, few, folder / "sampled", responses)
    failed += _show_sampled(groups)
    typer.echo(step_of(config, groups))
    return failed


@contextmanager
def _until_it_is_read() -> Iterator[Path]:
    """A temporary folder. It stays where a ``LeewayError`` ends the check, because this may name a log in it."""
    folder, kept = Path(tempfile.mkdtemp(prefix="leeway-check-")), False
    try:
        yield folder
    except LeewayError:
        kept = True
        raise
    finally:
        if not kept:
            shutil.rmtree(folder)


def _rewards(config: Config) -> str:
    each = [f"{reward.called} (times {reward.weight:g}): {reward.use}" for reward in config.rewards]
    code = f"; digest of your code {config.verifier.rewards_digest}" if config.verifier.rewards_digest else ""
    return ("; ".join(each) or "each row's ability judges it") + code


def _environment(environment: Environment) -> str:
    code = f"; digest of your code {environment.digest}" if environment.digest else ""
    return f"{environment.use}, at most {counted(environment.max_turns, 'turn')}{code}"


def _first(config: Config, most: int) -> Iterator[dict[str, Any]]:
    """The first rows, without what JSON cannot hold: a row that is to give such a column to somebody is refused."""
    data = config.source
    match data.source:
        case "file":
            found = raw_rows(Path(expand(data.path)))
        case "hub":
            found = _published(config)
        case "reasoning_gym":
            found = gym_rows(data.path, seed=config.flow.seed, size=min(most, data.size), options=data.options)
    for _, values in islice(found, most):
        if isinstance(values, DataError):
            raise values
        yield {name: value for name, value in values.items() if flaw(value) is None}


def _published(config: Config) -> Iterator[tuple[int, Any]]:
    """Rows of a set of the hub that training can use. Nobody else has looked at them before the learner."""
    data, whole = config.source, config.environment is not None
    for number, values in hub_rows(data.path, split=data.split, streaming=True):
        where = f"{data.path} row {number}"
        row_of(under_known_names(values, data.columns, where), where, where, data, config.rewards, whole=whole)
        yield number, values


def trial(config: Config, rows: int) -> list[dict[str, Any]]:
    """Made-up responses to the first rows with their verdicts, as the verifier's ``trial`` prints them."""
    command = [sys.executable, "-m", "leeway_rl.verifier.rewards.trial", str(rows)]
    done = subprocess.run(command, input=dump(config), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LeewayError(f"grading the rows ended with code {done.returncode}; the lines above say why")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _show_graded(found: list[dict[str, Any]]) -> int:
    """Print what made-up responses get; how many are errors."""
    failed = 0
    typer.echo("\neach row's own answer in a box, and an empty response:")
    for number, row in enumerate(found, start=1):
        typer.echo(f"  row {number}: {_short(row['prompt'])}")
        for each in row["graded"]:
            failed += each["reward"] is None
            what = _short(each["response"]) or "(empty)"
            typer.echo(f"    {_number(each['reward'])}  {what}  {each['verdict']}{_because(each['reason'])}")
    return failed


def sampled(config: Config, problems: Path, out: Path, responses: int) -> list[list[dict[str, Any]]]:
    """Responses of the untrained model to each row, as in ``responses.parquet``."""
    import pyarrow.parquet as pq

    passed = config.model_dump(mode="json", include=set(CARRIED), exclude_defaults=True)
    taken = {"model": {"path"}, "data": {"path", "max_prompt_tokens"}}  # sampling has its own words for these
    texts = [
        written(f"{section}.{key}", value)
        for section, keys in passed.items()
        for key, value in keys.items()
        if key not in taken.get(section, ())
    ]
    rewards = [reward.model_dump(mode="json", exclude_none=True) for reward in config.rewards]
    asking = Asking(
        engine=None,
        temperature=config.flow.temperature,
        top_p=1.0,
        max_tokens=config.source.longest_response(config.train.max_response_tokens),
        max_prompt_tokens=config.source.max_prompt_tokens,
        seed=config.flow.seed,
        workers=1,
        redis_url=None,
        run=None,
        settings=(*texts, *([written("rewards", rewards)] if rewards else []), f"weights.dtype={config.weights.dtype}"),
    )
    typer.echo(f"\n{counted(responses, 'response')} to each row, by the model as it is:")
    try:
        sample(problems, config.model.path, out, responses, asking)
    except SystemExit as ended:
        if ended.code == STOPPED:
            raise
        raise LeewayError(
            f"sampling ended with code {ended.code}; what its workers said is in {out / 'logs'}"
        ) from None
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(out / "responses.parquet").to_pylist():
        groups.setdefault(row["id"], []).append(row)
    return [groups[key] for key in sorted(groups, key=lambda key: int(key.rpartition(":")[2]))]


def _show_sampled(groups: list[list[dict[str, Any]]]) -> int:
    failed = 0
    for number, group in enumerate(groups, start=1):
        typer.echo(f"  row {number}")
        for row in group:
            failed += row["reward"] is None
            cut = "" if row["finished"] else ", truncated"
            for said in json.loads(row["conversation"] or "[]")[:-1]:  # the last turn is what is graded
                typer.echo(f"            {said['by']}: {_short(said['text'])}")
            typer.echo(
                f"    {_number(row['reward'])}  {_short(row['response'])}  {row['tokens']} tokens{cut}; "
                f"{row['verdict']}{_because(row['reason'])}"
            )
    return failed


def step_of(config: Config, groups: list[list[dict[str, Any]]]) -> str:
    """In words, what a training step would look like, by the groups that were sampled."""
    rewards = [[row["reward"] for row in group if row["reward"] is not None] for group in groups]
    tokens = [row["tokens"] for group in groups for row in group]
    known = [each for each in rewards if each]
    signal = sum(max(each) - min(each) > config.objective.least_spread for each in known)
    per_step, size = config.train.groups_per_step, config.train.group_size
    mean = sum(tokens) / len(tokens) if tokens else 0.0
    flat = [reward for each in known for reward in each]
    solved = sum(reward >= config.verifier.solved_at for reward in flat) / max(1, len(flat))
    lines = [
        f"\na step: {counted(per_step, 'prompt')}, {counted(size, 'response')} each, "
        f"about {per_step * size * mean:,.0f} tokens",
        f"  reward {sum(flat) / len(flat):.3f} a response, from {min(flat):g} to {max(flat):g}; {solved:.0%} solved "
        f"(at least {config.verifier.solved_at:g})"
        if flat
        else "  no response got a reward",
        f"  {signal} of {len(known)} groups have a signal: their rewards differ by more than "
        f"{config.objective.least_spread:g}; the others are refunded and replaced",
    ]
    if groups and not flat:
        lines.append("  nothing can be said of learning before the rewards work: each line marked error says why not")
    elif not signal:
        lines.append("  nothing could be learnt here: no two responses to one prompt got different rewards")
    return "\n".join(lines)


def _number(reward: float | None) -> str:
    return " error" if reward is None else f"{reward:6.3f}"


def _because(reason: str) -> str:
    return f" ({visible(reason)})" if reason else ""


def _short(text: str) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= WIDE else f"{line[: WIDE - 1]}…"
