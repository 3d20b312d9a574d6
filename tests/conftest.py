"""Fixtures for everybody: a real server, and a bus on a run of its own.

LEEWAY_TEST_REDIS_URL runs the same tests on a server of yours (Redis 7 or later, or Valkey).
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.elsewhere import place, s3, s3_server  # noqa: F401
from tests.longest_first import in_shares

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Started in the background, we ignore SIGINT, and so would every command under test, which must end at it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The same examples in every run, and no clock: how long one takes says how busy the machine is.
hypothesis.settings.load_profile("ci")

gc.disable()  # until the tests are collected: to look through what stays, again and again, takes a quarter of the time
# Until then byte code is written, also where the environment forbids it. What is imported here is the checkout, and all
# the processes under test would compile it again.
WRITES_NONE, sys.dont_write_bytecode = sys.dont_write_bytecode, False


def pytest_collection_finish() -> None:
    """Garbage is collected from here on, and byte code is written as the environment says."""
    gc.enable()
    sys.dont_write_bytecode = WRITES_NONE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under several workers, what takes long comes first, and one of them starts every vLLM."""
    workers = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    if workers > 1:
        files: dict[str, list[pytest.Item]] = {}
        for item in items:
            files.setdefault(item.path.relative_to(Path(__file__).parent).as_posix(), []).append(item)
        large = {name for name, tests in files.items() if any(test.get_closest_marker("vllm") for test in tests)}
        items[:] = in_shares(files, workers, large)


@pytest.fixture(autouse=True)
def same_dice() -> None:
    """What a test draws does not depend on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """What a test has started ends with it."""
    yield
    if running := sys.modules.get("tests.integration.running"):
        running.end_started()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis-protocol server, embedded unless the environment names one."""
    given = os.environ.get("LEEWAY_TEST_REDIS_URL")
    if given:
        yield given
        return
    from leeway_rl.leeway.running.server import EmbeddedServer

    with EmbeddedServer(tmp_path_factory.mktemp("redis"), start_s=100.0) as server:
        yield server.url


@pytest.fixture
def make_bus(redis_url: str) -> Iterator[Callable[..., object]]:
    """A function that opens buses on one fresh run, by worker name; closes them all afterwards."""
    from leeway_rl.common.queue.connection import Connection

    from tests.roles import Roles

    run, opened = f"test-{uuid.uuid4().hex[:12]}", []

    def open_bus(worker: str = "tester") -> Roles:
        bus = Roles(Connection(redis_url, run, worker=worker))
        bus.learner.ensure_groups()
        opened.append(bus)
        return bus

    yield open_bus
    for bus in opened:
        bus.close()


@pytest.fixture
def bus(make_bus):
    """One bus on a fresh run."""
    return make_bus()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait for a predicate instead of sleeping; fails with the predicate's description. The time is for a machine that
    is far too busy: who waits for less holds the machine to a figure."""

    def wait(predicate: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {timeout_s} s")
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The folder of the model that ships with the tiny preset."""
    return Path(__file__).resolve().parent.parent / "presets" / "tiny" / "model"
