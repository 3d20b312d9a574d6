"""The embedded server comes back by itself, with what it held, at a port that nobody else was given."""

import os
import signal
import socket

from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.running.server import EmbeddedServer, free_port, why_not_bound

from tests.roles import Roles


def test_a_killed_server_is_started_again_with_its_data(tmp_path, wait_until):
    with EmbeddedServer(tmp_path) as server:
        bus = Roles(Connection(server.url, "r"))
        bus.record.store_config("kept")
        killed = server.process.pid
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: server.process.pid != killed, "it is started again")
        assert bus.desk.load_config() == "kept"
        bus.close()
        last = server.process
    assert last.poll() is not None


def test_a_free_port_is_given_to_nobody_else_and_is_there_for_its_server():
    """Among a thousand, some would come twice if the system might give them again."""
    ours = [free_port() for _ in range(500)]
    others = []
    for _ in range(500):
        with socket.socket() as anybody:
            anybody.bind(("127.0.0.1", 0))
            others.append(anybody.getsockname()[1])
    assert len(set(ours)) == 500
    assert set(ours).isdisjoint(others)
    assert [why_not_bound("127.0.0.1", port) for port in ours] == [None] * 500
