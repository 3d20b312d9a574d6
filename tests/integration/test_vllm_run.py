"""A whole run with real vLLM as the sampler."""

import pytest
from leeway_rl.benchmarks.weight_pause import pauses

from tests.integration.running import SMALL, leeway, metrics

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(900)]


def test_vllm_samples_a_run_and_its_log_probabilities_agree(tmp_path):
    settings = ["--set", "rollout.engine=vllm", "--set", "rollout.concurrency=2", "--set", "train.steps=3"]
    done = leeway("up", "--run", "vllm", *SMALL, *settings, "--set", "flow.max_staleness=0", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = metrics(tmp_path / "runs/vllm")
    assert len(lines) == 3
    assert max(line["logprob/abs_diff_mean"] for line in lines) <= 0.05
    assert leeway("audit", "vllm", cwd=tmp_path).returncode == 0
    found = pauses(tmp_path, "vllm")  # of every version but the first
    assert len(found) >= 2
    assert (found >= 0).all()
    assert found.max() < 60
