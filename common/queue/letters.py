"""Dead letters: what could not be used, and why. Every role writes them; learner and desk read them."""

from .connection import Connection
from .entries import texts


def dead_letter(connection: Connection, where: str, group_id: str, reason: str) -> None:
    """Keep the record of something that could not be used."""
    fields = {"where": where, "g": group_id, "worker": connection.worker, "reason": reason[:2000]}
    connection.redis.xadd(connection.keys.dead_letters, fields, maxlen=10_000, approximate=True)


def dead_letters(connection: Connection) -> list[dict[str, str]]:
    """Every dead letter: ``where`` (the stream), ``g`` (the group), ``worker`` (who found it), ``reason``; oldest
    first."""
    return [
        {"id": entry_id.decode(), "where": "", "g": "", "worker": "", "reason": ""} | texts(fields)
        for entry_id, fields in connection.redis.xrange(connection.keys.dead_letters)
    ]
