"""Every service's command of docker-compose.yml, started as it stands there, makes a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.running import leeway, metrics
from tests.test_compose import ROOT, command_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("suffix", "roles", "ranks"),
    [
        ("", ["rollout", "verifier", "learner"], 1),
        ("-gpu", ["rollout-gpu-0", "rollout-gpu-1", "verifier-gpu", "learner-gpu"], 2),
    ],
)
def test_the_services_commands_make_a_run(tmp_path, redis_url, suffix, roles, ranks):
    """Those of the GPUs' profile run on the CPU here; the learner's starts as many ranks as the preset says."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    short = tmp_path / "short.toml"
    text = (ROOT / "presets/tiny.toml").read_text()
    text = text.replace("steps = 60", f"steps = 2\nranks = {ranks}\nzero_stage = {ranks - 1}")
    short.write_text(text.replace("groups_per_step = 16", "groups_per_step = 4"))
    run = f"compose{suffix}-{os.getpid()}"
    environment = os.environ | {"LEEWAY_REDIS_URL": redis_url, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    processes = []
    try:
        for role in roles:
            words = command_of(services[role], RUN=run, PRESET=str(short))
            processes.append(subprocess.Popen(words, cwd=tmp_path, env=environment))
        assert [process.wait(600) for process in reversed(processes)] == [0] * len(roles)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    folder = tmp_path / "runs" / run
    assert len(metrics(folder)) == 2
    newest = max((folder / "checkpoints").iterdir())
    assert json.loads((newest / "complete.json").read_text())["layout"]["ranks"] == ranks
    assert leeway("audit", run, cwd=tmp_path).returncode == 0
