"""Leeway: the Skywork-OR1 recipe (MAGIC) as an asynchronous, decoupled system.

This checkout *is* the package ``leeway_rl``: the folder ``common/`` is ``leeway_rl.common``, and so on. Wings
import each other by relative imports (``from ..common.types import Ticket``), so no foreign package that happens
to be called ``common`` can stand in for ours.
"""

__version__ = "0.1.0"
