"""Says who waits for whom, what is wrong, and whether anything moves, from one look at what the roles publish.

The desk shows it (``leeway status``). The learner watches the run by it, and puts it into its log and its metrics.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf

from . import asleep
from .activity import Activity
from .identity import mark_of
from .queue.desk import DeskQueue
from .queue.entries import WorkStream, number, whole
from .queue.learner import LearnerQueue
from .refusals import OUT_OF_MEMORY
from .types import Heartbeat, VerdictKind
from .wording import age, counted, lasting, words

RECENT_MINUTES = 10
ERRORS, ERROR_SHARE, HIGH_ERROR_SHARE = 4, 0.02, 0.1
"""At least so many verdicts ``error`` in the recent minutes raise an alarm, if their share of all verdicts is at least
the first and twice that of the hour before, or at least the second."""
POISONED = 8
"""So many groups in a row that are refunded as ``poison`` raise an alarm."""
STARTING_S = 120.0
"""Seconds that a learner which is being started may take until its first word."""
_WAITING_FOR_WEIGHTS = (Activity.WAITING_FOR_VERSION, Activity.WAITING_FOR_READER, Activity.WAITING_FOR_NEIGHBOUR)
ALIKE_GROUPS = 64
"""So many groups in a row with one and the same reward raise an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at a run."""

    run: str
    at: float
    """Unix time of the look, by the server's clock."""
    state: dict[str, str]
    """The learner's word: phase, step, steps, stage, stages, version, live, ready, doing (``activity.from_json``),
    max_staleness, leader (the worker that says it), at (when)."""
    workers: list[Heartbeat]
    lost: dict[str, float]
    """``role/worker`` whose heartbeat has expired, with the unix time it was due."""
    queued: dict[str, int]
    """Entries of each work stream, and of the dead letters."""
    under_way: dict[str, int]
    """How many entries of each stream are pending: a worker holds them."""
    held_by_lost: dict[str, int] = field(default_factory=dict)
    """How many pending entries belong to workers that are gone. Others take them when the leases end."""
    verdicts: list[dict[str, str]] = field(default_factory=list)
    """How often each verdict was given, minute by minute, the current minute first; ``why`` is the last error."""
    alike: tuple[int, str] = (0, "")
    """Groups in a row with one and the same reward, and that reward."""
    paused: bool = False
    """Whether an operator has asked that no tickets be issued."""
    redis: str = ""
    """Why Redis takes no writes, where it takes none."""
    stopped: dict[str, int] = field(default_factory=dict)
    """Process ids of the ``role/worker``, lost or not yet, whose process is on this machine and stopped (SIGSTOP)."""

    def of(self, role: str) -> list[Heartbeat]:
        """The living workers of a role."""
        return [worker for worker in self.workers if worker.role == role]

    def at_work(self, role: str) -> list[Heartbeat]:
        """Those of them whose process is not known to be stopped."""
        return [worker for worker in self.of(role) if f"{role}/{worker.worker}" not in self.stopped]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The sentence a person needs at 3 a.m."""

    stalled: bool
    """Whether nothing will move until somebody acts."""
    sentence: str
    alarms: list[str] = field(default_factory=list)
    """What is wrong although the run moves, one sentence each."""


def look(queue: DeskQueue | LearnerQueue) -> Snapshot:
    """Take a snapshot of ``queue``'s run."""
    alive, lost = queue.overview.workers()
    names = {worker.worker for worker in alive}
    held = {stream.value: queue.overview.under_way(stream) for stream in WorkStream}
    return Snapshot(
        run=queue.run,
        at=queue.now(),
        state=queue.state(),
        workers=alive,
        lost=lost,
        queued=queue.overview.depths(),
        under_way={stream: sum(by_worker.values()) for stream, by_worker in held.items()},
        held_by_lost={
            stream: sum(count for name, count in by_worker.items() if name not in names)
            for stream, by_worker in held.items()
        },
        verdicts=queue.overview.tallies(),
        alike=queue.overview.alike(),
        paused=queue.overview.controls().get("paused") == "1",
        redis=queue.overview.trouble(),
        stopped=stopped_here([*lost, *(f"{worker.role}/{worker.worker}" for worker in alive)]),
    )


def stopped_here(members: Iterable[str]) -> dict[str, int]:
    """The process ids of those ``members`` (``role/HOST-PID-MARK``) that are stopped processes of this machine."""
    found = {}
    for member in members:
        rest, _, mark = member.rpartition("-")
        pid = rest.rpartition("-")[2]
        if pid.isdecimal() and asleep.is_stopped(int(pid)) and mark == mark_of(int(pid)):
            found[member] = int(pid)
    return found


def alarms(now: Snapshot) -> list[str]:
    """What is wrong although the run moves, above all reasons in the verdicts not to trust the rewards. Pure."""
    recent, before = now.verdicts[:RECENT_MINUTES], now.verdicts[RECENT_MINUTES:]
    (errors, graded), (errors_before, graded_before) = _errors(recent), _errors(before)
    share, share_before = errors / max(graded, 1), errors_before / max(graded_before, 1)
    before_that = f" ({share_before:.1%} before that)" if graded_before else ""
    why = next((minute["why"] for minute in recent if "why" in minute), "no reason given")
    state, poisoned, overdue = now.state, whole(now.state.get("poisoned")), whole(now.state.get("overdue"))
    groups, reward = now.alike
    lesson = (
        "look at the golds and the format that the prompt asks for" if reward == "0" else "the prompts are too easy"
    )
    given_up = f"; leeway dead-letters list {now.run} names the groups given up" if now.queued["dead_letters"] else ""
    failing = errors >= ERRORS and (share >= HIGH_ERROR_SHARE or share >= max(ERROR_SHARE, 2 * share_before))
    late = overdue > 0 and now.at - number(state.get("overdue_at", "0")) < 60 * RECENT_MINUTES
    told = (
        (
            failing,
            f"the verifiers fail on {share:.1%} of the responses of the last {RECENT_MINUTES} minutes"
            f"{before_that}: {why}{given_up}",
        ),
        (
            poisoned >= POISONED,
            f"the last {poisoned} groups were all refunded as poison ({state.get('poison', '')}); leeway dead-letters "
            "list names each",
        ),
        (
            late,
            f"{state.get('overdue_last', '')} and was issued again, or given up; {counted(overdue, 'time')} in this "
            "run: look at that worker's log",
        ),
        (state.get("unwritten"), state.get("unwritten", "")),
        (state.get("uncopied"), state.get("uncopied", "")),
        (state.get("early_warning"), state.get("early_warning", "")),
        (
            groups >= ALIKE_GROUPS,
            f"every response of the last {groups} groups got reward {reward}: nothing to learn from; {lesson}",
        ),
    )
    return [sentence for wrong, sentence in told if wrong]


def _errors(minutes: list[dict[str, str]]) -> tuple[int, int]:
    """(verdicts ``error``, all verdicts) of some minutes."""
    counts = [(kind, int(number)) for minute in minutes for kind, number in minute.items() if kind != "why"]
    return sum(number for kind, number in counts if kind == VerdictKind.ERROR), sum(number for _, number in counts)


def diagnose(now: Snapshot) -> Diagnosis:
    """The sentence and the alarms of a snapshot. Pure."""
    lasting = [now.state["uncopied"]] if now.state.get("uncopied") else []
    return replace(_flow(now), alarms=lasting if over(now) else alarms(now))


def over(now: Snapshot) -> bool:
    """Whether the run is finished or stopped, and no learner has begun to go on with it since."""
    if now.state.get("phase") not in ("finished", "stopped"):
        return False
    said_at = number(now.state["at"]) if "at" in now.state else inf
    return all(learner.started <= said_at for learner in now.of("learner"))


def _flow(now: Snapshot) -> Diagnosis:
    """Who waits for whom. It follows the flow upstream from the learner until it finds the one that does not deliver.
    Pure."""
    phase = now.state.get("phase")
    if over(now):
        return Diagnosis(stalled=False, sentence=f"the run is {phase} at step {now.state.get('step', '?')}")
    if now.redis:
        return Diagnosis(stalled=True, sentence=now.redis)
    learners, rollouts = now.of("learner"), now.of("rollout")
    if learners and now.state.get("stalled"):
        fresh = _flow(replace(now, state={**now.state, "stalled": ""}))  # the learner's words have its alarm's times
        return fresh if fresh.stalled else Diagnosis(stalled=True, sentence=now.state["stalled"])
    if not learners or f"learner/{now.state.get('leader')}" in now.lost:  # other ranks only follow
        return _no_learner(now)
    leader = max(learners, key=lambda worker: (worker.worker == now.state.get("leader"), worker.version))
    if f"learner/{leader.worker}" in now.stopped:
        return _no_learner(now)
    kind, does = leader.doing.kind, lasting(leader.doing, now.at - leader.since)
    # Their payloads are large: the one who looks may find room for small values all the same.
    refused = [worker.role for worker in now.workers if worker.doing.kind is Activity.WAITING_FOR_REDIS_MEMORY]
    if refused:
        who = f"the {' and '.join(sorted(set(refused)))} cannot hand over and tries again"
        return Diagnosis(stalled=True, sentence=f"Redis {OUT_OF_MEMORY}; {who}")
    if kind is Activity.UNKNOWN:
        return Diagnosis(stalled=False, sentence="the learner runs another build of Leeway: what it does is unknown")
    if kind is Activity.WAITING_FOR_DISK:
        return Diagnosis(
            stalled=True, sentence=f"the learner has been {does}; make room there, and it goes on by itself"
        )
    if kind not in (Activity.WAITING_FOR_GROUPS, Activity.WAITING_FOR_RANK_0):
        idle = rollouts and all(worker.doing.kind is Activity.WAITING_FOR_PROMPTS for worker in rollouts)
        if idle and phase == "training":
            bound, depth = now.state.get("max_staleness", "?"), now.state.get("pipeline_depth", "?")
            return Diagnosis(
                stalled=False,
                sentence=f"rollout waits for the learner, which has been {does}: at max_staleness {bound} and a "
                f"pipeline depth of {depth} no more tickets may be live",
            )
        return Diagnosis(stalled=False, sentence=f"the learner has been {does}; nobody waits")
    return _upstream(now, wait=f"the learner has been {does}: ")


def _upstream(now: Snapshot, wait: str) -> Diagnosis:
    """Who does not deliver while the learner waits. ``wait`` says that it waits, and begins the sentence."""
    for role, stream, what, who in (
        ("verifier", "responses", "group", "a verifier"),
        ("rollout", "prompts", "ticket", "a rollout worker"),
    ):
        if now.queued[stream] and not now.at_work(role):
            waiting = counted(now.queued[stream], f"{what} waits", f"{what}s wait")
            there, advice = _absent(now, role)
            return Diagnosis(stalled=True, sentence=f"{wait}{waiting} for {who} and none {there}; {advice}")
    if now.queued["prompts"]:
        rollouts = [worker.doing for worker in now.of("rollout")]
        first = rollouts[0]
        if all(doing.unreadable for doing in rollouts):
            return Diagnosis(
                stalled=True, sentence=f"{wait}no rollout worker can read the newest weights: {first.unreadable}"
            )
        if all(doing.kind in _WAITING_FOR_WEIGHTS for doing in rollouts):
            # The one that the others of its node wait for waits for the version itself.
            one = next((doing for doing in rollouts if doing.kind is Activity.WAITING_FOR_VERSION), None)
            said = words(first) if one is None else f"{words(one)} of the weights"
            return Diagnosis(stalled=False, sentence=f"{wait}every rollout worker is {said}")
        return Diagnosis(stalled=False, sentence=wait + _work(now, "rollout", "prompts", "rollout works on", "ticket"))
    if now.queued["responses"]:
        works = "the verifier works on" if len(now.of("verifier")) == 1 else "the verifiers work on"
        return Diagnosis(stalled=False, sentence=wait + _work(now, "verifier", "responses", works, "group"))
    if now.queued["scored"] <= now.under_way["scored"]:  # the learner has them all
        why = "the run is paused; leeway resume goes on" if now.paused else "the learner is about to issue"
        return Diagnosis(stalled=False, sentence=f"{wait}no ticket is out: {why}")
    return Diagnosis(stalled=False, sentence=f"{wait}scored groups are on their way")


def _no_learner(now: Snapshot) -> Diagnosis:
    lost = any(name.startswith("learner/") for name in now.lost)
    waited_s = now.at - number(now.state.get("at", "0"))
    if not lost and now.state.get("phase") == "starting" and waited_s < STARTING_S:
        return Diagnosis(stalled=False, sentence=f"the learner has been starting for {age(waited_s)}")
    never = not lost and now.state.get("phase") in (None, "starting")
    there, advice = ("has come yet", f"leeway learner {now.run} starts it") if never else _absent(now, "learner")
    return Diagnosis(stalled=True, sentence=f"no learner {there}: nobody issues tickets or trains; {advice}")


def _work(now: Snapshot, role: str, stream: str, works: str, what: str) -> str:
    """Who works on the entries of a stream. Nobody works on those that a dead or a stopped worker holds."""
    queued, lost = now.queued[stream], now.held_by_lost.get(stream, 0)
    worked = now.under_way[stream] - lost
    waits = f"a worker that is gone until {'its lease ends' if lost == 1 else 'their leases end'}"
    stopped = f"; {asleep_here}" if (asleep_here := _asleep(now, role)) else ""
    if not lost:
        return f"{works} {worked} of {counted(queued, what)}{stopped}"
    if not worked:
        return f"{lost} of {counted(queued, what)} {'is' if lost == 1 else 'are'} held by {waits}{stopped}"
    more = f"{lost} more {'is' if lost == 1 else 'are'} held by {waits}"
    return f"{works} {worked} of {counted(queued, what)}; {more}{stopped}"


def _absent(now: Snapshot, role: str) -> tuple[str, str]:
    """(that no worker of a role is there, and since when, in words that follow "none"; what brings one back)."""
    times = {name: due for name, due in now.lost.items() if name.startswith(f"{role}/")}
    last = max(times, key=lambda name: times[name], default=None)
    since = "" if last is None else f" (the last was lost {age(now.at - times[last])} ago)"
    missed = all(name in now.lost for name in now.stopped if name.startswith(f"{role}/"))
    there = f"is {'alive' if missed else 'at work'}{since}"
    return there, _asleep(
        now, role
    ) or f"leeway up starts another by itself, and without it leeway {role} {now.run} does"


def _asleep(now: Snapshot, role: str) -> str:
    """Which workers of a role are stopped, and what wakes them; empty where none is known to be."""
    pids = [pid for name, pid in now.stopped.items() if name.startswith(f"{role}/")]
    return asleep.told("the rollout worker's" if role == "rollout" else f"the {role}'s", pids)


def timeless(sentence: str) -> str:
    """``sentence`` without its numbers, so that it stays the same for as long as the same thing is wrong."""
    return re.sub(r"\d[\d.,]*", "N", sentence)


@dataclass(slots=True)
class Movement:
    """Whether anything moves, over several looks. Pure but for what it remembers."""

    _seen: tuple[object, ...] = ()
    _since: float = 0.0

    def still_s(self, now: Snapshot) -> float:
        """Seconds for which no step was made, no worker finished anything, and no stream changed."""
        done = tuple(sorted((worker.worker, worker.done) for worker in now.workers))
        seen = (now.state.get("step"), done, tuple(sorted(now.queued.items())))
        if seen != self._seen:
            self._seen, self._since = seen, now.at
        return now.at - self._since


def stall(now: Snapshot, still_s: float, *, stall_s: float, absent_s: float) -> str | None:
    """The sentence of the stall alarm, or None. The run is stalled if nothing has moved for ``absent_s`` seconds and
    nobody is there who could go on (workers need a while to start), or for ``stall_s`` seconds without a pause."""
    found = diagnose(replace(now, state={**now.state, "stalled": ""}))
    if found.stalled:
        return found.sentence if still_s >= absent_s else None
    if still_s < stall_s or now.paused or now.state.get("phase") != "training":
        return None
    return f"nothing has moved for {age(still_s)}: {found.sentence}"
