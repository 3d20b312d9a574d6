"""The sink writes what is emitted, also where the stream starts over behind what it has read."""

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
