"""The compose file is valid, and every service's command is one that our CLI understands.

No Docker engine is needed: the file is read as the Compose specification reads it, and integration tests start the
commands as they stand (test_integration.py).
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from leeway_rl.common.config import compose
from leeway_rl.leeway.running.placement import lay_out
from leeway_rl.leeway.watching.serve import PORT
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def command_of(service, **environment):
    """The command with its ${NAME:-default} filled in, as Compose does."""

    def filled(word):
        return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: environment.get(m[1], m[2]), word)

    return [filled(word) for word in service["command"]]


def roles_of(services):
    others = ("redis", "watch", "prometheus", "grafana")
    return {name: service for name, service in services.items() if name not in others}


def test_the_file_fits_the_compose_specification():
    from compose_pydantic import ComposeSpecification

    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    spec = ComposeSpecification(**{key: value for key, value in raw.items() if not key.startswith("x-")})
    assert set(spec.services) == set(raw["services"])


def test_redis_is_reachable_from_this_machine_only(services):
    assert services["redis"]["ports"] == ["127.0.0.1:6379:6379"]
    assert "--appendonly" in services["redis"]["command"]
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]


def test_every_role_waits_for_a_healthy_redis_and_belongs_to_one_profile(services):
    roles = roles_of(services)
    on_gpus = {"learner-gpu", "verifier-gpu", *(f"rollout-gpu-{index}" for index in range(4))}
    assert set(roles) == {"learner", "rollout", "verifier", *on_gpus}
    for name, service in roles.items():
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
        assert service["profiles"] == ["gpu" if name in on_gpus else "cpu"]


def gpus_of(service):
    """Numbers of the GPUs that a service reserves."""
    devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    for device in devices:
        assert device["driver"] == "nvidia"
        assert {"gpu", "compute", "utility"} <= set(device["capabilities"])  # utility brings nvidia-smi
        assert "count" not in device  # Compose takes one of the two
    return tuple(int(number) for device in devices for number in device["device_ids"])


def test_every_service_has_the_gpus_by_number_that_the_layout_of_7b_gives_it(services):
    layout = lay_out(compose(["skywork-or1-7b"], []), 8, alone=True)
    given = {name: gpus for name, service in services.items() if (gpus := gpus_of(service))}
    assert given == {
        each.name.replace("rollout", "rollout-gpu").replace("learner", "learner-gpu"): each.gpus
        for each in layout.placed
    }


def test_workers_of_a_node_share_its_memory_and_the_learner_s_ranks_have_room_for_nccl(services):
    rollout = [service for name, service in services.items() if name.startswith("rollout-gpu")]
    assert {service["ipc"] for service in rollout} == {"host"}
    assert not any("shm_size" in service for service in rollout)  # it would hold for a /dev/shm of its own
    assert services["learner-gpu"]["shm_size"] == "16gb"


def test_every_commands_options_exist(services):
    from leeway_rl.leeway.cli import app

    for name, service in {**roles_of(services), "watch": services["watch"]}.items():
        program, command, *options = command_of(service)
        assert program == "leeway"
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            if option.startswith("--"):
                assert option in shown, f"{name}: leeway {command} has no {option}"


def test_the_page_of_a_run_stays_on_the_loopback_and_writes_nothing(services):
    watch = services["watch"]
    assert watch["network_mode"] == "host"
    assert "ports" not in watch
    assert "--host" not in watch["command"]
    assert "--allow-control" not in watch["command"]
    assert watch["volumes"] == ["./runs:/work/runs:ro"]
    assert f":{PORT}/" in watch["healthcheck"]["test"][-1]


def extras_of(service):
    return service["build"]["args"]["EXTRAS"].split(",")


def test_every_service_s_image_has_what_its_command_and_its_health_check_need(services):
    needed = {"learner": "learner", "rollout": "rollout", "verifier": "verifier", "watch": "watch"}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, service in {**roles_of(services), "watch": services["watch"]}.items():
        extras = extras_of(service)
        if extras == ["cpu"]:
            (inside,) = re.findall(r"\[(.*)\]", groups["cpu"][0])
            extras = inside.replace("rollout-cpu", "rollout").split(",")
        assert {needed[name.split("-")[0]], "metrics"} <= set(extras), name


def test_an_image_without_gpus_has_torch_for_the_cpu_by_default(services):
    """The package index has the build for CUDA under the same version: an image of several gigabytes more."""
    (default,) = re.findall(r"^ARG TORCH_INDEX=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert default.endswith("/cpu")
    assert all("TORCH_INDEX" not in each["build"]["args"] for each in roles_of(services).values())


def test_with_users_every_role_reads_its_own_address_from_a_file(services):
    """The overlay replaces the address and the server's command, and nothing else of a service."""
    overlay = yaml.safe_load((ROOT / "deploy/docker/users.yml").read_text())
    redis = overlay["services"].pop("redis")
    assert redis["command"] == [*services["redis"]["command"], "--aclfile", "/run/secrets/users.acl"]
    assert set(overlay["services"]) == {*roles_of(services), "watch"}
    for name, service in overlay["services"].items():
        assert set(service) == {"environment", "secrets"}
        assert service["environment"] == {"LEEWAY_REDIS_URL": "@/run/secrets/address"}
        user = "desk" if name == "watch" else name.split("-")[0]
        assert service["secrets"] == [{"source": user, "target": "address"}]
    assert {"secrets", "runs"} <= set((ROOT / ".dockerignore").read_text().split())


def test_what_no_image_needs_is_not_sent_to_the_engine():
    """A change of a page or a test would else install every package anew."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    needed = {name.split(".")[1] for name in packages if "." in name} | {"pyproject.toml", "constraints-cpu.txt"}
    assert {"docs", "tests", "deploy", "Dockerfile"} <= set(ignored)
    assert not needed & set(ignored)
