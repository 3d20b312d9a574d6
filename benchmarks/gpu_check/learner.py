"""A learner of 1.5 billion random parameters: the memory of a step beside the dry run's figure, and how fast it is.

Each ZeRO stage runs in a process of its own (``__main__``), because a process keeps what its first model has left
behind.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from leeway_rl.benchmarks.gpu_check.device import device, peak, reset_peak, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.common.config import Config
from leeway_rl.common.types import Responses, Ticket

if TYPE_CHECKING:
    from leeway_rl.leeway.planning.arithmetic import Shape

QWEN_1_5B = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
}
"""DeepSeek-R1-Distill-Qwen-1.5B."""
TINY = {
    "vocab_size": 503,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SIZES: dict[str, tuple[dict[str, int], int, int]] = {"full": (QWEN_1_5B, 2048, 32_768), "small": (TINY, 16, 48)}
"""The model, tokens of the prompt, tokens of each of the two responses, which are a micro-batch each."""
STEPS = 2
"""Training steps; the last is timed."""


def random_model(keys: dict[str, int], tokens: int) -> Any:
    """A Qwen2 of random bfloat16 weights, made on the device: random numbers on a CPU would take minutes."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**keys, max_position_embeddings=tokens, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device(device()):
        return Qwen2ForCausalLM(config).bfloat16()


def ticket_of(vocabulary: int, prompt: int, response: int, size: int) -> Ticket:
    """A ticket for ``size`` responses to a random prompt."""
    return Ticket(
        ticket=0,
        incarnation=0,
        prompt_id="p",
        prompt_tokens_P=np.random.default_rng(0).integers(2, vocabulary, prompt, dtype=np.uint32),
        ground_truth=("1",),
        ability="math",
        group_size=size,
        max_new_tokens=response,
        temperature=1.0,
        seed=0,
        min_version=0,
        stage=0,
    )


def responses_of(vocabulary: int, response: int, size: int) -> Responses:
    """Random responses to it, of ``response`` tokens each."""
    return Responses(
        group_id="0-0",
        tokens_T=np.random.default_rng(1).integers(2, vocabulary, size * response, dtype=np.uint32),
        logprobs_T=np.full(size * response, -np.log(vocabulary), np.float32),
        lengths_S=np.full(size, response, np.uint32),
        finished_S=np.ones(size, np.uint8),
        spans=np.array([(number, 0, 0, response) for number in range(size)], np.uint32),
        worker="check",
        seconds=1.0,
    )


def config_of(folder: Path, stage: int, prompt: int, response: int) -> Config:
    """The check's configuration: one response to a micro-batch, as at 7B."""
    train: dict[str, Any] = {"steps": STEPS, "groups_per_step": 1, "group_size": 2, "max_response_tokens": response}
    train |= {"micro_batch_tokens": prompt + response, "zero_stage": stage, "gradient_checkpointing": True}
    return Config.model_validate(
        {
            "model": {"path": str(folder), "dtype": "bfloat16"},
            "data": {"path": "none.jsonl", "max_prompt_tokens": prompt},
            "train": train,
        }
    )


def measured(size: str, stage: int) -> list[Figure]:
    """The figures of one ZeRO stage."""
    from leeway_rl.learner.hardware import Hardware
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.packing import ScoredGroup
    from leeway_rl.learner.policy import Policy
    from leeway_rl.learner.step import train_step
    from leeway_rl.leeway.planning.arithmetic import shape_of

    keys, prompt, response = SIZES[size]
    group = ScoredGroup(
        ticket=ticket_of(keys["vocab_size"], prompt, response, 2),
        responses=responses_of(keys["vocab_size"], response, 2),
        rewards_S=np.array([1.0, 0.0]),
    )
    with tempfile.TemporaryDirectory() as text:
        random_model(keys, prompt + response).save_pretrained(text)
        config, shape = config_of(Path(text), stage, prompt, response), shape_of(text)
        assert shape is not None
        before = reset_peak()
        loading, policy = synchronised(lambda: Policy(config))
    hardware = Hardware(policy, config)
    for version in range(STEPS):

        def step(version: int = version) -> Any:
            return train_step(policy, [group], version=version, controller=ControllerState(), config=config)

        seconds, result = synchronised(step)
    found = hardware.measured(STEPS - 1, [group], result.metrics, {"time/train_s": seconds}, oldest=None)
    name, tokens = f"ZeRO {stage}", 2 * (prompt + response)
    figures = [
        Figure(what=f"{name}: loading", value=loading, unit="s"),
        Figure(what=f"{name}: a step of {tokens:,} tokens", value=seconds, unit="s"),
        Figure(what=f"{name}: tokens a second", value=tokens / seconds),
    ]
    if "throughput/mfu" in found:
        figures.append(Figure(what=f"{name}: MFU", value=found["throughput/mfu"]))
    return [*figures, *peak_beside_the_dry_runs(name, before, config, shape)]


def peak_beside_the_dry_runs(name: str, before: int, config: Config, shape: "Shape") -> list[Figure]:
    """The peak over the ``before`` bytes, and the dry run's for this card. None on a CPU: nobody counts allocations."""
    from leeway_rl.leeway.planning.arithmetic import Gpu, learner_bytes

    if not torch.cuda.is_available():
        return []
    taken, card = peak() - before, torch.cuda.get_device_properties(0)
    worked_out = learner_bytes(config, shape, Gpu(name=card.name, bytes=card.total_memory))
    return [
        Figure(what=f"{name}: peak", value=taken / 1e9, unit="GB"),
        Figure(what=f"{name}: the dry run's peak", value=worked_out / 1e9, unit="GB"),
        Figure(what=f"{name}: peak ÷ the dry run's", value=taken / worked_out, at_least=0.9, at_most=1.1),
    ]
