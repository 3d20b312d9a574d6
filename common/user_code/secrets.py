"""Secrets of a user's code: named ``env:NAME`` in the configuration, known to the processes that run it alone."""

import os
from typing import Any

from ..config.user_code import ENV
from ..errors import ConfigError


class Secrets:
    """What ``env:NAME`` stands for, and texts without it. ``worker``: on whose machine the variables are due."""

    def __init__(self, worker: str) -> None:
        self._worker, self._names = worker, dict[str, str]()

    def resolve(self, options: dict[str, Any], where: str) -> dict[str, Any]:
        """``options`` with every ``env:NAME`` replaced by the variable's value. ``ConfigError`` if it is not set."""
        return {key: self._resolved(value, f"{where}: options.{key}") for key, value in options.items()}

    def hide(self, text: str) -> str:
        """``text`` with every secret replaced by its name: what the code raises may quote one, as it stands, as
        Python shows it, or with its line ends gone. The longest goes first, since one may hold another."""
        for value, name in sorted(self._names.items(), key=lambda each: -len(each[0])):
            for form in (value, repr(value)[1:-1], " ".join(value.split())):
                text = text.replace(form, name) if form else text
        return text

    def _resolved(self, value: Any, where: str) -> Any:
        if isinstance(value, dict):
            return {key: self._resolved(each, where) for key, each in value.items()}
        if isinstance(value, list):
            return [self._resolved(each, where) for each in value]
        if not isinstance(value, str) or not value.startswith(ENV):
            return value
        found = os.environ.get(value.removeprefix(ENV))
        if not found:
            raise ConfigError(f"{where} = {value!r}: the variable is not set where this {self._worker} runs")
        self._names[found] = value
        return found
