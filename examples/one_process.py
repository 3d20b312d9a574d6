"""The whole algorithm in one process: sample, grade, step. No Redis, no workers, no DeepSpeed.

This is what Leeway does at max_staleness 0, and the best place to start reading. ``leeway prove on-policy`` runs it
beside the asynchronous system and compares the weights bit for bit. By hand::

    python examples/one_process.py --preset tiny --steps 5
"""

import argparse
from functools import partial

import numpy as np
import torch
from leeway_rl.common.config import Config, compose, expand
from leeway_rl.common.config.plain import why_not_plain
from leeway_rl.common.prompts import decoder_of
from leeway_rl.common.tensors import flatten, tensors_of
from leeway_rl.common.types import Ticket, VerdictKind
from leeway_rl.common.weights import checksum
from leeway_rl.learner.clipping import clip_gradients
from leeway_rl.learner.engine_settings import adamw, set_rate
from leeway_rl.learner.flow.curriculum import load_curriculum
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective import advantage, entropy, learning_rate, loss
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.step import cut, size_of, surrogate_sum
from leeway_rl.rollout.environments import EnvironmentHost
from leeway_rl.rollout.torch_engine import TorchEngine
from leeway_rl.verifier.clocked import clocked
from leeway_rl.verifier.graders import judge_of
from leeway_rl.verifier.pool import GraderPool
from leeway_rl.verifier.rewards.grading import RewardGrader
from leeway_rl.verifier.worker import conversations_of, grade_items
from transformers import AutoTokenizer


def sample_and_grade(engine: TorchEngine, decode, ticket: Ticket, own: RewardGrader | None) -> ScoredGroup:
    responses = engine.generate(ticket)
    items, rewards = grade_items(ticket, responses, decode), []
    if own is not None:  # the run's own rewards run in processes of their own here too
        lengths, told = responses.sampled_S.tolist(), conversations_of(responses, decode)
        rewards = [each.reward for each in own.grade(items, lengths, ticket.row, told, ticket.prompt_id)]
    for item in items if own is None else ():
        judge = judge_of(item.ability).grade
        judged = partial(judge, item.response, item.golds, item.finished, reasoning_open=item.reasoning_open)
        rewards.append(float(clocked(10.0, judged)[0] is VerdictKind.CORRECT))
    return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.asarray(rewards, dtype=np.float64))


def train(run: Config, steps: int) -> dict[str, torch.Tensor]:
    """The weights after ``steps`` training steps, by name."""
    if (why := why_not_plain(run)) is not None:
        raise SystemExit(f"this loop is a plain one: {why}")
    path, config, serving, exact = expand(run.model.path), run, run.rollout, run.entropy.estimate == "exact"
    curriculum, decode = load_curriculum(run, tokenizer := AutoTokenizer.from_pretrained(path)), decoder_of(tokenizer)
    environments = EnvironmentHost(run) if run.environment is not None else None
    engine = TorchEngine(path, dtype=serving.dtype, worker="1", threads=serving.threads, environments=environments)
    module, controller, number = load_module(config), entropy.ControllerState(), 0
    optimizer = adamw(module, config)
    own = RewardGrader(run, GraderPool(1, settings=run.verifier)) if run.rewards else None
    for version in range(steps):
        config = run.at_stage(stage := run.stage_of(version))  # lengths, sizes, τ and the other keys of this stage
        module.temperature = config.flow.temperature
        curriculum.reconsider(version, number)
        if stage == curriculum.stages_open:
            curriculum.open(stage, number)
        engine.load(version, tensors_of(flatten(module.named_weights(), config.weights.dtype)))
        groups, counted = [], 0
        while counted < config.train.groups_per_step:  # rejection sampling: only groups with a signal count
            group = sample_and_grade(engine, decode, curriculum.ticket(number, stage, min_version=version), own)
            number += 1
            curriculum.saw(group.ticket, group.rewards_S)
            counted += advantage.counts(group.rewards_S, group.responses.finished_S, config.objective)
            if advantage.is_trained(group.rewards_S, group.responses.finished_S, config.objective):
                groups.append(group)
        batches = cut(groups, version=version, config=config)
        with torch.no_grad():  # e_k of the policy before the update decides α_k (report 3.2)
            outputs = [module(batch) for batch in batches]
        measured = torch.cat([o.entropy_T if exact else -o.logprobs_T for o in outputs]).double().mean().item()
        alpha = entropy.step_alpha(controller, measured, config.entropy)
        count = loss.denominator(config.objective, *size_of(batches), config.train.max_response_tokens)
        for batch in batches:
            (surrogate_sum(module, batch, config.objective, alpha).loss_sum * (1 / count)).backward()
        clip_gradients(module, config.train.grad_clip)
        set_rate(optimizer, learning_rate.learning_rate(config, version))
        optimizer.step()
        optimizer.zero_grad()
        controller = entropy.state_after(controller, measured, config.entropy)
        print(f"step {version}: reward {np.mean([g.rewards_S for g in groups]):.3f} entropy {measured:.4f}", flush=True)
    if environments is not None:
        environments.close()
    return {name: parameter.detach() for name, parameter in module.named_weights().items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    config = compose(arguments.preset, arguments.settings)
    print("checksum", checksum(flatten(train(config, arguments.steps), config.weights.dtype).buffer))
