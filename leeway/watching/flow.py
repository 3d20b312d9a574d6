"""The run as boxes on the page: prompts, rollout, verifier, learner, with what waits between them. Pure."""

from collections import Counter
from typing import Any

from ...common.activity import Activity

ROLES = ("rollout", "verifier", "learner")
STREAMS = {"rollout": "prompts", "verifier": "responses", "learner": "scored"}
"""By role: the stream that it takes its work from."""
_IDLE = {each.value for each in Activity if each.name.startswith("WAITING")} | {Activity.DONE.value}


def boxes(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The roles' boxes, of the object of ``leeway status --json``; none where Redis could not be asked.

    ``mood`` is how the role stands: ``works`` (a worker does something), ``waits`` (every one waits), ``gone`` (none is
    alive), and ``doing`` says what they do, in words. ``waiting`` groups are in the stream before it and nobody's;
    workers hold ``taken`` ones, the learner all those that no checkpoint covers yet.
    """
    if told["workers"] is None:
        return []
    return [_box(role, told) for role in ROLES]


def _box(role: str, told: dict[str, Any]) -> dict[str, Any]:
    workers = [worker for worker in told["workers"] if worker["role"] == role]
    works = any(worker["doing"]["kind"] not in _IDLE for worker in workers)
    stream = STREAMS[role]
    lived = ((worker["tokens"], max(told["at"] - worker["started"], 1e-3)) for worker in workers)
    return {
        "role": role,
        "mood": "gone" if not workers else "works" if works else "waits",
        "doing": _doing(workers, told["state"].get("leader")),
        "workers": len(workers),
        "lost": sum(member.startswith(f"{role}/") for member in told["lost"]),
        "tokens_per_s": sum(tokens / seconds for tokens, seconds in lived),
        "versions": sorted({worker["version"] for worker in workers if worker["version"] >= 0}),
        "waiting": max(0, told["queued"][stream] - told["under_way"][stream]),
        "taken": told["under_way"][stream],
    }


def _doing(workers: list[dict[str, Any]], leader: str | None) -> str:
    """What one worker does, or the learner's leader, as ``leeway status`` has it; of several, how many do what."""
    one = [worker for worker in workers if worker["worker"] == leader] or workers
    if len(one) == 1:
        return str(one[0]["activity"])
    kinds = Counter(worker["doing"]["kind"].replace("_", " ") for worker in one)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
