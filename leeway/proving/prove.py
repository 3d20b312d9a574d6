"""``leeway prove on-policy``: the asynchronous run at max_staleness 0 against a plain loop in one process.

The same configuration is run twice: once with every role as its own process and as many workers as asked for, and once
by ``examples/one_process.py``. Then the weights of the last version are compared by their checksum: the sha256 of their
shards' sha256.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import typer

from ...common.config import compose
from ...common.config.plain import why_not_plain
from ...common.errors import ConfigError, LeewayError
from ...common.ledger import published_checksum
from ...common.wording import counted
from ..running.up import up
from .audit import audit


class NotEqualError(LeewayError):
    """The weights at the two ends differ."""

    exit_code = 9


def on_policy(
    steps: int, rollout_workers: int, verifier_workers: int, presets: list[str], settings: list[str], runs_dir: Path
) -> None:
    """Run both, print both sums; ``NotEqualError`` unless they are the same."""
    fixed = [
        "flow.max_staleness=0",
        f"train.steps={steps}",
        f"rollout.workers={rollout_workers}",
        f"verifier.workers={verifier_workers}",
    ]
    config = compose(presets, [*settings, *fixed])
    if config.rollout.engine != "torch" or config.train.ranks != 1 or config.train.zero_stage != 0:
        raise ConfigError(
            "prove on-policy needs rollout.engine = 'torch', train.ranks = 1 and train.zero_stage = 0: vLLM batches "
            "what arrives together, and several ranks add in another order"
        )
    if (why := why_not_plain(config)) is not None:
        raise ConfigError(f"prove on-policy compares with a plain loop in one process: {why}")
    run, made = f"prove-{time.strftime('%m%d-%H%M%S')}-{os.getpid()}", counted(steps, "step")
    typer.echo(f"asynchronous: {rollout_workers} rollout and {counted(verifier_workers, 'verifier worker')}, {made}")
    up(run, presets, [*settings, *fixed], None, runs_dir, resume=False, report=False)  # the run is removed in the end
    ledger = runs_dir / run / "ledger.jsonl"
    typer.echo(audit(ledger).describe())
    asynchronous = published_checksum(ledger)
    typer.echo("one process:")
    plain = _plain(steps, presets, [*settings, *fixed], threads=config.train.threads)
    typer.echo(f"checksum of the weights after {made}\n  asynchronous  {asynchronous}\n  one process   {plain}")
    if asynchronous != plain:
        raise NotEqualError(f"the weights differ; the asynchronous run is kept in {runs_dir / run}")
    shutil.rmtree(runs_dir / run)
    typer.echo("equal, bit for bit")


def _plain(steps: int, presets: list[str], settings: list[str], *, threads: int) -> str:
    command = [sys.executable, "-m", "leeway_rl.examples.one_process", "--steps", str(steps)]
    command += [word for preset in presets for word in ("--preset", preset)]
    command += [word for setting in settings for word in ("--set", setting)]
    # The plain loop has the roles' number of threads, because floating-point results depend on it.
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LeewayError(f"the plain loop ended with code {done.returncode}")
    *lines, last = done.stdout.splitlines()
    typer.echo("\n".join(lines))
    return last.removeprefix("checksum ")
