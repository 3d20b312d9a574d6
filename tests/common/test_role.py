"""A role and the run that it wants to join: both have to be of one build."""

import subprocess
import sys

import pytest
from leeway_rl.common.codec import SCHEMA
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import BrokerError, ConfigError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.leeway.running.server import EmbeddedServer

from tests.roles import Roles
from tests.samples import a_ticket


def joined(role, bus):
    """The role's own command, which has to leave before it loads anything."""
    command = [sys.executable, "-m", f"leeway_rl.{role}", "--redis-url", bus.url, "--run", bus.run]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("role", ["rollout", "verifier"])
def test_a_worker_of_another_build_is_refused_by_the_run_and_takes_nothing(bus, role):
    bus.record.store_config(dump(compose(["tiny"], [])))
    bus.redis.set(bus.keys.config, bus.redis.get(bus.keys.config).replace(b"schema %d" % SCHEMA, b"schema 7"))
    bus.learner.ensure_groups()
    bus.learner.issue(a_ticket())
    done = joined(role, bus)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.splitlines()[-1] == (
        f"leeway {role}: run {bus.run!r} has messages of schema 7, and this build speaks {SCHEMA}; every role of a run "
        "has to be of the same Leeway: start the others again with this one"
    )
    assert bus.overview.under_way(WorkStream.PROMPTS) == {}
    assert bus.overview.depths()["dead_letters"] == 0


def test_a_learner_stores_the_configuration_again_where_another_build_has_stored_it_and_only_there(bus):
    bus.record.store_config("# mine\nkept")
    bus.redis.expire(bus.keys.config, 100)
    bus.learner.note_schema()
    assert bus.redis.ttl(bus.keys.config) > 0, "nothing was written"
    bus.redis.set(bus.keys.config, "# messages of schema 7\n# mine\nkept")
    bus.learner.note_schema()
    bus.desk.refuse_other_build()
    assert bus.desk.load_config() == "# mine\nkept"


def test_what_was_stored_is_loaded_as_it_was_and_without_a_note_it_is_of_schema_9(bus, monkeypatch):
    bus.record.store_config("# mine\nkept")
    assert bus.desk.load_config() == "# mine\nkept"
    bus.desk.refuse_other_build()
    bus.redis.set(bus.keys.config, "kept")
    assert bus.desk.load_config() == "kept"
    monkeypatch.setattr("leeway_rl.common.queue.member.SCHEMA", 10)
    with pytest.raises(ConfigError, match="schema 9, and this build speaks 10"):
        bus.desk.refuse_other_build()


def test_a_role_asks_a_redis_that_is_gone_for_as_long_as_the_run_says(tmp_path, wait_until):
    server = EmbeddedServer(tmp_path)  # outside its context it is not started again
    server.start()
    roles = Roles(Connection(server.url, "r"))
    roles.record.store_config(dump(compose(["tiny"], ["broker.retry_s=1", "verifier.workers=1"])))
    roles.learner.ensure_groups()
    command = [sys.executable, "-m", "leeway_rl.verifier", "--redis-url", server.url, "--run", "r"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as role:
        try:
            wait_until(lambda: roles.overview.workers()[0], "it is there", 300)
            roles.close()
            server.stop()
            _, said = role.communicate(timeout=50)  # a minute if it did not know
        finally:
            role.kill()
            server.stop()
    assert role.returncode == BrokerError.exit_code
    assert said.splitlines()[-1].startswith("leeway verifier: Redis was lost and did not come back")
