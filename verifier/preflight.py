"""Whether this machine can grade some abilities, before anything starts: ``leeway up`` and its ``--dry-run`` ask.
Abilities as arguments, configuration (TOML) in."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import closing

from ..common.config import Verifier, parse
from ..common.errors import told
from ..common.ground_truth import CODE, REASONING_GYM


def refuse_unable(settings: Verifier, abilities: Collection[str]) -> None:
    """``ConfigError`` says what is to be installed or allowed for one of ``abilities`` to be graded here."""
    if REASONING_GYM in abilities:
        from .gym_answer import refuse_missing_package

        refuse_missing_package()
    if not {CODE, REASONING_GYM}.isdisjoint(abilities):
        from .sandbox.room import SandboxRoom

        with closing(SandboxRoom(settings)) as room:
            room.sandbox()


if __name__ == "__main__":
    sys.exit(told("", lambda: refuse_unable(parse(sys.stdin.read()).verifier, sys.argv[1:])))
