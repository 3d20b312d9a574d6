"""``leeway profile`` on a real run: a trace of its steps, and the weights that it would have had without."""

import gzip
import json

import pytest
from leeway_rl.common.profiles import FIELD

from tests.integration.running import SMALL, has_begun, last_checksum, leeway, lingering, metrics, paused, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = ["leeway profile my-run --steps 2", "leeway profile"]
ON_POLICY = [*SMALL, "--set", "train.steps=14", "--set", "flow.max_staleness=0", "--set", "metrics.peak_tflops=10"]
MEASURED = (
    "throughput/mfu",
    "throughput/hfu",
    "throughput/learner_tflops_per_gpu",
    "throughput/learner_tokens_per_s_per_gpu",
    "throughput/rollout_tokens_per_s_per_gpu",
    "memory/device_peak_bytes",
    "memory/host_peak_bytes",
    "memory/host_peak_bytes/rank_0",
    "memory/rollout_bytes",
)


def is_asked(bus):
    """Whether somebody has asked. The learner says so in the state before it takes the request out of Redis."""
    return FIELD in bus.overview.controls() or bool(bus.state().get(FIELD))


def test_a_run_is_traced_and_measured_and_its_weights_are_those_of_a_run_that_was_not(tmp_path, wait_until):
    running, folder = start("up", "--run", "my-run", *ON_POLICY, cwd=tmp_path), tmp_path / "runs/my-run"
    wait_until((folder / "redis-url").exists, "its server", 300)
    with paused(folder) as bus:
        wait_until(lambda: has_begun(bus), "it waits for groups", 300)
        asked = start(*COMMANDS[0].split()[1:], cwd=tmp_path)
        wait_until(lambda: is_asked(bus) or asked.poll() is not None, "it is asked", 300)
    with lingering(running):
        said, _ = asked.communicate(timeout=600)
    assert asked.returncode == 0, said
    assert running.wait(300) == 0, running.stdout.read()
    running.stdout.close()

    path = next(line.removeprefix("trace: ") for line in said.splitlines() if line.startswith("trace: "))
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    names = {event["name"] for event in events if event.get("cat") == "cpu_op"}
    assert {"aten::mm", "_TokenLossBackward", "c10d::allreduce_"} <= names
    (table,) = (folder / "profile").glob("step-*.txt")
    assert "aten::mm" in table.read_text()
    assert {each.name for each in (folder / "profile").iterdir()} == {table.name, table.with_suffix(".json.gz").name}
    for line in metrics(folder):
        assert all(line[name] > 0 for name in MEASURED), line
        assert line["throughput/mfu"] == line["throughput/hfu"] < 1
    over = leeway(*COMMANDS[1].split()[1:], cwd=tmp_path)
    assert (over.returncode, over.stdout) == (11, "")
    assert "run my-run is finished" in over.stderr

    plain = leeway("up", "--run", "plain", *ON_POLICY, cwd=tmp_path)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert last_checksum(tmp_path / "runs/plain") == last_checksum(folder)
