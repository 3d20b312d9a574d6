"""``leeway profile``: what it says while it waits, and why it gives up."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from leeway_rl.common.activity import Activity, Doing, to_json
from leeway_rl.common.errors import NoProfileError, NoRunError
from leeway_rl.common.profiles import FIELD, Answer, Request
from leeway_rl.common.profiles import to_json as answered
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.running import profile as module
from leeway_rl.leeway.running.profile import profile
from typer.testing import CliRunner

from tests.samples import a_heartbeat


@pytest.fixture
def run(bus):
    """A run at work: its learner lives, in step 3."""
    bus.record.store_config("")
    doing = to_json(Doing(Activity.WAITING_FOR_GROUPS, lacking=2, due=4))
    bus.record.set_state(phase="training", leader="learner", step=3, doing=doing)
    bus.desk.beat(a_heartbeat("learner"), 60.0)
    return bus


@contextmanager
def a_learner(bus, *says, wait_until):
    """A learner that takes the request and says these things of it, one after the other was seen."""

    def take():
        wait_until(lambda: bus.overview.controls().get(FIELD), "a request")
        request = Request.from_text(bus.overview.controls()[FIELD])
        for say in says:
            say(request)

    thread = threading.Thread(target=take)
    thread.start()
    yield
    thread.join()


def ask(bus, tmp_path, *, steps=2, timeout_s=60):
    profile(bus.url, tmp_path / bus.run, steps=steps, timeout_s=timeout_s, local=False)


def test_it_prints_where_the_trace_lies_and_what_the_learner_does_meanwhile(run, tmp_path, capsys, wait_until):
    def answer(request):
        done = Answer(id=request.id, phase="done", steps=2, step=4, path="/r/profile/step-000004.json.gz", table="/t")
        run.record.set_state(**{FIELD: answered(done)})

    with a_learner(run, answer, wait_until=wait_until):
        ask(run, tmp_path)
    said = capsys.readouterr()
    assert f"{run.run}: steps 4 to 5 are traced; open it with ui.perfetto.dev" in said.out
    assert "trace: /r/profile/step-000004.json.gz\noperators: /t" in said.out


def test_fewer_steps_than_asked_for_are_told(run, tmp_path, capsys, wait_until):
    def answer(request):
        done = Answer(id=request.id, phase="done", steps=1, step=8, path="/p", table="/t")
        run.record.set_state(phase="finished", **{FIELD: answered(done)})
        run.desk.leave("learner", "learner")  # it had answered before it left

    with a_learner(run, answer, wait_until=wait_until):
        ask(run, tmp_path)
    assert "step 8 is traced (2 were asked for, and the run has ended)" in capsys.readouterr().out


def test_the_learners_reason_is_told(run, tmp_path, wait_until):
    def answer(request):
        why = "the trace cannot be written: /r: No space left on device"
        run.record.set_state(**{FIELD: answered(Answer(id=request.id, phase="failed", steps=2, why=why))})

    with a_learner(run, answer, wait_until=wait_until), pytest.raises(NoProfileError, match="No space left"):
        ask(run, tmp_path)


def test_a_run_that_is_finished_is_named_at_once(run, tmp_path):
    run.record.set_state(phase="finished")
    with pytest.raises(NoProfileError, match="is finished: it makes no training step any more"):
        ask(run, tmp_path)
    assert run.overview.controls() == {}


def test_without_a_learner_nothing_is_asked(run, tmp_path):
    run.desk.leave("learner", "learner")
    run.desk.beat(a_heartbeat("rollout"), 60.0)
    with pytest.raises(NoProfileError, match="has no learner that could trace a step: start it, and ask again"):
        ask(run, tmp_path)
    assert run.overview.controls() == {}


def test_a_learner_that_goes_away_is_told_and_the_request_withdrawn(run, tmp_path, wait_until):
    def leave(request):
        run.desk.leave("learner", "learner")

    with a_learner(run, leave, wait_until=wait_until), pytest.raises(NoProfileError, match="its learner is gone"):
        ask(run, tmp_path)
    assert run.overview.controls() == {FIELD: ""}


def test_a_learner_that_was_started_again_has_lost_the_request(run, tmp_path, wait_until):
    def die_over_it(request):
        run.record.set_state(**{FIELD: answered(Answer(id=request.id, phase="taken", steps=2))})
        run.learner.remove_control(FIELD.encode(), request.to_text().encode())
        run.record.set_state(**{FIELD: ""})

    with (
        a_learner(run, die_over_it, wait_until=wait_until),
        pytest.raises(NoProfileError, match="the request is lost: the learner was started again"),
    ):
        ask(run, tmp_path)


def test_time_runs_out_with_what_the_learner_does(run, tmp_path, capsys, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(module, "time", clock)  # so that no slow look takes up all of it
    with pytest.raises(NoProfileError, match="no trace within 1 s; waiting for the next training step; the learner is"):
        ask(run, tmp_path, timeout_s=1)
    assert "waiting for the next training step; the learner is waiting for 2 of 4 groups" in capsys.readouterr().err
    assert run.overview.controls() == {FIELD: ""}


def test_an_unknown_run_is_named(bus, tmp_path):
    with pytest.raises(NoRunError, match="is not known"):
        ask(bus, tmp_path)


def test_a_finished_run_whose_server_has_left_is_named(tmp_path):
    folder = tmp_path / "runs" / "done"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("")
    (folder / "redis-url").write_text("redis://127.0.0.1:1")
    (folder / "ledger.jsonl").write_text("")
    from leeway_rl.common.ledger import Ledger

    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("end", version=1)
    ledger.close()
    found = CliRunner().invoke(app, ["profile", str(folder)], catch_exceptions=True)
    assert isinstance(found.exception, NoProfileError)
    assert "run done is finished" in str(found.exception)
    assert NoProfileError.exit_code == 11


@pytest.mark.parametrize("steps", ["0", "21", "two"])
def test_a_wrong_number_of_steps_is_refused(steps):
    assert CliRunner().invoke(app, ["profile", "r", "--steps", steps]).exit_code == 2
