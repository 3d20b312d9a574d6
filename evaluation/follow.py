"""``leeway eval follow RUN``, the collector's process: it evaluates versions of a training run while that goes on.

::

    weights of RUN ──▶ reader (a thread) ──▶ weights of this queue ──▶ rollout workers of this queue
                                                collector ◀── scored

In the training run it is one more reader of the weights, and nothing else: training neither waits for it nor knows of
it. A version that is due is copied to the weights of this process's own queue. So the workers keep that version while
training goes on, and a follower that was killed finds it again. Where evaluation is slower than training, the versions
in between are left out.
"""

import json
import logging
import shutil
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..common.address import resolve
from ..common.config import Config, parse
from ..common.errors import BrokerError, WeightsError
from ..common.files import path_of, write_whole
from ..common.queue.connection import Connection, RedisError
from ..common.queue.learner import LearnerQueue
from ..common.queue.rollout import RolloutQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import STOPPED, stoppable
from ..common.weights import FlatWeights, Stamp, WeightReader, stamp_of
from .folder import read_json, same_or_refused
from .progress import progress
from .record import Record
from .sample import complain, identity, note_problems, read_problems, restore, tell

log = logging.getLogger(__name__)

POLL_S = 0.5


@dataclass(slots=True)
class DueVersions:
    """Which versions are due: the first that is seen, then the first of every ``every`` versions, and the last."""

    every: int
    steps: int
    """The run's last version."""
    taken: Stamp | None = None
    _block: int = -1

    def due(self, newest: Stamp) -> bool:
        """Whether version ``newest`` is to be evaluated."""
        if self.taken is not None and newest.incarnation > self.taken.incarnation:
            # The learner went back to a checkpoint, so the weights from there on are not those that were evaluated.
            self._block, self.taken = (newest.version - 1) // self.every, Stamp(newest.incarnation, newest.version - 1)
        if newest == self.taken:
            return False
        return newest.version // self.every > self._block or newest.version >= self.steps

    def take(self, stamp: Stamp) -> None:
        """Note that version ``stamp`` is taken."""
        self.taken, self._block = stamp, stamp.version // self.every


class Reader:
    """Reads due versions while an evaluation goes on. Where two are due, the newer one is taken."""

    def __init__(self, queue: RolloutQueue, config: Config, versions: DueVersions, service: Service) -> None:
        folder = config.weights.shared
        self._reader = WeightReader(
            queue.weights,
            worker=queue.worker,
            folder=folder,
            lease_s=config.broker.lease_s,
            threads=config.weights.threads,
        )
        self._queue, self._versions, self._service = queue, versions, service
        self._due: tuple[Stamp, FlatWeights] | None = None
        self._changed = threading.Condition()
        self.over = False
        """Whether no further version will come: the last was read, the run ended, or its Redis is gone."""
        self._thread = threading.Thread(target=self._loop, name="follow", daemon=True)
        self._thread.start()

    def next(self) -> tuple[Stamp, FlatWeights] | None:
        """The newest version that is due and its weights. None where no more will come, or the process is asked to
        stop."""
        with self._changed:
            while self._due is None and not self.over and not self._service.stopping.is_set():
                self._changed.wait(POLL_S)
            found, self._due = self._due, None
            return found

    def _loop(self) -> None:
        try:
            while not self._service.stopping.is_set() and not self._read():
                continue
        except (RedisError, BrokerError) as error:
            log.warning("the run's Redis is gone: %s", error)
        except BaseException as error:
            self._service.fail(error)
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def _read(self) -> bool:
        """Wait ``POLL_S`` for a version, and take it if it is due. Returns whether it was the last."""
        ended = self._queue.state().get("phase") in (
            "finished",
            "stopped",
        )  # this is read before the last look at the weights
        came = self._queue.weights.wait_for_manifest(self._reader.stamp, POLL_S)
        newest = self._reader.newest_stamp()
        if came and self._versions.due(newest):
            try:
                _, weights = self._reader.fetch()
            except WeightsError as error:
                log.warning("version %d cannot be read: %s", newest.version, error)
                return False
            with self._changed:
                self._versions.take(self._reader.stamp)
                self._due = (self._reader.stamp, weights)
                self._changed.notify_all()
        elif came:
            self._service.stopping.wait(POLL_S)  # the version is not due, and would be found again at once
        return newest.version >= self._versions.steps or ended


def follow(
    queue: LearnerQueue,
    service: Service,
    config: Config,
    out: Path,
    responses: int,
    top_p: float,
    run: RolloutQueue,
    every: int,
) -> None:
    """Evaluate the versions of ``run`` that are due, until the run is over."""
    from .collector import Collector
    from .policy import publisher
    from .problems import ticket_of
    from .responses import ResponseStore
    from .score import about_of, score_folder

    problems, rows, unusable, text, tokens = read_problems(config, responses)
    theirs = parse(run.load_config(), f"configuration of {run.run}")
    asked = identity(config, responses, top_p, tokens) | {"run": run.run}
    same_or_refused(out, asked, model=theirs.model.path, problems=config.source.path)
    note_problems(out, problems, config)
    versions, failed = DueVersions(every, theirs.train.steps), dict[str, str]()
    half_done = resume(queue, out, versions)
    queue.record.set_state(phase="running", step=0)
    reader = Reader(run, theirs, versions, service)
    while (found := half_done or reader.next()) is not None:
        stamp, weights = found
        publishing = publisher(queue, config, stamp.incarnation)
        if weights is not None:
            publishing.publish(stamp.version, weights)
        folder = folder_of(out, stamp)
        service.version = stamp.version
        tickets = [ticket_of(problem, config, stamp, rows, top_p) for problem in problems]
        store = ResponseStore(folder)
        with progress(f"version {stamp.version}", len(tickets)) as show:
            mend = partial(restore, queue, config, publishing)
            collector = Collector(queue, service, store, text, config, show=show, mend=mend)
            if not collector.collect(tickets):
                _leave(service)
        failed |= collector.failed
        store.join()
        result = score_folder(folder, store, about_of(out) | {"incarnation": stamp.incarnation}, Record.read(out))
        tell(f"version {stamp.version}: " + ", ".join(_words(*item) for item in result["benchmarks"].items()))
        write_lines(out)
        _emit(run, result)
        half_done = None
    if service.stopping.is_set():
        _leave(service)
    queue.record.set_state(phase="finished", step=0)
    last = -1 if versions.taken is None else versions.taken.version
    if last < theirs.train.steps:
        tell(f"run {run.run} ended after version {last} of {theirs.train.steps}; the same command goes on when it does")
    complain(config.source.path, unusable, failed)


def _leave(service: Service) -> None:
    """End the process: raise the reader's failure, or else the exit of one that was asked to stop."""
    raise service.failure or SystemExit(STOPPED)


def folder_of(out: Path, stamp: Stamp) -> Path:
    """The folder with a version's responses and result."""
    return out / "versions" / f"{stamp.version:06d}-{stamp.incarnation}"


def resume(queue: LearnerQueue, out: Path, versions: DueVersions) -> tuple[Stamp, None] | None:
    """The version that an earlier follower left half done, if its weights are still on this queue. Otherwise its folder
    is deleted, since those weights do not come again. ``versions`` goes on after the newest version that was taken."""
    under_way = {stamp_of(manifest) for manifest in queue.weights.manifests()}
    half_done = None
    for path in sorted((out / "versions").glob("*-*")):
        version, incarnation = map(int, path.name.split("-"))
        stamp = Stamp(incarnation, version)
        if not (path / "eval.json").exists():
            if stamp not in under_way:
                shutil.rmtree(path)
                continue
            half_done = (stamp, None)
        if versions.taken is None or stamp > versions.taken:
            versions.take(stamp)
    write_lines(out)
    return half_done


def lines_of(out: Path) -> list[dict[str, Any]]:
    """A line for each version and benchmark, in order of versions. Where a version was made twice, the last one
    counts."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((out / "versions").glob("*/eval.json"), key=lambda path: int(path.parent.name.split("-")[1])):
        result = read_json(path)
        found[result["version"]] = result
    kept = ("n", "problems", "avg_at_n", "pass_at_k", "tokens_mean", "truncated_share", "no_answer_share", "ungraded")
    return [
        {"version": version, "incarnation": result["incarnation"], "benchmark": name}
        | {key: each[key] for key in kept if key in each}
        for version, result in sorted(found.items())
        for name, each in result["benchmarks"].items()
    ]


def write_lines(out: Path) -> None:
    """Write ``evaluations.jsonl``, which the run's report reads."""
    write_whole(out / "evaluations.jsonl", "".join(json.dumps(line) + "\n" for line in lines_of(out)))


def _words(benchmark: str, each: dict[str, Any]) -> str:
    if "avg_at_n" not in each:
        return f"{benchmark} ungraded"
    estimate = each["avg_at_n"]
    return f"{benchmark} {estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _emit(run: RolloutQueue, result: dict[str, Any]) -> None:
    """Send the result to the run's metrics, which the run writes as long as it goes on."""
    record: dict[str, Any] = {"role": "evaluation", "worker": run.worker, "version": result["version"]}
    for benchmark, each in result["benchmarks"].items():
        if "avg_at_n" in each:
            record |= {f"eval/{benchmark}/{end}": each["avg_at_n"][end] for end in ("value", "low", "high")}
    try:
        run.emit(record)
    except RedisError as error:
        log.warning("the run's Redis is gone, so its metrics lack version %d: %s", result["version"], error)


def main() -> int:
    """Parse the arguments and follow."""
    parser = role_parser("collector", __doc__)
    parser.add_argument("--out", type=path_of, required=True)
    parser.add_argument("--responses", type=int, required=True)
    parser.add_argument("--top-p", type=float, required=True)
    parser.add_argument("--of", required=True, help="the run to follow")
    parser.add_argument("--of-url", required=True, help="the Redis of that run, as @FILE")
    parser.add_argument("--every", type=int, required=True)
    arguments = parser.parse_args()

    def work(queue: LearnerQueue, service: Service, config: Config) -> None:
        logging.getLogger().setLevel(logging.WARNING)  # the progress bar takes the place of log lines
        of = Connection(resolve(arguments.of_url), arguments.of, worker=queue.worker)
        with closing(RolloutQueue(of)) as run:
            follow(queue, service, config, arguments.out, arguments.responses, arguments.top_p, run, arguments.every)

    return run_role("collector", LearnerQueue, arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s)


if __name__ == "__main__":
    sys.exit(stoppable(main))
