"""A rollout worker's view of its run."""

from ..codec import encode
from ..types import Responses, Ticket
from .connection import Connection
from .consumer import WorkerQueue
from .entries import HandOver, Job, WorkStream, decode_part
from .weights import WeightStream


class RolloutQueue(WorkerQueue):
    """User ``rollout``: takes prompts, reads tickets and weights, writes responses and announces them."""

    stream = WorkStream.PROMPTS
    reads = ("ticket",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.weights = WeightStream(connection)

    def ticket(self, job: Job) -> Ticket | None:
        """The group's ticket; None where the learner no longer wants the group. ``DecodeError`` if it is broken."""
        (body,) = self._parts(job)
        return None if body is None else decode_part(Ticket, body, job.group_id)

    def hand_over(self, job: Job, responses: Responses) -> HandOver:
        """Rollout's hand-over to the verifiers."""
        return self._pass_on(job, "responses", encode(responses), WorkStream.RESPONSES, None)[0]

    def hand_over_and_take(
        self, job: Job, responses: Responses, *, lease_s: float | None
    ) -> tuple[HandOver, list[Job]]:
        """``hand_over``, and ``take`` one job where there is one, in the same round trip. None takes no job."""
        return self._pass_on(job, "responses", encode(responses), WorkStream.RESPONSES, lease_s)
