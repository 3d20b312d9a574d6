"""What a rehearsal puts between a run's parts goes after the run, not before it."""

import sys
from contextlib import contextmanager

from leeway_rl.leeway.chaos import run

LIKE_UP = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(''); time.sleep(600)"
"""A process that begins a run's folder and is then at work until it is told to leave."""


def test_the_small_disk_goes_when_the_run_has_left(tmp_path, monkeypatch):
    started, at_work = [], []

    def like_up(_):
        (tmp_path / "night").mkdir()
        return [sys.executable, "-c", LIKE_UP, str(tmp_path / "night" / "config.toml")]

    @contextmanager
    def disk(_):
        yield
        at_work.append(started[0].poll() is None)

    monkeypatch.setattr(run, "leaving_with_parent", like_up)
    monkeypatch.setattr(run, "small_disk", disk)
    with run.begun("night", tmp_path, ["tiny"], []) as (_, process):
        started.append(process)
        assert process.poll() is None
    assert at_work == [False]
