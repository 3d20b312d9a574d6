"""How the desk becomes a role: the role's own process replaces this one, so that no role is imported here."""

import os
import sys
from typing import NoReturn

import typer

from ...common import address
from ..finding import Place, address_of, noted_address


def become(role: str, found: Place, redis_url: str | None) -> NoReturn:
    """Replace this process by a worker of a run."""
    os.environ[address.VARIABLE] = told_address(found, redis_url)  # everybody here can read arguments
    go_on_as(role, "--run", found.run)


def told_address(found: Place, redis_url: str | None) -> str:
    """The address of the run's Redis. Where it is the one noted in the run's folder, that is said."""
    url, noted = address_of(found, redis_url), noted_address(found)
    if redis_url is None and noted is not None:
        typer.echo(f"Redis at {address.public(url)}, as {noted} says; --redis-url names another", err=True)
    return url


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
