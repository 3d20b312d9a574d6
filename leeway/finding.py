"""Which run is meant, and where its Redis is."""

from __future__ import annotations

from pathlib import Path

from ..common import address
from ..common.errors import DataError, NoRunError


def found(run: str | None, redis_url: str | None, runs_dir: Path) -> tuple[str, str]:
    """(redis url, run id), from what was given, the run's folder, or the newest run: of those that the given Redis
    holds, or where none was given, under ``runs_dir``."""
    if run is None and redis_url is not None:
        url = address.resolve(redis_url)
        return url, newest_at(url)
    if run is None:
        folders = sorted(runs_dir.glob("*/config.toml"), key=lambda path: path.stat().st_mtime)
        if not folders:
            raise DataError(f"no run under {runs_dir}/; name one with --run, and --redis-url if it is elsewhere")
        run = folders[-1].parent.name
    noted = runs_dir / run / "redis-url"
    if redis_url is None and noted.exists():
        redis_url = noted.read_text().strip()
    return address.resolve(redis_url), run


def newest_at(url: str) -> str:
    """The run that the Redis at ``url`` heard of last. ``NoRunError`` where it holds none."""
    from ..common.streams import runs_at

    held = runs_at(url)
    if not held:
        raise NoRunError(f"the Redis at {address.public(url)} holds no run that this user may see; name one with --run")
    return max(held, key=lambda run: (held[run], run))
