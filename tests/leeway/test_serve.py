"""``leeway server``: open to others only with a password, its settings are Leeway's, and SIGTERM ends it cleanly."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from leeway_rl.common.address import resolve
from leeway_rl.common.errors import BrokerError, ConfigError, DataError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.running.serve import is_loopback
from leeway_rl.leeway.running.server import free_port, server_binary
from typer.testing import CliRunner

from tests.roles import Roles

COMMAND = [sys.executable, "-P", "-m", "leeway_rl.leeway.cli", "server"]


class Started:
    """A server, and the lines it printed."""

    def __init__(self, *words, cwd, lines):
        self.port = free_port()
        line = [*COMMAND, "--port", str(self.port), *words]
        self.process = subprocess.Popen(
            line, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ.copy()
        )
        self.said = "".join(self.process.stdout.readline() for _ in range(lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def stop(self, signum):
        self.process.send_signal(signum)
        more, _ = self.process.communicate(timeout=200)
        return self.process.returncode, more


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_has_what_it_held_when_it_starts_again(signum, tmp_path):
    with Started(cwd=tmp_path, lines=2) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        assert f"export LEEWAY_REDIS_URL={url}" in server.said
        bus = Roles(Connection(url, "r"))
        bus.record.store_config("kept")
        bus.close()
        assert server.stop(signum) == (0, "stopped; leeway-server has what it held\n")
    with pytest.raises(BrokerError):
        Connection(url, "r", connect_s=0.5)
    with Started(cwd=tmp_path, lines=2) as server:
        bus = Roles(Connection(f"redis://127.0.0.1:{server.port}/0", "r"))
        assert bus.desk.load_config() == "kept"
        bus.close()


def test_its_settings_are_those_that_leeway_needs(tmp_path):
    (tmp_path / "mine").symlink_to(server_binary())
    words = ["--memory", "64mb", "--folder", "here", "--binary", "./mine"]
    with Started(*words, cwd=tmp_path, lines=2) as server:
        assert server.said.startswith(f"mine at 127.0.0.1 port {server.port}, at most 64mb; ")
        client = redis.Redis(port=server.port, decode_responses=True)
        due = {"appendonly": "yes", "maxmemory-policy": "noeviction", "maxmemory": str(64 << 20), "save": ""}
        assert {name: client.config_get(name)[name] for name in due} == due
        assert client.config_get("dir")["dir"] == str(tmp_path / "here")
        client.close()


def test_an_address_open_to_others_has_a_password_for_everybody(tmp_path):
    words = ["--host", "0.0.0.0", "--name", "localhost", "--password-file", "secret"]
    with Started(*words, cwd=tmp_path, lines=3) as server:
        secret = (tmp_path / "secret").read_text().strip()
        assert len(secret) >= 24
        assert secret not in server.said
        assert secret not in "".join(Path(f"/proc/{server.process.pid}/cmdline").read_text())
        address = resolve(f"@{tmp_path}/leeway-server/url")
        assert address == f"redis://:{secret}@localhost:{server.port}/0"
        assert [oct((tmp_path / name).stat().st_mode & 0o777) for name in ("secret", "leeway-server/url")] == [
            "0o600"
        ] * 2
        Connection(address, "r").close()
        with pytest.raises(BrokerError, match="refuses this user"):
            Connection(f"redis://127.0.0.1:{server.port}/0", "r")


def test_a_user_for_each_role_has_its_own_address(tmp_path):
    words = ["--host", "0.0.0.0", "--name", "127.0.0.1", "--passwords", "passwords"]
    with Started(*words, cwd=tmp_path, lines=6):
        desk = Roles(Connection(resolve(f"@{tmp_path}/leeway-server/url-desk"), "r"))
        desk.record.store_config("there")
        desk.close()
        verifier = Roles(Connection(resolve(f"@{tmp_path}/leeway-server/url-verifier"), "r"))
        assert verifier.desk.load_config() == "there"
        with pytest.raises(redis.exceptions.NoPermissionError):
            verifier.record.store_config("mine")
        verifier.close()


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(words, kind, said, port=None):
        done = CliRunner().invoke(app, ["server", *words.split(), "--port", str(port or free_port())])
        assert isinstance(done.exception, kind), (words, done.exception, done.output)
        assert said in str(done.exception)

    refused("--host 0.0.0.0", ConfigError, "without a password everybody there could read")
    refused("--host ::", ConfigError, "add --password-file FILE")
    refused("--host 10.1.2.3", ConfigError, "without a password")
    refused("--host desk", ConfigError, "expected an IP address of this machine")
    refused("--memory much", ConfigError, "for instance 16gb")
    refused("--binary nothing", BrokerError, "no program there")
    refused("--password-file a --passwords b", ConfigError, "name one")
    (tmp_path / "two").write_text("a b")
    refused("--password-file two", DataError, "found 2 words")
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o644)
    refused("--password-file open", ConfigError, "others can read it")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused("", BrokerError, f"cannot listen at 127.0.0.1 port {port}: Address already in use", port)
    assert not list(tmp_path.rglob("*.aof*"))
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0")] == [True, True, True, False]


def test_two_servers_do_not_share_a_folder(tmp_path):
    with Started(cwd=tmp_path, lines=2):
        done = subprocess.run(
            [*COMMAND, "--port", str(free_port())], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "is at work there" in done.stderr) == (3, True), done.stderr
