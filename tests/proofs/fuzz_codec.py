"""Mutated messages through the codec and the weight reader: no crash, no hang, no allocation past the bound.

::

    python tests/proofs/fuzz_codec.py [--messages 1000000] [--seed 0]

Half of the messages are wire messages of every type, with bits flipped, bytes replaced, pieces cut out, doubled, put in
from other messages, or lengths grown; they go through ``decode``. The other half go through a weight reader: the bytes
of a manifest, or a valid manifest with its numbers and names changed, or a payload (keyframe or delta) mutated like the
messages. Every message must come back as its own type or as ``DecodeError``; every fetch must give one of the versions
that were published or ``WeightsError``.

Every ``TRACED``-th message is measured: decoding may allocate ``MOST_TIMES`` its length and 16 KiB, a fetch 4 MiB. The
process as a whole cannot grow by more than 64 MiB. Nothing may take longer than a second of the processor.
"""

from __future__ import annotations

import dataclasses
import random
import resource
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from leeway_rl.benchmarks.measure import parser_of
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.codec import MOST_TIMES, decode, decode_manifest, decode_record, encode, encode_record, sealed
from leeway_rl.common.errors import DecodeError, WeightsError
from leeway_rl.common.types import (
    Encoding,
    Heartbeat,
    Manifest,
    Part,
    Payload,
    Responses,
    Scores,
    Shard,
    TensorInfo,
    Ticket,
    Verdict,
    VerdictKind,
)
from leeway_rl.common.weights import FlatWeights, WeightPublisher, WeightReader, checksum

TRACED = 50
SLACK_BYTES = 16 * 1024
READER_BYTES = 4 << 20
"""The most bytes that Python and numpy may allocate in a fetch of these versions, which have 2,000 bytes."""
PROCESS_BYTES = 64 << 20
"""Bytes that the whole process may take beyond its size at the start, with zstd's windows; the kernel refuses more."""
LIMIT_S = 1.0


def samples() -> list[Any]:
    """One message of every type that travels, small enough that a mutation hits structure."""
    tokens = np.arange(1, 41, dtype=np.uint32)
    ticket = Ticket(
        ticket=7, incarnation=1, min_version=3, stage=0, prompt_id="p:1", prompt_tokens_P=tokens[:9], group_size=2,
        max_new_tokens=64, temperature=1.0, seed=99, ability="math", ground_truth=("4", "four"),
    )  # fmt: skip
    responses = Responses(
        group_id="7-1", tokens_T=tokens * 1000, logprobs_T=-tokens.astype(np.float32), lengths_S=tokens[[15, 23]],
        finished_S=tokens[[0, 0]], spans=np.array([[0, 3, 0, 16], [1, 3, 0, 24]], np.uint32), worker="w", seconds=1.5,
    )  # fmt: skip
    verdict = Verdict(kind=VerdictKind.WRONG, reason="not equal", seconds=0.1, peak_bytes=1 << 20)
    parts = (Part(name="math", value=1.0), Part(name="style", value=-0.25))
    scored = dataclasses.replace(verdict, kind=VerdictKind.SCORED, score=0.75, parts=parts)
    heartbeat = Heartbeat(
        role="rollout", worker="w", version=3, doing=Doing(Activity.GENERATING), since=1e9, done=4, tokens=5,
        busy_s=6.0, started=1e9,
    )  # fmt: skip
    return [ticket, responses, Scores(group_id="7-1", verdicts=(verdict, scored), graded=5, worker="w"), heartbeat]


class Mutator:
    """Makes random damage, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def bytes(self, data: bytes, others: list[bytes], *, seal: bool = True) -> bytes:
        """``data`` after one to five mutations; with ``seal``, a message mostly gets a new seal."""
        rng, out = self.rng, bytearray(data[:-4] if seal else data)
        for _ in range(rng.randint(1, 5)):
            at, end = rng.randrange(len(out) + 1), rng.randrange(len(out) + 1)
            match rng.randrange(7):
                case 0 if out:
                    out[at % len(out)] ^= 1 << rng.randrange(8)
                case 1 if out:
                    out[at % len(out)] = rng.choice(
                        (0, 0x7F, 0x80, 0xC1, 0xC6, 0xC9, 0xDD, 0xDF, 0xFF, rng.randrange(256))
                    )
                case 2:
                    del out[min(at, end) : max(at, end)]
                case 3:
                    out[at:at] = out[min(at, end) : max(at, end)][:4096]
                case 4:
                    other = rng.choice(others)
                    start = rng.randrange(len(other) + 1)
                    out[at:at] = other[start : start + rng.randint(1, 64)]
                case 5:  # an announced length: array, map, text, bytes or extension of up to 2^32
                    out[at : at + 5] = bytes([rng.choice((0xDD, 0xDF, 0xDB, 0xC6, 0xC9))]) + rng.randbytes(4)
                case 6:
                    out[at:at] = rng.choice((b"\x91", b"\x81", b"\xd4\x01", b"\x90")) * rng.randint(1, 2000)
        # Nine of ten get a good seal: a message that lies on purpose would have one, and accidents end at the seal.
        return sealed(bytes(out[:16384])) if seal and rng.random() < 0.9 else bytes(out[:16384])

    def manifest(self, manifest: Manifest) -> Manifest:
        """``manifest`` with one to three fields changed to what a liar might say."""
        rng, number = self.rng, self.number
        changes: dict[str, Any] = {}
        for _ in range(rng.randint(1, 3)):
            match rng.randrange(7):
                case 0:
                    changes[rng.choice(("version", "incarnation", "full_bytes"))] = number()
                case 1:
                    (payload, *_), encoding = manifest.payloads, rng.choice(tuple(Encoding))
                    stored = rng.choice((payload.stored, payload.stored[1:], (number(), *payload.stored[1:])))
                    lie = Payload(base=rng.choice((None, 0, 1, number())), encoding=encoding, stored=stored)
                    changes["payloads"] = rng.choice(((lie,), (lie, payload), (payload, lie), (), (lie,) * 3))
                case 6:
                    shard = Shard(offset=number(), bytes=number(), digest=rng.choice(("", "0" * 64)))
                    at = rng.randrange(len(manifest.shards))
                    changes["shards"] = (*manifest.shards[:at], shard, *manifest.shards[at + rng.randint(0, 1) :])
                case 2:
                    changes["transport"] = rng.choice(("redis", "file", "", "carrier pigeon"))
                case 3:
                    changes["checksum"] = "0" * rng.choice((0, 1, 64))
                case 4:
                    shape = tuple(number() for _ in range(rng.randint(0, 12)))
                    dtype = rng.choice(("bfloat16", "float32", "int4", ""))
                    changes["tensors"] = (TensorInfo(name=rng.choice(("", "w")), dtype=dtype, shape=shape),)
                case 5:
                    changes["tensors"] = manifest.tensors * rng.choice((0, 2, 50))
        return dataclasses.replace(manifest, **changes)

    def number(self) -> int:
        """A number that is small, large, negative or at an edge."""
        return self.rng.choice(
            (0, 1, 2, -1, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, self.rng.randrange(1 << 32))
        )


class MemoryWeights:
    """A ``WeightStream`` in this process; it keeps manifests as bytes and reads them as the real one does."""

    def __init__(self) -> None:
        self.stream: list[bytes] = []
        self.values: dict[tuple[int, int, str], bytes] = {}

    def publish_manifest(self, manifest: Manifest) -> None:
        self.stream.append(encode(manifest))

    def manifests(self) -> list[Manifest]:
        found = []
        for data in self.stream:
            try:
                found.append(decode_manifest(data))
            except DecodeError:
                continue
        return found

    def put_value(self, version: int, incarnation: int, name: str, data: bytes) -> None:
        self.values[version, incarnation, name] = data

    def get_value(self, version: int, incarnation: int, name: str) -> bytes | None:
        return self.values.get((version, incarnation, name))

    def delete_version(self, manifest: Manifest) -> None:
        raise AssertionError("a reader deletes nothing")

    def tell_unreadable(self, version: int, incarnation: int) -> None: ...

    def lease_version(self, worker: str, version: int, seconds: float) -> None: ...

    def release_version(self, worker: str, version: int) -> None: ...

    def leased_versions(self) -> set[int]:
        return set()


class Fuzz:
    """Counts what became of every message; raises at the first thing that must not happen."""

    def __init__(self, seed: int) -> None:
        self.mutator = Mutator(seed)
        self.rng = self.mutator.rng
        self.seen: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.most_times = self.most_reader_bytes = 0.0
        self.messages = [(type(message), encode(message)) for message in samples()]
        record = {"role": "rollout", "weights/load_s": 0.25, "version": 3}
        self.record = encode_record(record)
        self.published()

    def published(self) -> None:
        """Two versions on a stream in memory: a keyframe and a delta."""
        info = TensorInfo(name="w", dtype="bfloat16", shape=(40, 25))
        self.kept = MemoryWeights()
        publisher = WeightPublisher(self.kept, incarnation=1, transport="redis", keep=2, shard_bytes=600)
        noise = np.random.default_rng(0)
        first = noise.integers(0, 256, 2000, np.uint8)
        second = first.copy()
        second[::40] ^= 1
        for version, buffer in enumerate((first, second)):
            publisher.publish(version, FlatWeights((info,), buffer))
        self.truth = {checksum(first), checksum(second)}
        self.stream, self.values = list(self.kept.stream), dict(self.kept.values)
        self.others = [body for _, body in self.messages] + self.stream + [self.record]

    def message(self, trace: bool) -> None:
        """One mutated message through ``decode``."""
        if self.rng.random() < 0.1:
            data = self.mutator.bytes(self.record, self.others)
            self._measured("record", lambda: decode_record(data), dict, DecodeError, len(data) if trace else None)
            return
        cls, body = self.rng.choice(self.messages)
        data = self.mutator.bytes(body, self.others)
        self._measured(cls.__name__, lambda: decode(cls, data), cls, DecodeError, len(data) if trace else None)

    def weights(self, trace: bool) -> None:
        """One mutation of what the weights stream or the payloads hold, through a reader."""
        self.kept.stream, self.kept.values = list(self.stream), dict(self.values)
        which = self.rng.randrange(2)
        match self.rng.randrange(3):
            case 0:
                self.kept.stream[which] = self.mutator.bytes(self.stream[which], self.others)
            case 1:
                self.kept.publish_manifest(self.mutator.manifest(decode_manifest(self.stream[which])))
            case 2:
                key = self.rng.choice(list(self.values))
                self.kept.values[key] = self.mutator.bytes(self.values[key], self.others, seal=False)
        threads = 2 if self.rng.random() < 0.05 else 1  # a pool costs more than what it does here
        reader = WeightReader(self.kept, worker="w", retry_pause_s=0.0, max_bytes=1 << 20, threads=threads)
        fetched = self._measured("weights", reader.fetch, tuple, WeightsError, None, reader=trace)
        if fetched is not None:
            assert checksum(fetched[1].buffer) in self.truth, "weights that were never published were served"

    def _measured(
        self, name: str, act: Any, kind: type, refusal: type[Exception], length: int | None, *, reader: bool = False
    ) -> Any:
        if length is not None or reader:
            tracemalloc.start()
        started, found = time.process_time(), None
        try:
            found = act()
            assert isinstance(found, kind), f"{name}: decoded to {type(found).__name__}"
            self.seen[f"{name} accepted"] += 1
        except refusal:
            self.seen[f"{name} refused"] += 1
        seconds = time.process_time() - started
        self.slowest_s = max(self.slowest_s, seconds)
        assert seconds < LIMIT_S, f"{name}: took {seconds:.2f} s"
        if length is not None or reader:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if length is not None:
                self.most_times = max(self.most_times, max(0, peak - SLACK_BYTES) / max(length, 1))
                assert peak <= MOST_TIMES * length + SLACK_BYTES, f"{name}: {peak} bytes for a message of {length}"
            else:
                self.most_reader_bytes = max(self.most_reader_bytes, peak)
                assert peak <= READER_BYTES, f"{name}: a fetch allocated {peak} bytes"
        return found


def main() -> int:
    """Mutate, decode, count."""
    parser = parser_of(__doc__, seed=0)
    parser.add_argument("--messages", type=int, default=1_000_000)
    given = parser.parse_args()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + PROCESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    fuzz, started = Fuzz(given.seed), time.perf_counter()
    for number in range(given.messages):
        trace = number // 2 % TRACED == 0
        if number % 2:
            fuzz.weights(trace)
        else:
            fuzz.message(trace)
    seconds = time.perf_counter() - started
    for name, count in sorted(fuzz.seen.items()):
        print(f"{name:<20} {count:>9,}")
    print(
        f"{given.messages:,} mutated messages in {seconds:.0f} s (seed {given.seed}); slowest "
        f"{fuzz.slowest_s * 1000:.0f} ms; most memory {fuzz.most_times:.1f} bytes a byte of the message above "
        f"{SLACK_BYTES >> 10} KiB (bound {MOST_TIMES}), {fuzz.most_reader_bytes / 1024:.0f} KiB a fetch (bound "
        f"{READER_BYTES >> 10})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
