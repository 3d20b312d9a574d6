"""What the tests play a run with: every role in one process, over one connection."""

from __future__ import annotations

from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.consumer import Consumer
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.common.queue.learner import LearnerQueue
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue


class Roles:
    """The four users of a run, each with its own view; they go by one name."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.redis, self.keys = connection, connection.redis, connection.keys
        self.url, self.run, self.worker = connection.url, connection.run, connection.worker
        self.rollout, self.verifier = RolloutQueue(connection), VerifierQueue(connection)
        self.learner, self.desk = LearnerQueue(connection), DeskQueue(connection)
        self.weights, self.overview, self.record = self.learner.weights, self.desk.overview, self.desk.record
        self.close, self.now, self.state = connection.close, connection.now, self.desk.state

    def on(self, stream: WorkStream) -> Consumer:
        """Whoever takes from ``stream``."""
        takers = {WorkStream.PROMPTS: self.rollout, WorkStream.RESPONSES: self.verifier}
        return takers.get(stream, self.learner)
