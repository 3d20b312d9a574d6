"""What a model's path stands for: a folder, or a name on the Hugging Face hub that may be in this machine's cache."""

import os
import re
from pathlib import Path

from ..config import expand
from ..errors import DataError

ASK_S = 5.0
"""Seconds that the hub may take to say whether it has a model."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(said: str) -> bool:
    """Whether ``model.path`` is not a folder but a name that the hub may know."""
    return _NAME.fullmatch(said) is not None and not Path(expand(said)).exists()


def folder_of(said: str) -> Path | None:
    """The folder that ``model.path`` means on this machine, whether it exists or not. For a hub name it is the one in
    the cache, or None if the name is not in the cache."""
    if not is_hub_name(said):
        return Path(expand(said))
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(said, "config.json")
    return Path(found).parent if isinstance(found, str) else None


_ON = ("1", "ON", "YES", "TRUE")


def refuse_unreachable(said: str, key: str = "model.path") -> None:
    """``DataError`` if a hub name, the value of ``key``, is not in the cache and cannot be downloaded."""
    offline = next(
        (name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name, "").upper() in _ON), None
    )
    neither = f"{key} = {said!r}: there is no such folder, nor a copy of that name in the hub's cache here"
    if offline is not None:
        raise DataError(f"{neither}, and {offline} forbids asking the hub")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ImportError as error:
        raise DataError(f"{neither}, and huggingface_hub is not installed (it comes with transformers)") from error
    try:
        HfApi().model_info(said, timeout=ASK_S)
    except GatedRepoError as error:
        raise DataError(
            f"{neither}, and the hub gives it to those alone whom its owner lets (hf auth login)"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{neither}, and the hub has none") from error
    except Exception as error:  # the library's own errors, and those of its HTTP client, which has changed before
        raise DataError(f"{neither}, and the hub cannot be reached ({type(error).__name__})") from error
