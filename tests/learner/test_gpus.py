"""What a rank does with the GPUs that it is given. No GPU is here; torch names those that it does not have."""

import os

import pytest
import torch
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner.__main__ import refuse_blind_torch, take_gpus
from leeway_rl.learner.ranks import reference_device

from tests.gpus import with_gpus

OWN = ["objective.kl_beta=0.001", "placement.reference=own"]


@pytest.mark.parametrize(
    ("visible", "here", "keys", "words"),
    [
        ("0,1,2", 4, ["placement.learner=gpu"], "4 of the learner's ranks on this node asks for 4 GPUs .*gives it 3"),
        ("0", 2, [], "'auto' with 2 of the learner's ranks on this node asks for 2 GPUs"),
        ("", 1, ["placement.learner=gpu"], "asks for 1 GPU in this process; .*gives it none"),
        ("0,1,2", 2, ["placement.learner=gpu", *OWN], "reference = 'own' asks for 4 GPUs .*gives it 3"),
        ("", 1, OWN, "asks for 2 GPUs .*gives it none"),
    ],
)
def test_a_node_without_a_gpu_for_each_of_its_ranks_is_refused_before_torch(
    tmp_path, monkeypatch, visible, here, keys, words
):
    monkeypatch.setenv("PATH", with_gpus(tmp_path / "bin", 8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    with pytest.raises(ConfigError, match=words):
        take_gpus(compose(["tiny"], keys))


def test_enough_gpus_or_none_are_right_and_a_learner_on_the_cpu_sees_none(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    take_gpus(compose(["tiny"], []))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    take_gpus(compose(["tiny"], ["placement.learner=gpu"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    take_gpus(compose(["tiny"], ["placement.learner=cpu"]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_a_learner_that_is_to_train_on_gpus_does_not_train_on_the_cpu_without_a_word():
    refuse_blind_torch(compose(["tiny"], []))
    with pytest.raises(ConfigError, match=r"'gpu', and torch .* sees no GPU"):
        refuse_blind_torch(compose(["tiny"], ["placement.learner=gpu"]))


def test_references_lie_on_the_gpus_after_the_ranks_or_with_them(monkeypatch):
    ranks = [torch.device("cuda", number) for number in range(4)]
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_SIZE", raising=False)
    assert reference_device(ranks[0], own=True).index == 1
    for launcher in ("LOCAL_SIZE", "LOCAL_WORLD_SIZE"):  # DeepSpeed's, and torchrun's
        monkeypatch.setenv(launcher, "4")
        assert [reference_device(each, own=True).index for each in ranks] == [4, 5, 6, 7]
    assert [reference_device(each, own=False) for each in ranks] == ranks
    assert reference_device(torch.device("cpu"), own=True) == torch.device("cpu")
