"""The command that loads a user's code once before a run starts, and says in JSON what it found."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ..config import Config, parse
from ..errors import LeewayError


def answer(look: Callable[[Config], dict[str, Any]]) -> None:
    """Print what ``look`` finds with the configuration on standard input (TOML), or ``{"wrong": …}`` for a user's
    mistake, and end the process. What a module prints while it is imported does not mix with the answer, and what it
    leaves running or to be done at exit does not hold it up."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        found = look(parse(sys.stdin.read()))
    except LeewayError as error:
        found = {"wrong": str(error)}
    with out:
        print(json.dumps(found), file=out)
    os._exit(0)
