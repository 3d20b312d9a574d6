"""What an environment's answer means for the response."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows a turn of the policy."""

    observation: tuple[int, ...] | None
    """The tokens behind the turn's end token, from which the policy goes on: the observation, with the chat template's
    glue around it, the next generation prompt included. None: the conversation is over."""
    finished: bool = False
    """Where it is over, whether the environment ended it. If not, it has had ``environment.max_turns``."""
