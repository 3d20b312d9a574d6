"""``leeway learner``: the learner's command for this machine, with its ranks under torchrun where there are several."""

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ...common.config import Config, config_in, parse
from ...common.errors import ConfigError
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue
from .elsewhere import brought
from .launcher import learner_command, learner_seats
from .trackers import start_beside

WAIT_S = 120.0
"""Seconds to wait for the run to be created, as the roles do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Which of the learner's nodes this machine is."""

    nodes: int
    node: int
    """From 1 on."""
    first: str | None
    """Address of the first node, with a port or without one."""

    def refuse_impossible(self) -> None:
        """``ConfigError`` where the three do not fit together."""
        if self.node > self.nodes:
            raise ConfigError(f"--node {self.node} of --nodes {self.nodes}: nodes are counted from 1 to {self.nodes}")
        if self.nodes > 1 and not self.first:
            raise ConfigError(f"--nodes {self.nodes} needs --first-node, the address of node 1 as the others reach it")


def command_here(run: str, runs_dir: Path, redis_url: str, here: Node) -> tuple[list[str], Mapping[str, str]]:
    """(the command, the variables that give it its GPUs). It waits for the run to be created. ``ConfigError`` where
    this machine has not the GPUs that its part of the learner asks for. On the first node, a run of which there is
    nothing here is brought from its copies, and the run's trackers are started beside it."""
    here.refuse_impossible()
    config = _stored(run, runs_dir / run / "config.toml", redis_url)
    places, ranks = learner_seats(config, here.nodes)
    if here.node == 1:
        if (said := brought(config, run, runs_dir)) is not None:
            print(said, file=sys.stderr, flush=True)
        start_beside(config, run, runs_dir)
    command = learner_command(
        ["--run", run, "--runs-dir", str(runs_dir)],
        ranks,
        drain_s=config.broker.drain_s,
        nodes=here.nodes,
        node=here.node - 1,
        first=here.first or "",
    )
    return command, places.environment("learner")


def _stored(run: str, kept: Path, redis_url: str) -> Config:
    """The run's configuration: from Redis, or from the run's folder where Redis came back empty, since the learner will
    put it back. ``NoRunError`` where nobody creates the run in time."""
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        if not queue.has_run() and not kept.exists():
            print("waiting for the run to be created", file=sys.stderr, flush=True)
        deadline = time.monotonic() + WAIT_S
        while not queue.has_run() and not kept.exists() and time.monotonic() < deadline:
            time.sleep(1.0)
        return parse(queue.load_config()) if queue.has_run() or not kept.exists() else config_in(kept)
