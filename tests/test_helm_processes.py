"""What the chart in ``deploy/helm/leeway`` renders, started as processes of this machine: Redis with its configuration,
users and certificate, under the addresses that the roles are given; and the scripts that keep a pod and ask whether it
lives."""

import base64
import http.server
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.leeway.looking import status
from leeway_rl.leeway.running.server import free_port, server_binary
from leeway_rl.leeway.running.up import create

from tests.helm import container, of, rendered_as, templates

# --- Redis ------------------------------------------------------------------------------------------------------------


class Serving:
    """A server with what is rendered, its paths and its port being some of this machine."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.manifests, self.folder, self.port = rendered_as(kind), folder, free_port()
        self.secret = of(self.manifests, "Secret", "-redis")["stringData"]
        self.tls = "rediss" in self.secret["url-desk"]
        (folder / "users.acl").write_text(self.secret["users.acl"])
        if self.tls:
            for name, text in of(self.manifests, "Secret", "-tls")["data"].items():
                (folder / name).write_bytes(base64.b64decode(text))
        conf = of(self.manifests, "ConfigMap", "-redis")["data"]["redis.conf"].replace(" 6379", f" {self.port}")
        (folder / "redis.conf").write_text(re.sub(r"/(data\b|etc/leeway/(users|tls))", str(folder), conf))
        self.process = subprocess.Popen([server_binary(), folder / "redis.conf"], stdout=subprocess.PIPE, text=True)

    def url(self, role: str) -> str:
        """The rendered address of a role."""
        said = self.secret[f"url-{role}"].replace("/etc/leeway/redis", str(self.folder))
        assert "@leeway-redis.training.svc:6379/0" in said
        return said.replace("leeway-redis.training.svc:6379", f"127.0.0.1:{self.port}")

    def answers(self) -> bool:
        """Whether the probe's user hears PONG."""
        with socket.socket() as here:  # redis-py leaves a TLS connection that is refused to the garbage collector
            if here.connect_ex(("127.0.0.1", self.port)):
                return False
        own = self.url("desk").replace(f"leeway-desk:{self.secret['password-desk']}", "leeway-probe:none")
        try:
            with closing(redis.Redis.from_url(own)) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


@pytest.fixture(params=["no TLS", "defaults"])
def served(request, tmp_path, wait_until):
    server = Serving(tmp_path, request.param)
    try:
        wait_until(lambda: server.process.poll() is not None or server.answers(), "the server answers")
        if server.process.poll() is not None:
            said = server.process.stdout.read()
            if server.tls and re.search("TLS support|tls-port", said):
                pytest.skip(f"{server_binary()} was built without TLS")
            pytest.fail(said)
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def test_the_rendered_redis_serves_each_role_under_its_own_user_and_nobody_else(served, capsys):
    create("demo", ["tiny"], [], served.url("learner"), same_is_fine=True)
    create("demo", ["tiny"], [], served.url("learner"), same_is_fine=True)  # as a learner does that starts again
    for role, view in (("rollout", RolloutQueue), ("verifier", VerifierQueue), ("desk", DeskQueue)):
        with closing(view(Connection(served.url(role), "demo", worker=role))) as queue:
            assert 'path = "' in queue.load_config()
    with closing(DeskQueue(Connection(served.url("learner"), "demo"))) as queue:  # as NOTES.txt has it, in its pod
        queue.set_control("max_staleness", "1")
    assert status.show(served.url("learner"), "demo", as_json=True) in (0, 8, 10)
    capsys.readouterr()
    with closing(redis.Redis.from_url(served.url("learner"))) as client:
        persistence, memory = client.info("persistence"), client.info("memory")
        assert persistence["aof_enabled"] == 1
        assert (memory["maxmemory"], memory["maxmemory_policy"]) == (2 * 2**30, "noeviction")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.xlen("leeway:{other}:prompts")
    with closing(redis.Redis.from_url(served.url("scaler"))) as client:
        assert client.xlen("leeway:{demo}:prompts") == 0
        for refused in (lambda: client.get("leeway:{demo}:config"), lambda: client.xlen("leeway:{demo}:scored")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()
    without = re.sub(r"//.*@", "//", served.url("desk"))
    with closing(redis.Redis.from_url(without)) as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not on PATH")
def test_the_readiness_probe_hears_the_server_and_not_its_absence(served):
    probe = container(templates(served.manifests)["redis"])["readinessProbe"]["exec"]["command"]
    words = probe[2].replace("redis-cli", f"redis-cli -p {served.port}").replace("/etc/leeway/tls", str(served.folder))
    assert subprocess.run(["sh", "-c", words], check=False).returncode == 0
    served.process.kill()
    served.process.wait()
    assert subprocess.run(["sh", "-c", words], check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_the_rendered_certificate_is_good_for_the_name_in_the_roles_addresses_and_for_no_other(tmp_path):
    for name, text in of(rendered_as("defaults"), "Secret", "-tls")["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(text))
    ours = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    url = of(rendered_as("defaults"), "Secret", "-redis")["stringData"]["url-rollout"]
    shake_hands(ours, theirs, urlsplit(url).hostname)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(ours, theirs, "redis.elsewhere.svc")


def shake_hands(ours: ssl.SSLContext, theirs: ssl.SSLContext, name: str) -> None:
    """Let a client that expects ``name`` meet a server, in memory."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(down, up, server_hostname=name)
    server = theirs.wrap_bio(up, down, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert()


# --- the pods' scripts ------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    """The command of a pod's script, whose mark of a finished run lies in a folder of the test's. ``slow_after``: a
    line of it after which the shell stands still for a moment."""
    data = of(rendered_as("defaults"), "ConfigMap", "-pod")["data"]

    def command(name: str, *words: str, slow_after: str = "") -> list[str]:
        text = data[name].replace("/tmp/run-finished", str(tmp_path / "finished"))
        if slow_after:
            assert f"\n{slow_after}\n" in text
            text = text.replace(f"\n{slow_after}\n", f"\n{slow_after}\nsleep 0.4\n")
        (tmp_path / name).write_text(text)
        return ["sh", str(tmp_path / name), *words]

    return command


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session, of which nothing is left after the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_role_that_fails_ends_its_container_with_its_own_code(script, tmp_path):
    (tmp_path / "finished").touch()  # of the container before, in the same pod
    assert subprocess.run(script("role.sh", "sh", "-c", "exit 4"), check=False, timeout=200).returncode == 4
    assert not (tmp_path / "finished").exists()


@pytest.mark.parametrize("line", ['"$@" &', "role=$!"])
def test_a_role_that_is_asked_to_stop_is_waited_for_and_its_container_ends(script, tmp_path, wait_until, line):
    role = f"trap 'echo drained >{tmp_path}/said; exit 130' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    with started(script("role.sh", "sh", "-c", role, slow_after=line)) as process:
        wait_until((tmp_path / "ready").exists, "the role is there")
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 130
    assert (tmp_path / "said").read_text() == "drained\n"


@pytest.mark.parametrize("line", ['touch "$finished"', "sleep 2147483647 &", "pause=$!"])
def test_a_role_whose_run_is_finished_keeps_its_pod_alive_until_it_is_taken_away(script, tmp_path, wait_until, line):
    with started(script("role.sh", "true", slow_after=line)) as process:
        wait_until((tmp_path / "finished").exists, "the run is finished")
        assert subprocess.run(script("alive.sh"), check=False).returncode == 0
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0


class _Numbers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_role_is_alive_while_it_answers_with_its_numbers(script):
    def alive(**variables):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = os.environ | {"PATH": path, "LEEWAY_METRICS_PORT": str(port)} | variables
        return subprocess.run(script("alive.sh"), env=own, stderr=subprocess.DEVNULL, check=False).returncode == 0

    with http.server.HTTPServer(("127.0.0.1", 0), _Numbers) as server:
        port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert alive()
            assert alive(LEARNER_NODE="1")
        finally:
            server.shutdown()
            thread.join()
    assert not alive()
    assert not alive(LEARNER_NODE="1")
    assert alive(LEARNER_NODE="2")  # its first rank does not serve any
