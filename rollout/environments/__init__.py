"""Environments: what answers the policy's turns, in processes that can be killed.

An engine opens a group's conversations and gives each turn of a response to ``step``. It gets back the tokens to go on
from, or learns that the conversation is over::

    with environments.open(ticket) as conversations:
        turn = conversations.step(response, tokens).result()
"""

from .host import Conversations, EnvironmentHost
from .turn import Turn

__all__ = ["Conversations", "EnvironmentHost", "Turn"]
