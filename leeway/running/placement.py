"""Which process has which GPUs. Pure: a configuration and the GPUs of a node make a layout, or a refusal.

The learner's ranks come first, one GPU each, and then for each rank the GPU of its reference, where that has one of its
own. If one node does not hold them all, they are spread evenly over as few nodes as do, because torchrun starts equally
many on each. Then each rollout worker takes its GPUs on the first node that still has enough of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...common.config import Config
from ...common.devices import spoken
from ...common.errors import ConfigError
from ...common.tables import as_text, table
from ...common.wording import byte_size
from ..planning.arithmetic import Gpu, Shape, learner_bytes


@dataclass(frozen=True, slots=True)
class Placed:
    """A worker, or the learner's ranks of one node, and the GPUs that are theirs."""

    name: str
    node: int
    """The first node is 0."""
    gpus: tuple[int, ...]
    """By their numbers on the node; none on the CPU. In the learner's the ranks' own come first, then the
    references'."""
    what: str
    """What they are for."""
    ranks: int = 0
    """Learner ranks among them."""
    shared: bool = False
    """Whether the GPUs are the learner's too."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which process has which GPUs."""

    node_gpus: int
    """GPUs of each node."""
    placed: tuple[Placed, ...]

    @property
    def nodes(self) -> int:
        """How many nodes it takes."""
        return 1 + max((each.node for each in self.placed), default=0)

    @property
    def gpus(self) -> int:
        """How many GPUs it takes; shared ones count once."""
        return len({(each.node, gpu) for each in self.placed for gpu in each.gpus})

    def gpus_of(self, name: str) -> tuple[int, ...]:
        """The GPUs of a process on the first node."""
        return next(each.gpus for each in self.placed if each.name == name and each.node == 0)


def lay_out(config: Config, node_gpus: int, *, alone: bool) -> Layout:
    """The layout of a whole run on nodes of ``node_gpus`` GPUs each. ``alone``: there is one node, this machine.
    ``ConfigError`` for what does not fit, with what is asked for, what there is, and what would fit."""
    learner = lay_out_learner(config, node_gpus, alone=alone).placed
    if _computes(config, "rollout", node_gpus) == "learner":
        return Layout(node_gpus, (*learner, *_shared(config, learner)))
    taken = {each.node: len(each.gpus) for each in learner}
    workers = _workers(config, config.rollout.workers, node_gpus, taken, alone=alone)
    return Layout(node_gpus, (*learner, *workers))


def lay_out_workers(config: Config, workers: int, node_gpus: int) -> Layout:
    """The layout of ``workers`` rollout workers without a learner, on this machine."""
    return Layout(node_gpus, tuple(_workers(config, workers, node_gpus, {}, alone=True)))


def lay_out_learner(config: Config, node_gpus: int, *, alone: bool) -> Layout:
    """The layout of the learner without workers."""
    ranks = config.train.ranks
    if _computes(config, "learner", node_gpus) == "cpu":
        if config.placement.reference == "own":
            raise ConfigError(
                "placement.reference = 'own' asks for a GPU beside the learner's, and this machine has none"
            )
        return Layout(node_gpus, (Placed("learner", 0, (), _ranks(ranks, "on the CPU"), ranks),))
    each = 2 if config.placement.reference == "own" else 1  # GPUs of a rank
    asked = f"train.ranks = {ranks} asks for {spoken(ranks * each)}" + (
        f", {ranks} for the ranks and {ranks} for their references (placement.reference = 'own')" if each > 1 else ""
    )
    fit = node_gpus // each
    nodes = math.ceil(ranks / fit) if fit else 0
    if not fit or (alone and nodes > 1):
        raise ConfigError(f"{asked}; {_there(node_gpus, alone)}; {_fitting_ranks(fit)}")
    if ranks % nodes:
        raise ConfigError(
            f"{asked}, which are {nodes} nodes of {spoken(node_gpus)} (placement.gpus_per_node), and torchrun starts "
            f"equally many ranks on each; {_even(ranks, fit)}"
        )
    here = ranks // nodes
    gpus, how = tuple(range(here * each)), "one a GPU"
    if each > 1:
        how = f"one a GPU: {_spell(gpus[:here])}; their references: {_spell(gpus[here:])}"
    what = _ranks(here, how)
    return Layout(node_gpus, tuple(Placed("learner", node, gpus, what, here) for node in range(nodes)))


def _computes(config: Config, role: str, node_gpus: int) -> str:
    """On what a role computes: ``gpu``, ``learner`` or ``cpu``."""
    said = config.placement.learner if role == "learner" else config.placement.rollout
    if role == "rollout" and config.rollout.engine == "torch":
        return "cpu"
    if said == "auto":
        return "gpu" if node_gpus else "cpu"
    return said


def _workers(config: Config, workers: int, node_gpus: int, taken: dict[int, int], *, alone: bool) -> list[Placed]:
    """Workers with GPUs of their own. ``taken``: how many of a node's first GPUs the learner has."""
    each = config.rollout.tensor_parallel
    if workers == 0:
        return []
    if _computes(config, "rollout", node_gpus) == "cpu":
        return [Placed(f"rollout-{index}", 0, (), "on the CPU") for index in range(workers)]
    asked = f"rollout.workers = {workers} with rollout.tensor_parallel = {each} asks for {spoken(workers * each)}"
    if each > node_gpus:
        raise ConfigError(
            f"{asked}, {each} of them on one node; {_there(node_gpus, alone)}; "
            + (f"a tensor_parallel of at most {node_gpus} fits" if node_gpus else _WITHOUT)
        )
    free = [node_gpus - taken.get(node, 0) for node in range(1 + max(taken, default=0))]
    fit = free[0] // each
    if alone and workers > fit:
        beside = f", of which the learner has {taken[0]}" if taken.get(0) else ""
        more = f"rollout.workers = {fit} fits" if fit else "none fits"
        share = ", and placement.rollout = 'learner' shares the learner's GPUs" if taken.get(0) else ""
        raise ConfigError(f"{asked}; {_there(node_gpus, alone)}{beside}; {more}{share}")
    placed = []
    for index in range(workers):
        node = next((number for number, left in enumerate(free) if left >= each), len(free))
        if node == len(free):
            free.append(node_gpus)
        first = node_gpus - free[node]
        free[node] -= each
        what = "one worker" if each == 1 else f"one worker, tensor parallel over {each}"
        placed.append(Placed(f"rollout-{index}", node, tuple(range(first, first + each)), what))
    return placed


def _shared(config: Config, learner: Sequence[Placed]) -> list[Placed]:
    """Workers on the learner's GPUs. References on GPUs of their own share them with nobody."""
    each, workers = config.rollout.tensor_parallel, config.rollout.workers
    if not any(place.gpus for place in learner):
        raise ConfigError("placement.rollout = 'learner' shares the learner's GPUs, and this machine has none")
    places = [
        (place.node, place.gpus[first : first + each])
        for place in learner
        for first in range(0, place.ranks - each + 1, each)
    ]
    if workers > len(places):
        raise ConfigError(
            f"rollout.workers = {workers} with rollout.tensor_parallel = {each} and placement.rollout = 'learner' asks "
            f"for {spoken(workers * each)} of the learner's, which has {config.train.ranks} (train.ranks); "
            + (f"rollout.workers = {len(places)} fits" if places else "none fits")
        )
    what = f"one worker, beside the learner, {config.rollout.gpu_memory_utilization} of the memory"
    return [
        Placed(f"rollout-{index}", node, gpus, what, shared=True) for index, (node, gpus) in enumerate(places[:workers])
    ]


def refuse_split_instances(layout: Layout, names: Sequence[str]) -> None:
    """``ConfigError`` where a process would need several MIG instances. ``names``: the GPUs of this machine as
    ``CUDA_VISIBLE_DEVICES`` names them. CUDA shows a process one instance only (NVIDIA's MIG User Guide)."""
    for each in layout.placed:
        instances = [names[gpu] for gpu in each.gpus if names[gpu].startswith("MIG-")]
        if instances and len(each.gpus) > 1:
            key = "train.ranks" if each.ranks else "rollout.tensor_parallel"
            raise ConfigError(
                f"{each.name} would have {spoken(len(each.gpus))}, of which {instances[0]} is a MIG instance: CUDA "
                f"shows a process one instance only; {key} = 1 fits, or GPUs without MIG"
            )


_WITHOUT = "none fits; a small model needs none: set placement.learner and placement.rollout to 'cpu'"


def _there(node_gpus: int, alone: bool) -> str:
    where = "this machine" if alone else "a node (placement.gpus_per_node)"
    return f"{where} has {node_gpus or 'none'}"


def _fitting_ranks(fit: int) -> str:
    if not fit:
        return _WITHOUT
    return f"train.ranks = {fit} fits, and leeway up --dry-run lays a run out on several nodes"


def _even(ranks: int, fit: int) -> str:
    """The numbers of ranks next to ``ranks`` that spread evenly over nodes of ``fit``."""

    def even(number: int) -> bool:
        return number % math.ceil(number / fit) == 0

    below = next(number for number in range(ranks - 1, 0, -1) if even(number))
    above = next(number for number in range(ranks + 1, 2 * ranks * fit) if even(number))
    return f"train.ranks = {below} or {above} fits"


def _ranks(number: int, how: str) -> str:
    return f"1 rank {how}".replace("one a GPU", "on a GPU") if number == 1 else f"{number} ranks, {how}"


def _spell(gpus: Sequence[int]) -> str:
    if len(gpus) > 1 and gpus[-1] - gpus[0] == len(gpus) - 1:
        return f"{gpus[0]}-{gpus[-1]}"
    return ",".join(map(str, gpus)) or "-"


# --- the page --------------------------------------------------------------------------------------------------------


def page(config: Config, layout: Layout, shape: Shape | None, gpu: Gpu | None = None) -> str:
    """The layout as a table, and on several nodes each node's commands."""
    nodes = f" on {layout.nodes} nodes of {layout.node_gpus}" if layout.nodes > 1 else ""
    parts = [f"processes, and the GPUs of each: {spoken(layout.gpus) if layout.gpus else 'no GPU'} in all{nodes}"]
    parts.append(as_text(table(["process", "node", "GPUs", "what for"], _rows(config, layout))))
    if shape is not None and any(each.shared for each in layout.placed):
        gpu = gpu or Gpu()
        learner = learner_bytes(config, shape, gpu)
        share = config.rollout.gpu_memory_utilization
        together = learner + share * gpu.bytes
        parts.append(
            f"a shared GPU: {byte_size(learner)} of the learner + {share} x {byte_size(gpu.bytes)} of vLLM = "
            f"{byte_size(together)}" + (f", more than {byte_size(gpu.bytes)}" if together > gpu.bytes else "")
        )
    if layout.nodes > 1:
        parts += ["", *commands(config, layout)]
    return "\n".join(parts)


def processes(config: Config, layout: Layout) -> list[dict[str, Any]]:
    """The layout for machines, a dict for each process. Those of the verifier have no GPU, and may be anywhere."""
    placed = [
        {
            "name": each.name,
            "node": each.node + 1,
            "gpus": list(each.gpus),
            "ranks": each.ranks,
            "shared": each.shared,
        }
        for each in layout.placed
    ]
    grading = {"node": 1, "gpus": [], "ranks": 0, "shared": False}
    return [*placed, *({"name": f"verifier-{index}", **grading} for index in range(config.verifier.workers))]


def _rows(config: Config, layout: Layout) -> list[list[str]]:
    named = [each for each in layout.placed if each.gpus or each.ranks]
    rows = [[each.name, str(each.node + 1), _spell(each.gpus), each.what] for each in named]
    if on_cpu := len(layout.placed) - len(named):
        rows.append([_several("rollout", on_cpu), "1", "-", "one worker, on the CPU"])
    grading = "1 grading process" if config.verifier.jobs == 1 else f"{config.verifier.jobs} grading processes"
    rows.append([_several("verifier", config.verifier.workers), "1", "-", grading])
    return rows


def _several(role: str, number: int) -> str:
    return f"{role}-0" if number == 1 else f"{role}-0 to {role}-{number - 1}"


def commands(config: Config, layout: Layout) -> list[str]:
    """The commands of each node, for a run that ``leeway create`` has made. Roles on GPUs that are theirs alone need no
    other word than ``CUDA_VISIBLE_DEVICES``."""
    learner = [each for each in layout.placed if each.ranks]
    lines = ["on each node, after leeway create RUN (NODE1: the address of node 1; docs/how-to/large-models.md):"]
    for each in layout.placed:
        visible = f"CUDA_VISIBLE_DEVICES={','.join(map(str, each.gpus))} " if each.gpus else ""
        command = f"{visible}leeway rollout RUN"
        if each.ranks:
            command = f"{visible}leeway learner RUN"
            if len(learner) > 1:
                command += f" --nodes {len(learner)} --node {each.node + 1} --first-node NODE1"
        lines.append(f"  node {each.node + 1}: {command}")
    lines += ["  node 1: leeway verifier RUN"] * config.verifier.workers
    return lines
