"""Loads the reward functions of a configuration and prints the digest of the user's code, for ``leeway up`` and
``leeway create``."""

from typing import Any

from ...common.config import Config
from ...common.user_code.looking import answer
from ...common.user_code.secrets import Secrets
from .loading import KIND, Loader


def look(config: Config) -> dict[str, Any]:
    """The digest. ``ConfigError`` where a function cannot be loaded."""
    loader = Loader(Secrets(KIND.worker))
    loader.load([reward for reward in config.rewards if not reward.judges])
    return {"digest": loader.digest()}


if __name__ == "__main__":
    answer(look)
