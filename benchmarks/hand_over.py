"""What it costs to pass groups from role to role: bytes a trained token, and the rate against raw Redis streams.

::

    python benchmarks/hand_over.py [--url redis://HOST:PORT/DB] [--rounds 15] [--groups 64]

Every way passes the same groups through the same three hops, one way after the other in every round, over one client:
same server, connection and settings.

- **queue**: the classes of ``common/queue`` as busy roles use them. The learner issues a ticket; a rollout worker
  decodes it, and hands over the responses; a verifier decodes both, and hands over the scores; the learner decodes
  responses and scores, and settles. A hand-over brings the worker's next group along, so that a group takes three round
  trips and its share of the learner's four for 64 groups (at 7B sizes a fourth: what is large is read by itself). Three
  messages are encoded and five decoded.
- **raw**: redis-py alone, XADD, XREADGROUP, XACK of bytes made beforehand, in seven round trips a group; each entry
  carries what its reader needs. Nothing is deleted, a repeated hand-over is a second group, and bytes come out.
- **raw + codec**: the same, encoding and decoding what the queue does.
- **thin raw**: raw, but an entry carries only what is new at its hop: no reader sees all of a group.

Rates count the payload bytes of a group once, however often a way moves them. A ratio is the median over the rounds of
queue rate / raw rate within the round. Must hold: at most 9 bytes a trained token at the 7B size; queue / raw at least
0.75, and 0.79 at the 7B size. ``tests/common/test_round_trips.py`` counts the round trips.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from leeway_rl.benchmarks.measure import Table, home_and_server, load_of_this_machine, parser_of
from leeway_rl.common.codec import decode, encode
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import GROUP
from leeway_rl.common.queue.learner import LearnerQueue
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.types import Responses, Scores, Ticket, Verdict, VerdictKind

MOST_BYTES, LEAST_RATIO, LEAST_RATIO_7B = 9.0, 0.75, 0.79
COLUMNS = (
    *("tok/group:,.0f", "bytes/token:.2f", "with rest:.2f", "groups/s:,.0f", "MB/s:6.2f"),
    *("queue/raw:.2f", "queue/raw + codec:.2f", "queue/thin raw:.2f"),
)
AT_ONCE = (1, 1, 64)  # entries that rollout, verifier and learner ask for at a time, by queue and by raw
WORKER = "node-17.cluster-4211-1790000000"
Group = tuple[Ticket, Responses, Scores]
Entry = dict[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What the groups of a run are like."""

    name: str
    group_size: int
    tokens: int
    """Mean tokens a response."""
    vocabulary: int
    prompt_tokens: int
    spans: int
    """Versions that sampled one response."""
    share: float
    """Groups a round, as a share of ``--groups``."""


SIZES = (
    Size(name="tiny", group_size=8, tokens=20, vocabulary=20, prompt_tokens=8, spans=1, share=1),
    Size(name="smollm2", group_size=8, tokens=20, vocabulary=49_152, prompt_tokens=60, spans=1, share=1),
    Size(name="7B", group_size=16, tokens=4000, vocabulary=151_936, prompt_tokens=200, spans=2, share=1 / 8),
)


READS = ((0,), (0, 1), (1, 2))
"""What each hop's reader needs: the ticket; ticket and responses; responses and scores (the learner knows its own
tickets)."""


def made_up(size: Size, number: int) -> Group:
    """One group whose responses are half to one and a half times the mean long."""
    dice, count = np.random.default_rng(number), size.group_size
    lengths = dice.integers(size.tokens // 2, size.tokens + size.tokens // 2, count, dtype=np.uint32, endpoint=True)
    total = int(lengths.sum())
    cuts = [np.linspace(0, length, size.spans + 1).astype(int) for length in lengths]
    spans = [(row, 3 + part, cut[part], cut[part + 1]) for row, cut in enumerate(cuts) for part in range(size.spans)]
    ticket = Ticket(
        ticket=number,
        incarnation=1,
        min_version=3,
        stage=0,
        prompt_id=f"addition.jsonl:{number}",
        prompt_tokens_P=dice.integers(size.vocabulary, size=size.prompt_tokens, dtype=np.uint32),
        group_size=count,
        max_new_tokens=2 * size.tokens,
        temperature=1.0,
        seed=int(dice.integers(2**40)),
        ability="math",
        ground_truth=("42",),
    )
    responses = Responses(
        group_id=ticket.group_id,
        tokens_T=dice.integers(size.vocabulary, size=total, dtype=np.uint32),
        logprobs_T=-dice.exponential(0.3, total).astype(np.float32),
        lengths_S=lengths,
        finished_S=np.ones(count, dtype=np.uint8),
        spans=np.array(spans, dtype=np.uint32),
        worker=WORKER,
        seconds=12.3,
    )
    kinds = [VerdictKind.CORRECT if dice.random() < 0.5 else VerdictKind.WRONG for _ in range(count)]
    verdicts = tuple(Verdict(kind=kind, reason="", seconds=0.0123, peak_bytes=0) for kind in kinds)
    return (
        ticket,
        responses,
        Scores(group_id=ticket.group_id, verdicts=verdicts, graded=responses.fingerprint, worker=WORKER),
    )


def over_queue(connection: Connection, groups: list[Group]) -> float:
    """Pass ``groups`` from ticket to settled; returns the seconds it took."""
    by_id = {group[0].group_id: group for group in groups}
    learner, rollout, verifier = LearnerQueue(connection), RolloutQueue(connection), VerifierQueue(connection)
    learner.clear_work()
    started = time.perf_counter()
    for ticket, _, _ in groups:
        learner.issue(ticket)
    jobs = rollout.take(count=1, block_s=0, lease_s=600)
    for _ in groups:
        (job,) = jobs
        assert rollout.ticket(job) is not None
        _, jobs = rollout.hand_over_and_take(job, by_id[job.group_id][1], lease_s=600)
    jobs = verifier.take(count=1, block_s=0, lease_s=600)
    for _ in groups:
        (job,) = jobs
        assert verifier.responses(job) is not None
        _, jobs = verifier.hand_over_and_take(job, by_id[job.group_id][2], lease_s=600)
    for _ in range(0, len(groups), AT_ONCE[2]):
        entries = learner.scored(count=AT_ONCE[2], block_s=1)
        for responses, scores in learner.scored_payloads([entry.group_id for entry in entries]):
            assert responses is not None
            assert scores is not None
            decode(Responses, responses)
            decode(Scores, scores)
        learner.settle(entries)
    return time.perf_counter() - started


def over_raw(connection: Connection, hops: list[list[Entry]]) -> float:
    """Pass entries through one raw stream a hop; returns the seconds it took. ``hops`` holds each hop's entries."""
    client = connection.redis  # the very same connection
    streams = [f"{connection.keys.prefix}raw:{hop}" for hop in range(len(hops))]
    for stream in streams:
        client.delete(stream)
        client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    started = time.perf_counter()
    for fields in hops[0]:
        client.xadd(streams[0], fields)
    for hop, (stream, at_once) in enumerate(zip(streams, AT_ONCE, strict=True)):
        for first in range(0, len(hops[hop]), at_once):
            ((_, entries),) = client.xreadgroup(GROUP, connection.worker, {stream: ">"}, count=at_once, block=1000)
            for fields in hops[hop + 1][first : first + at_once] if hop < 2 else ():
                client.xadd(streams[hop + 1], fields)
            client.xack(stream, GROUP, *[entry_id for entry_id, _ in entries])
    return time.perf_counter() - started


def in_codec(groups: list[Group], bodies: list[list[bytes]]) -> float:
    """Encode and decode as often as the queue does; returns the seconds it took."""
    started = time.perf_counter()
    for group, group_bodies in zip(groups, bodies, strict=True):
        for message in group:
            encode(message)
        for hop in READS:
            for number in hop:
                decode(type(group[number]), group_bodies[number])
    return time.perf_counter() - started


def measure(connection: Connection, size: Size, rounds: int, count: int) -> tuple[str, *tuple[float, ...]]:
    """The cells of one line of the table."""
    groups = [made_up(size, number) for number in range(count)]
    bodies = [[encode(message) for message in group] for group in groups]
    payload_only = sum(len(group[1]) for group in bodies)
    tokens = sum(int(responses.lengths_S.sum()) for _, responses, _ in groups)
    payload = sum(len(body) for group in bodies for body in group)
    whole: list[list[Entry]] = [[{part: group[part] for part in hop} for group in bodies] for hop in READS]
    thin: list[list[Entry]] = [[{hop: group[hop]} for group in bodies] for hop in range(3)]
    seconds = []
    for _ in range(1 + rounds):
        by_queue, by_raw = over_queue(connection, groups), over_raw(connection, whole)
        again, by_thin = over_queue(connection, groups), over_raw(connection, thin)
        seconds.append((by_queue, by_raw, by_raw + in_codec(groups, bodies), again, by_thin))
    queue_s, raw_s, codec_s, again_s, thin_s = np.array(seconds[1:]).T  # the first round warms up
    middle = np.median(np.concatenate([queue_s, again_s]))
    ratios = (np.median(raw_s / queue_s), np.median(codec_s / queue_s), np.median(thin_s / again_s))
    bytes_a_token = (payload_only / tokens, payload / tokens)
    return size.name, tokens / count, *bytes_a_token, count / middle, payload / middle / 1e6, *ratios


def main() -> None:
    """Measure every size and print the table."""
    parser = parser_of(__doc__, rounds=15)
    parser.add_argument("--url", help="a Redis server of yours; an embedded one by default")
    parser.add_argument("--groups", type=int, default=64, help="groups a round; an eighth of that at the 7B size")
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url or stack.enter_context(home_and_server())[1]
        connection = Connection(url, f"benchmark-{os.getpid()}", worker=WORKER)
        stack.callback(connection.close)
        stack.callback(lambda: connection.redis.delete(*connection.redis.scan_iter(connection.keys.prefix + "*")))
        print(f"{load_of_this_machine()}; medians of {given.rounds} rounds")
        table = Table("size:<8", *COLUMNS)
        for size in SIZES:
            count = max(1, round(given.groups * size.share))
            table.line(*measure(connection, size, given.rounds, count))
        print(
            f"must hold: queue / raw at least {LEAST_RATIO:g}; at the 7B size at least {LEAST_RATIO_7B:g}, and at most "
            f"{MOST_BYTES:g} bytes/token"
        )


if __name__ == "__main__":
    main()
