"""The whole algorithm in one process: sample, grade, step. No Redis, no workers, no DeepSpeed.

This is what Leeway does at max_staleness 0, and the best place to start reading. ``leeway prove on-policy`` runs it
beside the asynchronous system and compares the weights bit for bit. By hand::

    python examples/one_process.py --preset tiny --steps 5
"""

import argparse
import hashlib

import numpy as np
import torch
from leeway_rl.common.config import Config, compose, expand
from leeway_rl.common.tensors import flatten, tensors_of
from leeway_rl.common.types import Ticket, VerdictKind
from leeway_rl.learner.flow.prompts import PromptSource, load_prompts, sampling_seed
from leeway_rl.learner.model import adamw, clip_gradients, load_module
from leeway_rl.learner.objective import advantage, entropy, loss
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.step import cut, size_of, surrogate_sum
from leeway_rl.rollout.torch_engine import TorchEngine
from leeway_rl.verifier.math_answer import grade_math
from transformers import AutoTokenizer


def ticket_of(config: Config, prompts: PromptSource, number: int, version: int) -> Ticket:
    prompt = prompts.prompt(number)
    return Ticket(
        ticket=number,
        incarnation=1,
        min_version=version,
        stage=0,
        prompt_id=prompt.prompt_id,
        prompt_tokens_P=prompt.tokens_P,
        group_size=config.train.group_size,
        max_new_tokens=config.train.max_response_tokens,
        temperature=config.flow.temperature,
        seed=sampling_seed(config.flow.seed, number),
        ability=prompt.ability,
        ground_truth=prompt.ground_truth,
    )


def sample_and_grade(engine: TorchEngine, tokenizer, ticket: Ticket) -> ScoredGroup:
    responses = engine.generate(ticket)
    rewards, end = [], 0
    for length, finished in zip(responses.lengths_S.tolist(), responses.finished_S.tolist(), strict=True):
        text = tokenizer.decode(responses.tokens_T[end : end + length].tolist(), skip_special_tokens=True)
        rewards.append(float(grade_math(text, ticket.ground_truth, bool(finished))[0] is VerdictKind.CORRECT))
        end += length
    return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.asarray(rewards, dtype=np.float32))


def train(config: Config, steps: int) -> dict[str, torch.Tensor]:
    """The weights after ``steps`` training steps, by name."""
    if config.train.updates_per_step > 1 or config.objective.kl_beta > 0:
        raise SystemExit("this loop makes one update a training step and holds no reference model")
    path = expand(config.model.path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = load_prompts(config.data, tokenizer, seed=config.flow.seed)
    engine = TorchEngine(path, dtype=config.rollout.dtype, worker="one-process", threads=config.rollout.threads)
    module, controller, number = load_module(config), entropy.ControllerState(), 0
    optimizer = adamw(module, config)
    for version in range(steps):
        engine.load(version, tensors_of(flatten(module.named_weights(), config.weights.dtype)))
        groups = []
        while len(groups) < config.train.groups_per_step:  # rejection sampling: only groups with a signal count
            group = sample_and_grade(engine, tokenizer, ticket_of(config, prompts, number, version))
            number += 1
            if advantage.is_trained(group.rewards_S, group.responses.finished_S, config.objective):
                groups.append(group)
        batches = cut(groups, version=version, config=config)
        with torch.no_grad():  # e_k of the policy before the update decides α_k (report 3.2)
            outputs = [module(batch) for batch in batches]
        exact = config.entropy.estimate == "exact"
        measured = torch.cat([o.entropy_T if exact else -o.logprobs_T for o in outputs]).double().mean().item()
        alpha = entropy.step_alpha(controller, measured, config.entropy)
        count = loss.denominator(config.objective.loss, *size_of(groups))
        for batch in batches:
            (surrogate_sum(module, batch, config.objective, alpha).loss_sum * (1 / count)).backward()
        clip_gradients(module, config.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        controller = entropy.state_after(controller, measured, config.entropy)
        print(f"step {version}: reward {np.mean([g.rewards_S for g in groups]):.3f} entropy {measured:.4f}", flush=True)
    return {name: parameter.detach() for name, parameter in module.named_weights().items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    config = compose(arguments.preset, arguments.settings)
    weights = flatten(train(config, arguments.steps), config.weights.dtype)
    print("sha256", hashlib.sha256(weights.buffer).hexdigest())
