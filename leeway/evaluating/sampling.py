"""``leeway sample``: has a model's responses sampled and graded, by the workers and the queue of training."""

import hashlib
import os
import shutil
import time
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...common import address
from ...common.config import Config, compose, dump
from ...common.errors import BrokerError, ConfigError, LeewayError
from ...common.keys import Keys
from ...common.locks import only_writer
from ...common.preflight.folder import read_object
from ...common.preflight.hub import folder_of
from ...common.preflight.model import Use, check_model
from ...common.queue.connection import Connection, RedisError, why_lost
from ...common.queue.desk import DeskQueue
from ...common.rope import why_too_long
from ...common.settings import read, written
from ..planning.arithmetic import shape_of
from ..running import launcher
from ..running.launcher import command, worker_seats
from ..running.preflight import refuse_missing_rows
from ..running.server import EmbeddedServer
from ..running.supervise import SLACK_S, Role, ended, mend, supervised

STOPPING = "what is graded is written; the same command goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a model is sampled, and by which workers."""

    engine: str | None
    """None means the configuration's default, or the run's own engine."""
    temperature: float
    top_p: float
    max_tokens: int
    max_prompt_tokens: int
    seed: int
    workers: int
    """Rollout workers to start on this machine; 0 where others start them."""
    redis_url: str | None
    """None means a server of our own."""
    run: str | None
    settings: tuple[str, ...] = ()
    """``section.key=value`` texts, which win over everything else."""
    anew: bool = False
    """Whether to delete first what the folder has."""


def sample(problems: Path, model: str, out: Path, responses: int, asking: Asking) -> int:
    """Have ``responses`` responses to every row of ``problems`` sampled and graded into ``responses.parquet`` in
    ``out``. Returns or raises the collector's exit code as ``work`` does."""
    config = configuration(problems, model, out, responses, asking)
    refuse_missing_rows(config)
    refuse_model("sample", config, asking)
    queue_of(out, asking)  # refuses an unusable name before anything is written
    words = ["--responses", str(responses), "--top-p", str(asking.top_p)]
    with held(out) as lock:
        begin(out, asking)
        return work("sample", config, out, asking, words, lock)


MADE = (
    *("benchmarks.json", "eval.json", "eval.png", "evaluations.jsonl", "logs", "model", "parts", "problems.jsonl"),
    *("redis", "redis-url", "regrade.jsonl", "regraded.jsonl", "responses.parquet", "run-redis-url", "sample.json"),
    *("verdicts.json", "versions", "weights"),
)
"""What sampling and evaluation leave in a folder."""


def begin(out: Path, asking: Asking) -> None:
    """With ``--anew``, delete what an earlier command has made in ``out``, and what a queue elsewhere holds of it."""
    if not asking.anew:
        return
    if asking.redis_url is not None:
        with closing(DeskQueue(Connection(asking.redis_url, queue_of(out, asking)))) as queue:
            if queue.state().get("out") == str(out.resolve()):
                queue.clean()
    for name in MADE:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def queue_of(out: Path, asking: Asking) -> str:
    """The queue's name: the one that is asked for, or one made from the folder."""
    own = f"sample-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]}"
    return Keys(own if asking.run is None else asking.run).run


def configuration(problems: Path, model: str, out: Path, responses: int, asking: Asking) -> Config:
    """The configuration that the workers find in Redis. Its training keys mean nothing here, because nothing trains."""
    if not 0 < asking.top_p <= 1:  # NaN passes the bounds of a command-line option
        raise ConfigError(f"--top-p {asking.top_p}: a share above 0, at most 1")
    if any(isinstance(read(text).get("data"), list) for text in asking.settings):
        raise ConfigError(
            "--set data: sampling and evaluation ask the rows of the file that is named to them; set keys of one "
            "source, data.suffix=… for instance"
        )
    said, shape = {"--max-prompt-tokens": asking.max_prompt_tokens, "--max-tokens": asking.max_tokens}, shape_of(model)
    if shape is not None and (why := why_too_long(said, model, shape.context)) is not None:
        raise ConfigError(why)
    own: dict[str, object] = {
        "model.path": model,
        "data.path": str(problems.resolve()),
        "data.max_prompt_tokens": asking.max_prompt_tokens,
        "train.steps": 1,
        "train.groups_per_step": 1,
        "train.group_size": max(2, responses),
        "train.max_response_tokens": asking.max_tokens,
        "train.micro_batch_tokens": sum(said.values()),
        "flow.temperature": asking.temperature,
        "flow.seed": asking.seed,
        "verifier.jobs": max(1, (os.cpu_count() or 1) // 2),
    }
    dtype = dtype_of(model)
    if dtype is not None:
        own |= {"weights.dtype": dtype, "rollout.dtype": dtype}
    if asking.redis_url is None:  # everybody is on this machine, where one file is better than copies in memory
        own |= {"weights.transport": "file", "weights.folder": str((out / "weights").resolve())}
    engine = [] if asking.engine is None else [f"rollout.engine={asking.engine}"]
    return compose([], [*(written(key, value) for key, value in own.items()), *asking.settings, *engine])


def dtype_of(model: str) -> str | None:
    """The dtype that a model folder, or a hub name in this machine's cache, names for its weights; None where that is
    not known, or is neither of the two that weights are published in. ``DataError`` where the folder is damaged."""
    folder = folder_of(model)
    if folder is None or not (folder / "config.json").is_file():
        return None
    shape = read_object(folder / "config.json")
    named = shape.get("dtype") or shape.get("torch_dtype")
    return named if named in ("bfloat16", "float32") else None


def refuse_model(module: str, config: Config, asking: Asking) -> None:
    """Refuse a model that cannot be used, and GPUs that this machine has not, before anything starts. The collector
    ``sample`` loads the model, and workers that we start sample from it."""
    uses: tuple[tuple[Use, bool], ...] = (("load", module == "sample"), ("sample", asking.workers > 0))
    check_model(config, *(use for use, due in uses if due))
    worker_seats(config, asking.workers)


def work(module: str, config: Config, out: Path, asking: Asking, words: list[str], lock: IO[str]) -> int:
    """Run the collector ``evaluation.module`` to its end beside the workers that are ours to start. Returns the
    collector's exit code, or raises it as ``SystemExit`` where the collector did not get to its end. The caller has
    checked the model with ``refuse_model``."""
    run = queue_of(out, asking)
    with ExitStack() as stack:
        url = asking.redis_url or stack.enter_context(EmbeddedServer(out / "redis", lock=lock)).url
        address.keep(url, out / "redis-url")
        queue = stack.enter_context(closing(DeskQueue(Connection(url, run))))
        if queue.has_run() and queue.state().get("out") != str(out.resolve()):
            raise ConfigError(f"run {run!r} is already in this Redis, and not from {out}; choose another --run")
        queue.record.store_config(dump(config))
        queue.record.set_state(phase="starting", step=0, out=str(out.resolve()))
        roles = _roles(module, config, run, out, words, asking.workers)
        with supervised(roles, url, config.broker.drain_s + SLACK_S, STOPPING, lock=lock, first=1):
            code = _attend(queue, roles)
        if queue.state().get("phase") != "finished":
            raise SystemExit(code or 1)
    if asking.redis_url is None:  # nothing in our own server is needed any more
        for name in ("redis", "weights"):
            shutil.rmtree(out / name, ignore_errors=True)
    (out / "redis-url").unlink()
    return code


def _roles(module: str, config: Config, run: str, out: Path, words: list[str], workers: int) -> list[Role]:
    places, logs = worker_seats(config, workers), out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    collector = command(f"evaluation.{module}", "--run", run, "--out", str(out), *words)
    verifiers = config.verifier.workers if workers else 0
    return [
        Role("collector", collector, None, 1, places.environment("collector")),
        *launcher.workers(config, run, logs, places, workers, verifiers),
    ]


def _attend(queue: DeskQueue, roles: list[Role]) -> int:
    """Start the workers when there is work, start again what dies, and return the collector's exit code."""
    collector = roles[0]
    while True:
        code = ended(collector)
        if code is not None and code >= 0:  # a code below 0 is a signal, not the collector's own word
            return code
        try:
            working = queue.state().get("phase") == "running"
            done = sum(worker.done for worker in queue.overview.workers()[0])
        except RedisError as error:
            raise BrokerError(why_lost(error)) from error
        mend(collector, queue, done)
        for role in roles[1:]:
            if role.process is not None:
                mend(role, queue, done)
            elif working:
                role.start()
        time.sleep(0.2)


def held(out: Path) -> AbstractContextManager[IO[str]]:
    """Lock the folder, because two collectors would both write there."""
    return only_writer(out / "lock", f"--out {out}", error=LeewayError)
