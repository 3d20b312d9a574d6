"""Loads a run's own rewards once before it starts, and notes the digest of their code in its configuration."""

import json
import subprocess
import sys

from ...common.config import Config, dump
from ...common.errors import ConfigError
from ...common.texts import visible

ANSWER_S = 300.0
"""Seconds that loading the functions may take."""


def with_digest(config: Config) -> Config:
    """``config`` with ``verifier.rewards_digest`` filled in, where the run has code of its own and nothing is said.
    ``ConfigError`` if the functions cannot be loaded here, or are other code than it says. They are loaded in a process
    of their own, by the verifier's command."""
    if all(reward.judges for reward in config.rewards):
        return config
    command = [sys.executable, "-m", "leeway_rl.verifier.rewards.preflight"]
    try:
        done = subprocess.run(command, input=dump(config).encode(), capture_output=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"rewards: their functions were not loaded within {ANSWER_S:.0f} s") from None
    if done.returncode or not done.stdout:  # a module may end its process in ways that no exception tells
        code, lines = done.returncode, done.stderr.decode(errors="replace").splitlines()
        said = next((visible(line) for line in reversed(lines) if line.strip()), "")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = f"; last it said: {said}" if said else ""
        raise ConfigError(f"rewards: loading them ended with {how}, without an answer{last}")
    found = json.loads(done.stdout)
    if "wrong" in found:
        raise ConfigError(found["wrong"])
    digest = found["digest"]
    noted = config.verifier.rewards_digest
    if noted not in (None, "any", digest):
        raise ConfigError(
            f"the code of the rewards here has the digest {digest}, the run was started with {noted}: bring the same "
            "files here, or say that other code is fine: --set verifier.rewards_digest=any"
        )
    if digest is None or noted is not None:
        return config
    return config.model_copy(update={"verifier": config.verifier.model_copy(update={"rewards_digest": digest})})
