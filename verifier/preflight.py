"""Checks before anything starts whether this machine can grade some abilities, for ``leeway up`` and ``--dry-run``. It
takes the abilities as arguments and the configuration (TOML) on standard input."""

import sys
from collections.abc import Collection
from contextlib import closing

from ..common.config import Verifier, parse
from ..common.errors import told
from ..common.ground_truth import CODE, REASONING_GYM


def refuse_unable(settings: Verifier, abilities: Collection[str]) -> None:
    """Raise a ``ConfigError`` if one of ``abilities`` cannot be graded here. It says what to install or allow."""
    if REASONING_GYM in abilities:
        from .gym_answer import refuse_missing_package

        refuse_missing_package()
    if not {CODE, REASONING_GYM}.isdisjoint(abilities):
        from ..common.sandbox.room import SandboxRoom

        with closing(SandboxRoom(isolated=not settings.allow_unsandboxed)) as room:
            room.sandbox()


if __name__ == "__main__":
    sys.exit(told("", lambda: refuse_unable(parse(sys.stdin.read()).verifier, sys.argv[1:])))
