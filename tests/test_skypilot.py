"""The tasks of ``deploy/skypilot``: what they are made of, and that what they run makes a run. SkyPilot itself is not
needed; where it is installed, it reads them too."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.running.server import free_port
from typer.testing import CliRunner

from tests.integration.running import SMALL, environment, metrics
from tests.roles import Roles

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("leeway", "rollout")


def recovering(name):
    """A command for bash that does what SkyPilot does with a task: it begins again after the exit codes that say so."""
    codes = task(name)["resources"].get("job_recovery", {}).get("recover_on_exit_codes", [])
    again = " || ".join(f"[ $code = {code} ]" for code in codes) or "false"
    return f'while bash -c "$0"; code=$?; {again}; do sleep 1; done; exit $code'


def task(name):
    return yaml.safe_load((ROOT / f"deploy/skypilot/{name}.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_task_has_what_skypilot_knows_and_no_password(name):
    said = task(name)
    assert set(said) == {"name", "workdir", "resources", "envs", "secrets", "setup", "run"}
    assert said["secrets"] == {"LEEWAY_PASSWORD": None}
    given = {*said["envs"], *said["secrets"], "SKYPILOT_NODE_IPS"}
    assert set(re.findall(r"\$\{?([A-Z_]+)", said["run"])) <= given
    for part in ("setup", "run"):
        read = subprocess.run(["bash", "-n"], input=said[part], capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, "")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.search(r"'\.\[(.*)]'", said["setup"])[1].split(",")
    assert set(asked) <= set(extras)


def test_skypilot_reads_them():
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed")
    for name in NAMES:
        more = {"env_overrides": [("ADDRESS", "10.0.0.5")]} if name == "rollout" else {}
        read = sky.Task.from_yaml_config(task(name), secrets_overrides=[("LEEWAY_PASSWORD", "x")], **more)
        assert read.run == task(name)["run"]


def test_only_what_others_can_replace_is_on_spot_machines():
    assert {name: task(name)["resources"]["use_spot"] for name in NAMES} == {"leeway": False, "rollout": True}


def test_every_command_and_option_of_the_tasks_exists():
    from leeway_rl.leeway.cli import app

    for name in NAMES:
        for command, rest in re.findall(r"\bleeway ([a-z]+)\b([^\n;|&]*)", task(name)["run"]):
            shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, command
            for option in re.findall(r"(?<= )--[a-z-]+", rest):
                assert option in shown.output, f"leeway {command} has no {option}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_tasks_run_makes_a_run_with_a_worker_from_elsewhere(tmp_path, wait_until):
    """Both machines are this one. The worker comes first, and waits for Redis and the run; and the run for it."""
    (tmp_path / "leeway/bin").mkdir(parents=True)
    (tmp_path / "leeway/bin/activate").write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
    both = {"HOME": str(tmp_path), "RUN": "my-run", "PORT": str(free_port()), "LEEWAY_PASSWORD": "0123abcd"}
    own = {
        "rollout": {"ADDRESS": "127.0.0.1"},
        "leeway": {"PRESET": SMALL[1], "SETTINGS": " ".join(SMALL[2:]), "SKYPILOT_NODE_IPS": "127.0.0.1\n10.0.0.2"},
    }
    assert {*both, *own["leeway"], *own["rollout"]} == {
        "HOME",
        "SKYPILOT_NODE_IPS",
        *(key for name in NAMES for part in ("envs", "secrets") for key in task(name)[part]),
    }
    processes = {
        name: subprocess.Popen(
            ["bash", "-c", recovering(name), task(name)["run"]],
            start_new_session=True,
            env=environment() | {"OMP_NUM_THREADS": "1"} | both | own[name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in ("rollout", "leeway")
    }
    begun = tmp_path / "runs/my-run/redis-url"
    try:
        wait_until(lambda: begun.exists() or processes["leeway"].poll() is not None, "the run begins", 250)
        with closing(Roles(Connection(f"redis://:0123abcd@127.0.0.1:{both['PORT']}/0", "my-run"))) as bus:

            def both_have_weights():
                return [beat.version >= 0 for beat in bus.overview.workers()[0] if beat.role == "rollout"] == [True] * 2

            bus.desk.set_control("paused", "1")
            wait_until(both_have_weights, "the worker from elsewhere has weights", 250)
            bus.desk.set_control("paused", "0")
        said = {name: process.communicate(timeout=250)[0] for name, process in reversed(processes.items())}
    finally:
        for process in processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert [process.returncode for process in processes.values()] == [0, 0], said
    assert "taken in" in said["rollout"]
    assert "audit passed" in said["leeway"]
    assert "0123abcd" not in "".join(said.values())
    assert len(metrics(tmp_path / "runs/my-run")) == 6
