"""A verifier's view of its run."""

from collections import Counter
from collections.abc import Sequence

from ..turns import check_observed
from ..types import Responses, Scores, Ticket, Verdict, VerdictKind
from . import scripts
from .consumer import WorkerQueue
from .entries import Job, WorkStream, decode_part

ALIKE = 1e-6
"""Rewards that lie no further apart are alike, to the alarm on rewards that no longer tell responses apart."""


class VerifierQueue(WorkerQueue[Scores]):
    """User ``verifier``: takes responses, writes scores and announces them, and counts verdicts."""

    stream = WorkStream.RESPONSES
    makes, onward = "scores", WorkStream.SCORED
    reads = ("ticket", "responses")

    def responses(self, job: Job) -> tuple[Ticket, Responses] | None:
        """The group's ticket and responses, or None where it is no longer wanted. ``DecodeError`` if one is broken."""
        ticket, responses = self._parts(job)
        if ticket is None or responses is None:
            return None
        found = decode_part(Responses, responses, job.group_id)
        check_observed(found.observed, found.lengths_S)  # the last turn is what is graded
        return decode_part(Ticket, ticket, job.group_id), found

    def tally(self, verdicts: Sequence[Verdict]) -> None:
        """Count the verdicts of one graded group, for the alarms of ``leeway status``."""
        errors = [verdict.reason[:200] for verdict in verdicts if verdict.kind is VerdictKind.ERROR]
        rewards = [] if errors else [verdict.reward for verdict in verdicts]
        alike = bool(rewards) and max(rewards) - min(rewards) <= ALIKE
        scripts.tally(
            self.connection,
            Counter(verdict.kind.value for verdict in verdicts),
            why=errors[-1] if errors else None,
            alike=f"{rewards[0]:.6g}" if alike else "",
        )
