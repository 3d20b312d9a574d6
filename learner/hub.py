"""Pushes an exported model to the hub: ``leeway export --push ORG/NAME``. The repository is private unless asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..common.errors import ConfigError, DataError

T = TypeVar("T")

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


class Hub:
    """One repository for a model, at the hub or at ``HF_ENDPOINT``."""

    def __init__(self, name: str, *, public: bool) -> None:
        """``ConfigError`` where ``name`` is none of a repository, or there is no token. Nothing is asked of the hub
        yet."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--push {name!r}: expected ORG/NAME, a user or an organisation and the model's name")
        from huggingface_hub import HfApi, get_token

        if get_token() is None:
            raise ConfigError(
                f"--push {name}: there is no token for the hub: set HF_TOKEN, or HF_TOKEN_PATH to a file that has it, "
                "or log in with hf auth login"
            )
        self.name, self._public, self._api = name, public, HfApi()

    def make_ready(self) -> None:
        """Make the repository where it is not there. This comes before the export, which may take long. ``DataError``
        where the hub does not let us, or has it as a public one and nobody has asked for that."""

        def ready() -> bool:
            self._api.create_repo(self.name, private=not self._public, exist_ok=True)
            return bool(self._api.model_info(self.name).private)

        if not self._asked(ready) and not self._public:
            raise DataError(
                f"--push {self.name}: that repository is public; --public says that these weights may be, or name "
                "another one"
            )

    def push(self, folder: Path, message: str) -> str:
        """Commit everything in ``folder``, which an export has written, and return where it is now."""

        def push() -> str:
            made = self._api.upload_folder(repo_id=self.name, folder_path=folder, commit_message=message)
            return str(made.commit_url)

        return self._asked(push)

    def _asked(self, ask: Callable[[], T]) -> T:
        import httpx

        try:
            return ask()
        except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:  # the hub's own are of the first or last
            why = error.__cause__ or error  # what was tried again is wrapped
            raise DataError(f"--push {self.name}: {type(why).__name__}: {' '.join(str(why).split())}") from error
