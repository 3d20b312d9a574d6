"""Loads the reward functions of a configuration (TOML, standard input) and prints the digest of the user's code as
JSON, or ``{"wrong": …}``, for ``leeway up`` and ``leeway create``."""

import json
import os
import sys
from typing import Any

from ...common.config import parse
from ...common.errors import ConfigError
from .loading import Loader
from .secrets import Secrets


def look(text: str) -> dict[str, Any]:
    """The digest, or why a function cannot be loaded."""
    loader = Loader(Secrets())
    try:
        loader.load([reward for reward in parse(text).rewards if not reward.judges])
    except ConfigError as error:
        return {"wrong": str(error)}
    return {"digest": loader.digest()}


def main() -> None:
    """What a module prints while it is imported does not mix with the answer, and what it leaves running or to be done
    at exit does not hold it up."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with answer:
        print(json.dumps(look(sys.stdin.read())), file=answer)
    os._exit(0)


if __name__ == "__main__":
    main()
