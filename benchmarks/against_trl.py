"""One GRPO step by TRL's ``GRPOTrainer`` and one by this learner: tokens a second and peak memory.

::

    pip install -e '.[bench]'
    python presets/smollm2/make_model.py
    python benchmarks/against_trl.py [--lengths geometric|even] [--dtypes float32 bfloat16] [--threads 2]

Same model (SmolLM2-135M), same 16 responses of 16 to 256 tokens after one prompt of 32, same threads, same AdamW, no KL
term. TRL runs as its users run it: its trainer, its default loss (a mean over all tokens, which is MAGIC's without
entropy), its optimizer step; only sampling is replaced, by its own ``rollout_func``. Its batch is one micro-batch of 16
without gradient checkpointing (``--trl-checkpointing`` turns on what is TRL's default: slower and smaller).

Every variant runs in a process of its own, in turn, ``--rounds`` times: ``--warm-up`` steps, then ``--steps`` that
count. Tokens a second are response tokens over the median step; peak memory is the process's largest resident size.
Before that, one float32 step of each is compared: loss and gradient must be the same, or the figures would mean
nothing.

``--lengths geometric`` (default): each response 1.2 times as long as the one before, as lengths are in RL, where few
are long. ``even``: evenly spaced, which is easier on a trainer that pads.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import Table, load_of_this_machine, parser_of

MODEL = "runs/models/smollm2-135m-instruct"
RESPONSES, SHORTEST, LONGEST, PROMPT = 16, 16, 256, 32
LEAST_SPEED, MOST_MEMORY = 2.0, 0.35
MICRO_BATCH_TOKENS = 512
SPEEDS = ("TRL tokens/s:.1f", "ours tokens/s:.1f", "ratio:6.2f")
PEAKS = ("TRL peak GB:.2f", "ours peak GB:.2f", "ratio:6.2f")


def the_batch(model: str, lengths: str) -> dict[str, Any]:
    """Token ids of the prompt and the responses, their rewards, and log μ by the model itself in float32."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    space = {"geometric": np.geomspace, "even": np.linspace}[lengths]
    dice = np.random.default_rng(0)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    words = policy.config.vocab_size
    prompt = dice.integers(3, words, PROMPT).tolist()
    responses = [dice.integers(3, words, n).tolist() for n in space(SHORTEST, LONGEST, RESPONSES).astype(int)]
    logprobs = []
    for response in responses:
        with torch.no_grad():
            logits_TV = policy(torch.tensor([prompt + response])).logits[0, PROMPT - 1 : -1]
        taken_T = torch.tensor(response)
        logprobs.append(logits_TV.log_softmax(-1).gather(-1, taken_T[:, None]).squeeze(-1).tolist())
    rewards = [float(number % 3 == 0) for number in range(RESPONSES)]
    return {"prompt": prompt, "responses": responses, "logprobs": logprobs, "rewards": rewards}


class Clock:
    """Seconds of each optimizer step, and the first step's gradient, which is written to a file if one is given."""

    def __init__(self, gradient: Path | None) -> None:
        self.seconds: list[float] = []
        self.gradient = gradient

    def keep(self, optimizer: Any, *_: Any) -> None:
        import torch

        if self.gradient is not None and not self.gradient.exists():
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            # The key is what the parameter holds, because each side names and orders parameters in its own way.
            torch.save({_name(parameter): parameter.grad for parameter in parameters}, self.gradient)


def _name(parameter: Any) -> str:
    return f"{tuple(parameter.shape)} {parameter.detach().double().sum().item():.9f}"


def the_group(batch: dict[str, Any]) -> Any:
    """``batch`` as the group that a learner takes in."""
    import numpy as np
    from leeway_rl.common.types import Responses, Ticket
    from leeway_rl.learner.packing import ScoredGroup

    lengths_S = np.array([len(response) for response in batch["responses"]], dtype=np.uint32)
    return ScoredGroup(
        ticket=Ticket(
            ticket=0,
            incarnation=0,
            min_version=0,
            stage=0,
            prompt_id="benchmark:0",
            prompt_tokens_P=np.array(batch["prompt"], dtype=np.uint32),
            group_size=RESPONSES,
            max_new_tokens=LONGEST,
            temperature=1.0,
            seed=0,
            ability="math",
            ground_truth=("1",),
        ),
        responses=Responses(
            group_id="0-0",
            tokens_T=np.concatenate(batch["responses"]).astype(np.uint32),
            logprobs_T=np.concatenate(batch["logprobs"]).astype(np.float32),
            lengths_S=lengths_S,
            finished_S=np.ones(RESPONSES, dtype=np.uint8),
            spans=np.array([(row, 0, 0, length) for row, length in enumerate(lengths_S)], dtype=np.uint32),
            worker="benchmark",
            seconds=0.0,
        ),
        rewards_S=np.array(batch["rewards"]),
    )


def run_ours(batch: dict[str, Any], given: argparse.Namespace, clock: Clock) -> float:
    """Train on ``batch`` step by step; returns the first step's loss."""
    import torch
    from leeway_rl.common.config import Config
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.policy import Policy
    from leeway_rl.learner.step import train_step

    torch.set_num_threads(given.threads)
    config = Config.model_validate(
        {
            "model": {"path": given.model, "dtype": given.dtype},
            "data": {"path": "none.jsonl", "max_prompt_tokens": PROMPT},
            "train": {
                "steps": given.warm_up + given.steps,
                "groups_per_step": 1,
                "group_size": RESPONSES,
                "max_response_tokens": LONGEST,
                "learning_rate": 1e-6,
                "micro_batch_tokens": given.micro_batch_tokens,
            },
            "objective": {"advantage_eps": 1e-4},  # TRL's
            "entropy": {"control": "none"},
        }
    )
    policy, group, losses = Policy(config), the_group(batch), []
    for _ in range(given.warm_up + given.steps):
        started = time.perf_counter()
        result = train_step(policy, [group], version=0, controller=ControllerState(), config=config)
        clock.seconds.append(time.perf_counter() - started)
        losses.append(result.metrics["loss"])
    return losses[0]


def run_trl(batch: dict[str, Any], given: argparse.Namespace, clock: Clock) -> float:
    """Train on ``batch`` by TRL's trainer; returns the first step's loss."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(given.threads)

    class Stopwatch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.seconds.append(time.perf_counter() - self.started)

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        assert len(prompts) == RESPONSES
        return {
            "prompt_ids": [batch["prompt"]] * RESPONSES,
            "completion_ids": batch["responses"],
            "logprobs": None,
        }

    def reward(completions: list[str], **_: Any) -> list[float]:
        return batch["rewards"]

    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=given.dtype == "bfloat16",
        model_init_kwargs={"dtype": "float32"},
        gradient_checkpointing=given.trl_checkpointing,
        per_device_train_batch_size=RESPONSES,
        num_generations=RESPONSES,
        max_completion_length=LONGEST,
        max_steps=given.warm_up + given.steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        weight_decay=0.01,
        beta=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=given.model,
        args=arguments,
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": "?"}] * 8),
        processing_class=AutoTokenizer.from_pretrained(given.model),
        rollout_func=rollout,
        callbacks=[Stopwatch()],
    )
    trainer.train()
    return next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def run_one(given: argparse.Namespace) -> None:
    """Run one variant in this process, and print a line of JSON last."""
    warnings.filterwarnings("ignore")
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    batch = json.loads(Path(given.batch).read_text())
    clock = Clock(Path(given.gradient) if given.gradient else None)
    register_optimizer_step_pre_hook(clock.keep)
    loss = {"ours": run_ours, "trl": run_trl}[given.one](batch, given, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": clock.seconds[given.warm_up :], "peak": peak, "loss": loss}))


def start(name: str, dtype: str, folder: Path, given: argparse.Namespace, *more: str) -> dict[str, Any]:
    """Run variant ``name`` in a process of its own and wait for it."""
    command = [sys.executable, __file__, "--one", name, "--dtype", dtype, "--batch", str(folder / "batch.json")]
    command += ["--model", given.model, "--threads", str(given.threads), "--steps", str(given.steps)]
    command += ["--warm-up", str(given.warm_up)]
    command += ["--micro-batch-tokens", str(given.micro_batch_tokens)]
    command += ["--trl-checkpointing"] if given.trl_checkpointing else []
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} in {dtype} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(folder: Path, given: argparse.Namespace) -> str:
    """A line on one float32 step of each: their losses, and the relative difference of their (clipped) gradients."""
    import torch

    found, gradients = {}, {}
    for name in ("trl", "ours"):
        file = folder / f"{name}.pt"
        found[name] = start(name, "float32", folder, given, "--gradient", str(file), "--steps", "0", "--warm-up", "1")
        gradients[name] = torch.load(file)
    theirs, ours = gradients["trl"], gradients["ours"]
    assert theirs.keys() == ours.keys(), "the two do not hold the same parameters"
    apart = sum((ours[key] - theirs[key]).double().square().sum() for key in theirs).sqrt()
    size = sum(gradient.double().square().sum() for gradient in theirs.values()).sqrt()
    return (
        f"one float32 step of each: loss {found['trl']['loss']:.6f} and {found['ours']['loss']:.6f}; "
        f"gradients {float(apart / size):.1e} apart (relative L2)"
    )


def main() -> None:
    """Print the comparison of gradients, a line a round, and the ratios."""
    parser = parser_of(__doc__, threads=2, rounds=2)
    parser.add_argument("--lengths", choices=("geometric", "even"), default="geometric")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=3, help="steps that count, a process")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them; 0 where a step takes minutes")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--micro-batch-tokens", type=int, default=MICRO_BATCH_TOKENS, help="ours")
    parser.add_argument("--trl-checkpointing", action="store_true")
    for hidden in ("--one", "--dtype", "--batch", "--gradient"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run_one(given)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch = the_batch(given.model, given.lengths)
        (folder / "batch.json").write_text(json.dumps(batch))
        tokens = sum(len(response) for response in batch["responses"])
        print(f"{load_of_this_machine()}; {tokens} response tokens in {RESPONSES} responses; {given.threads} threads")
        print(compare(folder, given), flush=True)
        table = Table("dtype:<8", "round:d", *SPEEDS, *PEAKS)
        for dtype in given.dtypes:
            for number in range(given.rounds):
                trl, ours = (start(name, dtype, folder, given) for name in ("trl", "ours"))
                speeds = [tokens / statistics.median(one["seconds"]) for one in (trl, ours)]
                peaks = [one["peak"] / 1e9 for one in (trl, ours)]
                table.line(dtype, number, *speeds, speeds[1] / speeds[0], *peaks, peaks[1] / peaks[0])
        print(f"must hold: at least {LEAST_SPEED:g} times the tokens/s at no more than {MOST_MEMORY:g} of the memory")


if __name__ == "__main__":
    main()
