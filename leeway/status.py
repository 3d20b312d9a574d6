"""``leeway status``: who waits for whom, and since when, in one screen and one sentence."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..common.streams import Bus, WorkStream
from ..common.types import Heartbeat, VerdictKind

if TYPE_CHECKING:
    from rich.console import RenderableType

STALLED, ALARM = 8, 10  # exit codes

RECENT_MINUTES = 10
ERRORS, ERROR_SHARE, HIGH_ERROR_SHARE = 4, 0.02, 0.1
"""Verdicts ``error`` in the recent minutes raise an alarm from this number on, where their share of all verdicts is at
least the first and twice what it was in the hour before, or at least the second."""
ALIKE_GROUPS = 64
"""Groups in a row with one and the same reward from which on there is an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at a run."""

    run: str
    at: float
    """Unix time of the look."""
    state: dict[str, str]
    """The learner's word: phase, step, steps, stage, stages, version, live, ready, waiting, max_staleness."""
    workers: list[Heartbeat]
    lost: dict[str, float]
    """``role/worker`` whose heartbeat has expired, with the unix time it was due."""
    queued: dict[str, int]
    """Entries of each work stream, and of the dead letters."""
    under_way: dict[str, int]
    """Of those, the ones a worker holds."""
    verdicts: list[dict[str, str]] = field(default_factory=list)
    """How often each verdict was given, minute by minute, the current minute first; ``why`` is the last error."""
    alike: tuple[int, str] = (0, "")
    """Groups in a row with one and the same reward, and that reward."""

    def of(self, role: str) -> list[Heartbeat]:
        """The living workers of a role."""
        return [worker for worker in self.workers if worker.role == role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The sentence a person needs at 3 a.m."""

    stalled: bool
    """Nothing will move until somebody acts."""
    sentence: str
    alarms: list[str] = field(default_factory=list)
    """What is wrong although the run moves; each a sentence."""


def look(bus: Bus) -> Snapshot:
    """Take a snapshot of ``bus``'s run."""
    alive, lost = bus.workers()
    return Snapshot(
        run=bus.run,
        at=time.time(),
        state=bus.state(),
        workers=alive,
        lost=lost,
        queued=bus.depths(),
        under_way={stream.value: sum(bus.under_way(stream).values()) for stream in WorkStream},
        verdicts=bus.tallies(),
        alike=bus.alike(),
    )


def alarms(now: Snapshot) -> list[str]:
    """What the verdicts say against trusting the rewards. Pure."""
    found = []
    recent, before = now.verdicts[:RECENT_MINUTES], now.verdicts[RECENT_MINUTES:]
    (errors, graded), (errors_before, graded_before) = _errors(recent), _errors(before)
    share, share_before = errors / max(graded, 1), errors_before / max(graded_before, 1)
    if errors >= ERRORS and (share >= HIGH_ERROR_SHARE or share >= max(ERROR_SHARE, 2 * share_before)):
        why = next((minute["why"] for minute in recent if "why" in minute), "no reason given")
        before_that = f" ({share_before:.1%} before that)" if graded_before else ""
        found.append(
            f"the verifiers fail on {share:.1%} of the responses of the last {RECENT_MINUTES} minutes"
            f"{before_that}: {why}"
        )
    groups, reward = now.alike
    if groups >= ALIKE_GROUPS:
        lesson = (
            "look at the golds and the format that the prompt asks for" if reward == "0" else "the prompts are too easy"
        )
        found.append(f"every response of the last {groups} groups got reward {reward}: nothing to learn from; {lesson}")
    return found


def _errors(minutes: list[dict[str, str]]) -> tuple[int, int]:
    """(verdicts ``error``, verdicts) of some minutes."""
    counts = [(kind, int(number)) for minute in minutes for kind, number in minute.items() if kind != "why"]
    return sum(number for kind, number in counts if kind == VerdictKind.ERROR), sum(number for _, number in counts)


def diagnose(now: Snapshot) -> Diagnosis:
    """The sentence and the alarms. Pure: the snapshot in, the diagnosis out."""
    return replace(_flow(now), alarms=[] if now.state.get("phase") in ("finished", "stopped") else alarms(now))


def _flow(now: Snapshot) -> Diagnosis:
    """Who waits for whom. Pure: the snapshot in, the sentence out. Follows the flow upstream from the learner until it
    finds the one that does not deliver."""
    phase = now.state.get("phase")
    if phase in ("finished", "stopped"):
        return Diagnosis(stalled=False, sentence=f"the run is {phase} at step {now.state['step']}")
    learners, rollouts, verifiers = now.of("learner"), now.of("rollout"), now.of("verifier")
    if not learners:
        since = _lost_since(now, "learner")
        return Diagnosis(stalled=True, sentence=f"no learner is alive{since}: nobody issues tickets or trains")
    leader = max(learners, key=lambda worker: worker.version)
    held = f"for {age(now.at - leader.since)}"
    if not leader.activity.startswith("waiting for"):
        idle = rollouts and all(worker.activity == "waiting for prompts" for worker in rollouts)
        if idle and phase == "training":
            bound, depth = now.state.get("max_staleness", "?"), now.state.get("pipeline_depth", "?")
            return Diagnosis(
                stalled=False,
                sentence=f"rollout waits for the learner ({leader.activity} {held}): at max_staleness {bound} and a "
                f"pipeline depth of {depth} groups no more tickets may be live",
            )
        return Diagnosis(stalled=False, sentence=f"the learner is {leader.activity} {held}; nobody waits")
    wait = f"the learner is {leader.activity} {held}: "
    if now.queued["responses"] and not verifiers:
        return Diagnosis(
            stalled=True,
            sentence=f"{wait}{now.queued['responses']} groups wait for a verifier and none is alive"
            + _lost_since(now, "verifier"),
        )
    if now.queued["prompts"] and not rollouts:
        return Diagnosis(
            stalled=True,
            sentence=f"{wait}{now.queued['prompts']} tickets wait for a rollout worker and none is alive"
            + _lost_since(now, "rollout"),
        )
    if now.queued["prompts"]:
        behind = [worker for worker in rollouts if worker.activity.startswith("waiting for version")]
        if behind and len(behind) == len(rollouts):
            return Diagnosis(
                stalled=False, sentence=f"{wait}every rollout worker is {behind[0].activity} of the weights"
            )
        return Diagnosis(
            stalled=False,
            sentence=f"{wait}rollout works on {now.under_way['prompts']} of {now.queued['prompts']} tickets",
        )
    if now.queued["responses"]:
        return Diagnosis(
            stalled=False,
            sentence=f"{wait}the verifiers work on {now.under_way['responses']} of {now.queued['responses']} groups",
        )
    if int(now.state.get("live", "0")) < int(now.state.get("ready", "0")) or not now.queued["scored"]:
        return Diagnosis(stalled=False, sentence=f"{wait}no ticket is out; if this lasts, the run may be paused")
    return Diagnosis(stalled=False, sentence=f"{wait}scored groups are on their way")


def render(now: Snapshot, last_step: dict[str, Any] | None = None) -> RenderableType:
    """The screen: the sentence, the queues, the workers, the last training step."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = diagnose(now)
    step, steps = now.state.get("step", "0"), now.state.get("steps", "?")
    version, stages = now.state.get("version", "-"), int(now.state.get("stages", "1"))
    stage = f"   stage {int(now.state['stage']) + 1} of {stages}" if stages > 1 else ""
    head = Text(f"run {now.run}   step {step} of {steps}{stage}   version {version}", style="bold")
    flow = Text(
        f"prompts {now.queued['prompts']} ▶ responses {now.queued['responses']} ▶ scored {now.queued['scored']}"
        f"   live {now.state.get('live', '-')} (ready {now.state.get('ready', '-')})"
        f"   max_staleness {now.state.get('max_staleness', '-')}   depth {now.state.get('pipeline_depth', '-')}"
        f"   dead letters {now.queued['dead_letters']}"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("role", "worker", "version", "done", "tokens/s", "busy", "doing", "for"):
        table.add_column(name, justify="right" if name in ("version", "done", "tokens/s", "busy", "for") else "left")
    for worker in sorted(now.workers, key=lambda worker: (worker.role, worker.worker)):
        table.add_row(*_row(worker, now.at))
    for member, due in now.lost.items():
        role, _, name = member.partition("/")
        table.add_row(role, name, "", "", "", "", "lost", age(now.at - due), style="red")
    parts: list[RenderableType] = [head, flow, table]
    if last_step is not None:
        parts.append(Text(_last_step(last_step)))
    parts += [Text(f"alarm: {alarm}", style="bold red") for alarm in found.alarms]
    parts.append(Text(found.sentence, style="bold red" if found.stalled else "green"))
    return Group(*parts)


def show(redis_url: str, run: str, *, as_json: bool) -> int:
    """Print one look and return the exit code a monitor can use."""
    bus = Bus(redis_url, run)
    bus.load_config()
    now = look(bus)
    bus.close()
    found = diagnose(now)
    if as_json:
        print(json.dumps(asdict(now) | asdict(found), indent=2))
    else:
        from rich.console import Console

        Console().print(render(now))
    return STALLED if found.stalled else ALARM if found.alarms else 0


def _row(worker: Heartbeat, at: float) -> tuple[str, ...]:
    lived = max(at - worker.started, 1e-3)
    return (
        worker.role,
        worker.worker,
        str(worker.version) if worker.version >= 0 else "-",
        str(worker.done),
        f"{worker.tokens / lived:,.0f}" if worker.tokens else "-",
        f"{min(worker.busy_s / lived, 1.0):.0%}",
        worker.activity,
        age(at - worker.since),
    )


def _last_step(step: dict[str, Any]) -> str:
    return (
        f"last step {step['step']}: reward {step['reward/mean']:.3f}   entropy {step['entropy/policy']:.3f} "
        f"(target {step['entropy/target']:.3f}, α {step['entropy/alpha']:.4f})   "
        f"staleness {step['staleness/head_mean']:.2f} (max {step['staleness/head_max']:.0f})   "
        f"waited {step['time/wait_for_batch_s']:.1f} s of {step['time/step_s']:.1f} s"
    )


def _lost_since(now: Snapshot, role: str) -> str:
    times = [due for name, due in now.lost.items() if name.startswith(f"{role}/")]
    return f" (the last was lost {age(now.at - max(times))} ago)" if times else ""


def age(seconds: float) -> str:
    """A length of time for people."""
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
