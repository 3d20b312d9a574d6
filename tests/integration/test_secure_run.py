"""A whole run over TLS, every role under its own user with its own password, which is nowhere to be seen."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from leeway_rl.common.activity import Activity
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.running.acl import USERS, acl, user_name
from leeway_rl.leeway.running.server import EmbeddedServer

from tests.integration.running import SMALL, command, environment
from tests.integration.tls import TlsProxy, make_certificate
from tests.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
IDLE = {Activity.WAITING_FOR_GROUPS, Activity.WAITING_FOR_PROMPTS, Activity.WAITING_FOR_RESPONSES}
"""What the roles of a run do that is paused."""


@pytest.fixture
def urls(tmp_path):
    """Of each role: ``rediss://`` to a server with the printed users, and certificates that are checked."""
    (tmp_path / "users.acl").write_text(acl("safe", tmp_path / "passwords") + "\nuser default off resetpass -@all\n")
    passwords = dict(line.split() for line in (tmp_path / "passwords").read_text().splitlines())
    logins = {role: f"{user_name(role, 'safe')}:{passwords[user_name(role, 'safe')]}@" for role in USERS}
    certificate, key = make_certificate(tmp_path)
    options = ("--aclfile", str(tmp_path / "users.acl"))
    with (
        EmbeddedServer(tmp_path / "redis", options=options, user=logins["desk"]) as server,
        TlsProxy(server.port, certificate, key) as proxy,
    ):
        yield {
            role: f"rediss://{login}127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate}"
            for role, login in logins.items()
        }


def test_every_role_works_over_tls_under_its_own_user_and_leaves_no_password(urls, tmp_path, wait_until):
    secrets = [url.split(":")[2].split("@")[0] for url in urls.values()]
    home, processes = tmp_path / "home", {}
    home.mkdir()
    for role, url in urls.items():
        (tmp_path / f"url-{role}").write_text(url)

    def leeway(*words, user="desk"):
        settings = environment() | {"LEEWAY_REDIS_URL": urls[user]}
        done = subprocess.run(
            command(*words), cwd=home, env=settings, capture_output=True, text=True, timeout=600, check=False
        )
        return done.returncode, done.stdout + done.stderr

    assert leeway("create", "--run", "safe", *SMALL, "--set", "train.steps=12")[0] == 0
    bus = Roles(Connection(urls["desk"], "safe"))
    bus.desk.set_control("paused", "1")  # it cannot be through before it is looked at
    logs = {role: open(home / f"{role}.log", "w") for role in USERS}  # noqa: SIM115
    try:
        for role in ("learner", "rollout", "verifier"):
            words = command(role, "--run", "safe", "--redis-url", f"@{tmp_path}/url-{role}")
            processes[role] = subprocess.Popen(
                words, cwd=home, env=environment(), stdout=logs[role], stderr=subprocess.STDOUT
            )
        wait_until(lambda: {beat.doing.kind for beat in bus.overview.workers()[0]} == IDLE, "all wait for work", 300)
        for process in psutil.process_iter(["cmdline"]):
            assert not any(secret in " ".join(process.info["cmdline"] or []) for secret in secrets)
        for started in [each for role in processes.values() for each in psutil.Process(role.pid).children(True)]:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                assert "LEEWAY_REDIS_URL" not in started.environ(), "what a role starts needs no Redis"
        code, said = leeway("status", "--run", "safe", "--json")
        assert code == 0, said
        assert {worker["role"] for worker in json.loads(said)["workers"]} == {"learner", "rollout", "verifier"}
        assert leeway("set", "max-staleness", "2", "--run", "safe")[0] == 0
        code, said = leeway("set", "max-staleness", "3", "--run", "safe", user="rollout")
        assert (code, "refuses this user" in said, "Traceback" in said) == (4, True, False), said
        bus.desk.set_control("paused", "0")
        assert [process.wait(600) for process in processes.values()] == [0, 0, 0]
    finally:
        bus.close()
        for process in processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()
        for log in logs.values():
            log.close()
    assert leeway("audit", "safe")[0] == 0
    assert leeway("dead-letters", "list", "--run", "safe") == (0, "no dead letters\n")
    code, said = leeway("clean", "safe")
    assert (code, "keys removed" in said) == (0, True), said
    kept = [path for path in home.rglob("*") if path.is_file()]
    assert len(kept) > 8
    for path in kept:
        body = path.read_bytes()
        assert not any(secret.encode() in body for secret in secrets), path


def test_a_certificate_that_is_not_trusted_ends_the_connection(urls):
    untrusted = urls["desk"].split("?")[0]
    settings = environment() | {"LEEWAY_REDIS_URL": untrusted, "SSL_CERT_FILE": os.devnull}
    words = [sys.executable, "-m", "leeway_rl.rollout", "--run", "safe", "--wait-s", "0"]
    done = subprocess.run(words, env=settings, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 4
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert untrusted.split(":")[2].split("@")[0] not in done.stderr
