"""Loads the reward functions of a configuration (TOML, standard input) and prints the digest of the user's code as
JSON, for ``leeway up`` and ``leeway create``."""

import json
import os
import sys

from ...common.config import parse
from ...common.errors import told
from .loading import Loader
from .secrets import Secrets


def look(text: str) -> dict[str, str | None]:
    """The digest. ``ConfigError`` if a function cannot be loaded."""
    loader = Loader(Secrets())
    loader.load([reward for reward in parse(text).rewards if not reward.judges])
    return {"digest": loader.digest()}


def main() -> None:
    """What a module prints while it is imported does not mix with the answer."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with answer:
        print(json.dumps(look(sys.stdin.read())), file=answer)


if __name__ == "__main__":
    sys.exit(told("", main))
