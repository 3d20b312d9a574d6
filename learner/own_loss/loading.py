"""Finds a loss of the user's, checks what it takes, tries it out, and gives a digest of the user's code that came with
it."""

import json
import sys

from ...common.config import Config, Objective
from ...common.errors import ConfigError
from ...common.fingerprint import fingerprint
from ...common.user_code.digests import LOSS, refuse_other_code
from ...common.user_code.loading import Kind, Loader, asked_of, told
from ..ranks import together
from .calling import ASKED, OwnLoss

KIND = Kind(section="objective", key="loss", thing="function", group="", worker="learner", shipped={})
TRIED = (7, 1)
"""Numbers of tokens that a loss is tried out on: several, and one alone."""

_loaded: dict[tuple[str, str], OwnLoss] = {}


def of(objective: Objective) -> OwnLoss | None:
    """The user's loss, which is loaded at the first call; None where the loss is one of ours. ``ConfigError`` where it
    cannot be loaded, or fails when it is tried out."""
    if not objective.own_loss:
        return None
    key = objective.loss, json.dumps(objective.loss_options, sort_keys=True)
    if key not in _loaded:
        _loaded[key] = _load(objective)
    return _loaded[key]


def prepare(config: Config) -> OwnLoss | None:
    """``of``, for a whole run. ``ConfigError`` also where the run was started with other code, or where the loss asks
    for what the run, or a stage of it, does not have."""
    own = of(config.objective)
    if own is not None:
        refuse_other_code(own.digest, config.objective.loss_digest, LOSS)
        for view in config.views():
            _refuse_what_is_not_there(own, view.objective)
    return own


def agree(objective: Objective) -> None:
    """Raise on every rank where the user's loss has failed on one. Collective, where the loss is the user's."""
    own = of(objective)
    if own is not None:
        together(own.raise_failure)


def _load(objective: Objective) -> OwnLoss:
    where, loader, paths = f"objective.loss = {objective.loss!r}", Loader(KIND), list(sys.path)
    try:
        function = loader.named(objective.loss)
        if not callable(function) or isinstance(function, type):
            what = "a class" if isinstance(function, type) else type(function).__name__
            raise ConfigError(f"{where}: it is {what}, and no function")
        asks = asked_of(function, (), tuple(ASKED), objective.loss_options, where)
    except ConfigError:
        raise
    except BaseException as error:  # the user's module may raise anything while it is imported
        raise ConfigError(f"{where}: {told(error)}") from None
    own = OwnLoss(where, function, asks, objective.loss_options)
    for count in TRIED:
        own.try_out(count)
    # The learner imports more later: a module of the user's must not stand in for one of those.
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    # Not by the modules' names, which depend on what else is loaded: this process has more than the one at the desk.
    files = sorted(loader.checksums().values())
    own.digest = fingerprint(files) if files else None
    return own


def _refuse_what_is_not_there(own: OwnLoss, objective: Objective) -> None:
    if "reference" in own.asks and objective.kl_beta == 0:
        raise ConfigError(
            f"{own.name}: it asks for reference, and objective.kl_beta = 0 loads no reference model; set "
            "objective.kl_beta above 0, or leave that parameter out"
        )
    if ("response_log_ratios" in own.asks) != (objective.loss_level != "token"):
        asks = "asks" if "response_log_ratios" in own.asks else "does not ask"
        raise ConfigError(
            f"{own.name}: it {asks} for response_log_ratios, with objective.loss_level = {objective.loss_level!r}: a "
            "loss that asks for them needs 'sequence' or 'geometric', which costs a forward pass before each update, "
            "and another one needs 'token'"
        )
