"""What the sections that name a user's own code share: where its file is, and how its secrets are written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

SECRET = re.compile(r"(?i)api_?key|password|secret|token$")
"""Names of options whose values are secrets."""
ENV = "env:"
"""A text that begins so names a variable of the environment. Only the process that needs it looks it up."""


def refuse_plain_secrets(options: Mapping[str, Any], where: str, workers: str) -> None:
    """``ConfigError`` if an option holds a secret in plain text. ``workers``: on whose machines it is needed."""
    for key, value in options.items():
        if SECRET.search(key) and isinstance(value, str) and value and not value.startswith(ENV):
            raise ConfigError(
                f"{where}.{key} holds a secret in plain text, and the configuration is stored; write "
                f'{key} = "env:NAME" and set the variable NAME where {workers} run'
            )


def placed(values: Any, folder: Path) -> Any:
    """The values of a preset in ``folder``, with ``{here}`` filled in, and paths in ``use`` absolute."""
    if isinstance(values, dict):
        found = {key: placed(value, folder) for key, value in values.items()}
        if isinstance(use := found.get("use"), str) and ".py:" in use and not use.startswith(("/", "~", "{")):
            found["use"] = str(folder / use)
        return found
    if isinstance(values, list):
        return [placed(value, folder) for value in values]
    return values.replace("{here}", str(folder)) if isinstance(values, str) else values
