"""The ``leeway`` command. Only argument parsing here; every command's work is in the module it names, imported late so
that ``--help`` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..common import address
from ..common.files import path_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Asynchronous RL post-training with a staleness bound you can turn. Start with: leeway up --preset tiny",
)
prove_app = typer.Typer(no_args_is_help=True, help="Prove a promise by running it.")
app.add_typer(prove_app, name="prove")
letters_app = typer.Typer(no_args_is_help=True, help="What could not be used, and why; and asking for it again.")
app.add_typer(letters_app, name="dead-letters")


Presets = Annotated[
    list[str] | None,
    typer.Option("--preset", help="Preset name or .toml file; give several to compose them, later ones win."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="section.key=value, after the presets. A text stands as it is, or in TOML's quotes: "
        "'data.suffix=\"\\nSo?\"'. Keys: leeway config.",
    ),
]
RunId = Annotated[str, typer.Option("--run", help="The run's id.")]
AnyRun = Annotated[str | None, typer.Option("--run", help="The run's id; the newest under --runs-dir by default.")]
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", envvar=address.VARIABLE, show_envvar=False, help=address.HELP),
]
Engine = Annotated[str, typer.Option("--engine", help="vllm, or torch for small models.")]
Temperature = Annotated[float, typer.Option("--temperature", help="Sampling temperature τ.")]
TopP = Annotated[
    float, typer.Option("--top-p", help="Sample from the likeliest tokens of this share.", min=1e-6, max=1)
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", help="Longest response.", min=1)]
MaxPromptTokens = Annotated[int, typer.Option("--max-prompt-tokens", help="Longer prompts are named and left.", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="With a problem's row it decides its responses.", min=0)]
Workers = Annotated[int, typer.Option("--workers", help="Rollout workers here; 0: only those you start.", min=0)]
QueueId = Annotated[
    str | None, typer.Option("--run", help="Name of the queue: leeway rollout and verifier join it by --run.")
]
RunsDir = Annotated[
    Path, typer.Option("--runs-dir", help="Where runs/ID/ folders are.", parser=path_of, metavar="PATH")
]


@app.command()
def up(
    run: Annotated[str | None, typer.Option("--run", help="The run's id; preset and time by default.")] = None,
    preset: Presets = None,
    settings: Settings = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the configuration, its tokens, memory and processes.")
    ] = False,
) -> None:
    """Run everything on this machine: server, learner, rollout and verifier workers, with a live view."""
    from . import up as desk

    server = address.resolve(redis_url) if redis_url else None  # none given: the run brings its own
    desk.up(run, preset or [], settings or [], server, runs_dir, resume=resume, dry_run=dry_run)


@app.command()
def create(run: RunId, preset: Presets = None, settings: Settings = None, redis_url: RedisUrl = None) -> None:
    """Store a run's configuration in Redis, for roles on cluster nodes to find."""
    from . import up as desk

    desk.create(run, preset or [], settings or [], address.resolve(redis_url))


@app.command()
def rollout(run: RunId, redis_url: RedisUrl = None) -> None:
    """One rollout worker: takes prompts, generates responses. Start as many as you like, anywhere, at any time."""
    _become("rollout", run, redis_url)


@app.command()
def verifier(run: RunId, redis_url: RedisUrl = None) -> None:
    """One verifier worker: takes responses, gives verdicts. Start as many as you like, anywhere, at any time."""
    _become("verifier", run, redis_url)


@app.command()
def learner(
    run: RunId,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
    preset: Presets = None,
    settings: Settings = None,
) -> None:
    """The learner: issues, trains, publishes, checkpoints; goes on from its newest checkpoint if there is one.

    With --preset it creates the run first. For several ranks: leeway create, then
    torchrun --nproc-per-node N -m -- leeway_rl.learner --run ID --redis-url URL.
    """
    if preset or settings:
        from . import up as desk

        desk.create(run, preset or [], settings or [], address.resolve(redis_url), same_is_fine=True)
    _become("learner", run, redis_url, "--runs-dir", str(runs_dir))


@app.command()
def status(
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Who waits for whom, and since when. Exit code 0: the run moves or is done; 8: it is stalled; 10: an alarm."""
    from ..common.ledger import is_complete
    from . import status as desk

    url, name = _found(run, redis_url, runs_dir)
    if redis_url is None and is_complete(runs_dir / name):  # its embedded server has left with it
        typer.echo(f"run {name} is finished; its report is {runs_dir / name / 'report.html'}")
        return
    raise typer.Exit(desk.show(url, name, as_json=as_json))


@app.command()
def verify(
    rows: Annotated[
        Path,
        typer.Argument(metavar="IN.jsonl", help="A row: id, response, and answer, tests or entry.", parser=path_of),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Verdicts, a line a row, in the same order.", parser=path_of, metavar="PATH")
    ],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Grading processes; as many as there are cores by default.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.1, help="Seconds one row may be graded for.")] = 10.0,
    mathematics: Annotated[
        str,
        typer.Option("--math", help="rules: exact rules before Math-Verify; report: Math-Verify alone (report 7.1)."),
    ] = "rules",
) -> None:
    """Grade a file of responses. The same command again goes on where it stopped.

    A row has answer (mathematics, or "ability": "exact"), tests (code) or entry (reasoning-gym).

    Exit code 3: rows that could not be read, each reported by its line; 1: rows that the verifier failed on.
    """
    words = [str(rows), "--out", str(out), "--timeout-s", str(timeout_s), "--math", mathematics]
    _exec("verifier.offline", *words, *(["--jobs", str(jobs)] if jobs else []))


@app.command()
def sample(
    problems: Annotated[
        Path,
        typer.Argument(
            help="JSONL, JSON, CSV or Parquet; a row: id, prompt, and answer, tests or entry.",
            parser=path_of,
            metavar="PROBLEMS",
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="Folder in Hugging Face layout, or a hub name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for responses.parquet.", parser=path_of, metavar="PATH")],
    responses: Annotated[int, typer.Option("--responses", help="Responses a problem.", min=1)] = 1,
    engine: Engine = "vllm",
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_tokens: MaxTokens = 32768,
    max_prompt_tokens: MaxPromptTokens = 2048,
    seed: Seed = 0,
    workers: Workers = 1,
    redis_url: RedisUrl = None,
    run: QueueId = None,
    settings: Settings = None,
) -> None:
    """Sample graded responses to every problem of a file. The same command again goes on where it stopped.

    Exit code 3: rows that could not be used, each named; 1: problems that no response could be had for.
    """
    from . import sampling as desk

    server = address.resolve(redis_url) if redis_url else None
    asking = desk.Asking(
        engine=engine,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        max_prompt_tokens=max_prompt_tokens,
        seed=seed,
        workers=workers,
        redis_url=server,
        run=run,
        settings=tuple(settings or ()),
    )
    desk.sample(problems, model, out, responses, asking)


@app.command("eval")
def evaluate(
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BENCH... | compare A B",
            help="aime24, aime25, humaneval, livecodebench, each also as NAME=PATH or NAME=HUB-NAME; "
            "reasoning-gym:GENERATOR; or a file in the training schema. compare: two evaluations' folders.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Folder in Hugging Face layout, a hub name, or a run's: runs/ID.")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Of a run's checkpoints; the newest by default.")] = None,
    follow: Annotated[str | None, typer.Option("--follow", help="A run's id: evaluate it while it trains.")] = None,
    every: Annotated[int, typer.Option("--every", help="With --follow: versions from one to the next.", min=1)] = 20,
    regrade: Annotated[
        Path | None,
        typer.Option("--regrade", help="Grade a folder's kept responses anew.", parser=path_of, metavar="PATH"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; with --follow runs/ID/evaluations/follow.", parser=path_of, metavar="PATH"),
    ] = None,
    responses: Annotated[int | None, typer.Option("--responses", help="n; each benchmark's own by default.")] = None,
    release: Annotated[str, typer.Option("--release", help="LiveCodeBench's release.")] = "release_v5",
    since: Annotated[str, typer.Option("--since", help="First day of its contests.")] = "2024-08-01",
    until: Annotated[str, typer.Option("--until", help="Last day of its contests.")] = "2025-02-01",
    size: Annotated[int, typer.Option("--size", help="Problems of a reasoning-gym generator.", min=1)] = 100,
    engine: Annotated[str | None, typer.Option("--engine", help="vllm, or torch; a run's own by default.")] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_tokens: MaxTokens = 32768,
    max_prompt_tokens: MaxPromptTokens = 2048,
    seed: Seed = 0,
    workers: Workers = 1,
    redis_url: RedisUrl = None,
    run: QueueId = None,
    settings: Settings = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="compare: for machines.")] = False,
) -> None:
    """avg@n and pass@k of a model, of a run's checkpoint, or of a run while it trains. Goes on where it was stopped.

    Exit code 3: a benchmark or rows that could not be used, each named; the others are done.
    """
    from ..common.errors import ConfigError
    from . import evaluate as desk
    from .sampling import Asking

    words = benchmarks or []
    if words[:1] == ["compare"]:
        if len(words) != 3:
            raise ConfigError("leeway eval compare A B: two evaluations' folders are due")
        _exec("evaluation.compare", *words[1:], *(["--json"] if as_json else []))
    if regrade is not None:
        desk.regrade(regrade)
        return
    if not words or (model is None) == (follow is None) or (out is None and follow is None):
        raise ConfigError(
            "leeway eval BENCH... --model FOLDER --out OUT, BENCH... --follow RUN, compare A B, or --regrade OUT"
        )
    url = address.resolve(redis_url) if redis_url else None
    asking = Asking(
        engine=engine,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        max_prompt_tokens=max_prompt_tokens,
        seed=seed,
        workers=workers,
        redis_url=None if follow else url,
        run=run,
        settings=tuple(settings or ()),
    )
    prepare = ["--release", release, "--since", since, "--until", until, "--size", str(size), "--seed", str(seed)]
    prepare += ["--responses", str(responses)] if responses is not None else []
    if follow is None:
        assert model is not None
        assert out is not None
        desk.evaluate(words, model, step, out, prepare, asking)
    else:
        theirs, name = _found(follow, redis_url, runs_dir)
        desk.follow(words, name, theirs, every, out or runs_dir / name / "evaluations" / "follow", prepare, asking)


@app.command("set")
def set_control(
    name: Annotated[str, typer.Argument(help="max-staleness, overflow, pipeline-depth or target-entropy.")],
    value: Annotated[str, typer.Argument(help="The new value.")],
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Turn a live control of a running run; it holds from the next admission and stands in the ledger."""
    from . import controls

    controls.turn(*_found(run, redis_url, runs_dir), name, value)


@app.command()
def pause(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = Path("runs")) -> None:
    """Issue no further tickets; what is live goes on."""
    from . import controls

    controls.turn(*_found(run, redis_url, runs_dir), "paused", "1")


@app.command()
def resume(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = Path("runs")) -> None:
    """Issue tickets again after a pause."""
    from . import controls

    controls.turn(*_found(run, redis_url, runs_dir), "paused", "0")


@app.command()
def audit(
    run: Annotated[str, typer.Argument(help="The run's id, or the path of a ledger.jsonl.")],
    runs_dir: RunsDir = Path("runs"),
    unfinished: Annotated[bool, typer.Option("--unfinished", help="The run is still going, or was killed.")] = False,
) -> None:
    """Prove from the ledger alone: no group trained twice, none unaccounted for, the bound held."""
    from . import audit as desk

    typer.echo(desk.audit(_ledger_path(run, runs_dir), unfinished=unfinished).describe())


@app.command()
def report(run: Annotated[str, typer.Argument(help="The run's id.")], runs_dir: RunsDir = Path("runs")) -> None:
    """Write report.html and report.png from the run's folder, finished or not."""
    from .report import write_report

    typer.echo(str(write_report(runs_dir / run)))


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder to write; empty or not there yet.", parser=path_of, metavar="PATH")
    ],
    step: Annotated[
        int | None, typer.Option("--step", help="Training steps made; the newest checkpoint by default.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16 or float32; the base model's by default.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write a checkpoint as a Hugging Face folder with a model card, for from_pretrained and vllm serve."""
    words = [run, "--out", str(out), "--runs-dir", str(runs_dir)]
    words += ["--step", str(step)] if step is not None else []
    words += ["--dtype", dtype] if dtype is not None else []
    _exec("learner.export", *words)


@app.command()
def plan(
    run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="A run's folder, runs/ID: start from what was measured there.",
            parser=path_of,
            metavar="PATH",
        ),
    ] = None,
    lengths: Annotated[
        Path | None,
        typer.Option(
            help="Response lengths: a file with one a line, or a ledger.jsonl.", parser=path_of, metavar="PATH"
        ),
    ] = None,
    length_mean: Annotated[float, typer.Option(help="Mean of lognormal lengths, tokens.", min=1)] = 6000,
    length_sigma: Annotated[float, typer.Option(help="Their sigma.", min=0)] = 0.6,
    length_max: Annotated[int, typer.Option(help="The longest, tokens.", min=1)] = 16384,
    group_size: Annotated[int, typer.Option(help="G, responses a group.", min=1)] = 16,
    groups_per_step: Annotated[int | None, typer.Option(help="B. (256)", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps to simulate. (100)", min=1)] = None,
    max_staleness: Annotated[str, typer.Option(help="Bounds, with commas: a row for each. (1)")] = "",
    overflow: Annotated[str, typer.Option(help="Policies, with commas: a row for each. (wait)")] = "",
    pipeline_depth: Annotated[str | None, typer.Option(help="auto, or groups live at most. (auto)")] = None,
    replicas: Annotated[int | None, typer.Option(help="Rollout workers. (32)", min=1)] = None,
    concurrency: Annotated[int | None, typer.Option(help="Groups a worker generates side by side. (8)", min=1)] = None,
    alone: Annotated[float | None, typer.Option(help="Tokens/s of one response alone in a worker. (50)")] = None,
    peak: Annotated[
        float | None, typer.Option(help="Tokens/s of a worker under full load; inf: no limit. (2000)")
    ] = None,
    in_flight: Annotated[
        bool | None, typer.Option("--in-flight/--whole", help="New weights in the middle of a response? (in flight)")
    ] = None,
    pause_s: Annotated[float | None, typer.Option(help="A worker's pause at a new version. (0)", min=0)] = None,
    verify_s: Annotated[float | None, typer.Option(help="Grading a group. (0)", min=0)] = None,
    graders: Annotated[int | None, typer.Option(help="Groups graded side by side; 0: all. (0)", min=0)] = None,
    train_s: Annotated[float | None, typer.Option(help="A training step beside its tokens. (1)", min=0)] = None,
    train_tokens_per_s: Annotated[float | None, typer.Option(help="Of the learner. (inf)", min=1)] = None,
    publish_s: Annotated[float | None, typer.Option(help="Publishing a version. (0)", min=0)] = None,
    rejected: Annotated[float | None, typer.Option(help="Share of groups without a signal. (0)")] = None,
    seed: Annotated[int | None, typer.Option(help="Of lengths and rejections. (0)", min=0)] = None,
    gpus: Annotated[int | None, typer.Option(help="Find the best split of so many GPUs.", min=2)] = None,
    gpus_per_replica: Annotated[int, typer.Option(help="GPUs of a rollout worker.", min=1)] = 1,
    learner_gpus: Annotated[int, typer.Option(help="GPUs for which the learner's times are stated.", min=1)] = 1,
    fit: Annotated[
        str | None, typer.Option(help="GPUs:seconds, two or more with commas: rollout times to fit a worker to.")
    ] = None,
    predict: Annotated[str, typer.Option(help="With --fit: numbers of GPUs, with commas.")] = "",
    responses: Annotated[int, typer.Option(help="With --fit: responses of a rollout.", min=1)] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Simulate a system on a virtual clock: steps an hour, staleness, idle shares, waste, length bias, memory.

    Admission, the bound and pacing are the learner's own code. A worker with n responses takes 1/alone + (n-1)/peak
    seconds for a token of each. In parentheses: what holds where neither the option nor --from says anything.
    """
    from . import plan as desk

    drawn = (length_mean, length_sigma, length_max)
    if fit is not None:
        typer.echo(desk.fit(fit, predict, responses, drawn, as_json=as_json))
        return
    said = {
        "groups_per_step": groups_per_step,
        "steps": steps,
        "pipeline_depth": None if pipeline_depth is None else desk.depth(pipeline_depth),
        "replicas": replicas,
        "concurrency": concurrency,
        "alone": alone,
        "peak": peak,
        "in_flight": in_flight,
        "pause_s": pause_s,
        "verify_s": verify_s,
        "graders": graders,
        "train_s": train_s,
        "train_s_per_token": None if train_tokens_per_s is None else 1 / train_tokens_per_s,
        "publish_s": publish_s,
        "rejected": rejected,
        "seed": seed,
    }
    text = desk.plan(
        run=run,
        lengths=lengths,
        drawn=drawn,
        group_size=group_size,
        bounds=max_staleness,
        policies=overflow,
        gpus=None if gpus is None else (gpus, gpus_per_replica, learner_gpus),
        as_json=as_json,
        given={name: value for name, value in said.items() if value is not None},
    )
    typer.echo(text)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def data(context: typer.Context) -> None:
    """Prepare training rows: sources, steps, difficulty, judges, funnel, card. See: leeway data --help"""
    _exec("data", *context.args)


@app.command()
def sweep(
    preset: Presets = None,
    settings: Settings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="section.key=v1,v2,v3; give several for all their combinations."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of every setting, with flow.seed 0, 1, … (3)", min=1)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The sweep's folder; runs/sweep-PRESET by default.", parser=path_of, metavar="PATH"),
    ] = None,
    redis_url: RedisUrl = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; write the report of what is finished.")
    ] = False,
) -> None:
    """Run every combination of some keys' values with several seeds, one after the other, and compare them.

    The same command again, or --out alone, goes on where it stopped. Exit code 7: points failed.
    """
    from . import sweep as desk

    desk.sweep(preset or [], settings or [], grid or [], seeds, out, redis_url, report_only=report_only)


@app.command()
def study(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Studies, as --list has them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every study, and the table of all verdicts.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Name the studies and what each asks.")] = False,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds, with commas; three or more give an interval. Each study's own by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps a run; 50 by default.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pages.", parser=path_of, metavar="PATH")] = Path(
        "docs/studies"
    ),
    runs_dir: Annotated[
        Path, typer.Option("--runs-dir", help="Folder of the runs' CSV files.", parser=path_of, metavar="PATH")
    ] = Path("runs/studies"),
    jobs: Annotated[int | None, typer.Option(help="Runs side by side; a core each by default.", min=1)] = None,
) -> None:
    """The report's ablations at toy scale, and staleness: run, judge, write the pages. Goes on where it was stopped."""
    words = [*(names or []), *(["--seeds", seeds] if seeds else []), "--out", str(out), "--runs-dir", str(runs_dir)]
    words += ["--all"] if everything else []
    words += ["--list"] if listing else []
    words += ["--steps", str(steps)] if steps is not None else []
    words += ["--jobs", str(jobs)] if jobs is not None else []
    _exec("studies", *words)


@app.command()
def config() -> None:
    """Every configuration key with its type, default and meaning."""
    from ..common.config import schema

    for key, kind, default, meaning in schema():
        typer.echo(f"{key}  ({kind}, default {default})\n    {meaning}")


@prove_app.command("on-policy")
def prove_on_policy(
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 5,
    rollout_workers: Annotated[int, typer.Option(help="Rollout workers.", min=1)] = 2,
    verifier_workers: Annotated[int, typer.Option(help="Verifier workers.", min=1)] = 2,
    preset: Presets = None,
    settings: Settings = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """At max_staleness 0 the asynchronous run ends with the weights of a plain loop in one process, bit for bit."""
    from .prove import on_policy

    on_policy(steps, rollout_workers, verifier_workers, preset or ["tiny"], settings or [], runs_dir)


@app.command()
def chaos(
    run: Annotated[str, typer.Argument(help="A run under leeway up on this machine; with --preset one to be started.")],
    preset: Presets = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Decides the schedule and every choice.", min=0)] = 0,
    faults: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    every_s: Annotated[
        float, typer.Option("--every-s", help="Seconds from one to the next, on average.", min=0)
    ] = 10.0,
    per_step: Annotated[
        float, typer.Option("--per-step", help="Faults a training step at most: a slow run has them later.", min=0.01)
    ] = float("inf"),
    only: Annotated[list[str] | None, typer.Option("--only", help="This kind; give several for several.")] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Break things on purpose: kill and stop roles, Redis, connections, disk, messages, clock. Every fault is logged in
    the run's chaos.jsonl. A rehearsal: not for a run that you need."""
    from .chaos.run import chaos as rehearse

    more = {"seed": seed, "count": faults, "every_s": every_s, "per_step": per_step}
    rehearse(run, runs_dir, preset or [], settings or [], **more, only=only or [])  # type: ignore[arg-type]


# --- a run's keeper -------------------------------------------------------------------------------------------------


@letters_app.command("list")
def dead_letters_list(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = Path("runs")) -> None:
    """A line a dead letter: who gave up on which ticket, and why."""
    from . import letters

    letters.show_all(*_found(run, redis_url, runs_dir))


@letters_app.command("show")
def dead_letters_show(
    letter: Annotated[str, typer.Argument(help="The letter's id, from the list.")],
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Everything that is known of one dead letter."""
    from . import letters

    letters.show_one(*_found(run, redis_url, runs_dir), letter)


@letters_app.command("retry")
def dead_letters_retry(
    letter: Annotated[list[str] | None, typer.Argument(help="Letters' ids, from the list.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter that is a group's.")] = False,
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Ask for their prompts again, each under the next new ticket. The poisoned tickets themselves stay refunded."""
    from . import letters

    letters.retry(*_found(run, redis_url, runs_dir), letter or [], every=every)


@app.command()
def clean(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    force: Annotated[bool, typer.Option("--force", help="Even while its workers are alive.")] = False,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Remove what a run has in Redis, and nothing else there; its folder stays. Exit code 5: the run is alive."""
    from .clean import clean as remove

    remove(*_found(run, redis_url, runs_dir), force=force)


@app.command()
def acl(
    run: Annotated[str | None, typer.Option("--run", help="Users of this run alone; of every run by default.")] = None,
    passwords: Annotated[
        Path | None,
        typer.Option(
            "--passwords",
            help="USER PASSWORD lines; made with random ones where it is not there.",
            parser=path_of,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Print Redis users with the least rights that each role needs, for the server's ACL file.

    Without --run the file is whole and turns the default user off; with it the lines are to be added to one.
    """
    from .acl import acl as lines

    typer.echo(lines(run, passwords))


def _become(role: str, run: str, redis_url: str | None, *more: str) -> None:
    """Replace this process by the role's own; no role is imported at the desk."""
    os.environ[address.VARIABLE] = address.resolve(redis_url)  # not an argument, which anybody on the machine can read
    _exec(role, "--run", run, *more)


def _exec(module: str, *words: str) -> None:
    command = [sys.executable, "-m", f"leeway_rl.{module}", *words]
    sys.stdout.flush()
    os.execv(command[0], command)


def _found(run: str | None, redis_url: str | None, runs_dir: Path) -> tuple[str, str]:
    """(redis url, run id), from what was given, the run's folder, or the newest run."""
    from ..common.errors import DataError

    if run is None:
        folders = sorted(runs_dir.glob("*/config.toml"), key=lambda path: path.stat().st_mtime)
        if not folders:
            raise DataError(f"no run under {runs_dir}/; name one with --run, and --redis-url if it is elsewhere")
        run = folders[-1].parent.name
    noted = runs_dir / run / "redis-url"
    if redis_url is None and noted.exists():
        redis_url = noted.read_text().strip()
    return address.resolve(redis_url), run


def _ledger_path(run: str, runs_dir: Path) -> Path:
    return path_of(run) if run.endswith(".jsonl") else runs_dir / run / "ledger.jsonl"


def main() -> None:
    """The console script: a ``LeewayError`` is one line and its exit code."""
    from ..common.errors import LeewayError

    # Whatever we start, and whatever that starts, takes no module out of the folder that somebody stands in.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        app()
    except LeewayError as error:
        typer.echo(f"leeway: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        from ..common.errors import BrokerError
        from ..common.streams import RedisError, refused_or_lost

        if not isinstance(error, RedisError):
            raise
        typer.echo(f"leeway: Redis {refused_or_lost(error)}: {error}", err=True)
        raise SystemExit(BrokerError.exit_code) from None


if __name__ == "__main__":
    main()
