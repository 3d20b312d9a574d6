"""The room on this machine: memory, shared memory, disk and ports, against what the dry run works out."""

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...common import devices, exporter
from ...common.config import Config
from ...common.locks import try_lock
from ...common.weights import node_folder
from ...common.wording import byte_size, counted
from ..planning.arithmetic import Gpu, Shape, learner_node, learner_on_cpu, left_on_disk, rollout_node
from ..running import launcher
from ..running.server import why_not_bound
from .line import Line, mend, note, ok

CGROUP = Path("/sys/fs/cgroup")
FOR_NCCL = 1e9
"""Bytes of shared memory below which NCCL may fail between GPUs of a machine. Docker gives a container 64 MB unless it
is told more; NVIDIA's own advice for its containers is 1 GB."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of this machine, or of the container that we are in where it has less; bytes."""

    total: float
    free: float


def memory_here() -> Memory:
    """What there is, and what is free or can be freed."""
    known = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        known[name] = 1024.0 * int(value.split()[0])
    total, free = known["MemTotal"], known.get("MemAvailable", known["MemFree"])
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # of two releases of cgroups there is one, and "max" means no limit
            limit = float(int((CGROUP / most).read_text()))
            if limit < total:
                total, free = limit, min(free, limit - int((CGROUP / used).read_text()))
    return Memory(total, free)


def memory(config: Config, shape: Shape, roles: Collection[str], here: Memory) -> Line:
    """Whether the parts of ``roles`` on this machine fit into its memory."""
    needed, parts = 0.0, list[str]()

    def add(name: str, size: float) -> None:
        nonlocal needed
        needed += size
        parts.append(f"{name} {byte_size(size)}")

    if "learner" in roles:
        held, to_start = learner_node(config, shape, Gpu())
        on = config.placement.learner
        if on == "cpu" or (on == "auto" and not devices.machine().gpus):
            add("the learner's ranks", learner_on_cpu(config, shape))
        add("the learner's host", max(sum(part.host for part in held), to_start.host))
    if "rollout" in roles:
        add("the weights of its rollout workers", sum(part.host for part in rollout_node(config, shape)))
    found = f"the run asks for {byte_size(needed)} ({', '.join(parts)}); there are {byte_size(here.total)}"
    how = "fewer ranks here, train.async_checkpoint = false, or a machine with more; in a container, a higher limit"
    if needed > here.total:
        return mend("memory", found, how)
    if needed > here.free:
        return note("memory", f"{found}, of which {byte_size(here.free)} are free", "end what takes the rest")
    return ok("memory", f"{found}, {byte_size(here.free)} of them free")


def shared_memory(config: Config, shape: Shape) -> Line:
    """Whether the node's copy of the weights has its room, by the rule that a rollout worker goes by."""
    copy = rollout_node(config, shape)[0].host
    rooms = {base: node_folder.room_in(base) for base in node_folder.bases(config.weights.node)}
    there = ", ".join(f"{base} has {byte_size(room)} free" for base, room in rooms.items())
    found = f"the node's copy of the weights takes {byte_size(copy)}; {there}"
    enough = [base for base, room in rooms.items() if room >= node_folder.ROOM * copy]
    if not enough:
        return mend("shared memory", found, node_folder.ADVICE)
    if enough[0] != next(iter(rooms)):
        return note("shared memory", f"{found}: {enough[0]} is used, which is slower", node_folder.ADVICE)
    return ok("shared memory", found)


def shared_memory_alone(least: float = FOR_NCCL) -> Line:
    """How much shared memory there is, where nothing is known of a run."""
    room = node_folder.room_in(node_folder.SHARED_MEMORY)
    found = f"{node_folder.SHARED_MEMORY} has {byte_size(room)} free"
    if room < least:
        return note(
            "shared memory", f"{found}, less than NCCL and the node's copy of most models take", node_folder.ADVICE
        )
    return ok("shared memory", found)


def disks(config: Config, shape: Shape | None, roles: Collection[str], runs_dir: Path) -> Iterator[Line]:
    """Whether the folders that a run writes can be written, and have the room."""
    parts = [part.host for part in left_on_disk(config, shape)] if shape is not None else [0.0] * 3
    checkpoints, versions, samples = parts
    if "learner" in roles:
        of = f"{counted(config.train.keep_checkpoints, 'checkpoint')} and the one being written"
        yield disk("disk of the runs", runs_dir, checkpoints + samples, of)
    if config.weights.transport == "file" and config.weights.shared and {"learner", "rollout"} & set(roles):
        yield disk("weights.folder", config.weights.shared, versions, "versions of the weights")


def disk(what: str, folder: Path, needed: float = 0.0, of: str = "") -> Line:
    """Whether ``folder``, or the nearest one above it, can be written and locked, and has ``needed`` bytes free."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".leeway-doctor-") as file:
            file.write(b"x")
            file.flush()
            try_lock(file)
    except OSError as error:
        return mend(
            what,
            f"{there} cannot be written, or not locked: {error.strerror}",
            "name another folder, or mend its rights or its file system",
        )
    room = node_folder.room_in(there)
    found = f"{there} has {byte_size(room)} free"
    if needed > room:
        return mend(
            what, f"{found}, and {of} take up to {byte_size(needed)}", "make room there, or name another folder"
        )
    return ok(what, f"{found}{f', of which {of} take up to {byte_size(needed)}' if needed else ''}")


def ports(config: Config, roles: Collection[str], *, whole: bool, run: str | None = None) -> Iterator[Line]:
    """Whether the ports that roles will listen at are free. ``whole``: whether the whole run is on this machine.
    ``run``: the run that is looked at, whose own roles may be at work here."""
    first = int(os.environ.get(exporter.VARIABLE) or config.broker.metrics_port)
    if first:
        count = 1 + config.rollout.workers + config.verifier.workers if whole else 1
        host = os.environ.get(exporter.HOST) or config.broker.metrics_host
        yield _ports(host, range(first, first + count), "broker.metrics_port", run)
    if "learner" in roles and launcher.drawn(config).nodes > 1:
        yield _ports("0.0.0.0", range(launcher.PORT, launcher.PORT + 1), "leeway learner --first-node HOST:PORT")


def _ports(host: str, numbers: range, key: str, run: str | None = None) -> Line:
    one, own = len(numbers) == 1, False
    for number in numbers:
        if (why := why_not_bound(host, number)) is None:
            continue
        if run is None or exporter.run_served_at(host, number) != run:
            found = f"nothing can listen at {host} port {number}: {why}"
            return mend("ports", found, f"end what listens there (ss -ltnp), or name another by {key}")
        own = True
    spoken = f"{numbers[0]}" if one else f"{numbers[0]} to {numbers[-1]}"
    free = "is free" if one else "are free"
    taken = f"has a role of run {run}" if one else f"are free or have roles of run {run}"
    return ok("ports", f"{spoken} at {host} {taken if own else free}, for {key}")
