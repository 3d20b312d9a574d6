"""Which run is meant, and where its Redis is."""

from __future__ import annotations

from pathlib import Path

from ..common import address
from ..common.errors import DataError


def found(run: str | None, redis_url: str | None, runs_dir: Path) -> tuple[str, str]:
    """(redis url, run id), from what was given, the run's folder, or the newest run."""
    if run is None:
        folders = sorted(runs_dir.glob("*/config.toml"), key=lambda path: path.stat().st_mtime)
        if not folders:
            raise DataError(f"no run under {runs_dir}/; name one with --run, and --redis-url if it is elsewhere")
        run = folders[-1].parent.name
    noted = runs_dir / run / "redis-url"
    if redis_url is None and noted.exists():
        redis_url = noted.read_text().strip()
    return address.resolve(redis_url), run
