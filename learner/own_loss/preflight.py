"""Loads the user's loss of a configuration, tries it out, and prints the digest of the user's code, for ``leeway up``
and ``leeway create``."""

from typing import Any

from ...common.config import Config
from ...common.user_code.looking import answer
from .loading import prepare


def look(config: Config) -> dict[str, Any]:
    """The digest. ``ConfigError`` where the loss cannot be used."""
    own = prepare(config)
    return {"digest": None if own is None else own.digest}


if __name__ == "__main__":
    answer(look)
