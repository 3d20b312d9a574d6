"""The learner's view of its run: it issues tickets, takes in what is scored, settles, and puts back what Redis lost."""

import logging
import re
from collections.abc import Iterable, Sequence

from ..codec import SCHEMA, encode
from ..keys import PARTS
from ..types import Responses, Scores, Ticket
from . import scripts
from .connection import Connection
from .consumer import Consumer, ensure_group
from .entries import (
    GROUP,
    GROUP_ID,
    WEIGHTS,
    Asked,
    LetterKind,
    ScoredEntry,
    WorkStream,
    as_scored,
    decode_part,
    group_in,
    stream_id,
    taken,
    texts,
    whole,
)
from .leases import WorkerLeases
from .member import RunRecord
from .metrics import MetricsStream
from .overview import Overview
from .weights import WeightStream

log = logging.getLogger(__name__)


class LearnerQueue(Consumer):
    """User ``learner``: the one that issues, and the one consumer of the scored stream. A pending entry there is a
    group that no checkpoint covers yet."""

    stream = WorkStream.SCORED

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.weights, self.leases = WeightStream(connection), WorkerLeases(connection)
        self.record, self.overview = RunRecord(connection), Overview(connection)
        self.metrics = MetricsStream(connection)
        self.letter_id = "0"  # the newest dead letter that ``scored`` has told of
        self.manifest_damaged = False
        """Whether ``scored`` has come upon a letter of somebody who could not read a manifest of the weights."""
        self._opened = 0  # connections, at the last look
        self._nowhere = set[str]()  # scored entries that we know and Redis has lost

    def raise_incarnation(self, at_least: int) -> int:
        """A new fencing number, above every earlier one this Redis or the caller's checkpoint knows."""
        self.remove_foreign()
        number = int(self._redis.incr(self.keys.incarnation))
        if number < at_least:  # Redis came back empty; the checkpoint remembers
            number = at_least
            self._redis.set(self.keys.incarnation, number)
        return number

    def remove_foreign(self) -> None:
        """Remove what cannot be ours: a key of another type than ours has, an incarnation that is no number. Every
        command on such a key fails, in every role, for as long as it is there; what is missing is put back."""
        kinds = self.keys.types()
        pipe = self._redis.pipeline(transaction=False)
        for key in kinds:
            pipe.type(key)
        pipe.mget(self.keys.incarnation)
        *found, (number,) = pipe.execute()
        foreign = {
            key: f"a {kind.decode()} where a {ours} is due"
            for (key, ours), kind in zip(kinds.items(), found, strict=True)
            if kind.decode() not in (ours, "none")
        }
        if number is not None and whole(number) < 1:
            foreign[self.keys.incarnation] = f"{number[:64]!r} where a number is due"
        for key, why in foreign.items():
            log.error("%s holds %s: removed", key, why)
            self._redis.unlink(key)
        for key, why in foreign.items():
            self.dead_letter(LetterKind.REMOVED, key.removeprefix(self.keys.prefix), "", f"{why}: removed")

    def ensure_groups(self) -> None:
        """Create the consumer groups that are missing."""
        for stream in WorkStream:
            ensure_group(self.connection, stream)

    def clear_work(self) -> int:
        """Forget every group on the work streams; returns how many. For a learner that starts: it issues anew."""
        self.ensure_groups()
        found = {stream: self._redis.xrange(self.keys.prefix + stream) for stream in WorkStream}
        group_ids = {group_in(fields) for entries in found.values() for _, fields in entries}
        # Given up, and on no stream any more: who died before it refunded them left their payloads.
        letters = {group_in(fields) for _, fields in self._redis.xrange(self.keys.dead_letters)}
        given_up = {group_id for group_id in letters - group_ids if GROUP_ID.fullmatch(group_id)}
        pipe = self._redis.pipeline(transaction=True)
        for group_id in group_ids | given_up:
            pipe.delete(*self.keys.parts(group_id))
        # The streams themselves stay, for a new one could give an entry the id of one that a worker still holds.
        for stream, ids in ((stream, [entry_id for entry_id, _ in entries]) for stream, entries in found.items()):
            if ids:
                pipe.xack(self.keys.prefix + stream, GROUP, *ids)
                pipe.xdel(self.keys.prefix + stream, *ids)
        pipe.execute()
        newest = self._redis.xrevrange(self.keys.dead_letters, count=1)
        self.letter_id = newest[0][0].decode() if newest else "0"  # older ones tell of groups that are gone
        return len(group_ids)

    def asked(self, incarnation: int) -> Asked:
        """Whether Redis still has what the learner of ``incarnation`` put there, and what others ask of it, in one
        round trip."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.mget(self.keys.incarnation, self.keys.config)
        pipe.hgetall(self.keys.controls)
        pipe.hgetall(self.keys.retries)
        pipe.get(self.keys.unreadable)
        (number, config), controls, retries, told = pipe.execute()
        found = re.fullmatch(rb"(\d{1,18})\|(\d{1,18})\|(.*)", told or b"")
        return Asked(
            lost=config is None or whole(number) < incarnation,
            less=self.may_have_less(),
            superseded_by=whole(number) if whole(number) > incarnation else None,
            controls=controls,
            retries=texts(retries),
            unreadable=found and (int(found[1]), int(found[2]), found[3].decode(errors="replace")),
        )

    def may_have_less(self) -> bool:
        """Whether Redis may lack what was written last, since another server may answer than at the last such look.
        Replicas and append-only files are behind, and a server that dies takes with it what they do not have yet."""
        before, self._opened = self._opened, self.connection.opened
        if before == self._opened:
            return False
        newest = self._redis.xrevrange(self.keys.dead_letters, count=1)
        if newest and stream_id(newest[0][0].decode()) < stream_id(self.letter_id):
            self.letter_id = "0"  # letters are lost, and by another clock new ones might count as read
        return True

    def note_schema(self) -> None:
        """Where another build has stored the run's configuration, store it again with this build's schema: the learner
        is the one source of what the run speaks."""
        if self.schema() != SCHEMA:
            self.record.store_config(self.load_config())

    def restore_run(self, config: str, incarnation: int, controls: dict[str, str]) -> None:
        """Give a Redis that came back empty what it held beside groups and weights. What an operator has turned since
        then stays."""
        self.record.store_config(config)
        if whole(self._redis.get(self.keys.incarnation)) < incarnation:
            self._redis.set(self.keys.incarnation, incarnation)
        for name, value in controls.items():
            self._redis.hsetnx(self.keys.controls, name, value)
        self.ensure_groups()
        self.letter_id = "0"

    def remove_control(self, name: bytes, value: bytes) -> None:
        """Remove a control that is taken up once, unless it has been set since."""
        scripts.unset(self.connection, self.keys.controls, name, value)

    def refuse_control(self, name: bytes, value: bytes, reason: str) -> None:
        """Remove a control that cannot be taken up, unless it has been turned since, and keep a record of it."""
        self.remove_control(name, value)
        self.dead_letter(LetterKind.REMOVED, "controls", "", reason)

    def retried(self, group_id: str, ticket: int) -> None:
        """The prompt of poisoned group ``group_id`` is asked again by ``ticket``."""
        self._redis.hset(self.keys.retries, group_id, str(ticket))

    def issue(self, *tickets: Ticket) -> None:
        """Put groups' tickets on the prompts stream, small ones in one round trip; repeating it changes nothing."""
        groups = [(ticket.group_id, encode(ticket)) for ticket in tickets]
        self.connection.bytes_out += sum(len(body) for _, body in groups)
        scripts.issue(
            self.connection,
            self.keys.prompts,
            [(self.keys.group(group_id, "ticket"), body, group_id) for group_id, body in groups],
        )

    def holds(self, group_id: str) -> bool:
        """Whether the group's ticket is here: somebody has issued it."""
        return bool(self._redis.exists(self.keys.group(group_id, "ticket")))

    def scored(self, *, count: int, block_s: float) -> list[ScoredEntry]:
        """Newly scored or given-up groups, waited for as in ``take``. The scored ones stay pending until ``settle``."""
        return as_scored(self._jobs(self._read(count, block_s))) + self._given_up(count)

    def _given_up(self, count: int) -> list[ScoredEntry]:
        found = []
        for _, entries in self._redis.xread({self.keys.dead_letters: self.letter_id}, count=count) or ():
            for entry_id, fields in entries:
                self.letter_id = entry_id.decode()
                letter = texts(fields)
                self.manifest_damaged |= letter.get("where") == WEIGHTS
                if letter.get("kind") == LetterKind.GIVEN_UP and GROUP_ID.fullmatch(letter.get("g", "")):
                    found.append(ScoredEntry(entry_id=None, group_id=letter["g"], failed=letter.get("reason", "")))
        return found

    def scored_group(self, group_id: str) -> tuple[Ticket, Responses, Scores] | None:
        """All three parts of a scored group, or None where it is no longer there."""
        ticket, responses, scores = bodies = self._redis.mget(self.keys.parts(group_id))
        self.connection.bytes_in += sum(len(body or b"") for body in bodies)
        if ticket is None or responses is None or scores is None:
            return None
        return (
            decode_part(Ticket, ticket, group_id),
            decode_part(Responses, responses, group_id),
            decode_part(Scores, scores, group_id),
        )

    def scored_payloads(self, group_ids: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """The undecoded responses and scores of several groups in one round trip, for the learner, which decodes each
        on its own (one that is broken must not hold up the others) and knows its own tickets."""
        if not group_ids:
            return []
        parts = [self.keys.group(group_id, part) for group_id in group_ids for part in PARTS[1:]]
        bodies = self._redis.mget(parts)
        self.connection.bytes_in += sum(len(body or b"") for body in bodies)
        return list(zip(bodies[::2], bodies[1::2], strict=True))

    def turn_away(self, entry: ScoredEntry) -> None:
        """Acknowledge an entry and leave its group's payload as it is: it is another entry's, or to be made again."""
        if entry.entry_id is not None:
            self._acknowledge(entry.entry_id)

    def settle(self, entries: Iterable[ScoredEntry]) -> None:
        """Acknowledge groups that a checkpoint covers (or that are refunded) and forget their payloads."""
        settled = list(entries)
        if not settled:
            return
        pipe = self._redis.pipeline(transaction=True)
        entry_ids = [entry.entry_id for entry in settled if entry.entry_id is not None]
        if entry_ids:
            pipe.xack(self.keys.scored, GROUP, *entry_ids)
            pipe.xdel(self.keys.scored, *entry_ids)
        pipe.unlink(*[key for entry in settled for key in self.keys.parts(entry.group_id)])
        pipe.execute()

    def withdraw(self, group_ids: Sequence[str]) -> None:
        """Forget groups that nobody wants any more and that have not come back: whoever takes one drops it."""
        if group_ids:
            self._redis.unlink(*[key for group_id in group_ids for key in self.keys.parts(group_id)])

    def astray(self, group_ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """Of ``group_ids``: those whose ticket is gone from here, and those that no work stream names any more. Entries
        pass from stream to stream in one step, so a group that is under way always stands in one."""
        if not group_ids:
            return [], []
        pipe = self._redis.pipeline(transaction=True)
        for stream in WorkStream:
            pipe.xrange(self.keys.prefix + stream)
        for group_id in group_ids:
            pipe.exists(self.keys.group(group_id, "ticket"))
        answers = pipe.execute()
        streams, there = answers[: len(WorkStream)], answers[len(WorkStream) :]
        named = {group_in(fields) for entries in streams for _, fields in entries}
        gone = [group_id for group_id, found in zip(group_ids, there, strict=True) if not found]
        unnamed = [group_id for group_id in group_ids if group_id not in named]
        return gone, [group_id for group_id in unnamed if group_id not in gone]

    def unread(self, known: set[str], *, less: bool = False) -> list[ScoredEntry]:
        """Scored entries that are leased to this learner and not among ``known`` (entry ids): the answer that named
        them was lost with its connection. ``less``: Redis may lack some of the known ones."""
        pending = self.overview.under_way(WorkStream.SCORED).get(self.worker, 0)
        if not less and pending <= len(known - self._nowhere):
            return []
        reply = self._redis.xreadgroup(GROUP, self.worker, {self.keys.scored: "0"})
        entries = [taken(entry) for _, entries in reply for entry in entries if entry[1]]  # without fields: deleted
        self._nowhere = known - {entry_id for entry_id, _, _ in entries}
        return as_scored(self._jobs([entry for entry in entries if entry[0] not in known]))
