"""Dead letters are shown with their reasons, and a retry cannot open a closed ticket."""

import pytest
from leeway_rl.common.errors import ConfigError, DataError, RunExistsError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.looking import letters
from leeway_rl.leeway.running.clean import clean

from tests.roles import Roles
from tests.samples import a_heartbeat, a_ticket


@pytest.fixture
def given_up(bus):
    """Two groups that a rollout worker gave up on, and a broken manifest."""
    bus.record.store_config("")
    for number in (7, 8):
        bus.learner.issue(a_ticket(number))
    for job in bus.rollout.take(count=2, block_s=1, lease_s=60):
        bus.on(job.stream).give_up(job, f"the engine burnt down [{job.group_id}]")
    bus.redis.xadd(bus.keys.weights, {"m": b"garbage"})
    assert bus.weights.manifests() == []
    return bus


def test_every_letter_is_listed_with_role_ticket_and_reason(given_up, capsys):
    letters.show_all(given_up.url, given_up.run)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "rollout" in line and "burnt down [" in line]) == 2
    assert [letter.kind for letter in letters.read_letters(given_up.desk)] == ["given_up", "given_up", "damaged"]
    first = letters.read_letters(given_up.desk)[0]
    letters.show_one(given_up.url, given_up.run, first.letter_id)
    shown = capsys.readouterr().out
    for words in (
        "by rollout tester",
        "group     7-1",
        "ticket    7",
        "again     not asked",
        "burnt down [7-1]",
        "kind      given_up",
    ):
        assert words in shown


def test_a_letter_of_an_older_build_is_listed_too(given_up, capsys):
    older = {"where": "damaged scored", "g": "7-1", "worker": "w", "reason": "cut short"}
    letter_id = given_up.redis.xadd(given_up.keys.dead_letters, older).decode()
    letters.show_all(given_up.url, given_up.run)
    letters.show_one(given_up.url, given_up.run, letter_id)
    assert "kind      not known" in capsys.readouterr().out


def test_a_retry_asks_once_and_leaves_the_work_streams_alone(given_up, capsys):
    before, ids = given_up.overview.depths(), [letter.letter_id for letter in letters.read_letters(given_up.desk)]
    letters.retry(given_up.url, given_up.run, ids[:1], every=False)
    letters.retry(given_up.url, given_up.run, [], every=True)
    assert "1 prompt asked for again; 1 had been asked for before" in capsys.readouterr().out
    assert given_up.overview.depths() == before
    assert given_up.desk.retries() == {"7-1": "", "8-1": ""}
    given_up.learner.retried("7-1", 40)
    assert [letter.retry for letter in letters.read_letters(given_up.desk)] == ["ticket 40", "asked", ""]


def test_what_cannot_be_retried_is_named(given_up):
    url, run, broken = given_up.url, given_up.run, letters.read_letters(given_up.desk)[2]
    with pytest.raises(DataError, match="is no group's"):
        letters.retry(url, run, [broken.letter_id], every=False)
    with pytest.raises(DataError, match="no dead letter '1-1'"):
        letters.retry(url, run, ["1-1"], every=False)
    with pytest.raises(ConfigError, match="or say --all"):
        letters.retry(url, run, [], every=False)
    given_up.record.set_state(phase="finished")
    with pytest.raises(DataError, match="is finished"):
        letters.retry(url, run, [], every=True)


def test_clean_removes_one_run_whole_and_no_other(given_up, capsys):
    url, run = given_up.url, given_up.run
    others = [Roles(Connection(url, name)) for name in (run + "x", run[:-1])]
    for other in others:
        other.record.store_config("keep me")
    given_up.weights.put_value(3, 1, "delta:0:0", b"a payload whose manifest never came")
    clean(url, run, force=False)
    said = capsys.readouterr().out
    for words in ("1 config", "2 group", "1 dead", "1 prompts", "2 weights"):
        assert words in said
    assert list(given_up.redis.scan_iter(match=given_up.keys.prefix + "*")) == []
    assert [other.desk.load_config() for other in others] == ["keep me"] * 2
    clean(url, run, force=False)
    assert "nothing in this Redis" in capsys.readouterr().out
    for other in others:
        other.desk.clean()
        other.close()


def test_clean_refuses_a_live_run_unless_told(given_up):
    beat = a_heartbeat(worker="w", version=1)
    given_up.learner.beat(beat, 60.0)
    with pytest.raises(RunExistsError, match="is alive \\(1 rollout\\)"):
        clean(given_up.url, given_up.run, force=False)
    assert given_up.desk.has_run()
    clean(given_up.url, given_up.run, force=True)
    assert not given_up.desk.has_run()
