"""What is wrong with an address is said, whatever answers there; and what Redis refuses, and what to do about it."""

import re
import shutil
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import redis
from leeway_rl.common import reach
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.connection import Connection, refused_or_lost, why_lost
from leeway_rl.common.reach import why_unreachable
from leeway_rl.common.refusals import code_of, meaning
from leeway_rl.leeway.running.server import EmbeddedServer, free_port

from tests.integration.tls import TlsProxy, make_certificate
from tests.roles import Roles


def said(url, within_s=20.0):
    with pytest.raises(BrokerError) as caught:
        Connection(url, "r", connect_s=within_s)
    return str(caught.value)


@contextmanager
def web():
    """A web server; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def greeting(words):
    """Something that says ``words`` to everybody; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # the other end may break it off
                    connection.sendall(words)
                    connection.settimeout(5)
                    while connection.recv(1024):
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def refusing(words):
    """Something that answers everything by ``words``; its port."""

    class Refusal(socketserver.BaseRequestHandler):
        def handle(self):
            with suppress(OSError):
                while received := self.request.recv(1024):
                    self.request.sendall(f"-{words}\r\n".encode() * received.count(b"*"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_tls_is_told_from_none_both_ways(redis_url, tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "PROBE_S", 20.0)  # each way is answered, however long a busy machine takes
    host = redis_url.split("//")[1]
    assert "speaks no TLS: write redis:// in the address" in said(f"rediss://{host}", within_s=0.5)
    certificate, key = make_certificate(tmp_path)
    with TlsProxy(int(host.split(":")[1].split("/")[0]), certificate, key) as proxy:
        assert "speaks TLS: write rediss:// in the address" in said(f"redis://127.0.0.1:{proxy.port}/0")
        assert "is not trusted here" in said(f"rediss://127.0.0.1:{proxy.port}/0")
        assert "?ssl_ca_certs=FILE" in said(f"rediss://127.0.0.1:{proxy.port}/0")
        Connection(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate}", "r").close()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_what_is_no_redis_is_told(scheme):
    with web() as port:
        assert "what answers there speaks HTTP" in said(f"{scheme}://127.0.0.1:{port}/0")
    with greeting(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert "what answers there says 'SSH-2.0-OpenSSH_9.2'" in said(f"{scheme}://127.0.0.1:{port}/0")
    with greeting(b"") as port:
        frozen = said(f"{scheme}://127.0.0.1:{port}/0", within_s=0.5)
        assert "does not answer within 0.5 s: it is frozen or overloaded" in frozen


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("DENIED Redis is running in protected mode", "answers on its own machine alone"),
        ("BUSY Redis is busy running a script.", "is busy with somebody's script"),
        ("MASTERDOWN Link with MASTER is down", "is a replica that has lost its primary"),
        ("CLUSTERDOWN Hash slot not served", "does not serve this run's slot"),
        ("ERR max number of clients reached", "raise its maxclients"),
    ],
)
def test_a_server_that_answers_nothing_is_refused_at_once(answer, words):
    with refusing(answer) as port:
        assert words in said(f"redis://127.0.0.1:{port}/0")


def test_a_database_that_the_server_has_not_is_said_before_anything_is_done(redis_url):
    where = redis_url.rpartition("/")[0]
    assert "has no database of this number" in said(f"{where}/9999")


def test_what_tells_nothing_more_is_left_to_others(redis_url):
    assert why_unreachable(redis_url, TimeoutError()) is None
    assert why_unreachable("unix:///nowhere", OSError()) is None
    assert why_unreachable("redis://127.0.0.1:1/0", OSError()) is None


def refusal(bus):
    """What is said of the error that a write ends with."""
    with pytest.raises(redis.exceptions.RedisError) as caught:
        bus.record.store_config("x")
    return refused_or_lost(caught.value)


def test_a_server_that_asks_for_a_password_or_knows_none(tmp_path):
    with EmbeddedServer(tmp_path) as server:
        place = server.url.split("//")[1]
        assert "it knows no password; leave it out" in said(f"redis://:secret@{place}")
        bus = Roles(Connection(server.url, "r"))
        bus.redis.config_set("requirepass", "x")
        assert "it asks for a password, as in redis://user:password@host" in said(server.url)
        assert "the name or the password in the address is wrong" in said(f"redis://:secret@{place}")
        bus.redis.execute_command("ACL", "SETUSER", "poor", "on", ">p", "~*", "+ping", "+get", "+info")
        poor = Roles(Connection(f"redis://poor:p@{place}", "r"))
        assert "its rights do not cover what we need; leeway acl" in refusal(poor)
        bus.redis.config_set("maxclients", 1)
        assert "has as many connections as it takes: raise its maxclients" in said(f"redis://poor:p@{place}")
        poor.close()
        bus.close()


def test_a_server_that_cannot_save_says_so_and_so_does_whoever_looks(tmp_path, wait_until):
    with EmbeddedServer(tmp_path / "redis", options=("--appendonly", "no")) as server:
        bus = Roles(Connection(server.url, "r", retry_s=0.0))
        assert bus.overview.trouble() == ""
        bus.redis.config_set("save", "3600 1")
        shutil.rmtree(tmp_path / "redis")
        bus.redis.bgsave()
        wait_until(lambda: bus.redis.info("persistence")["rdb_last_bgsave_status"] == "err", "it cannot save")
        assert "takes no writes because it cannot save to its disk" in refusal(bus)
        assert "takes no writes because it cannot save to its disk" in bus.overview.trouble()
        bus.close()


def test_what_a_full_disk_of_redis_refused_is_tried_again(tmp_path, wait_until):
    with EmbeddedServer(tmp_path / "redis", options=("--appendonly", "no")) as server:
        bus, patient = Roles(Connection(server.url, "r", retry_s=0.0)), Roles(Connection(server.url, "r", retry_s=60.0))
        bus.redis.config_set("save", "3600 1")
        shutil.rmtree(tmp_path / "redis")
        bus.redis.bgsave()
        wait_until(lambda: bus.redis.info("persistence")["rdb_last_bgsave_status"] == "err", "it cannot save")
        began = time.monotonic()
        assert "takes no writes because it cannot save to its disk" in patient.overview.trouble()
        assert time.monotonic() - began < 30, "it is told at once: who only reads is answered"
        with pytest.raises(redis.exceptions.RedisError) as caught:
            bus.redis.pipeline().set("a", b"\x00").execute()
        assert re.match(
            "Redis takes no writes because it cannot save to its disk: .* says more: (Valkey|Redis) is",
            why_lost(caught.value),
        )
        threading.Timer(1.0, bus.redis.config_set, ("stop-writes-on-bgsave-error", "no")).start()
        patient.record.set_state(phase="training")
        assert patient.state() == {"phase": "training"}
        for each in (bus, patient):
            each.close()


def test_a_replica_says_so(tmp_path, wait_until):
    with EmbeddedServer(tmp_path) as server:
        bus = Roles(Connection(server.url, "r", retry_s=0.0))
        bus.redis.replicaof("127.0.0.1", 1)  # nobody's port, so that it never begins to load what another server has
        assert "is a replica and takes no writes: name its primary" in refusal(bus)
        wait_until(lambda: "is a replica" in bus.overview.trouble(), "it is told")
        assert "is a replica and takes no writes: name its primary" in said(server.url), "and to who writes, at once"
        bus.redis.replicaof("NO", "ONE")
        bus.close()


def test_a_node_of_a_cluster_that_does_not_serve_says_so(tmp_path):
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with EmbeddedServer(tmp_path, options=options) as server:
        bus = Roles(Connection(server.url, "r", retry_s=0.0))
        assert "is a node of a cluster that does not serve this run's slot" in refusal(bus)
        bus.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.exceptions.BusyLoadingError("Redis is loading the dataset", status_code="LOADING"), "still loading"),
        (redis.exceptions.MovedError("7 10.0.0.1:6379", status_code="MOVED"), "the run's keys lie on another"),
        (redis.exceptions.MasterDownError("Link with MASTER is down", status_code="MASTERDOWN"), "lost its primary"),
        (redis.exceptions.ResponseError("unknown command 'GET'"), "it is a Sentinel, a proxy, or older"),
        (redis.exceptions.ConnectionError("-DENIED Redis is running in protected mode"), "it runs in protected mode"),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script"), "busy with somebody's script"),
        (redis.exceptions.TimeoutError("Timeout reading"), "does not answer"),
        (redis.exceptions.ConnectionError("reset"), "was lost and did not come back"),
    ],
)
def test_other_errors_by_their_code(error, words):
    assert words in refused_or_lost(error)


def test_an_error_of_ours_has_no_code():
    assert code_of(ValueError("OOPS")) == ""
    assert meaning(ValueError("x")) is None
