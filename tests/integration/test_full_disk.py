"""A run whose folder has no room left waits, says so, and ends as if nothing had been."""

import os

import pytest
from leeway_rl.leeway.chaos.target import fill, small_disk

from tests.allowed import allowed

from .running import SMALL, last_checksum, leeway, metrics, paused, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STRICT = [*SMALL, "--set", "flow.max_staleness=0", "--set", "train.steps=24"]


def test_it_goes_on_when_there_is_room_with_every_line_of_its_books(tmp_path, wait_until, redis_url):
    name = f"full-{os.getpid()}"
    calm = leeway("up", "--run", "calm", *STRICT, cwd=tmp_path)
    assert calm.returncode == 0, calm.stdout + calm.stderr
    with allowed(small_disk(tmp_path / "runs/full")):
        folder = tmp_path / "runs/full"
        running = start("up", "--run", name, "--runs-dir", str(folder), "--redis-url", redis_url, *STRICT, cwd=tmp_path)
        run = folder / name
        wait_until(lambda: len(metrics(run)) >= 2, "the second step", 300)
        with paused(run):
            ballast = fill(folder)

        def told():
            said = leeway("status", "--run", name, "--redis-url", redis_url, cwd=tmp_path)
            return said.returncode == 8 and "is full" in " ".join(said.stdout.split())

        wait_until(told, "status says what the learner waits for", 300)
        ballast.unlink()
        said, _ = running.communicate(timeout=600)
        assert running.returncode == 0, said
        audited = leeway("audit", name, "--runs-dir", str(folder), cwd=tmp_path)
        assert audited.returncode == 0, audited.stderr
        assert [line["step"] for line in metrics(run)] == list(range(24))
        assert last_checksum(run) == last_checksum(tmp_path / "runs/calm")
