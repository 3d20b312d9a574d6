"""``leeway status``: who waits for whom, and since when, in one screen and one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..common.diagnosis import Snapshot, age, diagnose, look, whole
from ..common.streams import Bus
from ..common.types import Heartbeat

if TYPE_CHECKING:
    from rich.console import RenderableType

STALLED, ALARM = 8, 10  # exit codes
ANSWER_S = 3.0  # how long Redis may take to answer: a frozen one is an answer too


def render(now: Snapshot, last_step: dict[str, Any] | None = None) -> RenderableType:
    """The screen: the sentence, the queues, the workers, the last training step."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = diagnose(now)
    step, steps = now.state.get("step", "0"), now.state.get("steps", "?")
    version, stages = now.state.get("version", "-"), whole(now.state.get("stages", "1"))
    stage = f"   stage {whole(now.state.get('stage', '0')) + 1} of {stages}" if stages > 1 else ""
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
    bus = Bus(redis_url, run, connect_s=ANSWER_S, retry_s=0.0)
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
