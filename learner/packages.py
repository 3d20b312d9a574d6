"""The packages that a learner computes with."""

import platform
from importlib.metadata import PackageNotFoundError, version


def packages() -> dict[str, str]:
    """Versions of the packages that compute here, for whoever wants to reproduce a checkpoint."""
    found = {"python": platform.python_version()}
    for name in ("leeway-rl", "torch", "deepspeed", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # it is on the path, but not installed
            continue
    return found
