"""``leeway track``: a process for each tracker, so that one that hangs or dies keeps no other waiting."""

import time
from collections.abc import Sequence
from pathlib import Path

from ...common.config import Metrics
from ...common.errors import ConfigError, RoleDiedError
from ...common.stopping import STOPPED
from ..running.supervise import Role, ended, mend_beside
from ..running.trackers import known, tracker_role
from .following import LAST_S, config_of

LOOK_S = 0.2


def track(folder: Path, names: Sequence[str], project: str | None, *, wait: bool) -> None:
    """Feed these trackers from the run in ``folder``, by default those of its configuration, until each has all of
    it. ``RoleDiedError`` where one could not."""
    stored = _stored(folder)
    trackers = known(names or stored.trackers)
    if not trackers:
        raise ConfigError("no tracker is named: --to wandb, for instance; the run's metrics.trackers has none either")
    roles = [tracker_role(each, folder, project or stored.project, None, wait=wait) for each in trackers]
    try:
        for role in roles:
            role.start()
        while not all(role.given_up or ended(role) in (0, STOPPED) for role in roles):
            time.sleep(LOOK_S)
            for role in roles:
                mend_beside(role)
    finally:
        _leave(roles)
    if failed := [role.name for role in roles if role.given_up]:
        raise RoleDiedError(f"not everything was sent: {', '.join(failed)}; the same command goes on from there")


def _leave(roles: Sequence[Role]) -> None:
    """Ask all to leave, and see them out."""
    for role in roles:
        role.ask_to_leave()
    deadline = time.monotonic() + LAST_S + 10
    for role in roles:
        while role.process is not None and role.process.poll() is None:
            if time.monotonic() > deadline:
                role.kill()
            time.sleep(LOOK_S)


def _stored(folder: Path) -> Metrics:
    """What the run's configuration says of trackers. Other keys are not looked at: the run may be of an older Leeway,
    which had others."""
    section = config_of(folder).get("metrics", {})
    return Metrics(**{key: section[key] for key in ("trackers", "project") if key in section})
