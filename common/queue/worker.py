"""What rollout workers and verifiers do alike with a job: hand it over, give it up, drop it."""

from __future__ import annotations

from ..keys import PARTS
from . import scripts
from .consumer import Consumer
from .entries import DAMAGED, HandOver, Job, WorkStream


class WorkerQueue(Consumer):
    """A consumer that makes one part of a group from the part before. Each call here ends the entry."""

    def _pass_on(self, job: Job, part: str, body: bytes, onward: WorkStream) -> HandOver:
        self.connection.bytes_out += len(body)
        return scripts.hand_over(
            self.connection,
            job,
            body,
            # What it was made from must still be there: a Redis that lost its data may have the ticket again, and not
            # yet the responses that these scores are of.
            made_from=self.keys.group(job.group_id, PARTS[PARTS.index(part) - 1]),
            stream=self._key,
            onward=self.keys.prefix + onward,
            payload=self.keys.group(job.group_id, part),
        )

    def give_up(self, job: Job, reason: str) -> None:
        """Send the group to the dead letters, where the learner finds it and refunds the ticket as ``poison``."""
        ticket, letters = self.keys.group(job.group_id, "ticket"), self.keys.dead_letters
        scripts.give_up(self.connection, job, reason, ticket=ticket, stream=self._key, letters=letters)

    def drop(self, job: Job) -> None:
        """Acknowledge an entry whose group nobody wants any more."""
        self._acknowledge(job.entry_id)

    def damaged(self, job: Job, reason: str) -> None:
        """Drop an entry whose group cannot be read, and say so: the learner finds it in no stream, issues it anew."""
        self.dead_letter(DAMAGED + job.stream.value, job.group_id, reason)
        self.drop(job)
