"""The widths of heads that vLLM's CPU build runs are those that its compiled attention runs."""

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.preflight import vllm_cpu
from leeway_rl.common.preflight.model import check_model

from tests.model_folders import asking, make_folder

here = pytest.mark.skipif(vllm_cpu.cpu_build() is None, reason="no vLLM built for the CPU is installed")


@here
def test_this_release_was_measured():
    assert vllm_cpu.cpu_build() in vllm_cpu.MEASURED, "measure it: the slow test below says how"
    assert set(vllm_cpu.stated_head_sizes()) <= vllm_cpu.MEASURED[vllm_cpu.cpu_build()]


@here
@pytest.mark.vllm
@pytest.mark.parametrize("width", [24, 48, 72, 256])
def test_the_kernel_itself_says_the_same(width):
    assert vllm_cpu.can_run(width) == (width in vllm_cpu.MEASURED[vllm_cpu.cpu_build()])


@here
def test_a_width_that_it_lacks_is_refused_for_that_engine_alone(tmp_path):
    path = make_folder(tmp_path / "model", hidden_size=48)
    with pytest.raises(DataError, match=r"heads are 24 wide, which vLLM's CPU build does not have .*48, 64.*'torch'"):
        check_model(asking(path, "rollout.engine=vllm"), "train", "sample")
    check_model(asking(path, "rollout.engine=torch"), "train", "sample")
    check_model(asking(path, "rollout.engine=vllm"), "train")  # the learner of a cluster; its workers are elsewhere


@here
@pytest.mark.vllm
def test_of_a_release_that_nobody_measured_the_kernel_is_asked(monkeypatch):
    monkeypatch.setattr(vllm_cpu, "MEASURED", {})
    assert 48 not in vllm_cpu.stated_head_sizes()
    assert vllm_cpu.why_head_size({"head_dim": 48}) is None
    assert "24 wide" in vllm_cpu.why_head_size({"head_dim": 24})


def test_a_width_that_is_not_to_be_known_is_not_refused():
    assert vllm_cpu.why_head_size({"head_dim": 1000, "kv_lora_rank": 512}) is None
    assert vllm_cpu.why_head_size({"n_head": 3, "n_embd": 72}) is None
