"""A verifier's view of its run."""

from collections import Counter
from collections.abc import Sequence

from ..codec import encode
from ..types import Responses, Scores, Ticket, Verdict, VerdictKind
from . import scripts
from .consumer import WorkerQueue
from .entries import VERDICT_MINUTES, HandOver, Job, WorkStream, decode_part


class VerifierQueue(WorkerQueue):
    """User ``verifier``: takes responses, writes scores and announces them, and counts verdicts."""

    stream = WorkStream.RESPONSES

    def responses(self, group_id: str) -> tuple[Ticket, Responses] | None:
        """The group's ticket and responses, or None where it is no longer wanted."""
        ticket, responses = self._parts(group_id, "ticket", "responses")
        if ticket is None or responses is None:
            return None
        return decode_part(Ticket, ticket, group_id), decode_part(Responses, responses, group_id)

    def hand_over(self, job: Job, scores: Scores) -> HandOver:
        """The verifier's hand-over to the learner."""
        return self._pass_on(job, "scores", encode(scores), WorkStream.SCORED)

    def tally(self, verdicts: Sequence[Verdict]) -> None:
        """Count the verdicts of one graded group, for the alarms of ``leeway status``."""
        key = self.keys.verdicts(int(self.now() // 60))
        pipe = self._redis.pipeline(transaction=False)
        for kind, number in Counter(verdict.kind.value for verdict in verdicts).items():
            pipe.hincrby(key, kind, number)
        errors = [verdict.reason for verdict in verdicts if verdict.kind is VerdictKind.ERROR]
        if errors:
            pipe.hset(key, "why", errors[-1][:200])
        pipe.expire(key, 60 * (VERDICT_MINUTES + 1))
        pipe.execute()
        if not errors:
            rewards = {verdict.reward for verdict in verdicts}
            reward = f"{rewards.pop():g}" if len(rewards) == 1 else ""
            scripts.count_alike(self.connection, self.keys.alike, reward)
