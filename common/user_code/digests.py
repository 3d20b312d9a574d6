"""The one rule on the digest of a user's code: a run goes on with the code that it was started with."""

from typing import NamedTuple

from ..errors import ConfigError


class Code(NamedTuple):
    """Which code of a user's it is."""

    whose: str
    key: str
    """The key of the configuration that the run's digest stands in."""


REWARDS = Code("the rewards", "verifier.rewards_digest")
ENVIRONMENT = Code("the environment", "environment.digest")
LOSS = Code("the loss", "objective.loss_digest")


def refuse_other_code(found: str | None, noted: str | None, code: Code) -> None:
    """``ConfigError`` if the code ``found`` here is not the one that the run has ``noted``. Where nothing is noted, or
    ``any``, all code is right."""
    if noted not in (None, "any", found):
        raise ConfigError(
            f"the code of {code.whose} here has the digest {found}, the run was started with {noted}: bring the same "
            f"files here, or say that other code is fine: --set {code.key}=any"
        )
