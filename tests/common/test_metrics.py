"""The sink writes what is emitted, also where the stream starts over behind what it has read."""

import errno
import time

import pytest
from leeway_rl.common.codec import encode_record
from leeway_rl.common.diagnosis import diagnose, look
from leeway_rl.common.ledger import Ledger, read
from leeway_rl.common.metrics import POLL_S, MetricsSink, read_steps
from leeway_rl.leeway.chaos.target import fill, small_disk

from tests.allowed import allowed
from tests.installations import copied, fail_over


def test_a_stream_that_comes_back_empty_with_an_earlier_clock_is_read_on(make_bus, tmp_path, wait_until):
    bus, learner = make_bus("sink"), make_bus("learner")
    sink = MetricsSink(bus.learner, tmp_path, from_step=0)
    try:
        learner.redis.xadd(learner.keys.metrics, {"m": encode_record({"step": 0})}, id="9999999999999-0")
        wait_until(lambda: len(read_steps(tmp_path)) == 1, "the step of a clock that is ahead")
        learner.redis.delete(learner.keys.metrics)
        learner.learner.emit({"step": 1})
        wait_until(lambda: [each["step"] for each in read_steps(tmp_path)] == [0, 1], "the step after that")
    finally:
        sink.close()


def test_what_a_replica_has_once_more_is_written_once(make_bus, tmp_path, wait_until):
    bus, learner = make_bus("sink"), make_bus("learner")
    learner.learner.emit({"step": 0, "of": "an older incarnation"})
    sink = MetricsSink(bus.learner, tmp_path, from_step=1)
    try:
        learner.learner.emit({"step": 1})
        wait_until(lambda: len(read_steps(tmp_path)) == 1, "the first step")
        copy = copied(learner)
        learner.redis.xadd(learner.keys.metrics, {"m": encode_record({"step": 2})}, id="9999999999999-0")
        wait_until(lambda: len(read_steps(tmp_path)) == 2, "a step that the replica has not heard of")
        fail_over(learner, copy)
        learner.learner.emit({"step": 3})
        wait_until(lambda: len(read_steps(tmp_path)) >= 3, "the step after that")
    finally:
        sink.close()
    assert [each["step"] for each in read_steps(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "record", [{"step": "one"}, {"step": 1.5}, {"step": None}, {"role": "rollout", "version": "x"}]
)
def test_a_record_that_is_no_measurement_is_a_dead_letter_and_the_sink_goes_on(bus, tmp_path, wait_until, record):
    sink = MetricsSink(bus.learner, tmp_path, from_step=0)
    try:
        bus.learner.emit(record)
        bus.learner.emit({"step": 7, "version": 8, "reward/mean": 0.5})
        wait_until(lambda: [each["step"] for each in read_steps(tmp_path)] == [7], "the one behind it")
    finally:
        sink.close()
    assert [letter["where"] for letter in bus.desk.dead_letters()] == ["metrics"]
    assert (tmp_path / "workers.jsonl").read_text() == ""


@pytest.fixture
def disk(tmp_path):
    """A folder with a file system of its own, which can be filled."""
    with allowed(small_disk(tmp_path / "small")):
        yield tmp_path / "small"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_a_full_disk_is_told_of_once_and_every_record_is_written_when_there_is_room(bus, disk, wait_until, caplog):
    bus.record.set_state(phase="training", step=0)
    sink = MetricsSink(bus.learner, disk, from_step=0)
    try:
        bus.learner.emit({"step": 0, "version": 1, "reward/mean": 0.5})
        wait_until(lambda: len(read_steps(disk)) == 1, "the first step")
        ballast = fill(disk)
        bus.learner.emit({"role": "rollout", "version": 1, "weights/load_s": 0.1, "long": "x" * 5000})
        for step in range(1, 40):
            bus.learner.emit({"step": step, "version": step + 1, "reward/mean": 0.5, "long": "x" * 5000})
        wait_until(lambda: bus.state()["unwritten"] != "", "status is told")
        (alarm,) = diagnose(look(bus.desk)).alarms
        assert "cannot be written" in alarm
        assert "No space left on device" in alarm
        time.sleep(2.5 * POLL_S)
        ballast.unlink()
        wait_until(lambda: len(read_steps(disk)) == 40, "all of them")
        wait_until(lambda: bus.state()["unwritten"] == "", "status is told again")
    finally:
        sink.close()
    assert [each["step"] for each in read_steps(disk)] == list(range(40)), "whole lines, each once, in order"
    assert len((disk / "workers.jsonl").read_text().splitlines()) == 1
    told = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(told) == 1


def test_a_ledger_on_a_full_disk_waits_and_has_no_torn_line(disk):
    ledger, tries = Ledger(disk / "ledger.jsonl"), []
    ledger.write("started", incarnation=1)
    ballast = fill(disk)

    def wait(error):
        assert error.errno == errno.ENOSPC
        tries.append([line["event"] for line in read(disk / "ledger.jsonl")])
        if len(tries) == 3:
            ballast.unlink()

    ledger.on_full = wait
    ledger.write("issued", prompt="x" * 5000)
    ledger.write("end")
    ledger.close()
    assert tries == [["started"]] * 3
    assert [line["event"] for line in read(disk / "ledger.jsonl")] == ["started", "issued", "end"]


def test_tensorboard_has_every_number_of_a_step_and_the_turns_of_the_dial(bus, tmp_path, wait_until):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = {"role": "learner", "step": 3, "version": 4, "stage": 0, "at": 1.0, "flow/overflow": "wait"}
    sink = MetricsSink(bus.learner, tmp_path, from_step=0)
    bus.learner.emit(record | {"loss": -0.25, "grad_norm": 0.5, "grad_norm_max": 0.75, "reward/mean": 0.625})
    sink.turned("max_staleness", 1, 2, 4, "operator")
    wait_until(lambda: len(read_steps(tmp_path)) == 1, "the step")
    sink.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {
        "loss": [(4, -0.25)],
        "grad_norm": [(4, 0.5)],
        "grad_norm_max": [(4, 0.75)],
        "reward/mean": [(4, 0.625)],
    }
    (turn,) = events.Tensors("control/max_staleness/text_summary")
    assert (turn.step, turn.tensor_proto.string_val[0].decode()) == (4, "1 → 2, by the operator")
