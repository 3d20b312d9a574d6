"""What stands between a run's parts: the proxy, the clock, the small disk; and the damage done to messages."""

import errno
import os
import random
import subprocess
import sys
import time
import uuid
from urllib.parse import urlsplit

import numpy as np
import pytest
from leeway_rl.common.codec import decode
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import GROUP, WorkStream
from leeway_rl.common.types import Responses, TensorInfo
from leeway_rl.common.weights import FlatWeights, WeightPublisher
from leeway_rl.leeway.chaos import damage
from leeway_rl.leeway.chaos.clock import Clock
from leeway_rl.leeway.chaos.hanging import Hanging, busiest
from leeway_rl.leeway.chaos.pile import ALIVE, GONE, pile_up
from leeway_rl.leeway.chaos.proxy import Proxy
from leeway_rl.leeway.chaos.target import Target, fill, small_disk
from leeway_rl.leeway.running.server import EmbeddedServer

from tests.allowed import allowed
from tests.roles import Roles
from tests.samples import a_ticket, some_responses, two_turns


def port_of(url):
    return urlsplit(url).port


@pytest.fixture
def proxy(redis_url):
    with Proxy(port_of(redis_url)) as proxy:
        yield proxy


@pytest.fixture
def through(proxy):
    bus = Roles(Connection(f"redis://127.0.0.1:{proxy.own_port}/0", f"proxied-{uuid.uuid4().hex[:12]}"))
    yield bus
    bus.desk.clean()
    bus.close()


def test_the_proxy_passes_on_what_it_gets_in_both_directions(through):
    text = "x" * 1_000_000
    through.record.store_config(text)
    assert through.desk.load_config() == text


def test_a_cut_breaks_what_is_open_and_work_goes_on_over_a_new_connection(proxy, through):
    through.record.store_config("before")
    assert proxy.cut() >= 1
    assert through.desk.load_config() == "before"


def test_while_it_refuses_nobody_gets_through(proxy, through):
    proxy.refusing = True
    proxy.cut()
    with pytest.raises(BrokerError, match="no Redis at"):
        Connection(through.url, through.run)
    proxy.refusing = False
    assert not through.desk.has_run()


def test_a_slow_proxy_holds_every_piece_back(proxy, through):
    proxy.delay_s = 0.1
    started = time.monotonic()
    through.desk.has_run()
    assert time.monotonic() - started >= 0.2  # there and back
    proxy.delay_s = 0.0


def test_a_set_clock_moves_the_time_of_day_and_no_steady_one(tmp_path):
    try:
        clock = Clock(tmp_path)
    except OSError as error:
        pytest.skip(str(error))
    look = "import time, sys\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", look],
        env=os.environ | clock.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    for ahead_s in (0, 3600, -3600, 0):
        clock.set(ahead_s)
        before = time.time(), time.monotonic()
        child.stdin.write("\n")
        child.stdin.flush()
        wall, steady = map(float, child.stdout.readline().split())
        assert before[0] + ahead_s - 1 <= wall <= time.time() + ahead_s + 1
        assert before[1] - 1 <= steady <= time.monotonic() + 1
    child.communicate()


def ahead_s(server):
    """How far ahead the server's clock is, by the id of an entry that it makes."""
    with damage.connect(server.port) as client:
        entry_id = client.xadd("clock", {"x": "x"})
        client.delete("clock")
    return int(entry_id.split(b"-")[0]) / 1000 - time.time()


def test_a_lease_given_while_the_clock_was_ahead_begins_when_it_is_back(tmp_path, wait_until):
    try:
        clock = Clock(tmp_path / "clock")
    except OSError as error:
        pytest.skip(str(error))
    with EmbeddedServer(tmp_path / "redis", environment=clock.environment) as server:
        dead, alive = (
            Roles(Connection(server.url, "r", worker="dead")),
            Roles(Connection(server.url, "r", worker="alive")),
        )
        dead.learner.issue(a_ticket(1))
        clock.set(3600)
        wait_until(lambda: ahead_s(server) > 3000, "the server, which keeps the time for a moment, is ahead")
        (held,) = dead.rollout.take(count=1, block_s=1, lease_s=0.2)
        clock.set(0)
        wait_until(lambda: ahead_s(server) < 60, "it is back")

        def taken():
            return alive.rollout.take(count=1, block_s=0.05, lease_s=0.2)

        quiet_until = time.monotonic() + 0.6
        while time.monotonic() < quiet_until:
            assert taken() == []
        alive.learner.leases.begin_future()
        found = []
        wait_until(lambda: bool(found.extend(taken()) or found), "the lease ends")
        assert found[0].entry_id == held.entry_id
        for bus in (dead, alive):
            bus.close()


def test_a_filled_disk_takes_nothing_more_and_is_whole_again_without_the_ballast(tmp_path):
    folder = tmp_path / "checkpoints"
    with allowed(small_disk(folder)):
        ballast = fill(folder)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            (folder / "one").write_bytes(bytes(4096))
        assert caught.value.errno == errno.ENOSPC
        ballast.unlink()
        (folder / "two").write_bytes(bytes(4096))
        (folder / "one").unlink()
    assert [path.name for path in folder.iterdir()] == ["two"]
    assert not os.path.ismount(folder)


@pytest.fixture
def target(redis_url, bus, tmp_path):
    bus.learner.issue(a_ticket(1), a_ticket(2), a_ticket(3))
    return Target(bus.run, tmp_path, port_of(redis_url))


def groups(bus):
    return [fields.get(b"g", b"").decode(errors="replace") for _, fields in bus.redis.xrange(bus.keys.prompts)]


@pytest.mark.parametrize(
    ("what", "holds"),
    [
        (damage.entry_twice, lambda left: len(left) == 4 and set(left) == {"1-1", "2-1", "3-1"}),
        (damage.entry_moved, lambda left: sorted(left) == ["1-1", "2-1", "3-1"]),
        (damage.entry_gone, lambda left: len(left) == 2),
        (damage.entry_cut, lambda left: len(left) == 3 and len(set(left) & {"1-1", "2-1", "3-1"}) == 2),
        (damage.entry_flipped, lambda left: len(left) == 3 and len(set(left) & {"1-1", "2-1", "3-1"}) == 2),
    ],
)
def test_damage_to_an_entry_is_what_its_name_says(bus, target, what, holds):
    assert what(target, random.Random(5))
    assert holds(groups(bus)), groups(bus)


@pytest.mark.parametrize("what", [damage.payload_cut, damage.payload_flipped, damage.payload_swapped])
def test_damage_to_a_payload_changes_one_and_makes_up_none(bus, target, what):
    keys = [bus.keys.group(f"{number}-1", "ticket") for number in (1, 2, 3)]
    before = bus.redis.mget(keys)
    assert what(target, random.Random(5))
    assert sum(new != old for new, old in zip(bus.redis.mget(keys), before, strict=True)) == 1
    assert set(bus.desk.payload_sizes("1-1")) <= {"ticket"}


def test_where_there_is_nothing_to_damage_nothing_happens(redis_url, bus, tmp_path):
    target = Target(bus.run, tmp_path, port_of(redis_url))
    for what in (damage.entry_cut, damage.payload_cut, damage.weights_flipped, damage.manifest_flipped):
        assert what(target, random.Random(0)) is None
    assert bus.overview.depths()[WorkStream.PROMPTS] == 0


@pytest.mark.parametrize("keyframe_every", [1, 20])
def test_a_flipped_version_is_the_newest_and_its_payload_is_seen_to_be_damaged(bus, target, keyframe_every):
    publisher = WeightPublisher(bus.learner.weights, incarnation=1, transport="redis", keyframe_every=keyframe_every)
    for version in range(11):  # 10 comes after 9, not after 1
        buffer = np.random.default_rng(version).integers(0, 256, 20_000, dtype=np.uint8)
        publisher.publish(version, FlatWeights((TensorInfo(name="w", dtype="bfloat16", shape=(10_000,)),), buffer))
    keys = sorted(bus.redis.scan_iter(match=bus.keys.prefix + "weights:*:*:*"))
    before = dict(zip(keys, bus.redis.mget(keys), strict=True))
    what = damage.weights_flipped(target, random.Random(5))
    (changed,) = (key for key in keys if bus.redis.get(key) != before[key])
    assert changed.decode().removeprefix(bus.keys.prefix).startswith("weights:1:10:")
    assert what.startswith(changed.decode())


def test_a_log_probability_that_is_none_is_one_token_of_a_group_that_is_not_graded_yet(bus, target):
    assert damage.logprob_nan(target, random.Random(5)) is None, "nothing waits for verdicts"
    (job,) = bus.rollout.take(count=1, block_s=1, lease_s=60)
    sampled = some_responses(bus.rollout.ticket(job))
    bus.rollout.hand_over(job, sampled)
    assert damage.logprob_nan(target, random.Random(5))
    _, found = bus.verifier.responses(job)
    changed = [new != old for new, old in zip(found.logprobs_T, sampled.logprobs_T, strict=True)]
    assert sum(changed) == 1
    assert found.fingerprint == sampled.fingerprint


@pytest.mark.parametrize("sampled_of", [some_responses, two_turns])
def test_observed_tokens_that_are_not_are_of_a_group_that_is_not_graded_yet(bus, target, sampled_of):
    assert damage.observed_moved(target, random.Random(5)) is None, "nothing waits for verdicts"
    (job,) = bus.rollout.take(count=1, block_s=1, lease_s=60)
    sampled = sampled_of(bus.rollout.ticket(job))
    bus.rollout.hand_over(job, sampled)
    assert damage.observed_moved(target, random.Random(5))
    found = decode(Responses, bus.redis.get(bus.keys.group(job.group_id, "responses")))
    assert found.observed.tolist() != sampled.observed.tolist()
    assert found.fingerprint == sampled.fingerprint


def test_what_the_dead_one_of_a_pile_held_comes_back_with_the_runs_own_and_the_rest_goes(bus, target, wait_until):
    (target.folder / "config.toml").write_text(dump(compose(["tiny"], ["broker.lease_s=3"])))
    for seed in range(20):
        hit = pile_up(target, random.Random(seed))
        if hit.what.endswith("on prompts"):
            break
        hit.end()  # or the worker that lives renews for ever
    assert hit.what == "500 live and 53 dead leases on prompts"

    def held(**which):
        return bus.redis.xpending_range(bus.keys.prompts, GROUP, "-", "+", 1000, **which)

    for worker in (ALIVE, GONE):  # an hour goes by
        leases = [lease["message_id"] for lease in held(consumername=worker)]
        bus.redis.xclaim(bus.keys.prompts, GROUP, worker, 0, leases, idle=3_600_000, justid=True)
    silent = {GONE.encode()}
    wait_until(lambda: {each["consumer"] for each in held(idle=60_000)} == silent, "the one that lives has renewed")
    got = {}

    def taken():
        got.update((job.entry_id, job) for job in bus.rollout.take(count=9, block_s=0, lease_s=60.0))
        return len(got) >= 53

    wait_until(taken, "those of the dead one")
    assert len(got) == 53, "none of the one that lives"
    assert {"1-1", "2-1", "3-1"} <= {job.group_id for job in got.values()}
    assert hit.end() == "53 of 53 were in work again"
    assert sorted(groups(bus)) == ["1-1", "2-1", "3-1"]


SPINNING = """
import hashlib, threading, time
threading.Thread(target=lambda: hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9), daemon=True).start()
while True:
    print("beat", flush=True)
    time.sleep(0.05)
"""


def test_a_thread_hangs_where_it_computes_while_the_others_go_on_until_it_is_let_go(tmp_path, wait_until):
    try:
        hanging = Hanging(tmp_path)
    except OSError as error:
        pytest.skip(str(error))
    child = subprocess.Popen(
        [sys.executable, "-c", SPINNING], env=os.environ | hanging.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        found = []
        wait_until(lambda: found.append(busiest(child.pid)) or found[-1] is not None, "it computes")
        wait_until(lambda: hanging.hang(child.pid, found[-1]), "it hangs")
        assert [child.stdout.readline() for _ in range(20)] == ["beat\n"] * 20
        assert busiest(child.pid) is None, "it does not compute"
        hanging.release()
        wait_until(lambda: busiest(child.pid) == found[-1], "it computes again")
    finally:
        child.kill()
        child.communicate()
