"""The protocol of tickets in small: pure values and every step that can follow. ``test_ticket_model.py`` walks through
all of it, and ties it to the code.

One group a training step. A worker may take from both streams, so two workers stand for any mix of roles. An entry that
a worker holds may be taken by the other at any time: its lease has run out. What it held it may hand over all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

PROMPTS, RESPONSES, SCORED = range(3)
Group = tuple[int, int]
"""(ticket, incarnation)."""
Entry = tuple[Group, int, str]
"""(group, how often Redis had been emptied when it was put there, who holds it: a worker, ``L`` or nobody)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The learner, its checkpoint, Redis, two workers, and what may still go wrong."""

    alive: bool = True
    incarnation: int = 1
    version: int = 0
    next_ticket: int = 0
    live: tuple[tuple[int, bool], ...] = ()
    """(ticket, ready), oldest first."""
    unsettled: tuple[Group, ...] = ()
    """Trained since the checkpoint."""
    trained: tuple[int, ...] = ()
    """By step, as far as no rollback took it back."""
    saved: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    """Version, next ticket and live tickets of the checkpoint."""
    streams: tuple[tuple[Entry, ...], ...] = ((), (), ())
    parts: frozenset[tuple[Group, int]] = frozenset()
    """Payloads: 0 the ticket, 1 the responses, 2 scores with a signal, 3 scores without."""
    letters: tuple[Group, ...] = ()
    """Given up, and not yet read by the learner."""
    emptied: int = 0
    held: tuple[tuple[int, Group, int] | None, ...] = (None, None)
    """Of each worker: the stream, group and time of the entry that it has in hand."""
    crashes: int = 1
    empties: int = 1
    deaths: int = 1
    given_up: int = 1
    dull: int = 1
    """How many groups may still turn out to have no signal."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The size of the run."""

    steps: int = 2
    bound: int = 1

    def steps_from(self, s: State) -> Iterator[tuple[tuple, State]]:
        """Every step that can follow, as (its name and arguments, the state after it)."""
        if s.alive:
            if (after := self.turn(s)) != s:
                yield ("turn",), after
            if s.version < self.steps and s.live and s.live[0][1]:
                yield ("train",), self.trained(s)
            if s.saved[0] < s.version or s.saved[1] < s.next_ticket:
                yield ("checkpoint",), checkpointed(s)
            if s.crashes:
                yield ("crash",), replace(s, alive=False, crashes=s.crashes - 1)
        else:
            yield ("resume",), resumed(s)
        if s.empties:
            nothing = {"streams": ((), (), ()), "parts": frozenset(), "letters": ()}
            yield ("empty",), replace(s, empties=s.empties - 1, emptied=s.emptied + 1, **nothing)
        for who in (0, 1):
            yield from worker_steps(s, who)

    def turn(self, s: State) -> State:
        """One turn of the intake's pump."""
        there = {group for group, part in s.parts if part == 0}
        lost = [(n, s.incarnation) for n, ready in s.live if not ready and (n, s.incarnation) not in there]
        s = self.issue(put(s, lost))
        arrived = [group for group, _, holder in s.streams[SCORED] if holder == ""]
        scored = tuple((group, put_at, holder or "L") for group, put_at, holder in s.streams[SCORED])
        letters, s = s.letters, replace(s, streams=(*s.streams[:2], scored), letters=())
        for group in [*arrived, *letters]:
            ticket, incarnation = group
            if incarnation == s.incarnation and (ticket, True) in s.live:
                continue  # told of again: what is ready keeps its payload
            if incarnation != s.incarnation or (ticket, False) not in s.live:
                s = settled(s, group)
            elif group in arrived and (group, 2) in s.parts:
                s = replace(s, live=tuple((n, ready or n == ticket) for n, ready in s.live))
            else:
                s = settled(replace(s, live=tuple(each for each in s.live if each[0] != ticket)), group)
            s = self.issue(s)
        return s

    def issue(self, s: State) -> State:
        """Fill every place."""
        places = min(self.bound + 1, self.steps - s.version)
        new = range(s.next_ticket, s.next_ticket + max(0, places - len(s.live)))
        s = replace(s, live=(*s.live, *((n, False) for n in new)), next_ticket=s.next_ticket + len(new))
        return put(s, [(n, s.incarnation) for n in new])

    def trained(self, s: State) -> State:
        """A training step; its books are closed, and its places filled."""
        (ticket, _), *others = s.live
        unsettled, trained = (*s.unsettled, (ticket, s.incarnation)), (*s.trained, ticket)
        s = replace(s, live=tuple(others), unsettled=unsettled, trained=trained, version=s.version + 1)
        return self.issue(s)


def checkpointed(s: State) -> State:
    """The checkpoint is written, and what it covers acknowledged."""
    saved = s.version, s.next_ticket, tuple(n for n, _ in s.live)
    for group in s.unsettled:
        s = settled(s, group)
    return replace(s, unsettled=(), saved=saved)


def resumed(s: State) -> State:
    """A new incarnation starts from the checkpoint: what Redis holds of groups goes, what was live is issued anew."""
    (version, next_ticket, live), incarnation = s.saved, s.incarnation + 1
    s = replace(s, alive=True, incarnation=incarnation, version=version, next_ticket=next_ticket, unsettled=())
    s = replace(s, live=tuple((n, False) for n in live), trained=s.trained[:version])
    s = replace(s, streams=((), (), ()), parts=frozenset(), letters=())
    return put(s, [(n, incarnation) for n in live])


def put(s: State, groups: list[Group]) -> State:
    """Issue: tickets, and their entries on the prompts stream."""
    entries = tuple((group, s.emptied, "") for group in groups)
    parts = s.parts | {(group, 0) for group in groups}
    return replace(s, streams=(s.streams[0] + entries, *s.streams[1:]), parts=parts)


def settled(s: State, group: Group) -> State:
    """Forget a group: its entry on scored, and its payloads."""
    scored = tuple(entry for entry in s.streams[SCORED] if entry[0] != group)
    return replace(s, streams=(*s.streams[:2], scored), parts=frozenset(p for p in s.parts if p[0] != group))


def worker_steps(s: State, who: int) -> Iterator[tuple[tuple, State]]:
    """What a worker may do."""
    name, job = f"w{who}", s.held[who]
    if job is None:
        for stream in (PROMPTS, RESPONSES):
            fresh = [entry for entry in s.streams[stream] if entry[2] == ""][:1]
            others = [entry for entry in s.streams[stream] if entry[2] not in ("", name)]
            for entry in [*fresh, *others]:  # the next one; or one whose lease has run out
                entries = tuple((*each[:2], name) if each == entry else each for each in s.streams[stream])
                taken = replace(s, streams=(*s.streams[:stream], entries, *s.streams[stream + 1 :]))
                # It looks at once: a group that nobody wants any more is dropped.
                wanted = (entry[0], stream) in s.parts and (entry[0], 0) in s.parts
                after = holding(taken, who, (stream, *entry[:2])) if wanted else dropped(taken, stream, entry[:2])
                yield ("take", who, stream, *entry[:2]), after
        return
    stream, group, put_at = job
    free = holding(s, who, None)
    if s.deaths:
        yield ("die", who), replace(free, deaths=s.deaths - 1)
    for dull in (False, True) if stream == RESPONSES and s.dull else (False,):
        yield ("hand", who, dull), handed(replace(free, dull=s.dull - dull), stream, (group, put_at), dull)
    if s.given_up:
        after = replace(dropped(free, stream, (group, put_at)), given_up=s.given_up - 1)
        known = (group, 0) in s.parts
        yield ("give up", who), replace(after, letters=(*s.letters, group)) if known else after


def handed(s: State, stream: int, entry: tuple[Group, int], dull: bool) -> State:
    """The hand-over, one atomic step."""
    group, written = entry[0], {part for of, part in s.parts if of == entry[0]}
    if stream in written and not written & ({1} if stream == PROMPTS else {2, 3}):
        onward = (*s.streams[stream + 1], (group, s.emptied, ""))
        s = replace(s, parts=s.parts | {(group, stream + 1 + dull)})
        s = replace(s, streams=(*s.streams[: stream + 1], onward, *s.streams[stream + 2 :]))
    return dropped(s, stream, entry)


def dropped(s: State, stream: int, entry: tuple[Group, int]) -> State:
    """Acknowledge an entry, where it is still there."""
    kept = tuple(each for each in s.streams[stream] if each[:2] != entry)
    return replace(s, streams=(*s.streams[:stream], kept, *s.streams[stream + 1 :]))


def holding(s: State, who: int, job: tuple[int, Group, int] | None) -> State:
    """The same with ``job`` in a worker's hands."""
    return replace(s, held=tuple(job if n == who else each for n, each in enumerate(s.held)))
