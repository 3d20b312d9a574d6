"""What a rollout worker does with the GPUs that it is given, before its engine starts."""

import os

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.rollout.__main__ import take_gpus

from tests.gpus import with_gpus

SPREAD = ["rollout.engine=vllm", "rollout.tensor_parallel=4"]


@pytest.mark.parametrize(
    ("visible", "keys", "words"),
    [
        ("0,1", SPREAD, "'auto' with rollout.tensor_parallel = 4 asks for 4 GPUs in this process; .*gives it 2"),
        ("", [*SPREAD, "placement.rollout=gpu"], "asks for 4 GPUs .*gives it none"),
        ("-1", ["rollout.engine=vllm", "placement.rollout=gpu"], "asks for 1 GPU .*gives it none"),
    ],
)
def test_a_worker_with_too_few_gpus_is_refused(tmp_path, monkeypatch, visible, keys, words):
    monkeypatch.setenv("PATH", with_gpus(tmp_path / "bin", 8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match=words):
        take_gpus(compose(["tiny"], keys))


def test_enough_gpus_or_none_are_right_and_a_worker_on_the_cpu_sees_none(monkeypatch):
    for visible, keys in (("4,5,6,7", [*SPREAD, "placement.rollout=gpu"]), ("", SPREAD), ("0", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        take_gpus(compose(["tiny"], keys))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    take_gpus(compose(["tiny"], ["placement.rollout=cpu"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
