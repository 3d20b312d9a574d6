"""Every role can do its work under its own user, and nothing else, on a real server with the printed ACL file."""

import pytest
import redis
from leeway_rl.common.errors import BrokerError, ConfigError, DataError
from leeway_rl.common.profiles import FIELD, Request
from leeway_rl.common.queue import scripts
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.entries import HandOver, Unwanted
from leeway_rl.common.types import Encoding, Manifest, Payload, Shard, TensorInfo
from leeway_rl.leeway.looking import letters, status
from leeway_rl.leeway.running.acl import USERS, acl, user_name
from leeway_rl.leeway.running.clean import clean
from leeway_rl.leeway.running.server import EmbeddedServer

from tests.roles import Roles
from tests.samples import a_heartbeat, a_ticket, some_responses, some_scores


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A server with the file that ``leeway acl`` prints, and for each user every view of run ``r`` under its name."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "users.acl").write_text(acl(None, folder / "passwords") + "\n")
    passwords = dict(line.split() for line in (folder / "passwords").read_text().splitlines())
    options = ("--aclfile", str(folder / "users.acl"))
    logins = {role: f"{user_name(role, None)}:{passwords[user_name(role, None)]}@" for role in USERS}
    with EmbeddedServer(folder / "data", options=options, user=logins["desk"]) as server:
        host = server.url.split("@")[1]
        buses = {role: Roles(Connection(f"redis://{login}{host}", "r", worker=role)) for role, login in logins.items()}
        yield buses
        for bus in buses.values():
            bus.close()


def a_manifest(version=0):
    info = TensorInfo(name="w", dtype="bfloat16", shape=(1,))
    whole = Payload(base=None, encoding=Encoding.PLANES, stored=(2,))
    return Manifest(
        version=version, incarnation=1, transport="redis", tensors=(info,), full_bytes=2,
        shards=(Shard(offset=0, bytes=2, digest=""),), payloads=(whole,), checksum="",
    )  # fmt: skip


def test_every_role_does_its_work_under_its_own_user(secured, capsys):
    rollout, verifier = secured["rollout"].rollout, secured["verifier"].verifier
    learner, desk = secured["learner"].learner, secured["desk"].desk
    desk.record.store_config("")
    desk.record.set_state(phase="starting", step=0)
    desk.set_control("max_staleness", "1")
    request = Request.new(2, desk.now() + 60)
    desk.ask_profile(request)
    assert learner.asked(0).controls[FIELD.encode()].decode() == request.to_text()
    learner.record.set_state(**{FIELD: ""})
    learner.remove_control(FIELD.encode(), request.to_text().encode())
    desk.ask_profile(request)
    assert desk.withdraw_profile(request)
    learner.remove_control(FIELD.encode(), b"")
    assert learner.raise_incarnation(1) == 1
    learner.restore_run("", 1, {"max_staleness": "2", "paused": "0"})
    assert learner.overview.controls() == {"max_staleness": "1", "paused": "0"}
    assert not learner.asked(1).lost
    learner.connection.redis.hset(learner.keys.controls, "paused", "no")
    learner.refuse_control(b"paused", b"no", "neither 0 nor 1")
    learner.remove_foreign()
    assert learner.overview.controls() == {"max_staleness": "1"}
    learner.clear_work()
    assert learner.metrics.newest_id() == "0"
    learner.weights.publish_manifest(a_manifest())
    learner.weights.put_value(0, 1, "keyframe:0:0", b"xx")
    learner.record.set_state(phase="training", step=0, steps=2)
    learner.issue(*[a_ticket(number) for number in range(6)])
    for queue, role in ((rollout, "rollout"), (verifier, "verifier"), (learner, "learner")):
        assert queue.load_config() == ""
        queue.beat(a_heartbeat(role), 60.0)
        queue.emit({"role": role})
        assert queue.state()["phase"] == "training"
    assert rollout.weights.wait_for_manifest((0, -1), 1.0)
    rollout.weights.lease_version("rollout", 0, 5.0)
    assert rollout.weights.get_value(0, 1, "keyframe:0:0") == b"xx"
    rollout.weights.release_version("rollout", 0)
    rollout.weights.tell_unreadable(0, 1)
    assert learner.asked(1).unreadable == (1, 0, "rollout")
    learner.weights.forget_unreadable()
    (along,) = rollout.take(count=1, block_s=0, lease_s=60)
    answer = some_responses(rollout.ticket(along))
    outcome, (other,) = rollout.hand_over_and_take(along, answer, lease_s=60)
    assert (outcome, rollout.ticket(other).ticket) == (HandOver.HANDED, 1)
    assert rollout.hand_over(other, some_responses(a_ticket(1))) is HandOver.HANDED
    (along,) = verifier.take(count=1, block_s=0, lease_s=60)
    scores = some_scores(verifier.responses(along)[0])
    outcome, (other,) = verifier.hand_over_and_take(along, scores, lease_s=60)
    assert (outcome, verifier.responses(other)[1].group_id) == (HandOver.HANDED, "1-1")
    verifier.drop(other)
    learner.settle(learner.scored(count=9, block_s=1))
    first, second, third, last = rollout.take(count=4, block_s=1, lease_s=60)
    assert rollout.renew([first, second]) == {first.entry_id, second.entry_id}
    assert learner.leases.announce_again(learner.leases.held()[1][0])
    assert rollout.unwanted([first, second]) == {first.entry_id: Unwanted.ISSUED_AGAIN}
    (first,) = rollout.take(count=1, block_s=1, lease_s=60)
    for job in (first, second):
        answer = some_responses(rollout.ticket(job))
        assert rollout.hand_over(job, answer) is HandOver.HANDED
    rollout.give_up(third, "no luck")
    rollout.drop(last)
    graded, given_up = verifier.take(count=2, block_s=1, lease_s=60)
    assert verifier.unwanted([graded, given_up]) == {}
    ticket, _ = verifier.responses(graded)
    scores = some_scores(ticket)
    verifier.tally(scores.verdicts)
    assert verifier.hand_over(graded, scores) is HandOver.HANDED
    verifier.give_up(given_up, "no sandbox")
    entries = learner.scored(count=9, block_s=1)
    assert [entry.failed for entry in entries] == [None, "no luck", "no sandbox"]
    assert learner.unread(set()) == entries[:1]
    scored = entries[0].group_id
    assert learner.astray([scored, "99-1"]) == (["99-1"], [])
    assert learner.scored_payloads([scored])[0][1] is not None
    learner.settle(entries)
    assert learner.asked(1).retries == {}
    assert learner.metrics.after("0")[0][1] == {"role": "rollout"}
    learner.weights.lease_version("learner", 0, 0.0)
    assert learner.weights.leased_versions() == set()
    learner.weights.delete_version(a_manifest())
    letters.retry(desk.connection.url, "r", [], every=True)
    letters.show_all(desk.connection.url, "r")
    assert status.show(desk.connection.url, "r", as_json=True) == 0
    for queue, role in ((rollout, "rollout"), (verifier, "verifier"), (learner, "learner")):
        queue.leave(role, role)
    clean(desk.connection.url, "r", force=False)
    assert "keys removed" in capsys.readouterr().out


FORBIDDEN = {
    "rollout": [
        lambda bus: bus.weights.publish_manifest(a_manifest(9)),
        lambda bus: bus.weights.put_value(9, 1, "delta:0:0", b"x"),
        lambda bus: bus.weights.delete_version(a_manifest()),
        lambda bus: bus.redis.xadd(bus.keys.scored, {"g": "7-1"}),
        lambda bus: bus.redis.xack(bus.keys.scored, "workers", "1-1"),
        lambda bus: bus.redis.xdel(bus.keys.scored, "1-1"),
        lambda bus: bus.redis.xack(bus.keys.responses, "workers", "1-1"),
        lambda bus: bus.redis.set(bus.keys.group("7-1", "scores"), b"all correct"),
        lambda bus: bus.redis.setnx(bus.keys.group("7-1", "scores"), b"all correct"),
        lambda bus: bus.redis.get(bus.keys.group("7-1", "scores")),
        lambda bus: bus.redis.delete(bus.keys.group("7-1", "responses")),
        lambda bus: bus.redis.register_script("return redis.call('SETNX', KEYS[1], 'x')")(
            keys=[bus.keys.group("7-1", "scores")]
        ),
        lambda bus: bus.learner.issue(a_ticket(99)),
        lambda bus: bus.desk.set_control("max_staleness", "9"),
        lambda bus: bus.desk.ask_profile(Request.new(2, 9)),
        lambda bus: bus.record.set_state(phase="finished"),
        lambda bus: bus.record.store_config("learning_rate = 1000"),
        lambda bus: bus.learner.raise_incarnation(9),
        lambda bus: bus.desk.retry(["7-1"]),
        lambda bus: bus.learner.beat(a_heartbeat("learner"), 60.0),
        lambda bus: bus.desk.clean(),
    ],
    "verifier": [
        lambda bus: bus.weights.publish_manifest(a_manifest(9)),
        lambda bus: bus.redis.get(bus.keys.weight_value(0, 1, "keyframe:0:0")),
        lambda bus: bus.redis.setnx(bus.keys.group("7-1", "responses"), b"others"),
        lambda bus: bus.redis.xack(bus.keys.scored, "workers", "1-1"),
        lambda bus: bus.redis.xack(bus.keys.prompts, "workers", "1-1"),
        lambda bus: bus.desk.set_control("paused", "1"),
        lambda bus: bus.learner.beat(a_heartbeat("rollout"), 60.0),
    ],
    "learner": [lambda bus: bus.redis.expire(bus.keys.controls, 1), lambda bus: bus.desk.clean()],
    "desk": [
        lambda bus: bus.weights.publish_manifest(a_manifest(9)),
        lambda bus: bus.learner.issue(a_ticket(99)),
        lambda bus: bus.redis.xack(bus.keys.scored, "workers", "1-1"),
        lambda bus: bus.redis.setnx(bus.keys.group("7-1", "scores"), b"all correct"),
    ],
}
EVERYBODY = [
    lambda bus: bus.redis.get("leeway:config"),
    lambda bus: bus.redis.set("somebody:else", "x"),
    lambda bus: bus.redis.flushall(),
    lambda bus: bus.redis.config_get("*"),
    lambda bus: bus.redis.acl_list(),
    lambda bus: bus.redis.keys("*"),
]


# Also from inside a script, which Redis and Valkey word differently.
REFUSED = "no permissions|No permissions|ACL failure in script|The user executing the script can't"


@pytest.mark.parametrize(
    ("role", "stream", "part"),
    [("rollout", "prompts", "responses"), ("rollout", "prompts", "scores"), ("verifier", "responses", "scores")],
)
def test_a_take_brings_nobody_a_part_of_a_group_that_it_may_not_read(secured, role, stream, part):
    learner, bus = secured["learner"], secured[role]
    learner.learner.ensure_groups()
    learner.redis.xadd(bus.keys.prefix + stream, {"g": "7-1"})
    with pytest.raises(redis.exceptions.ResponseError, match=REFUSED):
        scripts.take(bus.connection, bus.keys.prefix + stream, 1, [bus.keys.group("%s", part)])


@pytest.mark.parametrize("role", USERS)
def test_nobody_can_do_what_is_not_its_work(secured, role):
    for act in [*FORBIDDEN[role], *EVERYBODY]:
        with pytest.raises(redis.exceptions.ResponseError, match=REFUSED):
            act(secured[role])


def test_a_user_of_one_run_has_no_rights_in_another(secured, tmp_path):
    lines = acl("mine", tmp_path / "passwords").splitlines()
    assert [line.split()[1] for line in lines] == [user_name(role, "mine") for role in USERS]
    assert all("leeway:{*}" not in line and "leeway:{mine}:" in line for line in lines)


def test_the_file_has_no_password_and_a_wrong_one_is_refused_without_being_shown(secured, tmp_path):
    printed = acl(None, tmp_path / "passwords")
    made = (tmp_path / "passwords").read_text()
    assert (tmp_path / "passwords").stat().st_mode & 0o777 == 0o600
    assert not any(line.split()[1] in printed for line in made.splitlines())
    assert acl(None, tmp_path / "passwords") == printed
    host = secured["desk"].url.split("@")[1]
    with pytest.raises(
        BrokerError, match=f"the Redis at redis://{host}.* refuses this user: .*invalid username-password"
    ) as caught:
        Connection(f"redis://leeway-desk:wr0ng@{host}", "r")
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(BrokerError, match="Authentication required"):
        Connection(f"redis://{host}", "r")


def test_a_password_file_that_will_not_do_is_named(tmp_path):
    path = tmp_path / "passwords"
    path.write_text("leeway-desk\n")
    with pytest.raises(DataError, match=":1: expected a user and a password"):
        acl(None, path)
    path.write_text("leeway-desk x\n")
    with pytest.raises(ConfigError, match="no password for leeway-rollout, leeway-verifier, leeway-learner"):
        acl(None, path)
    acl("r", tmp_path / "made")
    (tmp_path / "made").chmod(0o644)
    with pytest.raises(ConfigError, match="others can read it"):
        acl("r", tmp_path / "made")
