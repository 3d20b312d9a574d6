"""Redis comes back empty in the middle of a run; later everything is asked to leave twice. Nothing is lost, nothing
remains, and the books close."""

import shutil
import signal

import psutil
import pytest
from leeway_rl.leeway.running.server import EmbeddedServer

from tests.integration.running import SMALL, leeway, metrics, paused, role_pids, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_redis_comes_back_empty_and_training_goes_on(tmp_path, wait_until):
    others = {each.pid for each in psutil.Process().children()}  # servers of other tests
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    settings = [
        *SMALL,
        "--set",
        "train.steps=40",
        "--set",
        "train.checkpoint_every=100",
        "--set",
        "train.keep_checkpoints=1",
        "--set",
        "broker.drain_s=3000",
    ]
    running = start("up", "--run", "hurt", *settings, "--redis-url", server.url, cwd=tmp_path)
    folder = tmp_path / "runs/hurt"
    try:
        for step in (2, 5):
            wait_until(lambda step=step: len(metrics(folder)) >= step, f"step {step}", 300)
            server.process.kill()
            server.process.wait()
            shutil.rmtree(tmp_path / "redis" / "appendonlydir")
            server.start()
            before = len(metrics(folder))
            wait_until(lambda before=before: len(metrics(folder)) >= before + 2, "training goes on", 300)
        assert "Redis has lost the run" in (folder / "logs/learner.log").read_text()

        with paused(folder):  # it cannot be through before it is asked
            running.send_signal(signal.SIGTERM)
            while not (line := running.stdout.readline()).startswith("stopping"):  # two at once would arrive as one
                assert line, "it ended at the first signal"
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=300)  # at once, and not at the end of broker.drain_s
            assert running.returncode == 130
        roles = ("learner", "rollout", "verifier")
        # All were killed at once; those that the roles had started are waited for by nobody.
        wait_until(lambda: not any(role_pids("hurt", role, tmp_path) for role in roles), "every role is gone")
        # As if it had died while it wrote. The last checkpoint that it really began may be whole, half or not there.
        (folder / "checkpoints/step-000100.unfinished").mkdir(parents=True)
        again = leeway("up", "--run", "hurt", "--resume", "--redis-url", server.url, cwd=tmp_path)
        assert again.returncode == 0, again.stdout + again.stderr
    finally:
        running.kill()
        running.communicate()
        server.stop()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000040"]
    assert leeway("audit", "hurt", cwd=tmp_path).returncode == 0
    left = [each for each in psutil.Process().children() if each.pid not in others]
    assert not [each for each in left if each.status() != psutil.STATUS_ZOMBIE]
