"""The compose file is valid, and every service's command is one that our CLI understands.

No Docker engine is needed: the file is read as the Compose specification reads it, and integration tests start the
commands as they stand (test_integration.py).
"""

import re
from pathlib import Path

import pytest
import yaml
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
    roles = {name: service for name, service in services.items() if name != "redis"}
    assert set(roles) == {r + s for r in ("learner", "rollout", "verifier") for s in ("", "-gpu")}
    for name, service in roles.items():
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
        assert service["profiles"] == ["gpu" if name.endswith("-gpu") else "cpu"]
    for name in ("learner-gpu", "rollout-gpu"):
        assert services[name]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_every_commands_options_exist(services):
    from leeway_rl.leeway.cli import app

    for name, service in services.items():
        if name == "redis":
            continue
        program, command, *options = command_of(service)
        assert program == "leeway"
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            if option.startswith("--"):
                assert option in shown, f"{name}: leeway {command} has no {option}"
