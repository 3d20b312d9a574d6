"""Loads a run's own code once before it starts, and notes its digests in the configuration."""

import json
import subprocess
import sys
from pathlib import Path

from ...common.config import Config, compose, dump
from ...common.errors import ConfigError, DataError
from ...common.settings import written
from ...common.texts import visible
from ...common.user_code.digests import ENVIRONMENT, LOSS, REWARDS, refuse_other_code

ANSWER_S = 300.0
"""Seconds that loading the code may take."""


def with_digests(config: Config) -> Config:
    """``config`` with the digests of ``[verifier]``, ``[environment]`` and ``[objective]`` filled in, where
    the run has code of its own and nothing is said. ``ConfigError`` if the code cannot be loaded here, or is another
    than it says. It is loaded in processes of its own, by the commands of the roles that will run it."""
    verifier, environment, objective = config.verifier, config.environment, config.objective
    if not all(reward.judges for reward in config.rewards):
        digest = _digest("rewards", "verifier.rewards", config)
        refuse_other_code(digest, verifier.rewards_digest, REWARDS)
        verifier = verifier.model_copy(update={"rewards_digest": verifier.rewards_digest or digest})
    if environment is not None:
        digest = _digest("environment", "rollout.environments", config)
        refuse_other_code(digest, environment.digest, ENVIRONMENT)
        environment = environment.model_copy(update={"digest": environment.digest or digest})
    if objective.own_loss:
        digest = _digest("objective.loss", "learner.own_loss", config)
        refuse_other_code(digest, objective.loss_digest, LOSS)
        objective = objective.model_copy(update={"loss_digest": objective.loss_digest or digest})
    return config.model_copy(update={"verifier": verifier, "environment": environment, "objective": objective})


def settings_with_digests(configuration: Path, settings: list[str]) -> list[str]:
    """``settings`` for a run that takes over the ``configuration`` of another, with the digests of its code where they
    are not the other's. Rewards, an environment or a loss that the settings change are code of this run's own."""
    if not configuration.is_file():
        raise DataError(f"{configuration}: the run has no configuration in its folder")
    before, now = compose([str(configuration)], []), compose([str(configuration)], settings)
    verifier, environment = now.verifier, now.environment
    if now.rewards != before.rewards and verifier.rewards_digest == before.verifier.rewards_digest:
        verifier = verifier.model_copy(update={"rewards_digest": None})
    noted = None if before.environment is None else before.environment.digest
    if environment is not None and environment != before.environment and environment.digest == noted:
        environment = environment.model_copy(update={"digest": None})
    objective, noted_loss = now.objective, before.objective.loss_digest
    if objective.loss != before.objective.loss and objective.loss_digest == noted_loss:
        objective = objective.model_copy(update={"loss_digest": None})
    chosen = {"verifier": verifier, "environment": environment, "objective": objective}
    now = with_digests(now.model_copy(update=chosen))
    found = [
        ("verifier.rewards_digest", now.verifier.rewards_digest, before.verifier.rewards_digest),
        ("objective.loss_digest", now.objective.loss_digest, noted_loss),
    ]
    if now.environment is not None:
        found.append(("environment.digest", now.environment.digest, noted))
    return settings + [written(key, digest) for key, digest, noted in found if digest not in (noted, None)]


def _digest(section: str, role: str, config: Config) -> str | None:
    """The digest of the code that the ``section`` names, or None where it is none of the user's."""
    command = [sys.executable, "-m", f"leeway_rl.{role}.preflight"]
    try:
        done = subprocess.run(command, input=dump(config).encode(), capture_output=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{section}: its code was not loaded within {ANSWER_S:.0f} s") from None
    if done.returncode or not done.stdout:  # a module may end its process in ways that no exception tells
        code, lines = done.returncode, done.stderr.decode(errors="replace").splitlines()
        said = next((visible(line) for line in reversed(lines) if line.strip()), "")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = f"; last it said: {said}" if said else ""
        raise ConfigError(f"{section}: loading its code ended with {how}, without an answer{last}")
    found = json.loads(done.stdout)
    if "wrong" in found:
        raise ConfigError(found["wrong"])
    digest: str | None = found["digest"]
    return digest
