"""What a version of the weights costs: digest, encode, write, read, decode, and what the learner stands still for it.

::

    python benchmarks/weights.py [--rounds 3] [--threads 2] [--parameters 67000000] [--products 60]

First the stages, each alone, on a version of random bfloat16 weights of which one in a hundred changes its lowest bits:
GB of the version a second, with one thread and with ``--threads``. The 7B and 32B figures are these rates applied to
15.2 and 65.5 GB: seconds until a version can be had (digest, and encode of a delta), and until a node has it (decode,
and digest), one after the other. They are arithmetic, and verl's beside them were measured by their authors, on GPUs
and another network.

Then two threads against two processes, in turns: each side encodes and decodes two halves of the version.

Then the learner's idle time, in turns, by the classes of the learner: gather, and publish before the next step begins
(on the step), or beside it (off the step). A step is ``--products`` matrix products on one thread. ``before`` is what
stood here earlier: a copy in float32, a cast, one digest and one stream, on the step.

Must hold: two threads reach 0.85 of two processes; off the step, idle time is at most a tenth of ``before``'s, and a
step is no longer.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, shared_memory
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed
from leeway_rl.common.delta import decode_pieces, encode_pieces
from leeway_rl.common.tensors import flatten, infos_of, tensors_of
from leeway_rl.common.types import Manifest
from leeway_rl.common.weights import FlatWeights, Stamp, WeightPublisher, WeightReader, stamp_of
from leeway_rl.common.weights.shards import cut, digest, each, shards_of
from leeway_rl.common.weights.transport import FileStore

LEAST_THREADS, MOST_IDLE = 0.85, 0.10
SIZES = {"7B": (15.2, "delta 3.9-4.9 s, NCCL 5.5-6.0 s"), "32B": (65.5, "delta 6.2-11.9 s, NCCL 14-18 s")}
"""GB of a version in bfloat16, and what verl has published for it."""
SHARD = 1 << 24


class Stream:
    """The manifests of one publisher, in this process."""

    def __init__(self) -> None:
        self.found: list[Manifest] = []

    def manifests(self) -> list[Manifest]:
        """What is announced."""
        return list(self.found)

    def publish_manifest(self, manifest: Manifest) -> None:
        """Announce it."""
        self.found.append(manifest)

    def delete_version(self, manifest: Manifest) -> None:
        """Take it back."""
        self.found = [each for each in self.found if stamp_of(each) != stamp_of(manifest)]

    def leased_versions(self) -> set[int]:
        """Nobody loads."""
        return set()

    def lease_version(self, *_: Any) -> None:
        """Nothing is deleted meanwhile."""

    release_version = tell_unreadable = lease_version


def two_versions(parameters: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat buffers, uint8 [2 * parameters], the second one training step later."""
    random = np.random.default_rng(0)
    first = (random.standard_normal(parameters, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    second = first.copy()
    second[random.integers(0, parameters, parameters // 100)] ^= 1
    return first.view(np.uint8), second.view(np.uint8)


def stages(folder: Path, base: np.ndarray, new: np.ndarray, threads: int, rounds: int) -> dict[str, float]:
    """GB of the version a second, by stage, at best of the rounds."""
    places, out = cut(len(new), SHARD), np.empty_like(new)
    weights = FlatWeights(infos_of({"w": (len(new) // 2,)}, "bfloat16"), new)
    frames = [b"".join(encode_pieces(base[place], new[place], 2)) for place in places]
    shards = shards_of(new, threads, SHARD)
    store, stamp = FileStore(folder, threads), Stamp(1, 0)
    folder.mkdir(exist_ok=True)
    written = store.write(stamp, weights, shards, None)
    manifest = Manifest(
        version=0, incarnation=1, transport="file", tensors=weights.infos, full_bytes=len(new), shards=shards,
        payloads=(written,), checksum="",
    )  # fmt: skip

    def encode(number: int) -> None:
        for _ in encode_pieces(base[places[number]], new[places[number]], 2):
            pass

    def decode(number: int) -> None:
        decode_pieces([frames[number]], out[places[number]], base[places[number]], 2)

    def read() -> None:
        with store.opened(manifest, written, lambda: None) as reading:
            each(lambda number: reading(number, out[places[number]], None), range(len(places)), threads)

    ways: dict[str, Callable[[], Any]] = {
        "digest": lambda: each(lambda place: digest(new[place]), places, threads),  # type: ignore[arg-type, return-value]
        "encode": lambda: each(encode, range(len(places)), threads),
        "write": lambda: store.write(stamp, weights, shards, None),
        "read": read,
        "decode": lambda: each(decode, range(len(places)), threads),
    }
    found = {name: len(new) / min(timed(way)[0] for _ in range(rounds)) / 1e9 for name, way in ways.items()}
    assert np.array_equal(out, new)
    return found


_SHARED: dict[str, shared_memory.SharedMemory] = {}


def work_on(name: str | None, size: int, half: int, arrays: tuple[np.ndarray, ...] = ()) -> float:
    """Encode and decode one half of the version, which lies in shared memory under ``name``. Seconds that it took."""
    if name is not None:
        shared = _SHARED.setdefault(name, shared_memory.SharedMemory(name))
        arrays = tuple(np.ndarray(size, np.uint8, shared.buf, index * size) for index in range(3))
    base, new, out = (array[half * size // 2 :][: size // 2] for array in arrays)
    started = time.perf_counter()
    for place in cut(len(new), SHARD):
        frame = b"".join(encode_pieces(base[place], new[place], 2))
        decode_pieces([frame], out[place], base[place], 2)
    return time.perf_counter() - started


def threads_against_processes(base: np.ndarray, new: np.ndarray, rounds: int) -> float:
    """Median ratio of the rates of two threads and of two processes, and a line of what they were."""
    size = len(new) // (2 * SHARD) * 2 * SHARD or len(new) // 4 * 4
    shared = shared_memory.SharedMemory(create=True, size=3 * size)
    arrays = tuple(np.ndarray(size, np.uint8, shared.buf, index * size) for index in range(3))
    arrays[0][:], arrays[1][:] = base[:size], new[:size]
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:

        def in_threads() -> None:
            list(threads.map(work_on, [None] * 2, [size] * 2, range(2), [arrays] * 2))

        def in_processes() -> None:
            list(processes.map(work_on, [shared.name] * 2, [size] * 2, range(2)))

        ways = {
            "threads": lambda _: timed(in_threads)[0],
            "processes": lambda _: timed(lambda: list(processes.map(work_on, [shared.name] * 2, [size] * 2, range(2))))[
                0
            ],
        }
        found = list(in_turns(rounds, ways, warm_up=1))
    shared.unlink()
    ratio = median(each["processes"] / each["threads"] for each in found)
    rates = {way: size / median(each[way] for each in found) / 1e9 for way in ways}
    print(f"encode + decode  two threads {rates['threads']:.2f} GB/s  two processes {rates['processes']:.2f} GB/s")
    print(f"threads / processes  ratio {ratio:.2f} (must hold: {LEAST_THREADS})")
    return ratio


@dataclass(frozen=True, slots=True)
class Way:
    """How a version went from the learner to a node."""

    stored: int
    """Bytes of its payloads."""
    publishing: float
    fetching: float
    """Seconds."""
    wrong: int
    """Bytes of the version that did not come as they were published."""


def published_and_fetched(folder: Path, versions: Sequence[np.ndarray], threads: int) -> Iterator[Way]:
    """Publish versions by file and follow them, as one worker of a node does for all of them."""
    stream, infos = Stream(), infos_of({"w": (len(versions[0]) // 2,)}, "bfloat16")
    publisher = WeightPublisher(stream, incarnation=1, transport="file", folder=folder, threads=threads)  # type: ignore[arg-type]
    reader = WeightReader(stream, worker="w", folder=folder, threads=threads)  # type: ignore[arg-type]
    for version, buffer in enumerate(versions):
        publishing, manifest = timed(publisher.publish, version, FlatWeights(infos, buffer))
        fetching, (_, weights) = timed(reader.fetch)
        wrong = sum(int((weights.buffer[place] != buffer[place]).sum()) for place in cut(len(buffer), SHARD))
        yield Way(manifest.payload_bytes, publishing, fetching, wrong)


def as_before(path: Path, layers: dict[str, Any], last: FlatWeights | None) -> FlatWeights:
    """Publish as it was done before: a copy in float32, a cast, one digest, and one stream to ``path``."""
    weights = flatten({name: layer.to("cpu", copy=True) for name, layer in layers.items()}, "bfloat16")
    hashlib.sha256(weights.buffer).hexdigest()
    if last is not None:
        with path.open("wb") as file:
            for piece in encode_pieces(last.buffer, weights.buffer, 2):
                file.write(piece)
    return weights


def idle(folder: Path, parameters: int, products: int, rounds: int, threads: int) -> tuple[float, float]:
    """(idle time, whole step) off the step, as shares of ``before``'s, in the median of the rounds."""
    import torch
    from leeway_rl.learner.publication import FlatBuffers

    torch.set_num_threads(1)
    layers = {f"w{number}": torch.randn(parameters // 8) for number in range(8)}
    matrix = torch.randn(1024, 1024)
    shapes = {name: tuple(layer.shape) for name, layer in layers.items()}
    buffers = {way: FlatBuffers(shapes, "bfloat16", 0) for way in ("on", "off")}

    def published(way: str) -> WeightPublisher:
        stream: Any = Stream()
        return WeightPublisher(stream, incarnation=1, transport="file", folder=folder / way, threads=threads)

    publishers = {way: published(way) for way in ("on", "off")}
    last: dict[str, Any] = {}
    version = dict.fromkeys(("before", "on", "off"), 0)

    def step() -> None:
        for _ in range(products):
            torch.mm(matrix, matrix)
        for layer in layers.values():
            layer[::100] *= 1.01

    def gathered(way: str) -> FlatWeights:
        weights = buffers[way].at(version[way])
        for name, tensor in tensors_of(weights).items():
            tensor.copy_(layers[name])
        return weights

    def turn(way: str) -> tuple[float, float]:
        """(seconds of idle time, seconds of the step) of the last of three steps."""
        pool, waiting = ThreadPoolExecutor(1), None
        for _ in range(3):
            begun = time.perf_counter()
            step()
            trained = time.perf_counter()
            if way == "before":
                last[way] = as_before(folder / way, layers, last.get(way))
            else:
                if waiting is not None:
                    waiting.result()
                weights = gathered(way)
                waiting = pool.submit(publishers[way].publish, version[way], weights)
                if way == "on":
                    waiting.result()
            ended = time.perf_counter()
            version[way] += 1
        pool.shutdown()
        return ended - trained, ended - begun

    ways = {way: (lambda _, way=way: turn(way)) for way in version}  # type: ignore[misc]
    found = list(in_turns(rounds, ways, warm_up=1))
    table = Table("publication:<12", "idle s:.3f", "step s:.3f")
    for way, words in (("before", "before"), ("on", "on the step"), ("off", "off the step")):
        table.line(words, *(median(each[way][part] for each in found) for part in range(2)))
    waited, whole = (median(each["off"][part] / each["before"][part] for each in found) for part in range(2))
    print(f"off the step / before  idle {waited:.2f} (must hold: {MOST_IDLE})  step {whole:.2f} (must hold: 1)")
    return waited, whole


def main() -> int:
    """Print all of it; 1 where something that must hold does not."""
    parser = parser_of(__doc__, rounds=3, threads=2)
    parser.add_argument("--parameters", type=int, default=67_000_000, help="of the random model")
    parser.add_argument("--products", type=int, default=60, help="matrix products of a training step")
    arguments = parser.parse_args()
    base, new = two_versions(arguments.parameters)
    print(f"a version of {len(new) / 1e9:.2f} GB; {load_of_this_machine()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = Table("threads:<8", "digest:.2f", "encode:.2f", "write:.2f", "read:.2f", "decode:.2f")
        for threads in sorted({1, arguments.threads}):
            rates = stages(folder / "stages", base, new, threads, arguments.rounds)
            table.line(str(threads), *rates.values())
        for size, (gigabytes, theirs) in SIZES.items():
            out = gigabytes * (1 / rates["digest"] + 1 / rates["encode"])
            taken = gigabytes * (1 / rates["decode"] + 1 / rates["digest"])
            print(f"{size}: a delta out {out:.1f} s, in {taken:.1f} s on {arguments.threads} threads; verl: {theirs}")
        table = Table("version:<8", "stored MB:.1f", "publish s:.2f", "fetch s:.2f")
        for version, way in enumerate(published_and_fetched(folder / "one", (base, new), arguments.threads)):
            assert way.wrong == 0
            table.line(str(version), way.stored / 1e6, way.publishing, way.fetching)
        ratio = threads_against_processes(base, new, arguments.rounds)
        least_idle, step = idle(folder, arguments.parameters, arguments.products, arguments.rounds, arguments.threads)
    return int(ratio < LEAST_THREADS or least_idle > MOST_IDLE or step > 1.05)


if __name__ == "__main__":
    sys.exit(main())
