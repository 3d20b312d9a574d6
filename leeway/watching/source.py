"""The one reader of a run, whoever looks at the page: Redis is looked at as by ``leeway status``, and of the files in
the run's folder only what is new is read."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ...common.diagnosis import diagnose, look
from ...common.errors import BrokerError, DataError, LeewayError, NoRunError, of_the_system
from ...common.json_text import line_of_ours
from ...common.queue.connection import Connection, RedisError, why_lost
from ...common.queue.desk import DeskQueue
from ...common.samples import FILE, Sample, sample_in
from ...common.tail import Growing
from ..looking.left import is_finished
from ..looking.letters import Letter, read_letters
from ..looking.status import ANSWER_S, finished, unknown, without_server
from ..looking.status_json import of_look
from .account import events_in

T = TypeVar("T")
LETTERS = 100
"""Dead letters that the page lists, of the newest."""


@dataclass(frozen=True, slots=True)
class News(Generic[T]):
    """What has come in one of the run's files."""

    anew: bool
    """Whether the file was written anew, so that what came before no longer counts."""
    items: list[T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look has found."""

    status: dict[str, Any]
    """The object of ``leeway status --json``."""
    letters: list[dict[str, Any]] | None
    """The newest dead letters, oldest first; None where Redis could not be asked."""
    steps: News[dict[str, Any]]
    """Lines of ``metrics.jsonl``."""
    events: News[dict[str, Any]]
    """Lines of the ledger, of the kinds that ``account`` takes."""
    samples: News[Sample]


class Source:
    """A run's Redis and folder."""

    def __init__(self, url: str, folder: Path, *, local: bool) -> None:
        """``local`` says that the address was not given but noted in the folder. The folder need not exist."""
        self.url, self.folder, self.local = url, folder, local
        self._metrics = Growing(folder / "metrics.jsonl")
        self._ledger = Growing(folder / "ledger.jsonl")
        self._samples = Growing(folder / FILE)
        self._queue: DeskQueue | None = None

    def read(self) -> Found:
        """One look. Where a file cannot be read, that is what it finds, and all is read anew once it can."""
        try:
            status, letters = self._ask()
            return Found(
                status=status,
                letters=letters,
                steps=self._new_steps(),
                events=self._new_events(),
                samples=self._new_samples(),
            )
        except DataError as error:
            status = unknown(self.folder.name, error)
        except OSError as error:
            status = unknown(self.folder.name, of_the_system(error))
        self._leave_files()
        return Found(status=status, letters=None, steps=News(True, []), events=News(True, []), samples=News(True, []))

    def close(self) -> None:
        """Give the files and the connection back."""
        self._leave_files()
        self._leave()

    def connected(self) -> DeskQueue:
        """The run's queue, over the one connection that serves every viewer. ``BrokerError`` where there is none."""
        if self._queue is None:
            self._queue = DeskQueue(Connection(self.url, self.folder.name, connect_s=ANSWER_S, retry_s=0.0))
        return self._queue

    def _ask(self) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
        if self.local and is_finished(self.folder):  # its embedded server has left too
            self._leave()
            return finished(self.folder), None
        try:
            queue = self.connected()
            if not queue.has_run():
                raise NoRunError(f"run {queue.run!r} is no longer known to its Redis")
            now = look(queue)
            letters = read_letters(queue, LETTERS) if now.queued["dead_letters"] else []
            return of_look(now, diagnose(now)), [told(letter) for letter in letters]
        except (LeewayError, RedisError) as error:
            self._leave()
            return self._unanswered(error), None

    def _unanswered(self, error: LeewayError | RedisError) -> dict[str, Any]:
        """The status where Redis does not answer, or does not know the run."""
        if isinstance(error, RedisError):
            error = BrokerError(why_lost(error))
        if self.local and isinstance(error, BrokerError):
            try:
                return without_server(self.folder, error)
            except BrokerError as other:
                error = other
        return unknown(self.folder.name, error)

    def _leave_files(self) -> None:
        for file in (self._metrics, self._ledger, self._samples):
            file.close()

    def _leave(self) -> None:
        if self._queue is not None:
            with closing(self._queue):
                self._queue = None

    def _new_steps(self) -> News[dict[str, Any]]:
        anew, found = self._metrics.renewed(), list[dict[str, Any]]()
        for text in self._metrics.lines():
            try:
                line = line_of_ours(text)
            except ValueError:  # this is a view; the report refuses such a file by its line
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                found.append(line)
        return News(anew, found)

    def _new_events(self) -> News[dict[str, Any]]:
        return News(self._ledger.renewed(), list(events_in(self._ledger.lines())))

    def _new_samples(self) -> News[Sample]:
        anew = self._samples.renewed()
        return News(anew, [found for text in self._samples.lines() if (found := sample_in(text)) is not None])


def told(letter: Letter) -> dict[str, Any]:
    """A dead letter as the page takes it."""
    return asdict(letter) | {"role": letter.role, "ticket": letter.ticket}
