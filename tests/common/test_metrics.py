"""The sink writes what is emitted, also where the stream starts over behind what it has read."""

import pytest
from leeway_rl.common.codec import encode_record
from leeway_rl.common.metrics import MetricsSink, read_steps


def test_a_stream_that_comes_back_empty_with_an_earlier_clock_is_read_on(make_bus, tmp_path, wait_until):
    bus, learner = make_bus("sink"), make_bus("learner")
    sink = MetricsSink(bus, tmp_path, from_step=0)
    try:
        learner._redis.xadd(learner.keys.metrics, {"m": encode_record({"step": 0})}, id="9999999999999-0")
        wait_until(lambda: len(read_steps(tmp_path)) == 1, "the step of a clock that is ahead")
        learner._redis.delete(learner.keys.metrics)
        learner.emit({"step": 1})
        wait_until(lambda: [each["step"] for each in read_steps(tmp_path)] == [0, 1], "the step after that")
    finally:
        sink.close()


def test_tensorboard_has_every_number_of_a_step_and_the_turns_of_the_dial(bus, tmp_path, wait_until):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = {"role": "learner", "step": 3, "version": 4, "stage": 0, "at": 1.0, "flow/overflow": "wait"}
    sink = MetricsSink(bus, tmp_path, from_step=0)
    bus.emit(record | {"loss": -0.25, "grad_norm": 0.5, "grad_norm_max": 0.75, "reward/mean": 0.625})
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
