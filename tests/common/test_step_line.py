"""One line says how a training step went."""

from leeway_rl.common.step_line import hardware_line, step_line

STEP = {
    "step": 11,
    "version": 12,
    "reward/mean": 0.84512,
    "entropy/policy": 0.1409,
    "entropy/target": 0.15,
    "batch/tokens": 2547.0,
    "staleness/head_mean": 0.875,
    "staleness/head_max": 1.0,
    "flow/max_staleness": 2,
    "time/step_s": 1.24,
    "time/wait_for_batch_s": 0.31,
    "refunds/zero_advantage": 3,
    "refunds/poison": 0,
    "refunds/orphaned": 1,
}


def test_the_line_has_what_a_person_looks_for():
    assert step_line(STEP, 60) == (
        "step 12/60  reward 0.845  entropy 0.141 (target 0.15)  tokens 2,547  staleness 0.88 (oldest 1, bound 2)  "
        "1.2 s (waited 0.3)  refunded 3 zero_advantage, 1 orphaned"
    )


def test_a_step_without_refunds_has_no_word_of_them():
    line = step_line({**STEP, "refunds/zero_advantage": 0, "refunds/orphaned": 0}, "?")
    assert line.startswith("step 12/?  ")
    assert "refunded" not in line


def test_what_a_record_does_not_have_is_left_out():
    assert step_line({"step": 4, "reward/mean": 0.5, "entropy/target": 0.2}, 9) == "step 5/9  reward 0.500"


def test_a_record_from_before_the_bound_was_written_has_its_staleness():
    old = {name: value for name, value in STEP.items() if name != "flow/max_staleness"}
    assert "staleness 0.88 (oldest 1)  " in step_line(old, 60)


def test_mfu_stands_in_the_line_where_it_is_known():
    assert step_line({**STEP, "throughput/mfu": 0.4137}, 60).endswith(
        "1.2 s (waited 0.3)  MFU 41.4%  refunded 3 zero_advantage, 1 orphaned"
    )


def test_without_a_gpu_the_process_is_named_once():
    step = {"memory/device_peak_bytes": 2e9, "memory/host_peak_bytes": 2e9}
    assert hardware_line(step) == "learner 2 GB of the host"
    assert hardware_line(step | {"memory/device_peak_bytes": 61e9}) == "learner 61 GB of the device, 2 GB of the host"
    assert hardware_line({}) == ""
