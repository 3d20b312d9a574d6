"""``leeway dead-letters``: shows what could not be used and why, and asks for the prompts of such groups again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import typer

from ...common import tables
from ...common.errors import ConfigError, DataError
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue
from ...common.wording import age, counted

ROLE_OF = {"prompts": "rollout", "responses": "verifier", "scored": "learner", "metrics": "learner", "weights": "any"}
"""By stream: the role that reads it, and so found what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter."""

    letter_id: str
    """Its entry on the dead-letter stream: unix milliseconds, then a counter."""
    kind: str
    """A ``LetterKind``, which says what becomes of the group; empty where an older build wrote the letter."""
    stream: str
    group_id: str
    """TICKET-INCARNATION; empty where the letter is no group's."""
    worker: str
    reason: str
    retry: str
    """Whether the prompt was asked for again: empty (no), ``asked``, or ``ticket N``."""

    @property
    def role(self) -> str:
        """The role that gave up on it."""
        return ROLE_OF.get(self.stream, "?")

    @property
    def ticket(self) -> str:
        """The group's ticket, or ``-``."""
        return self.group_id.partition("-")[0] or "-"

    def age(self, now: float) -> str:
        """How long ago the letter was written; ``now`` in unix seconds."""
        return age(now - int(self.letter_id.partition("-")[0]) / 1000)


def read_letters(queue: DeskQueue, newest: int | None = None) -> list[Letter]:
    """Every dead letter of the run, or so many of the newest, oldest first."""
    retries = queue.retries()
    return [
        Letter(
            letter_id=found["id"],
            kind=found["kind"],
            stream=found["where"],
            group_id=found["g"],
            worker=found["worker"],
            reason=found["reason"],
            retry="" if (ticket := retries.get(found["g"])) is None else f"ticket {ticket}" if ticket else "asked",
        )
        for found in queue.dead_letters(newest)
    ]


def show_all(redis_url: str, run: str) -> None:
    """Print one line for each letter."""
    with _letters(redis_url, run) as (queue, letters):
        now = queue.now()
    if not letters:
        typer.echo("no dead letters")
        return
    rows = (
        (letter.letter_id, letter.age(now), letter.role, letter.ticket, letter.retry or "-", letter.reason)
        for letter in letters
    )
    tables.show(tables.table(("id", "ago", "role", "ticket", "again", "reason"), rows))


def show_one(redis_url: str, run: str, letter_id: str) -> None:
    """Print everything that is known of one letter."""
    with _letters(redis_url, run) as (queue, letters):
        (letter,) = _chosen(letters, [letter_id])
        held = queue.payload_sizes(letter.group_id) if letter.group_id else {}
        now = queue.now()
    left = (
        ", ".join(f"{name} {counted(size, 'byte')}" for name, size in held.items()) or "nothing: the ticket is settled"
    )
    for name, value in (
        ("letter", letter.letter_id),
        ("written", f"{letter.age(now)} ago by {letter.role} {letter.worker}"),
        ("kind", letter.kind or "not known"),
        ("stream", letter.stream),
        ("group", letter.group_id or "none"),
        ("ticket", letter.ticket),
        ("in Redis", left),
        ("again", letter.retry or "not asked"),
        ("reason", letter.reason),
    ):
        typer.echo(f"{name:<9} {value}")


def retry(redis_url: str, run: str, letter_ids: list[str], *, every: bool) -> None:
    """Ask for the prompts of dead letters again. The poisoned tickets stay refunded: the learner gives each prompt to
    the next ticket that it issues."""
    if every == bool(letter_ids):
        raise ConfigError("name the letters to retry (leeway dead-letters list), or say --all")
    with _letters(redis_url, run) as (queue, letters):
        if queue.state().get("phase") == "finished":
            raise DataError(f"run {run!r} is finished: it issues no more tickets")
        chosen = [letter for letter in letters if letter.group_id] if every else _chosen(letters, letter_ids)
        for letter in chosen:
            if not letter.group_id:
                raise DataError(
                    f"letter {letter.letter_id} on stream {letter.stream!r} is no group's: nothing to retry"
                )
        asked = queue.retry(dict.fromkeys(letter.group_id for letter in chosen))
    before = f"; {len(chosen) - len(asked)} had been asked for before" if len(chosen) > len(asked) else ""
    typer.echo(
        f"{run}: {counted(len(asked), 'prompt')} asked for again{before}. Each goes to the next new ticket, from now on"
    )


@contextmanager
def _letters(redis_url: str, run: str) -> Iterator[tuple[DeskQueue, list[Letter]]]:
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        queue.load_config()  # an unknown run is the user's error, not an empty list
        yield queue, read_letters(queue)


def _chosen(letters: list[Letter], letter_ids: list[str]) -> list[Letter]:
    by_id = {letter.letter_id: letter for letter in letters}
    for letter_id in letter_ids:
        if letter_id not in by_id:
            raise DataError(f"no dead letter {letter_id!r}; leeway dead-letters list shows them")
    return [by_id[letter_id] for letter_id in letter_ids]
