"""Redis Clusters and Sentinels on the loopback, whose servers can be killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis
from leeway_rl.leeway.running.server import EmbeddedServer, free_port, server_binary
from redis.crc import key_slot

NODE_TIMEOUT_MS = 3000
"""How long a node is silent before the others fail it over. One that only waits for a processor is not."""


def wait(predicate, what, timeout_s=100.0):
    """Wait until ``predicate`` holds. A server that does not answer yet does not count."""
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(redis.exceptions.RedisError):
            if predicate():
                return
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


def copied(bus) -> dict[bytes, bytes]:
    """What a replica would have of a run now."""
    client = bus.connection.redis
    return {key: client.dump(key) for key in client.scan_iter(match=bus.keys.prefix + "*", count=1000)}


def fail_over(bus, copy: dict[bytes, bytes], *buses) -> None:
    """A replica that has ``copy`` of the run takes over: what was acknowledged since is lost, and every connection
    ends with the server that it went to."""
    client = bus.connection.redis
    bus.desk.clean() if hasattr(bus, "desk") else bus.clean()
    for key, body in copy.items():
        client.restore(key, 0, body)
    for each in (bus, *buses):
        each.connection.redis.connection_pool.disconnect()


class Installation:
    """Servers that stand in for one another, by port."""

    def __init__(self, servers: dict[int, EmbeddedServer], login: str = "") -> None:
        self.servers, self._login = servers, login

    def client(self, port: int) -> redis.Redis:
        """A plain client of one server."""
        return redis.Redis.from_url(f"redis://{self._login}127.0.0.1:{port}", protocol=2, socket_timeout=30)

    def kill(self, port: int) -> None:
        """SIGKILL."""
        self.servers[port].process.kill()
        self.servers[port].process.wait()

    def role(self, port: int) -> str:
        """``master`` or ``slave``."""
        return self.client(port).info("replication")["role"]


class Cluster(Installation):
    """Three masters with a replica each."""

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.servers)

    @property
    def url(self) -> str:
        return f"redis+cluster://{self._login}{self.hosts}"

    def owner(self, run: str) -> int:
        """The port of the master of a run's slot, as a living node has it."""
        return self._servers_of(run)[0]

    def replica(self, run: str) -> int:
        """The port of that master's replica."""
        return self._servers_of(run)[1]

    def cut_off(self, master: int, replica: int) -> None:
        """From now on nothing of what ``master`` is told reaches its ``replica``, which is stopped (SIGSTOP)."""
        self.servers[replica].process.send_signal(signal.SIGSTOP)
        self.client(master).client_kill_filter(_type="replica")

    def _servers_of(self, run: str) -> list[int]:
        living = next(port for port, server in self.servers.items() if server.process.poll() is None)
        slot = key_slot(f"{{{run}}}".encode())
        for first, last, *servers in self.client(living).execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return [port for _, port, *_ in servers]
        raise AssertionError(f"no node serves slot {slot}")

    def form(self) -> None:
        """Make one cluster of the servers: the first three have the slots, the others copy them."""
        ports = list(self.servers)
        masters, replicas = ports[:3], ports[3:]
        for number, port in enumerate(ports):
            self.client(port).execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number:
                bus = self.client(ports[0]).config_get("cluster-port")["cluster-port"]
                self.client(port).execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0], bus)
        for number, port in enumerate(masters):
            first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
            self.client(port).execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        wait(lambda: all(self._known(port) == len(ports) for port in ports), "they know each other")
        for master, replica in zip(masters, replicas, strict=True):
            self.client(replica).execute_command("CLUSTER", "REPLICATE", self.client(master).cluster("MYID"))
        wait(lambda: all(self._is_up(port) for port in ports), "the cluster is up")

    def _known(self, port: int) -> int:
        return len([node for node in self.client(port).cluster("NODES").values() if "handshake" not in node["flags"]])

    def _is_up(self, port: int) -> bool:
        with self.client(port) as client:
            replication = client.info("replication")
            linked = replication["role"] == "master" or replication["master_link_status"] == "up"
            seen = sum(len(row) - 2 for row in client.execute_command("CLUSTER SLOTS"))
            return linked and client.cluster("INFO")["cluster_state"] == "ok" and seen == len(self.servers)


@contextmanager
def cluster(folder: Path, *options: str, login: str = "") -> Iterator[Cluster]:
    """A cluster of six nodes."""
    with ExitStack() as stack:
        servers = {}
        for number in range(6):
            own = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            timing = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0")
            server = EmbeddedServer(folder / str(number), options=(*own, *timing, *options), user=login)
            server.start()
            stack.callback(server.stop)
            servers[server.port] = server
        found = Cluster(servers, login)
        found.form()
        yield found


class Watched(Installation):
    """A master and a replica of it, watched by three Sentinels."""

    sentinels: tuple[int, ...] = ()
    password = ""

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{self._login}{hosts}/mymaster/0"

    def master(self) -> int:
        """The port of the master, as a Sentinel has it."""
        return int(self.client_of_sentinel(self.sentinels[0]).sentinel_master("mymaster")["port"])

    def client_of_sentinel(self, port: int) -> redis.Redis:
        return redis.Redis.from_url(f"redis://127.0.0.1:{port}", protocol=2, socket_timeout=30)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Two servers and three Sentinels."""
    with ExitStack() as stack:
        servers = {}
        for number in range(2):
            server = EmbeddedServer(folder / str(number), options=("--repl-diskless-sync-delay", "0"))
            server.start()
            stack.callback(server.stop)
            servers[server.port] = server
        found = Watched(servers)
        first, second = servers
        found.client(second).replicaof("127.0.0.1", first)
        wait(lambda: found.client(second).info("replication")["master_link_status"] == "up", "the replica follows")
        found.sentinels = tuple(stack.enter_context(_sentinel(folder / f"s{number}", first)) for number in range(3))
        wait(lambda: all(_sees_all(found, port) for port in found.sentinels), "the Sentinels see each other")
        yield found


def _sees_all(found: Watched, port: int) -> bool:
    state = found.client_of_sentinel(port).sentinel_master("mymaster")
    return state["num-slaves"] == 1 and state["num-other-sentinels"] == 2


@contextmanager
def _sentinel(folder: Path, master: int) -> Iterator[int]:
    folder.mkdir()
    lines = (
        f"sentinel monitor mymaster 127.0.0.1 {master} 2",
        f"sentinel down-after-milliseconds mymaster {NODE_TIMEOUT_MS}",
        "sentinel failover-timeout mymaster 9000",
    )
    (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
    # A Sentinel takes its configuration file first, and no option of an append-only file.
    program = folder / "sentinel.sh"
    program.write_text(
        f'#!/bin/sh\nexec "{server_binary()}" "{folder}/sentinel.conf" --sentinel "$1" "$2" --bind 127.0.0.1\n'
    )
    program.chmod(0o755)
    server = EmbeddedServer(folder / "data", binary=str(program))
    server.start()
    try:
        yield server.port
    finally:
        server.stop()
