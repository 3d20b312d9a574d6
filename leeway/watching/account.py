"""What the page tells of a run's ledger: the dial's history, resumes and stages. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from ...common.controls import name_of
from ...common.json_text import line_of_ours
from ..reporting.rundata import turned_to

EVENTS = ("control", "started", "rolled_back", "stage", "end")
_MARKS = tuple(f'"event":"{event}"'.encode() for event in EVENTS)


def events_in(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The lines of the kinds in ``EVENTS``. The others are not parsed: a long run's ledger has millions of them.
    Whether the ledger is sound is the audit's to say, so what cannot be read is passed over."""
    for text in lines:
        if any(mark in text for mark in _MARKS):
            try:
                event = line_of_ours(text)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("event") in EVENTS and isinstance(event.get("line"), int):
                yield event


class Account:
    """The events that no resume has undone."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []

    def clear(self) -> None:
        """Forget everything: the ledger is read anew."""
        self._events = []

    def take(self, event: dict[str, Any]) -> None:
        """Take in the ledger's next line of a kind in ``EVENTS``."""
        if event["event"] == "rolled_back":
            self._events = [each for each in self._events if each["line"] <= event.get("to_line", 0)]
        else:
            self._events.append(event)

    def told(self) -> dict[str, Any]:
        """The history as the page takes it, oldest first: turns of the dial, and the versions of resumes and stages."""
        return {
            "turns": [
                {
                    "version": each["version"],
                    "name": name_of(each["name"]),
                    "previous": each.get("previous"),
                    "value": each["value"],
                    "by": each.get("by", "operator"),
                    "words": turned_to(each["name"], each["value"]),
                }
                for each in self._of("control")
            ],
            "resumed": [each["version"] for each in self._of("started")[1:]],
            "stages": [{"version": each["version"], "stage": each["stage"]} for each in self._of("stage")],
            "ended": bool(self._of("end")),
        }

    def _of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self._events if each["event"] == event]
