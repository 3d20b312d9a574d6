"""Loads the environment of a configuration once, prints the digest of the user's code, and looks whether the model's
chat template can be used, for ``leeway up``, ``leeway create`` and ``leeway check``."""

from typing import Any

from ...common.config import Config
from ...common.preflight.hub import folder_of
from ...common.preflight.tokens import hide_torch, load_tokenizer
from ...common.user_code.looking import answer
from ...common.user_code.secrets import Secrets
from .conversation import ends_of_model, glue_of
from .loading import KIND, Loader


def look(config: Config) -> dict[str, Any]:
    """The digest. ``ConfigError`` where the class cannot be loaded, or where the template rewrites earlier turns. A
    model that is not on this machine is left to the workers."""
    assert config.environment is not None
    loader = Loader(Secrets(KIND.worker))
    loader.load(config.environment)
    digest = loader.digest()  # before other modules come with the tokenizer
    folder = folder_of(config.model.path)
    if folder is not None and folder.is_dir():
        hide_torch()  # The user's module is loaded by now, and torch with it if it needs torch.
        tokenizer = load_tokenizer(folder)
        glue_of(tokenizer, config.environment.role, ends_of_model(str(folder), tokenizer))
    return {"digest": digest}


if __name__ == "__main__":
    answer(look)
