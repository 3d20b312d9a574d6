"""``leeway eval``: benchmarks on a model, on a run's checkpoint, or beside a running training. It starts the commands
of the evaluation wing one after the other, which meet in files, and shows what they leave: a table, ``eval.json``,
``eval.png``."""

import json
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from ...common import address, tables
from ...common.config import Config, compose, config_in, expand, parse
from ...common.errors import ConfigError, DataError
from ...common.files import write_whole
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue
from ...common.settings import read, written
from ..reporting import page
from ..running.preflight import refuse_missing_model
from .sampling import Asking, begin, configuration, held, refuse_model, work

PARTIAL = 11  # exit code of evaluation.prepare: something could not be used, the rest is there


def evaluate(
    benchmarks: list[str], model: str, step: int | None, out: Path, prepare: list[str], asking: Asking
) -> None:
    """Evaluate a model folder, or the checkpoint of a run's folder. Exits with 3 where something could not be used; the
    rest is evaluated all the same."""
    asking, prepare = columns_to_prepare(asking, prepare)
    with held(out) as lock:
        begin(out, asking)
        asking, model = exported_run(model, step, out, asking)
        config, words, missing = _ready("sample", benchmarks, model, out, prepare, asking)
        code = work("sample", config, out, asking, words, lock)
        _run("score", "--out", str(out))
        show(out)
    raise SystemExit(code or missing)


def follow(
    benchmarks: list[str], run: str, run_url: str, every: int, out: Path, prepare: list[str], asking: Asking
) -> None:
    """Evaluate versions of a running training as they come; exits as ``evaluate`` does."""
    with closing(DeskQueue(Connection(run_url, run))) as queue:
        theirs = parse(queue.load_config(), f"configuration of {run}")
    asking, prepare = columns_to_prepare(asking, prepare)
    asking = replace(asking, settings=(*asked_as(theirs), *asking.settings))
    with held(out) as lock:
        begin(out, asking)
        config, words, missing = _ready("follow", benchmarks, theirs.model.path, out, prepare, asking)
        address.keep(run_url, out / "run-redis-url")
        try:
            words += ["--of", run, "--of-url", f"@{out / 'run-redis-url'}", "--every", str(every)]
            code = work("follow", config, out, asking, words, lock)
        finally:
            (out / "run-redis-url").unlink()
        for folder in sorted((out / "versions").iterdir()):
            draw(folder)
    raise SystemExit(code or missing)


def columns_to_prepare(asking: Asking, prepare: list[str]) -> tuple[Asking, list[str]]:
    """Move ``--set data.columns`` from the configuration to the arguments of ``evaluation.prepare``: it says what
    columns the files have, and the problems made of them have our names."""
    kept, columns = list[str](), dict[str, Any]()
    for text in asking.settings:
        said = read(text).get("data")
        if not isinstance(said, dict) or "columns" not in said:
            kept.append(text)
            continue
        compose(["tiny"], [text])  # raises an error that names what is wrong
        columns |= said["columns"]
    words = ["--columns", json.dumps(columns)] if columns else []
    return replace(asking, settings=tuple(kept)), [*prepare, *words]


def _ready(
    module: str, benchmarks: list[str], model: str, out: Path, prepare: list[str], asking: Asking
) -> tuple[Config, list[str], int]:
    """Write the problems, unless they are there, and refuse a model that cannot be used. Returns (configuration for the
    workers, arguments for the collector, exit code: 3 where some of the problems could not be used)."""
    refuse_missing_model(model)
    _forget_what_was_never_asked(out)
    code = _run("prepare", *benchmarks, "--out", str(out), *prepare, keep=(0, PARTIAL))
    responses = most_responses(out)
    config = configuration(out / "problems.jsonl", model, out, responses, asking)
    refuse_model(module, config, asking)
    words = ["--responses", str(responses), "--top-p", str(asking.top_p)]
    return config, words, DataError.exit_code if code == PARTIAL else 0


def _forget_what_was_never_asked(out: Path) -> None:
    """Remove the problems of a command that was refused before it asked a model anything: the mended one may ask
    others."""
    if not (out / "sample.json").exists() and not (out / "versions").exists():
        for name in ("benchmarks.json", "problems.jsonl"):
            (out / name).unlink(missing_ok=True)


def regrade(out: Path, settings: tuple[str, ...], *, anew: bool) -> None:
    """Grade a folder's kept responses again where their golds or the verifier have changed, or all of them with
    ``anew``, and score them. ``settings`` are ``section.key=value`` texts of the section verifier."""
    said: dict[str, Any] = {}
    for text in settings:
        values = read(text)
        if values.keys() != {"verifier"}:
            raise ConfigError(f"--set {text}: grading anew takes keys of verifier alone")
        said |= values["verifier"]
    compose(["tiny"], list(settings))  # raises an error that names what is wrong
    with held(out):
        _run("regrade", "--out", str(out), "--settings", json.dumps(said), *(["--anew"] if anew else []))
        if (out / "benchmarks.json").exists():
            _run("score", "--out", str(out))
            show(out)


_WRAPS = ("system", "examples", "suffix", "ability", "comparison")
"""Keys of a source that say how its prompts are wrapped and judged."""


def asked_as(theirs: Config) -> list[str]:
    """``section.key=value`` texts by which prompts are wrapped, and the model computed with, as in the run
    ``theirs``. What its sources of prompts do not agree on is left to its default, with a word on it."""
    data, rollout = {key: [getattr(source, key) for source in theirs.sources] for key in _WRAPS}, theirs.rollout
    for key, found in data.items():
        if any(value != found[0] for value in found):
            said = ", ".join(f"{name} {value!r}" for name, value in zip(theirs.source_names, found, strict=True))
            typer.echo(
                f"data.{key} is not the run's: its sources differ ({said}); --set data.{key}=… chooses", err=True
            )
            found[:] = [None]
    if theirs.environment is not None:
        typer.echo(
            f"the run's environment ({theirs.environment.use}) is left out: each problem is answered in one turn; "
            "--set environment.use=… has one answer its turns",
            err=True,
        )
    kept: dict[str, Any] = {
        **{f"data.{key}": None if found[0] == () else found[0] for key, found in data.items()},
        "weights.dtype": theirs.weights.dtype,
        "rollout.engine": rollout.engine,
        "rollout.dtype": rollout.dtype,
    }
    return [written(key, value) for key, value in kept.items() if value is not None]


def most_responses(out: Path) -> int:
    """The most responses that any of the folder's problems asks for."""
    with (out / "problems.jsonl").open(encoding="utf-8") as lines:
        return max(json.loads(line)["responses"] for line in lines)


def exported_run(named: str, step: int | None, out: Path, asking: Asking) -> tuple[Asking, str]:
    """Export a run's checkpoint into a model folder, where a run is named. Returns (how the model is asked, its
    path)."""
    model = Path(expand(named))
    if not (model / "checkpoints").is_dir():
        if step is not None:
            raise ConfigError(f"--step {step}: {model} is no run's folder, which has checkpoints")
        return asking, named
    theirs = config_in(model / "config.toml")
    exported = out / "model"
    if exported.exists():
        _refuse_another_export(exported, model, step, out)
    else:
        words = [model.name, "--out", str(exported), "--runs-dir", str(model.parent)]
        _run_module("learner.export", *words, *(["--step", str(step)] if step is not None else []))
    return replace(asking, settings=(*asked_as(theirs), *asking.settings)), str(exported)


def _refuse_another_export(exported: Path, run: Path, step: int | None, out: Path) -> None:
    """``ConfigError`` where the checkpoint that was exported for ``out`` is not the one that is asked for now."""
    card = exported / "README.md"
    title = re.search(r"^# (.*), step (\d+)$", card.read_text(encoding="utf-8") if card.exists() else "", re.MULTILINE)
    if title is None:
        raise ConfigError(f"{exported}: no model that leeway export wrote; name another --out")
    whose, made = title[1], int(title[2])
    steps = [int(path.name[5:]) for path in (run / "checkpoints").glob("step-*") if path.name[5:].isdecimal()]
    wanted = max(steps, default=made) if step is None else step
    if (whose, made) == (run.resolve().name, wanted) or (whose, made) == (run.name, wanted):
        return
    newest = f"whose newest checkpoint is step {wanted} now" if step is None else f"and --step is {wanted}"
    again = f"--model {run} --step {made} goes on with it; " if whose == run.name and made in steps else ""
    raise ConfigError(
        f"{out} was begun with step {made} of run {whose}, and --model is run {run.name}, {newest}; {again}name "
        "another --out, or begin this one anew with --anew, which deletes what it has"
    )


def _run(module: str, *words: str, keep: tuple[int, ...] = (0,)) -> int:
    return _run_module(f"evaluation.{module}", *words, keep=keep)


def _run_module(module: str, *words: str, keep: tuple[int, ...] = (0,)) -> int:
    sys.stdout.flush()
    code = subprocess.run([sys.executable, "-m", f"leeway_rl.{module}", *words], check=False).returncode
    if code not in keep:
        raise SystemExit(code)
    return code


def show(out: Path) -> None:
    """Print the table and write the picture."""
    result = json.loads((out / "eval.json").read_text(encoding="utf-8"))
    tables.show(table(result))
    for why in result["missing"].values():
        typer.echo(f"not there: {why}", err=True)
    draw(out)
    typer.echo(f"{out / 'eval.json'}, {out / 'eval.png'}")


def draw(out: Path) -> None:
    """Write ``eval.png`` from ``eval.json``."""
    with page.report_extra():
        from ..reporting.evaluation_pictures import of_one

        result = json.loads((out / "eval.json").read_text(encoding="utf-8"))
        run = result["asked"].get("run")
        name = out.name if run is None else f"{run}, version {result['version']}"
        write_whole(out / "eval.png", of_one(name, result))


def table(result: dict[str, Any]) -> Table:
    """The table for a screen, one row a benchmark."""
    heads = ("benchmark", "problems", "n", "avg@n [95 %]", "pass@k [95 %]", "tokens", "truncated", "no answer")
    shown = tables.table(heads, right={1, 2, 5, 6, 7})
    for name, each in result["benchmarks"].items():
        if "avg_at_n" not in each:
            shown.add_row(name, str(each["problems"]), "–", "nothing is graded", *[""] * 4)
            continue
        k = max(each["pass_at_k"], key=int)
        ungraded = f" ({each['ungraded']} ungraded)" if each["ungraded"] else ""
        shown.add_row(
            name,
            f"{each['problems']}{ungraded}",
            str(each["n"]),
            interval(each["avg_at_n"]),
            f"@{k} {interval(each['pass_at_k'][k])}",
            f"{each['tokens_mean']:,.0f}",
            f"{100 * each['truncated_share']:.1f} %",
            f"{100 * each['no_answer_share']:.1f} %",
        )
    return shown


def interval(estimate: dict[str, float]) -> str:
    """An estimate as ``0.512 [0.450, 0.574]``."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
