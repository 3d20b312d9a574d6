"""How processes are started on the GPUs that the layout gives them."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ...common import devices
from ...common.config import Config
from ...common.errors import ConfigError
from .placement import Layout, lay_out, lay_out_learner, lay_out_workers, refuse_split_instances
from .supervise import Role
from .trackers import tracker_role

PORT = 29500
"""TCP port at which the learner's ranks of several nodes find each other, on the first of them."""

GRACE_S = 5
"""How much longer than ``broker.drain_s`` torchrun leaves the ranks after SIGTERM. It is less than a supervisor leaves
torchrun, so that a rank that hangs is killed by torchrun, and torchrun does not have to be."""


@dataclass(frozen=True, slots=True)
class Seats:
    """A layout on this machine, in the words that ``CUDA_VISIBLE_DEVICES`` has for its GPUs."""

    layout: Layout
    names: tuple[str, ...]
    """Every GPU that may be used here, by its number in the layout."""
    numbered: bool
    """Whether the names are ours: numbers in the order of the bus, as ``nvidia-smi`` counts."""

    def environment(self, name: str) -> dict[str, str]:
        """The variables that give a process its GPUs. On a machine without GPUs there are none."""
        if not self.names:
            return {}
        order = {devices.ORDER: "PCI_BUS_ID"} if self.numbered else {}
        own = self.layout.gpus_of(name) if any(each.name == name for each in self.layout.placed) else ()
        return order | {devices.VISIBLE: ",".join(self.names[gpu] for gpu in own)}


def seats(config: Config) -> Seats:
    """The places of a whole run on this machine. ``ConfigError`` where it has not what the configuration asks for."""
    names, numbered = _names()
    return _seated(lay_out(config, len(names), alone=True), names, numbered)


def learner_seats(config: Config, nodes: int) -> tuple[Seats, int]:
    """(the places of the learner's part on this machine, which is one of its ``nodes``; how many ranks these are)."""
    if config.train.ranks % nodes:
        raise ConfigError(
            f"--nodes {nodes} does not divide train.ranks = {config.train.ranks}: torchrun starts equally many on each"
        )
    names, numbered = _names()
    ranks = config.train.ranks // nodes
    part = config.model_copy(update={"train": config.train.model_copy(update={"ranks": ranks})})
    try:
        layout = lay_out_learner(part, len(names), alone=True)
    except ConfigError as error:
        raise ConfigError(str(error) if nodes == 1 else f"{error} (a node's part of {nodes})") from None
    return _seated(layout, names, numbered), ranks


def worker_seats(config: Config, workers: int) -> Seats:
    """The places of rollout workers alone, on this machine."""
    names, numbered = _names()
    return _seated(lay_out_workers(config, workers, len(names)), names, numbered)


def drawn(config: Config) -> Layout:
    """The layout that ``--dry-run`` prints: on nodes of ``placement.gpus_per_node`` where the configuration asks for
    GPUs, else on this machine."""
    asks = config.placement.learner == "gpu" or config.placement.rollout in ("gpu", "learner")
    node_gpus = config.placement.gpus_per_node if asks else len(_names()[0])
    return lay_out(config, node_gpus, alone=False)


def why_not_here(config: Config) -> str | None:
    """Why ``leeway up`` would refuse to start the configuration on this machine; None if it would not."""
    try:
        seats(config)
    except ConfigError as error:
        return str(error)
    return None


def _names() -> tuple[tuple[str, ...], bool]:
    here = devices.machine()
    if not here.gpus:  # whatever the variable says: there is nothing that it could name
        return (), False
    return devices.given(here), devices.VISIBLE not in os.environ


def _seated(layout: Layout, names: tuple[str, ...], numbered: bool) -> Seats:
    refuse_split_instances(layout, names)
    return Seats(layout, names, numbered)


# --- commands --------------------------------------------------------------------------------------------------------


def command(module: str, *words: str) -> list[str]:
    """``python -m leeway_rl.MODULE WORDS``."""
    return [sys.executable, "-m", f"leeway_rl.{module}", *words]


def learner_command(
    words: Sequence[str], ranks: int, *, drain_s: float, nodes: int = 1, node: int = 0, first: str = ""
) -> list[str]:
    """The learner's command, under torchrun where there are several ranks on this node, or several nodes. ``drain_s``:
    ``broker.drain_s``. ``node`` counts from 0; ``first`` is the address of the first node."""
    own = command("learner", *words)
    if ranks == 1 and nodes == 1:
        return own
    where = ["--standalone"]
    if nodes > 1:
        found = urlsplit(f"//{first}")
        where = ["--nnodes", str(nodes), "--node-rank", str(node), "--master-addr", found.hostname or first]
        where += ["--master-port", str(found.port or PORT)]
    # By itself it kills the ranks 30 s after SIGTERM, whatever they still write.
    where += ["--shutdown-timeout", str(math.ceil(drain_s) + GRACE_S)]
    # The "--" keeps torchrun from reading our --run as an abbreviation of its own options.
    return command("learner.torchrun", *where, "--nproc-per-node", str(ranks), "-m", "--", *own[2:])


def roles(config: Config, run: str, runs_dir: Path, places: Seats) -> list[Role]:
    """The processes of ``leeway up``, the learner first and the trackers last. A process that is started again
    has the same GPUs."""
    logs, words = runs_dir / run / "logs", ["--run", run, "--runs-dir", str(runs_dir)]
    learner = learner_command(words, config.train.ranks, drain_s=config.broker.drain_s)
    own = places.environment("learner")
    found = [
        Role("learner", learner, logs / "learner.log", config.train.threads, variables=own),
        *workers(config, run, logs, places, config.rollout.workers, config.verifier.workers),
    ]
    if config.broker.metrics_port:
        for index, each in enumerate(found):
            each.metrics_port = config.broker.metrics_port + index
    return [*found, *_trackers(config, logs)]


def _trackers(config: Config, logs: Path) -> list[Role]:
    """A process for each tracker of the run, which sees no GPU."""
    trackers = config.metrics.trackers
    found = [
        tracker_role(each, logs.parent, config.metrics.project, logs / f"tracker-{each}.log", wait=True)
        for each in trackers
    ]
    for each in found:
        each.variables = {devices.VISIBLE: ""}
    return found


def workers(config: Config, run: str, logs: Path, places: Seats, rollouts: int, verifiers: int) -> list[Role]:
    """The processes of the rollout workers, then those of the verifiers, each with a log of its own in ``logs``."""

    def role(kind: str, index: int, threads: int) -> Role:
        name = f"{kind}-{index}"
        return Role(name, command(kind, "--run", run), logs / f"{name}.log", threads, places.environment(name))

    return [
        *(role("rollout", index, config.rollout.threads) for index in range(rollouts)),
        *(role("verifier", index, 1) for index in range(verifiers)),
    ]
