"""vLLM with models of other kinds than Qwen2: whether it takes the learner's weights as they are."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("vllm")

from safetensors.torch import load_file

from tests.architectures import ARCHITECTURES, SIZES
from tests.model_folders import make_folder
from tests.programs import said_by

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
MODELS = Path(__file__).resolve().parent.parent / "proofs/models.py"
KEYS = {each.kind: each.keys for each in ARCHITECTURES}


@pytest.mark.parametrize("kind", ["mixtral", "phimoe", "glm4_moe", "minimax_m2", "llama"])
def test_what_vllm_gets_are_the_tensors_of_a_published_folder(tmp_path, kind):
    from leeway_rl.rollout.vllm_weights import as_published
    from transformers import AutoModelForCausalLM

    folder = make_folder(tmp_path / "model", kind, **{**SIZES, **KEYS[kind]})
    model = AutoModelForCausalLM.from_pretrained(folder)
    published = load_file(folder / "model.safetensors")
    found = dict(as_published(model.state_dict().items(), model.config))
    assert found.keys() == published.keys()
    assert all(torch.equal(found[name], published[name]) for name in published)


def test_the_experts_of_a_mixture_are_those_that_the_learner_has_before_and_after_a_step():
    said = said_by(MODELS, "--engines vllm --kinds qwen3_moe")
    assert float(re.search(r"^qwen3_moe: torch nan vllm (\S+) alone", said, re.M)[1]) < 1e-4
    assert said.endswith("1 of 1 architectures are as they must be\n")
