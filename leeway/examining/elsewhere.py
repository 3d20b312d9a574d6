"""Whether checkpoints could be copied to the place that a configuration names."""

from collections.abc import Collection, Iterator

from ...common.config import Config
from ...common.elsewhere.address import extra_of
from ...common.elsewhere.copies import copies_at, probe
from ...common.elsewhere.place import OutOfReach, Place
from ...common.errors import ConfigError
from .line import Line, mend, ok

WHAT = "checkpoints.copy_to"


def extras(config: Config | None, roles: Collection[str]) -> list[str]:
    """Our extra that brings the package for the place, if there is one."""
    extra = extra_of(config.checkpoints.copy_to) if config is not None and config.checkpoints.copy_to else None
    return [extra] if extra is not None and "learner" in roles else []


def copies(config: Config | None, roles: Collection[str], run: str | None) -> Iterator[Line]:
    """A line on the place, where the learner is here and has one: a small file is written, read back and removed."""
    if config is None or config.checkpoints.copy_to is None or "learner" not in roles:
        return
    try:
        place = Place(config.checkpoints.copy_to, tries=1)
        probe(place)
        found = copies_at(place.at(run))[0] if run is not None else []
    except ConfigError as error:
        yield mend(WHAT, str(error))
    except OutOfReach as error:
        how = "mend the address, the rights there, or the credentials in the environment of the learner's first node"
        yield mend(WHAT, str(error), how)
    else:
        latest = f"; the latest copy of {run} is of step {found[0].step}" if found else ""
        yield ok(WHAT, f"{place.address} can be written and read{latest}")
