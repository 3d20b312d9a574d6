"""Profiles of training steps: taken once, whole or not at all, and without a trace in what is trained."""

import gzip
import json
from itertools import count
from queue import SimpleQueue

import pytest
import torch
from leeway_rl.common.controls import CONTROLS
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.profiles import FIELD, Request, from_json
from leeway_rl.learner.flow.controls import LiveControls
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.profiling import Profiler
from leeway_rl.learner.startup import make_book
from leeway_rl.learner.step import train_step
from tiny_policy import make_config, make_groups


class Said:
    """The run's state, with everything that was said of profiles."""

    def __init__(self):
        self.answers = []

    def set_state(self, **fields):
        self.answers.append(from_json(fields[FIELD]))

    @property
    def ids(self):
        return [answer.id for answer in self.answers if answer]

    @property
    def phases(self):
        return [answer and answer.phase for answer in self.answers]


@pytest.fixture
def asked(tmp_path):
    """A profiler, the requests that it takes, and what it says."""
    requests, said = SimpleQueue(), Said()
    return Profiler(requests, said.set_state, tmp_path / "profile"), requests, said


def steps(profiler, numbers, work=lambda: torch.ones(8, 8) @ torch.ones(8, 8)):
    for number in numbers:
        profiler.begin(number)
        work()
        profiler.end()


def names_in(path):
    with gzip.open(path) as file:
        return [event["name"] for event in json.load(file)["traceEvents"] if event.get("cat") == "cpu_op"]


def test_so_many_whole_steps_are_traced_as_were_asked_for_from_the_next_one_on(asked):
    profiler, requests, said = asked
    steps(profiler, [3])
    requests.put(Request("0" * 16, 2, 9))
    steps(profiler, [4, 5, 6])
    profiler.close()
    assert said.phases == [None, "tracing", "writing", "done"]
    done = said.answers[-1]
    assert (done.id, done.step, done.steps) == ("0" * 16, 4, 2)
    assert done.path.endswith("profile/step-000004.json.gz")
    assert names_in(done.path).count("aten::mm") == 2
    with open(done.table) as table:
        assert "aten::mm" in table.read()


def test_a_learner_that_leaves_writes_the_steps_that_were_whole_and_answers_who_waits(asked):
    profiler, requests, said = asked
    requests.put(Request("a" * 16, 3, 9))
    requests.put(Request("b" * 16, 3, 9))
    steps(profiler, [0, 1])
    profiler.begin(2)
    profiler.close()
    ours = [answer for answer in said.answers if answer and answer.id == "a" * 16]
    assert (ours[-1].phase, ours[-1].step, ours[-1].steps) == ("done", 0, 2)
    (other,) = [answer for answer in said.answers if answer and answer.id == "b" * 16]
    assert (other.phase, other.why) == ("failed", "the learner left before another training step began")


def test_a_learner_that_leaves_in_the_first_step_writes_nothing(asked, tmp_path):
    profiler, requests, said = asked
    requests.put(Request("a" * 16, 1, 9))
    profiler.begin(0)
    profiler.close()
    assert said.answers[-1].why == "the learner left before the training step had ended"
    assert not (tmp_path / "profile").exists()


def test_a_trace_that_cannot_be_written_is_told_and_the_next_can(asked, tmp_path, wait_until):
    profiler, requests, said = asked
    (tmp_path / "profile").write_text("a file stands where the folder is due")
    requests.put(Request("a" * 16, 1, 9))
    steps(profiler, [0])
    wait_until(lambda: said.phases[-1] != "writing", "the answer", 100)
    assert said.answers[-1].phase == "failed"
    assert "the trace cannot be written" in said.answers[-1].why
    (tmp_path / "profile").unlink()
    requests.put(Request("b" * 16, 1, 9))
    numbers = count(1)
    wait_until(lambda: steps(profiler, [next(numbers)]) or "b" * 16 in said.ids, "a step that begins to trace", 100)
    profiler.close()
    assert said.phases[-1] == "done"


def test_where_torchs_profiler_does_not_start_the_learner_goes_on(asked, monkeypatch):
    profiler, requests, said = asked
    requests.put(Request("a" * 16, 1, 9))

    def refuse(self):
        raise RuntimeError("no CUPTI")

    monkeypatch.setattr(torch.profiler.profile, "start", refuse)
    steps(profiler, [0])
    profiler.close()
    assert said.phases[-1] == "failed"
    assert "torch's profiler does not start: no CUPTI" in said.answers[-1].why


def test_what_is_trained_is_the_same_bit_for_bit_with_and_without(asked, model_path):
    profiler, requests, said = asked
    config, trained = make_config(model_path, train__zero_stage=1), []
    for traced in (False, True):
        policy, controller = Policy(config), ControllerState(0.05)
        if traced:
            requests.put(Request("a" * 16, 2, 9))
        for step in range(3):
            profiler.begin(step)
            controller = train_step(policy, make_groups(seed=step), version=0, controller=controller, config=config)
            controller = controller.controller
            profiler.end()
        trained.append(policy.named_weights())
    profiler.close()
    assert said.phases[-1] == "done"
    assert "aten::mm" in names_in(said.answers[-1].path)
    plain, other = trained
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


# --- from the desk to the training loop ------------------------------------------------------------------------------


@pytest.fixture
def controls(bus, model_path, tmp_path):
    config, ledger = make_config(model_path), Ledger(tmp_path / "ledger.jsonl")
    yield LiveControls(bus.learner, make_book(config, None), ledger, config, on_turn=lambda *_: None)
    ledger.close()


def turn(bus, controls):
    """What the pump does with the controls at each of its turns."""
    controls.take_up(bus.learner.asked(0).controls)


def test_a_request_is_taken_once_and_out_of_redis_before_anything_is_traced(bus, controls):
    """A learner that dies over it finds nothing when it starts again."""
    request = Request.new(2, bus.now() + 60)
    bus.desk.set_control("paused", "1")
    bus.desk.ask_profile(request)
    assert bus.desk.asks_profile(request)
    turn(bus, controls)
    turn(bus, controls)
    assert bus.overview.controls() == {"paused": "1"}
    assert not bus.desk.asks_profile(request)
    assert from_json(bus.state()[FIELD]).phase == "taken"
    assert controls.profiles.get_nowait() == request
    assert controls.profiles.empty()
    assert bus.desk.dead_letters() == []


def test_what_an_earlier_learner_said_is_void(bus, controls, tmp_path):
    bus.desk.ask_profile(Request.new(2, bus.now() + 60))
    turn(bus, controls)
    Profiler(SimpleQueue(), bus.record.set_state, tmp_path)
    assert bus.state()[FIELD] == ""


def test_a_request_that_nobody_waits_for_is_not_taken(bus, controls):
    late, withdrawn = Request.new(2, bus.now() - 2), Request.new(2, bus.now() + 60)
    for request in (late, withdrawn):
        bus.desk.ask_profile(request)
        if request is withdrawn:
            assert bus.desk.withdraw_profile(request)
        turn(bus, controls)
        assert controls.profiles.empty()
        assert bus.overview.controls() == {}
    assert FIELD not in bus.state()


@pytest.mark.parametrize("text", [b"2", b"\xff\xfe"])
def test_a_request_that_cannot_be_read_is_removed_with_a_record(bus, controls, text):
    bus.redis.hset(bus.keys.controls, FIELD, text)
    turn(bus, controls)
    assert bus.overview.controls() == {}
    (letter,) = bus.desk.dead_letters()
    assert letter["where"] == "controls"
    assert controls.profiles.empty()


def test_it_is_no_dial(bus, controls):
    assert FIELD not in CONTROLS
    assert FIELD not in controls.texts()
