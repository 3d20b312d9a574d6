"""A line of ``leeway doctor``: what was looked at, how it stands, and how to mend it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ...common.errors import LeewayError
from ...common.texts import visible


class State(StrEnum):
    """How something stands."""

    OK = "ok"
    NOTE = "note"
    """A run would work, but not as it might, or not every run would."""
    MEND = "mend"
    """A run would fail, or would lose what it needs."""
    UNKNOWN = "unknown"
    """It could not be looked at here."""


@dataclass(frozen=True, slots=True)
class Line:
    """One finding."""

    what: str
    """What was looked at, in a word or two."""
    state: State
    found: str
    mend: str = ""
    """What to do about it. It is empty where nothing is to be done, or where ``found`` says it already."""

    def describe(self) -> str:
        """The line as a text of one line, or of two where it says how to mend it."""
        text = f"{self.state:<7} {self.what}: {visible(self.found)}"
        return f"{text}\n{'':7} -> {visible(self.mend)}" if self.mend else text


def ok(what: str, found: str) -> Line:
    """Nothing is to be done."""
    return Line(what, State.OK, found)


def note(what: str, found: str, mend: str = "") -> Line:
    """A run would work, but somebody should know this."""
    return Line(what, State.NOTE, found, mend)


def mend(what: str, found: str, how: str = "") -> Line:
    """This has to be mended before a run."""
    return Line(what, State.MEND, found, how)


def unknown(what: str, found: str, how: str = "") -> Line:
    """It could not be looked at."""
    return Line(what, State.UNKNOWN, found, how)


def guarded(what: str, look: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    """The lines of ``look``. An error of a user's that it meets is a line to mend; the check ends there."""
    try:
        yield from look()
    except LeewayError as error:
        yield mend(what, str(error))
