"""Libraries that are compiled on the spot and preloaded into the processes of a run, so that faults reach inside them.

Each library maps a small file into the process; all processes see at once what the driver writes there.
"""

import shutil
import struct
import subprocess
from pathlib import Path


class Preloaded:
    """One library, with its mapped numbers (64 bits each)."""

    def __init__(self, folder: Path, name: str, source: str, variable: str, numbers: int = 1) -> None:
        """Compile into ``folder``; ``OSError`` where there is no compiler. The environment variable ``variable`` tells
        a process where the file of numbers is. All numbers begin as 0."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise OSError("no C compiler (cc)")
        folder.mkdir(parents=True, exist_ok=True)
        self._numbers, text, library = folder / name, folder / f"{name}.c", folder / f"{name}.so"
        text.write_text(source)
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, text, "-ldl"], capture_output=True, text=True
        )
        if built.returncode != 0:
            raise OSError(f"{name}.c does not compile: {built.stderr.strip()}")
        if not self._numbers.exists():
            self._numbers.write_bytes(bytes(8 * numbers))
        self.environment = {"LD_PRELOAD": str(library.resolve()), variable: str(self._numbers.resolve())}

    def write(self, index: int, number: int) -> None:
        """Set a number."""
        with self._numbers.open("r+b") as file:  # in place, because the processes have the file mapped
            file.seek(8 * index)
            file.write(struct.pack("=q", number))

    def read(self, index: int) -> int:
        """A number as it is now."""
        with self._numbers.open("rb") as file:
            file.seek(8 * index)
            return int(struct.unpack("=q", file.read(8))[0])


def together(*libraries: Preloaded | None) -> dict[str, str]:
    """The environment that loads all of them."""
    environments = [library.environment for library in libraries if library is not None]
    merged = {name: value for each in environments for name, value in each.items()}
    if environments:
        merged["LD_PRELOAD"] = ":".join(each["LD_PRELOAD"] for each in environments)
    return merged
