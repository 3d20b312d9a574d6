"""The GPUs of this machine, and those that a process is given. NVIDIA's only.

They are counted without torch wherever that is possible, and CUDA is never initialised in the process that asks.
``CUDA_VISIBLE_DEVICES`` names GPUs by number, by UUID or by the beginning of one, and MIG instances by UUID (NVIDIA's
CUDA C++ Programming Guide, environment variables; MIG User Guide, CUDA device enumeration).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigError
from .wording import counted

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
ASK_S = 60.0
"""Seconds that a driver may take to answer. One that has just been loaded takes many."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of the machine."""

    uuid: str
    """Empty where only the number of GPUs is known."""
    instances: tuple[str, ...] = ()
    """UUIDs of its MIG instances. Where it has some, programs use these and not the whole."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The GPUs of a machine, by their numbers."""

    gpus: tuple[Gpu, ...]
    why: str = ""
    """Where there is none: how we know."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every GPU, or MIG instance in its place, as ``CUDA_VISIBLE_DEVICES`` may name it."""
        return tuple(name for number, gpu in enumerate(self.gpus) for name in gpu.instances or (str(number),))


def machine() -> Machine:
    """The GPUs of this machine. Where nothing speaks for a GPU, nothing is started."""
    program = shutil.which("nvidia-smi")
    if program is None and not any(Path("/dev").glob("nvidia[0-9]*")):
        return Machine((), "there is no nvidia-smi and no /dev/nvidia0")
    if program is None:
        return _counted_by_torch()
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Machine((), f"{program} does not answer: {error}")
    gpus = listed(done.stdout)
    said = " ".join((done.stdout + done.stderr).split())[:200]
    return Machine(gpus, "" if gpus else f"{program} -L says: {said or 'nothing'}")


def listed(text: str) -> tuple[Gpu, ...]:
    """The GPUs in the output of ``nvidia-smi -L``."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        uuid = line.rpartition("(UUID: ")[2].partition(")")[0]
        if line.startswith("GPU ") and uuid.startswith("GPU-"):
            found.append((uuid, []))
        elif line.lstrip().startswith("MIG ") and uuid.startswith("MIG-") and found:
            found[-1][1].append(uuid)
    return tuple(Gpu(uuid, tuple(instances)) for uuid, instances in found)


def _counted_by_torch() -> Machine:
    """By torch, in a process of its own: counting may initialise CUDA, which must not happen in ours."""
    count = "import torch; print(torch.cuda.device_count())"
    all_of_them = {name: value for name, value in os.environ.items() if name != VISIBLE}
    try:
        done = subprocess.run(
            [sys.executable, "-c", count], capture_output=True, text=True, timeout=ASK_S, check=False, env=all_of_them
        )
    except subprocess.TimeoutExpired:
        return Machine((), "there is no nvidia-smi, and torch does not answer")
    number = int(done.stdout) if done.returncode == 0 else 0
    return Machine((Gpu(""),) * number, "" if number else "there is no nvidia-smi, and torch finds none")


def words(value: str) -> tuple[str, ...]:
    """What a value of ``CUDA_VISIBLE_DEVICES`` names. An empty one and -1 name nothing."""
    found = tuple(word.strip() for word in value.split(",")) if value.strip() else ()
    return () if found[:1] in (("-1",), ("NoDevFiles",)) else found


def given(here: Machine, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that we may use, as ``CUDA_VISIBLE_DEVICES`` names them: those it names, or all where it is unset.

    A number stays a number. A UUID is spelled out, because vLLM looks it up whole. ``ConfigError`` for a name that the
    machine does not have, or has twice: CUDA itself would silently leave out that one and all after it.
    """
    if VISIBLE not in environment:
        return here.names
    value = environment[VISIBLE]
    found = tuple(_known(word, here, value) for word in words(value))
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ConfigError(f"{VISIBLE} = {value!r} names {', '.join(twice)} twice")
    return found


def _known(word: str, here: Machine, value: str) -> str:
    if word.isdecimal() and int(word) < len(here.gpus):
        gpu = here.gpus[int(word)]
        return gpu.instances[0] if gpu.instances else word  # CUDA takes the first instance too
    if word.startswith(("GPU-", "MIG-")):
        every = [name for gpu in here.gpus for name in (gpu.uuid, *gpu.instances) if name.startswith(word)]
        if len(every) == 1 or word in every:
            return every[0] if len(every) == 1 else word
        if len(every) > 1:
            raise ConfigError(f"{VISIBLE} = {value!r}: {word} is the beginning of {' and of '.join(every)}")
    raise ConfigError(f"{VISIBLE} = {value!r}: this machine has no GPU {word!r}; it has {_spoken(here)}")


def _spoken(here: Machine) -> str:
    if not here.gpus:
        return f"none ({here.why})"
    each = [f"{number} {gpu.uuid}".strip() for number, gpu in enumerate(here.gpus)]
    return ", ".join([*each, *(name for gpu in here.gpus for name in gpu.instances)])


def count(environment: Mapping[str, str] = os.environ) -> int:
    """How many GPUs this process is given."""
    return len(words(environment[VISIBLE]) if VISIBLE in environment else machine().names)


def ranks_here() -> int:
    """How many of a launcher's processes are on this node, by what torchrun or DeepSpeed's launcher has set; without a
    launcher 1."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)


def hide() -> None:
    """Leave this process and those that it starts no GPU. Call it before CUDA is initialised."""
    os.environ[VISIBLE] = ""


def refuse_too_few(needed: int, asked: str, *, required: bool) -> None:
    """``ConfigError`` where this process is given fewer than ``needed`` GPUs. ``asked`` names the keys that ask for
    them. Where they are not ``required``, having none at all is right too, whatever the variable says on a machine that
    has none."""
    have = count()
    if have < needed and (required or (have and machine().gpus)):
        where = f"{VISIBLE} = {os.environ[VISIBLE]!r}" if VISIBLE in os.environ else "the machine"
        raise ConfigError(f"{asked} asks for {spoken(needed)} in this process; {where} gives it {have or 'none'}")


def spoken(number: int) -> str:
    """A number of GPUs in words."""
    return counted(number, "GPU")
