"""What every viewer of the page sees. It is encoded once, however many there are, and a viewer that is slow passes over
what has been replaced meanwhile: nobody waits for it, and nothing is kept for it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.texts import visible
from .account import Account
from .answers import Answers
from .charts import shown
from .curves import Curves
from .flow import boxes
from .source import Found

QUIET_S = 15.0
"""After so long without news a viewer is sent a word, so that one that is gone is noticed."""
RETRY_MS = 1000
"""How long a browser waits before it connects again."""
_STATUS = ("run", "at", "situation", "stalled", "sentence", "alarms", "state", "workers", "lost", "paused")
"""What the page takes of the object of ``leeway status --json``."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of a board a viewer has."""

    parts: tuple[tuple[str, int], ...] = ()
    """(name, number) of each part, as last sent."""
    generation: int = 0
    points: int = 0
    """Of the curves."""
    curves: int = 0


class Board:
    """The newest of each part of the page. Only one thread may use it."""

    def __init__(self, controls: Sequence[str] = ()) -> None:
        """``controls``: the names of the live controls that the page may turn."""
        self.controls = list(controls)
        self.answers = Answers()
        self.over = asyncio.Event()
        """Set when the page is closed."""
        self._curves, self._account = Curves(), Account()
        self._parts: dict[str, tuple[int, bytes]] = {}
        self._grown = 0
        """Raised whenever the curves have changed."""
        self._encoded: dict[tuple[int, int], bytes] = {}
        """Events of the curves as they are now, by what a viewer has of them."""
        self._changed = asyncio.Event()
        self.viewers = 0
        self.watched = asyncio.Event()
        """Set while there is a viewer, and once the page is closed."""

    def take(self, found: Found) -> None:
        """Take in what a look has found, and wake the viewers."""
        self._put("status", self._status(found.status))
        self._put("letters", None if found.letters is None else list(reversed(found.letters)))
        if found.events.anew:
            self._account.clear()
        for event in found.events.items:
            self._account.take(event)
        self._put("history", self._account.told())
        if found.samples.anew:
            self.answers.clear()
        for sample in found.samples.items:
            self.answers.take(sample)
        if found.samples.anew or found.samples.items:
            self._put("samples", self.answers.told())
        if found.steps.anew:
            self._curves.clear()
        for step in found.steps.items:
            self._curves.add(step["step"], shown(step))
        if found.steps.anew or found.steps.items:
            self._grown += 1
            self._encoded = {}
        self._wake()

    def end(self) -> None:
        """Close the page: every viewer's events come to their end."""
        self.over.set()
        self.watched.set()
        self._wake()

    async def events(self) -> AsyncIterator[bytes]:
        """What one viewer is sent: all there is, then what changes, until the page is closed or the viewer leaves."""
        self.viewers += 1
        self.watched.set()
        try:
            mark = Mark()
            yield f"retry: {RETRY_MS}\n\n".encode()
            while not self.over.is_set():
                changed = self._changed  # before the look, so that what comes while we send is not missed
                text, mark = self.since(mark)
                if text:
                    yield text
                try:
                    await asyncio.wait_for(changed.wait(), QUIET_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.viewers -= 1
            if not self.viewers and not self.over.is_set():
                self.watched.clear()

    def since(self, mark: Mark) -> tuple[bytes, Mark]:
        """The events that a viewer lacks who has ``mark``, as text/event-stream, and what it has then."""
        had, events = dict(mark.parts), []
        events += [text for name, (number, text) in self._parts.items() if had.get(name) != number]
        parts = tuple((name, number) for name, (number, _) in self._parts.items())
        if self._grown and mark.curves != self._grown:
            events.append(self._curves_since(mark.generation, mark.points))
        return b"".join(events), Mark(parts, self._curves.generation, self._curves.points, self._grown)

    def _curves_since(self, generation: int, points: int) -> bytes:
        key = (generation, points)
        if key not in self._encoded:
            self._encoded[key] = event("curves", self._curves.since(generation, points))
        return self._encoded[key]

    def _put(self, name: str, value: Any) -> None:
        number, before = self._parts.get(name, (0, b""))
        text = event(name, _safe(value))
        if text != before:
            self._parts[name] = (number + 1, text)

    def _status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {name: status[name] for name in _STATUS} | {"boxes": boxes(status), "controls": self.controls}

    def _wake(self) -> None:
        self._changed, before = asyncio.Event(), self._changed
        before.set()


def event(name: str, value: Any) -> bytes:
    """One event of text/event-stream. JSON has no line break of its own, so its text is one line."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode()


def _safe(value: Any) -> Any:
    """``value`` as JSON can hold it, with every text as ``visible`` makes it: what a worker reports may hold anything.
    A number that is not finite becomes None."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {key: _safe(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
