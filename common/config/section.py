"""The base of every section, and how paths in it are read."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

PRESETS = Path(__file__).resolve().parents[2] / "presets"


class Section(BaseModel):
    """A table of keys. The docstring under a key is its meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def expand(path: str) -> str:
    """``path`` with ``{presets}`` and a leading ``~`` filled in for this machine and user."""
    return os.path.expanduser(path.replace("{presets}", str(PRESETS)))
