"""``leeway runs``: the runs of a folder, the newest first."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from ...common.errors import DataError
from ...common.tables import as_text, table
from ...common.wording import byte_size
from ..finding import runs_under
from .standing import Standing, standing


def listed(runs_dir: Path, *, as_json: bool) -> str:
    """One line for each run, or a JSON list of objects, one for each run. ``DataError`` where there is no such
    folder."""
    if not runs_dir.is_dir():
        raise DataError(f"{runs_dir}: no such folder; runs are in runs/ unless --runs-dir said otherwise")
    found = [standing(place.folder) for place in runs_under(runs_dir)]
    if as_json:
        return json.dumps([asdict(each) for each in found], indent=2)
    if not found:
        return f"no run under {runs_dir}/"
    return as_text(table(("run", "state", "step", "reward", "last step", "size"), map(_cells, found), right={2, 3, 5}))


def _cells(each: Standing) -> tuple[str, ...]:
    return (
        each.run,
        each.state,
        f"{each.step}/{'?' if each.steps is None else each.steps}",
        "-" if each.reward is None else f"{each.reward:.3f}",
        datetime.fromtimestamp(each.at).strftime("%Y-%m-%d %H:%M"),
        byte_size(each.bytes),
    )
