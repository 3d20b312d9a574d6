"""Makes English for people of what the roles say as data: what they do, times and sizes. Pure."""

import difflib
from collections.abc import Sequence
from dataclasses import asdict

from .activity import Activity, Doing

LASTS = "|"
"""Where a time stands in the words of an activity, if it does not stand at their end."""
_WORDS = {
    Activity.UNKNOWN: "unknown (another build of Leeway)",
    Activity.STARTING: "starting",
    Activity.READING_PROMPTS: "reading the prompts",
    Activity.LOADING_MODEL: "loading the model",
    Activity.CHECKING_CHECKPOINT: "checking the files of {path}",
    Activity.CONVERTING_CHECKPOINT: "converting {path} to this number of ranks",
    Activity.GENERATING: "generating",
    Activity.GRADING: "grading",
    Activity.TRAINING: "training step {step}",
    Activity.PUBLISHING: "publishing version {version}",
    Activity.CHECKPOINTING: "writing checkpoint {step}",
    Activity.WAITING_FOR_WEIGHTS: "waiting for weights",
    Activity.WAITING_FOR_VERSION: "waiting for version {version}",
    Activity.WAITING_FOR_EARLIER_TRY: "waiting for the end of a group that was issued again",
    Activity.WAITING_FOR_PROMPTS: "waiting for prompts",
    Activity.WAITING_FOR_RESPONSES: "waiting for responses",
    Activity.WAITING_FOR_GROUPS: "waiting for {lacking} of {groups}",
    Activity.WAITING_FOR_PROBLEMS: "waiting for {lacking} of {problems}",
    Activity.WAITING_FOR_RANK_0: "waiting for rank 0",
    Activity.WAITING_FOR_DISK: "waiting for room|: the disk under {path} is full",
    Activity.WAITING_FOR_REDIS_MEMORY: "waiting for room|: Redis is out of memory",
    Activity.WAITING_FOR_READER: "waiting for new weights|: {worker} reads them for this node",
    Activity.WAITING_FOR_NEIGHBOUR: "waiting to read new weights|: {worker} still loads older ones",
    Activity.DONE: "done",
    Activity.STOPPED: "stopped on request|; resume goes on",
}


def words(doing: Doing) -> str:
    """What a role does, in words that follow "the learner is"."""
    return _told(doing, "")


def lasting(doing: Doing, seconds: float) -> str:
    """What a role does, and for how long, in words that follow "the learner has been"."""
    return _told(doing, f" for {age(seconds)}")


def _told(doing: Doing, how_long: str) -> str:
    oldest = f", ticket {doing.ticket} the oldest" if doing.ticket is not None else ""
    held = f", for {age(doing.held_s)} with {doing.worker}" if doing.held_s is not None else ""
    blind = f"; cannot read the newest: {doing.unreadable}" if doing.unreadable else ""
    does, _, more = _WORDS[doing.kind].partition(LASTS)
    counts = {"groups": counted(doing.due or 0, "group"), "problems": counted(doing.due or 0, "problem")}
    return (does + how_long + more).format(**asdict(doing), **counts) + oldest + held + blind


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: "1 group", "2 groups". ``many`` is the plural where it is not ``one`` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def guess(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown ``name``: which of the ``known`` may be meant; empty where none is near.
    ``cutoff``: how near, as ``difflib`` measures it."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def age(seconds: float) -> str:
    """A length of time in words."""
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def byte_size(count: float) -> str:
    """Bytes for people; a kB is 1,000 of them."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:.0f} {unit}" if count >= 100 * each else f"{count / each:.1f} {unit}"
    return f"{count:.0f} B" if count else "-"
