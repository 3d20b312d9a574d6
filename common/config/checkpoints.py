"""The section on copies of checkpoints at another place. When checkpoints are written stands in ``[train]``."""

from typing import Literal

from pydantic import Field

from ..elsewhere.address import why_not
from ..errors import ConfigError
from .section import Section


class Checkpoints(Section):
    copy_to: str | None = Field(default=None, min_length=1)
    """Copy each checkpoint, with what else a resume on another machine needs, into ``RUN/`` under this place, beside
    the training steps: a URL of fsspec's (``s3://bucket/folder``, ``gs://…``, ``file:///…``) or a whole path.
    Credentials come from the environment, never from here."""
    verify: Literal["bytes", "sizes"] = "bytes"
    """What is checked before a copy counts. ``bytes``: every file is read back and must have the SHA-256 that was
    written. ``sizes``: the place says how large each file is, and nothing is read back."""

    def refuse_impossible(self) -> None:
        """``ConfigError`` if nothing could be copied to ``copy_to``, or if it has a secret in it."""
        if self.copy_to is not None and (why := why_not(self.copy_to)) is not None:
            raise ConfigError(f"checkpoints.copy_to = {why}")
