"""One response of 32,768 tokens, trained with a real vocabulary: seconds and peak resident memory of the process.

::

    python benchmarks/long_response.py [--tokens 32768] [--threads 2]

The model is a Qwen2 of random weights with the vocabulary of the report's models (151,936) and a small body: 2 layers,
width 256, 4 heads. One group: the long response and one of 16 tokens, on a prompt of 64; float32, no checkpointing, one
whole training step (forward, backward, AdamW) through DeepSpeed, all in one micro-batch.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

from leeway_rl.benchmarks.measure import load_of_this_machine, parser_of

MOST_GIB = 6.0
PROMPT, SHORT, VOCABULARY = 64, 16, 151_936


def make_model(folder: Path, tokens: int) -> None:
    """Write the model in Hugging Face layout."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=PROMPT + tokens,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)


def train(folder: Path, tokens: int) -> tuple[float, dict[str, float]]:
    """Seconds and metrics of one training step."""
    import numpy as np
    from leeway_rl.common.config import Config
    from leeway_rl.common.types import Responses, Ticket
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.packing import ScoredGroup
    from leeway_rl.learner.policy import Policy
    from leeway_rl.learner.step import train_step

    config = Config.model_validate(
        {
            "model": {"path": str(folder), "dtype": "float32"},
            "data": {"path": "none.jsonl", "max_prompt_tokens": PROMPT},
            "train": {
                "steps": 1,
                "groups_per_step": 1,
                "group_size": 2,
                "max_response_tokens": tokens,
                "micro_batch_tokens": PROMPT + tokens + SHORT,
            },
        }
    )
    dice, lengths_S = np.random.default_rng(0), np.array([tokens, SHORT], dtype=np.uint32)
    group = ScoredGroup(
        ticket=Ticket(
            ticket=0,
            incarnation=0,
            min_version=0,
            stage=0,
            prompt_id="benchmark:0",
            prompt_tokens_P=dice.integers(VOCABULARY, size=PROMPT, dtype=np.uint32),
            group_size=2,
            max_new_tokens=tokens,
            temperature=1.0,
            seed=0,
            ability="math",
            ground_truth=("1",),
        ),
        responses=Responses(
            group_id="0-0",
            tokens_T=dice.integers(VOCABULARY, size=tokens + SHORT, dtype=np.uint32),
            logprobs_T=np.full(tokens + SHORT, -np.log(VOCABULARY), dtype=np.float32),
            lengths_S=lengths_S,
            finished_S=np.ones(2, dtype=np.uint8),
            spans=np.array([(0, 0, 0, tokens), (1, 0, 0, SHORT)], dtype=np.uint32),
            worker="benchmark",
            seconds=0.0,
        ),
        rewards_S=np.array([1.0, 0.0]),
    )
    policy = Policy(config)
    started = time.perf_counter()
    result = train_step(policy, [group], version=0, controller=ControllerState(), config=config)
    return time.perf_counter() - started, result.metrics


def main() -> None:
    """Print one line of figures."""
    parser = parser_of(__doc__, threads=2)
    parser.add_argument("--tokens", type=int, default=32_768)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    import torch

    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), given.tokens)
        seconds, metrics = train(Path(name), given.tokens)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(load_of_this_machine())
    print(
        f"{given.tokens:,} tokens, {given.threads} threads: {seconds:.1f} s, peak {peak:.2f} GiB "
        f"(must hold: {MOST_GIB:g} GiB at 32,768), loss {metrics['loss']:.4f}, "
        f"gradient norm {metrics['grad_norm']:.4f}, entropy {metrics['entropy/policy']:.3f}"
    )


if __name__ == "__main__":
    main()
