"""What a role is doing, as data. Machines act on it, and ``wording.py`` makes English of it for people."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter


class Activity(StrEnum):
    """What a role does or waits for. On the wire a member is its position here, so every change raises the schema."""

    UNKNOWN = "unknown"  # a build with another schema said it, so it cannot be read
    STARTING = "starting"
    READING_PROMPTS = "reading_prompts"
    LOADING_MODEL = "loading_model"
    CHECKING_CHECKPOINT = "checking_checkpoint"
    CONVERTING_CHECKPOINT = "converting_checkpoint"
    GENERATING = "generating"
    GRADING = "grading"
    TRAINING = "training"
    PUBLISHING = "publishing"
    CHECKPOINTING = "checkpointing"
    WAITING_FOR_WEIGHTS = "waiting_for_weights"
    WAITING_FOR_VERSION = "waiting_for_version"
    WAITING_FOR_EARLIER_TRY = (
        "waiting_for_earlier_try"  # for a group that another thread of this worker still generates
    )
    WAITING_FOR_PROMPTS = "waiting_for_prompts"
    WAITING_FOR_RESPONSES = "waiting_for_responses"
    WAITING_FOR_GROUPS = "waiting_for_groups"
    WAITING_FOR_PROBLEMS = "waiting_for_problems"
    WAITING_FOR_RANK_0 = "waiting_for_rank_0"
    WAITING_FOR_DISK = "waiting_for_disk"
    WAITING_FOR_REDIS_MEMORY = "waiting_for_redis_memory"  # Redis refuses what this worker writes
    WAITING_FOR_READER = "waiting_for_reader"  # another worker of this node reads the weights
    WAITING_FOR_NEIGHBOUR = "waiting_for_neighbour"  # one that still loads from the buffer that is to be written
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """An activity and what it is about. A field that does not concern the activity is None.

    - ``step``: the training step in progress; for a checkpoint, the training steps made before it
    - ``version``: the version of the weights that is being published, or that the ticket asks for
    - ``path``: the folder whose disk is full, or the name of the checkpoint that is being read
    - ``lacking``, ``due``: groups of the next batch (in an evaluation: problems) that are missing yet, and all of them
    - ``ticket``, ``worker``, ``held_s``: the oldest missing group, who has held it for long, and for how many seconds;
      ``worker`` is also the one that this one waits for
    - ``unreadable``: why the newest weights cannot be read
    """

    kind: Activity = field(kw_only=False)
    step: int | None = None
    version: int | None = None
    path: str | None = None
    lacking: int | None = None
    due: int | None = None
    ticket: int | None = None
    worker: str | None = None
    held_s: float | None = field(default=None, compare=False)  # a longer time does not make it another activity
    unreadable: str | None = None

    def goes_on(self, before: "Doing") -> bool:
        """Whether this is still what was done ``before``, so that it has lasted since then. A wait goes on while what
        is waited for comes in."""
        return all(getattr(self, name) == getattr(before, name) for name in ("kind", "step", "version", "path", "due"))


_JSON = TypeAdapter(Doing)


def to_json(doing: Doing) -> str:
    """``doing`` as a text, because the values of the run's state are texts."""
    return _JSON.dump_json(doing, exclude_none=True).decode()


def from_json(text: str) -> Doing:
    """What ``to_json`` made ``text`` of; an unknown activity if something else wrote it."""
    try:
        return _JSON.validate_json(text)
    except ValueError:
        return Doing(Activity.UNKNOWN)
