"""The verifier loop: responses in, verdicts out.

Stateless, any number. Several groups are graded at once, each handed over when its last response is done: one slow
response costs its own clock, not its neighbours', nor that of other groups.
"""

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from ..common.activity import Activity, Doing
from ..common.config import Config
from ..common.errors import ConfigError, DecodeError
from ..common.queue.connection import AWAY
from ..common.queue.entries import HandOver, Job
from ..common.queue.verifier import VerifierQueue
from ..common.service import Service
from ..common.turns import reasoning_open_S, stretches_of, told
from ..common.types import Responses, Scores, Ticket, VerdictKind
from ..common.wording import counted
from .pool import GradeItem, GraderPool
from .rewards.grading import Conversation, RewardGrader

log = logging.getLogger(__name__)

POLL_S = 1.0

GROUPS_A_JOB = 4
"""Groups a worker holds for each of its grading processes: enough that a slow response leaves the others work."""


def grade_items(ticket: Ticket, responses: Responses, decode: Callable[[list[int]], str]) -> list[GradeItem]:
    """What the graders see of each response: its text (special tokens removed), the golds, whether it ended. Of several
    turns the text is the last one's, so that nothing is graded as the policy's answer which an environment wrote."""
    conversations = stretches_of(responses)
    open_S = reasoning_open_S(ticket.prompt_tokens_P, conversations, decode)
    return [
        GradeItem(
            ability=ticket.ability,
            response=decode(stretches[-1].tokens.tolist()),
            golds=ticket.ground_truth,
            finished=bool(finished),
            reasoning_open=is_open,
        )
        for stretches, is_open, finished in zip(conversations, open_S, responses.finished_S, strict=True)
    ]


def conversations_of(responses: Responses, decode: Callable[[list[int]], str]) -> list[Conversation]:
    """What reward functions are told of each conversation; empty where there was no environment."""
    if not len(responses.environment_S):
        return []
    each = zip(stretches_of(responses), responses.environment_S.tolist(), strict=True)
    return [Conversation(turns=told(stretches, decode), reward=reward) for stretches, reward in each]


class VerifierWorker:
    """One loop over a pool of grading processes, a thread for each group under way."""

    def __init__(
        self,
        queue: VerifierQueue,
        service: Service,
        pool: GraderPool,
        decode: Callable[[list[int]], str],
        config: Config,
        rewards: RewardGrader | None = None,
    ) -> None:
        """``rewards`` grades where the run has ``[[rewards]]``; without, the pool does."""
        self.rewards = rewards
        self.queue, self.service, self.pool, self.decode, self.config = queue, service, pool, decode, config
        refund = config.verifier.on_timeout == "refund"
        self.not_a_grade = {VerdictKind.ERROR} | ({VerdictKind.TIMEOUT} if refund else set())
        """Verdicts that give the group up. The verifier's own failure is never a reward of 0."""

    def run(self) -> None:
        """Consumes responses, produces scores; acknowledged by the hand-over itself. Dying here leaves the entries
        pending, and another worker takes them when their lease is over. Raises ``ConfigError`` where responses cannot
        be graded on this machine at all."""
        lease_s = self.config.broker.lease_s
        at_once, under_way = GROUPS_A_JOB * self.config.verifier.jobs, set[Future[None]]()
        with ThreadPoolExecutor(at_once, thread_name_prefix="group") as threads:
            while not self.service.stopping.is_set():
                _, under_way = wait(
                    under_way, timeout=POLL_S if len(under_way) == at_once else 0, return_when=FIRST_COMPLETED
                )
                room = at_once - len(under_way)
                if room == 0:
                    continue
                if not under_way:
                    self.service.doing(Doing(Activity.WAITING_FOR_RESPONSES))
                jobs = self.queue.take(count=room, block_s=0, lease_s=lease_s)
                jobs = jobs or self.queue.take(count=room, block_s=POLL_S, lease_s=lease_s)
                if not jobs and self.service.run_finished():
                    break
                under_way |= {threads.submit(self._handle, job) for job in jobs}
        if self.service.failure is not None:
            raise self.service.failure

    def _handle(self, job: Job) -> None:
        """Grade the group, and those that come with its hand-over, one after the other."""
        jobs = [job]
        while jobs:
            job, jobs = jobs[0], []
            try:
                if job.attempt > self.config.broker.max_attempts:
                    self.queue.give_up(job, f"grading failed {counted(job.attempt - 1, 'time')}")
                    continue
                with self.service.holding(job), self.service.working(Doing(Activity.GRADING)):
                    jobs = self._grade(job)
            except DecodeError as error:
                self.queue.damaged(job, str(error))
            except (ConfigError, *AWAY) as error:
                self.service.fail(error)  # no sandbox, no such grader, no Redis: no group will fare better here
            except Exception:
                # Left pending on purpose: the lease ends, and the group is tried again, here or elsewhere.
                log.exception("group %s failed at attempt %d", job.group_id, job.attempt)

    def _grade(self, job: Job) -> list[Job]:
        """Grade the group and hand it over, or give it up; the next job."""
        found = self.queue.responses(job)
        if found is None:
            self.queue.drop(job)
            return []
        ticket, responses = found
        items = grade_items(ticket, responses, self.decode)
        if self.rewards is None:
            verdicts = self.pool.grade(items)
        else:
            lengths, conversations = responses.sampled_S.tolist(), conversations_of(responses, self.decode)
            verdicts = self.rewards.grade(items, lengths, ticket.row, conversations, ticket.prompt_id)
        self.queue.tally(verdicts)
        failed = [verdict for verdict in verdicts if verdict.kind in self.not_a_grade]
        if failed and self.service.stopping.is_set():
            self.queue.give_back([job])  # who is being ended may have lost its processes first
            return []
        if failed:  # for good: the pool has tried it as often as anybody will
            self.queue.give_up(job, f"verifier {failed[0].kind}: {failed[0].reason}")
            return []
        graded = responses.fingerprint
        scores = Scores(group_id=job.group_id, verdicts=tuple(verdicts), graded=graded, worker=self.queue.worker)
        lease_s = None if self.service.stopping.is_set() else self.config.broker.lease_s
        outcome, jobs = self.queue.hand_over_and_take(job, scores, lease_s=lease_s)
        if outcome is HandOver.HANDED:
            self.service.count(done=1)
        return jobs
