"""A rollout worker's view of its run."""

from ..types import Responses, Ticket
from .connection import Connection
from .consumer import WorkerQueue
from .entries import Job, WorkStream, decode_part
from .weights import WeightStream


class RolloutQueue(WorkerQueue[Responses]):
    """User ``rollout``: takes prompts, reads tickets and weights, writes responses and announces them."""

    stream = WorkStream.PROMPTS
    makes, onward = "responses", WorkStream.RESPONSES
    reads = ("ticket",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.weights = WeightStream(connection)

    def ticket(self, job: Job) -> Ticket | None:
        """The group's ticket; None where the learner no longer wants the group. ``DecodeError`` if it is broken."""
        (body,) = self._parts(job)
        return None if body is None else decode_part(Ticket, body, job.group_id)
