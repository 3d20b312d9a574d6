"""How the desk becomes a role: the role's own process replaces this one, so that no role is imported here."""

import os
import sys
from typing import NoReturn

from ...common import address


def become(role: str, run: str, redis_url: str | None, *more: str) -> NoReturn:
    """Replace this process by a worker or the learner of a run."""
    os.environ[address.VARIABLE] = address.resolve(redis_url)  # everybody here can read arguments
    go_on_as(role, "--run", run, *more)


def go_on_as(module: str, *words: str) -> NoReturn:
    """Replace this process by ``python -m leeway_rl.MODULE WORDS``."""
    go_on_with([sys.executable, "-m", f"leeway_rl.{module}", *words])


def go_on_with(command: list[str]) -> NoReturn:
    """Replace this process by a command."""
    sys.stdout.flush()
    os.execv(command[0], command)


def words_of(**said: object) -> list[str]:
    """What was ``said`` as options of a command: nothing for None and False, and for True the bare option."""
    options = {
        f"--{name.replace('_', '-')}": value for name, value in said.items() if value is not None and value is not False
    }
    return [word for name, value in options.items() for word in ([name] if value is True else [name, str(value)])]
