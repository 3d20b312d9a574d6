"""The embedded server comes back by itself, with what it held."""

import os
import signal

from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.running.server import EmbeddedServer

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
