"""What an environment of a user's is, and what its ``step`` may return. Users import from here.

An environment answers the policy, turn by turn. It is a class of the user's::

    class Guess:
        def reset(self, row, seed):
            self.number = random.Random(seed).randrange(100)

        def step(self, response):
            if not response.strip().isdecimal():
                return "say a number"
            guess = int(response)
            if guess == self.number:
                return Step(done=True, reward=1.0)
            return "higher" if guess < self.number else "lower"

``__init__`` takes the ``options`` of the section ``[environment]``. ``reset`` takes what it names of ``row`` (the
prompt's row, a dict) and ``seed`` (a whole number that the run's seed, the ticket and the response decide), and returns
nothing. ``step`` takes the text of the policy's turn and returns an observation, which is a text, or a ``Step``. Both
may be ``async def``. There is one object for each response. What it raises is an error and never a reward of 0.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """An answer to a turn."""

    observation: str | None = None
    """What the policy is told. It may be None where ``done``: then nothing is said any more."""
    reward: float = 0.0
    """What the turn is worth. A response's turns add up."""
    done: bool = False
    """Whether the conversation is over."""
