"""Loads a run's own rewards once before it starts, and notes the digest of their code in its configuration."""

import json
import subprocess
import sys

from ...common.config import Config, dump
from ...common.errors import ConfigError

ANSWER_S = 300.0
"""Seconds that loading the functions may take."""


def with_digest(config: Config) -> Config:
    """``config`` with ``verifier.rewards_digest`` filled in, where the run has code of its own and nothing is said.
    ``ConfigError`` if the functions cannot be loaded here. They are loaded in a process of their own, by the verifier's
    command."""
    if all(reward.judges for reward in config.rewards):
        return config
    command = [sys.executable, "-m", "leeway_rl.verifier.rewards.preflight"]
    try:
        done = subprocess.run(
            command, input=dump(config), capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"rewards: their functions were not loaded within {ANSWER_S:.0f} s") from None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        raise ConfigError(lines[-1] if lines else f"rewards: loading them ended with code {done.returncode}")
    digest = json.loads(done.stdout)["digest"]
    if digest is None or config.verifier.rewards_digest is not None:
        return config
    return config.model_copy(update={"verifier": config.verifier.model_copy(update={"rewards_digest": digest})})
