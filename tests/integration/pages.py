"""Pages as they stand: their blocks, and their commands run as a reader runs them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.integration.running import environment, leeway

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of the page of one kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S)
    return [text for of, text in found if of == kind]


def commands(page: Path) -> list[str]:
    """The commands in the page's blocks of no kind, in order."""
    lines = [line for block in blocks(page, "") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("leeway", "python"))]


def run(command: str, cwd: Path) -> str:
    """What the command says. It has to succeed."""
    program, *words = shlex.split(command)
    if program == "leeway":
        done = leeway(*words, cwd=cwd, timeout=600)
    else:
        done = subprocess.run(
            [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment(), check=False
        )
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout
