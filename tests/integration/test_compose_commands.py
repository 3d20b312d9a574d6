"""Every service's command of docker-compose.yml, started as it stands there, makes a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.running import leeway, metrics
from tests.test_compose import ROOT, command_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("suffix", ["", "-gpu"])
def test_the_services_commands_make_a_run(tmp_path, redis_url, suffix):
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    short = tmp_path / "short.toml"
    text = (ROOT / "presets/tiny.toml").read_text()
    short.write_text(text.replace("steps = 60", "steps = 2").replace("groups_per_step = 16", "groups_per_step = 4"))
    run = f"compose{suffix}-{os.getpid()}"
    environment = os.environ | {"LEEWAY_REDIS_URL": redis_url, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    processes = []
    try:
        for role in ("rollout", "verifier", "learner"):
            words = command_of(services[role + suffix], RUN=run, PRESET=str(short))
            processes.append(subprocess.Popen(words, cwd=tmp_path, env=environment))
        assert [process.wait(200) for process in reversed(processes)] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(metrics(tmp_path / "runs" / run)) == 2
    assert leeway("audit", run, cwd=tmp_path).returncode == 0
