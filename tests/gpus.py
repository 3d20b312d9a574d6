"""A machine with GPUs, as far as ``nvidia-smi -L`` goes: a program of that name which says so."""

import os
from pathlib import Path


def uuid(number: int) -> str:
    """The UUID of a made-up GPU."""
    return f"GPU-{number:08d}-2222-3333-4444-555566667777"


def with_gpus(folder: Path, number: int) -> str:
    """A value of ``PATH`` under which the machine seems to have so many GPUs."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    lines = "".join(f"GPU {each}: NVIDIA H100 80GB HBM3 (UUID: {uuid(each)})\n" for each in range(number))
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}END\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
