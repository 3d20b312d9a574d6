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


CODE_KEYS = ("use", "loss")
"""Keys whose text may name a file of code and what stands in it, ``path/to/file.py:name``."""


def placed(values: Any, folder: Path) -> Any:
    """The values of a preset in ``folder``, with ``{here}`` filled in, and the paths of code absolute."""
    return code_from(_here(values, str(folder)), folder)


def _here(values: Any, folder: str) -> Any:
    if isinstance(values, dict):
        return {key: _here(value, folder) for key, value in values.items()}
    if isinstance(values, list):
        return [_here(value, folder) for value in values]
    return values.replace("{here}", folder) if isinstance(values, str) else values


def code_from(values: Any, folder: Path) -> Any:
    """``values`` with the paths of code that are relative taken from ``folder``."""
    if isinstance(values, dict):
        found = {key: code_from(value, folder) for key, value in values.items()}
        for key in CODE_KEYS:
            said = found.get(key)
            if isinstance(said, str) and ".py:" in said and not said.startswith(("/", "~", "{")):
                found[key] = str(folder / said)
        return found
    return [code_from(value, folder) for value in values] if isinstance(values, list) else values
