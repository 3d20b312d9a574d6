"""A run is meant by its id, by a path, or by nothing, in every command alike."""

import os
import re
from pathlib import Path

import pytest
from leeway_rl.common.errors import BrokerError, DataError, NoRunError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.finding import find, find_live, model_of, place
from leeway_rl.leeway.running.server import EmbeddedServer
from typer.testing import CliRunner

from tests.roles import Roles

RUNS = Path("runs")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder with two runs; ``second`` was started last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEEWAY_REDIS_URL", raising=False)
    for at, run in enumerate(("first-run", "second")):
        (tmp_path / "runs" / run / "checkpoints").mkdir(parents=True)
        config = tmp_path / "runs" / run / "config.toml"
        config.touch()
        os.utime(config, (1000 + at, 1000 + at))
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "said", ["first-run", "runs/first-run", "runs/first-run/", "./runs/first-run", "ABSOLUTE", "FILE"]
)
def test_an_id_and_every_path_of_a_run_mean_the_run(said, home):
    said = {"ABSOLUTE": f"{home}/runs/first-run", "FILE": "runs/first-run/config.toml"}.get(said, said)
    found = find(said, RUNS)
    assert found.run == "first-run"
    assert found.folder.samefile("runs/first-run")


def test_nothing_means_the_newest_and_a_dot_the_folder_that_one_stands_in(home, monkeypatch):
    assert find(None, RUNS).run == "second"
    monkeypatch.chdir(home / "runs")
    assert find("first-run", RUNS).folder.samefile(home / "runs/first-run")
    monkeypatch.chdir(home / "runs/first-run")
    assert find(".", RUNS).folder.samefile(home / "runs/first-run")
    assert find("../second", RUNS).run == "second"
    monkeypatch.chdir(home / "runs/first-run/checkpoints")
    assert find("..", RUNS).run == "first-run"


def test_an_unknown_run_is_told_with_its_neighbours(home):
    with pytest.raises(
        DataError, match=r"no run 'frist-run' under runs/; did you mean 'first-run'\? `leeway runs` lists"
    ):
        find("frist-run", RUNS)
    with pytest.raises(DataError, match=r"no run 'notes' under runs/ \(runs/notes has none of config.toml"):
        find("runs/notes", RUNS)
    with pytest.raises(DataError, match=r"no run under nowhere/: name one"):
        find(None, Path("nowhere"))
    assert place("new", RUNS).folder == Path("runs/new")
    assert place("elsewhere/new", RUNS).folder == Path("elsewhere/new")


def test_a_run_elsewhere_is_found_in_its_redis(home, redis_url):
    (home / "runs/second/redis-url").write_text("redis://127.0.0.1:9/0\n")
    assert find_live(None, None, RUNS)[0] == "redis://127.0.0.1:9/0"
    assert find_live("runs/second", redis_url, RUNS)[0] == redis_url
    elsewhere = f"elsewhere-{os.getpid()}"
    with pytest.raises(BrokerError, match=f"no run '{elsewhere}' under runs/; .*nor does the Redis at redis://"):
        find_live(elsewhere, redis_url, RUNS)
    with pytest.raises(BrokerError, match=r"no run 'secund' under runs/; did you mean 'second'.*and no Redis at"):
        find_live("secund", "redis://127.0.0.1:9/0", RUNS)
    bus = Roles(Connection(redis_url, elsewhere))
    bus.record.store_config("there")
    try:
        assert find_live(elsewhere, redis_url, RUNS)[1].run == elsewhere
    finally:
        bus.desk.clean()
        bus.close()


def test_with_a_redis_named_the_newest_run_is_the_one_that_it_heard_of_last(home, tmp_path):
    with EmbeddedServer(tmp_path / "server") as server:
        with pytest.raises(NoRunError, match="holds no run"):
            find_live(None, server.url, RUNS)
        bus = Roles(Connection(server.url, "first-run"))
        bus.record.store_config("there")
        bus.close()
        assert find_live(None, server.url, RUNS)[1] == place("first-run", RUNS)


def test_a_model_may_be_a_run(home):
    assert [model_of(said, RUNS) for said in ("second", "runs/second", "org/model", "gpt")] == [
        "runs/second",
        "runs/second",
        "org/model",
        "gpt",
    ]
    with pytest.raises(DataError, match="did you mean 'second'"):
        model_of("runs/secnd", RUNS)


BOTH = [
    *("audit", "report", "export --out o", "up --resume", "chaos"),
    *("status", "pause", "resume", "set max-staleness 1", "dead-letters list", "dead-letters show 1-0", "clean"),
]
OPTION = ["plan --from", "dead-letters retry --all --run", "eval aime24 --follow"]  # the last as it was spelled before
UNKNOWN = [
    *(f"{command} {said}" for command in BOTH for said in ("fist-run", "runs/fist-run", "--run fist-run")),
    *(f"{command} {said}" for command in OPTION for said in ("fist-run", "runs/fist-run/")),
    "eval follow fist-run aime24",
    "eval run aime24 --out o --model runs/fist-run",
]


@pytest.mark.parametrize("command", UNKNOWN)
def test_every_command_takes_an_id_and_a_path_and_names_the_neighbours_of_an_unknown_run(command, monkeypatch):
    monkeypatch.setenv("LEEWAY_REDIS_URL", "redis://127.0.0.1:9/0")
    done = CliRunner().invoke(app, command.split())
    assert isinstance(done.exception, (DataError, BrokerError)), (done.output, done.exception)
    assert re.search("no run 'fist-run' under runs/; did you mean 'first-run'", str(done.exception))


def test_two_different_runs_are_refused():
    done = CliRunner().invoke(app, ["audit", "first-run", "--run", "second"])
    assert "two runs are named" in str(done.exception)
    missing = CliRunner().invoke(app, ["rollout"])
    assert "no run is named" in str(missing.exception)


@pytest.mark.parametrize("command", ["rollout second", "verifier runs/second", "learner second"])
def test_a_role_started_by_hand_beside_leeway_up_finds_the_runs_redis_as_status_does(command, home, monkeypatch):
    """Given by word or in the environment, another address wins."""
    noted = "redis://u:s3cret@127.0.0.1:9/0"
    (home / "runs/second/redis-url").write_text(f"{noted}\n")
    monkeypatch.setattr("leeway_rl.leeway.running.learner.command_here", lambda *words: ([words[2]], {}))
    monkeypatch.setenv("LEEWAY_REDIS_URL", "")  # what the command leaves there for the role is taken away at the end
    started = []
    monkeypatch.setattr(os, "execv", lambda *_: started.append(os.environ["LEEWAY_REDIS_URL"]))
    done = CliRunner().invoke(app, command.split())
    assert "Redis at redis://127.0.0.1:9/0, as runs/second/redis-url says; --redis-url names another" in done.output
    for words, given in (([], "redis://h:1/0"), (["--redis-url", "redis://h:1/0"], None)):
        assert CliRunner().invoke(app, [*command.split(), *words], env={"LEEWAY_REDIS_URL": given}).output == ""
    assert started == [noted, "redis://h:1/0", "redis://h:1/0"]


def test_a_noted_address_that_may_not_be_read_is_named(home):
    (home / "runs/second/redis-url").mkdir()
    with pytest.raises(BrokerError, match="--redis-url '@runs/second/redis-url': Is a directory"):
        find_live("second", None, RUNS)


def test_a_folder_of_somebody_else_among_the_runs_hides_none_of_ours(home, monkeypatch):
    (home / "runs/theirs").mkdir()
    exists = Path.exists

    def asked(path):
        if "theirs" in path.parts:  # root is refused nothing
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", asked)
    assert find(None, RUNS).run == "second"
    with pytest.raises(DataError, match="did you mean 'first-run'"):
        find("first-ran", RUNS)
    with pytest.raises(PermissionError, match="theirs"):  # of the one that is named it is said why it cannot be used
        find("theirs", RUNS)
