"""What ``leeway up --dry-run`` says of a learner's memory, against what DeepSpeed and torch hold for real models.

::

    python tests/proofs/dry_run_memory.py [--only NAME…] [--small]

Each case is a random model of Qwen2's shape, trained by the learner's own code (``Policy``, ``train_step``) for two
steps of three micro-batches, on one rank or two. The second step is counted: every byte that torch's allocator gives
and takes, with the moments at which the parts of the model begin and end; and between the steps every tensor that
lives. Must hold, for each figure by itself: counted and worked out differ by at most 10 %.

``states``: weights, gradients, optimizer, DeepSpeed's buffers. ``kept``: what the forward pass leaves for the backward
pass. ``token op`` and ``backward``: the most in that part, over what was there before. ``update``: the most from the
last reduction of gradients on, over what is there between steps. ``peak``: the most of all.

On the CPU the token op casts nothing, AdamW goes from tensor to tensor, and gloo copies what it reduces: these terms
differ on a GPU and are not compared here. Nor are offloaded parameters, which on the CPU lie where they are computed.
Exit code 1 where a figure is further off.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from leeway_rl.benchmarks.measure import Table
from leeway_rl.common.config import Config
from leeway_rl.common.types import Responses, Ticket
from leeway_rl.leeway.planning.arithmetic import Gpu
from leeway_rl.leeway.planning.arithmetic.asked import learner_of
from leeway_rl.leeway.planning.arithmetic.learner import REDUCE_BUCKET, moments, peak, states, token_op, total
from leeway_rl.leeway.planning.arithmetic.shapes import shape_of

ALLOWED = 0.10
MICRO_BATCHES = 3
PROMPT = 16
CHILD = "--child"
FIGURES = ("states", "kept", "token op", "backward", "update", "peak")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, and how it is trained."""

    layers: int = 4
    hidden: int = 256
    intermediate: int = 1024
    heads: int = 8
    kv_heads: int = 2
    vocabulary: int = 4000
    tied: bool = True
    dtype: str = "float32"
    bfloat16: str = "autocast"
    checkpointing: bool = False
    zero_stage: int = 0
    offload: str = "none"
    ranks: int = 1
    tokens: int = 512
    """Tokens of each micro-batch."""

    def config(self, folder: str) -> Config:
        """Steps of three groups of two responses; each group fills a rank's micro-batch."""
        response = (self.tokens - PROMPT) // 2 + 1
        return Config.model_validate(
            {
                "model": {"path": folder, "dtype": self.dtype},
                "weights": {"dtype": self.dtype},
                "data": {"path": "none.jsonl", "max_prompt_tokens": PROMPT},
                "train": {
                    "steps": 2,
                    "groups_per_step": MICRO_BATCHES * self.ranks,
                    "group_size": 2,
                    "max_response_tokens": response,
                    "micro_batch_tokens": self.tokens,
                    "zero_stage": self.zero_stage,
                    "offload": self.offload,
                    "gradient_checkpointing": self.checkpointing,
                    "bfloat16": self.bfloat16,
                    "ranks": self.ranks,
                },
            }
        )


HALF, AGAIN = {"dtype": "bfloat16"}, {"checkpointing": True}
NARROW = HALF | {"bfloat16": "weights"}
DEEP = {"layers": 16, "hidden": 384, "intermediate": 1536, "heads": 6, "kv_heads": 2, "vocabulary": 8000}
EVEN = {
    "layers": 6,
    "hidden": 512,
    "intermediate": 1024,
    "heads": 8,
    "kv_heads": 8,
    "vocabulary": 16_000,
    "tied": False,
}
LARGE = {"layers": 10, "hidden": 1024, "intermediate": 4096, "heads": 16, "kv_heads": 4, "vocabulary": 32_000}
SMALL = {
    "small": Case(tokens=1024),
    "small, half": Case(tokens=1024, **HALF),
    "small, again": Case(tokens=1024, **AGAIN, tied=False),
    "small, half, again": Case(tokens=1024, **HALF, **AGAIN),
}
CASES = SMALL | {
    "deep": Case(**DEEP, tokens=512),
    "deep, half": Case(**DEEP, **HALF, tokens=512),
    "deep, again": Case(**DEEP, **AGAIN, tokens=2048),
    "deep, half, again": Case(**DEEP, **HALF, **AGAIN, tokens=2048),
    "even, half": Case(**EVEN, **HALF, tokens=1024),
    "even, half, again": Case(**EVEN, **HALF, **AGAIN, tokens=2048),
    "large, half, again": Case(**LARGE, **HALF, **AGAIN, tokens=1024),
    "ZeRO 1": Case(**DEEP, **HALF, **AGAIN, zero_stage=1, tokens=1024),
    "ZeRO 2": Case(**DEEP, **HALF, **AGAIN, zero_stage=2, tokens=1024),
    "ZeRO 3": Case(**DEEP, **HALF, **AGAIN, zero_stage=3, tokens=1024),
    "ZeRO 1, weights": Case(**DEEP, **NARROW, **AGAIN, zero_stage=1, tokens=1024),
    "ZeRO 2, weights": Case(**DEEP, **NARROW, **AGAIN, zero_stage=2, tokens=1024),
    "ZeRO 3, weights": Case(**DEEP, **NARROW, **AGAIN, zero_stage=3, tokens=1024),
    "ZeRO 3, weights, 2 ranks": Case(**DEEP, **NARROW, **AGAIN, zero_stage=3, ranks=2, tokens=1024),
    "ZeRO 1, weights, 2 ranks": Case(**DEEP, **NARROW, **AGAIN, zero_stage=1, ranks=2, tokens=1024),
    "ZeRO 2, weights, 2 ranks": Case(**DEEP, **NARROW, **AGAIN, zero_stage=2, ranks=2, tokens=1024),
    "ZeRO 1, weights, 4 ranks": Case(**DEEP, **NARROW, **AGAIN, zero_stage=1, ranks=4, tokens=1024),
    "ZeRO 1, offload": Case(**DEEP, **HALF, **AGAIN, zero_stage=1, offload="optimizer", tokens=1024),
    "ZeRO 2, offload": Case(**DEEP, **HALF, **AGAIN, zero_stage=2, offload="optimizer", tokens=1024),
    "ZeRO 3, offload": Case(**DEEP, **HALF, **AGAIN, zero_stage=3, offload="optimizer", tokens=1024),
    "ZeRO 1, 2 ranks": Case(**DEEP, **HALF, **AGAIN, zero_stage=1, ranks=2, tokens=1024),
    "ZeRO 2, 2 ranks": Case(**DEEP, **HALF, **AGAIN, zero_stage=2, ranks=2, tokens=1024),
    "ZeRO 3, 2 ranks": Case(**DEEP, **HALF, **AGAIN, zero_stage=3, ranks=2, tokens=1024),
}


# --- in a process of its own -----------------------------------------------------------------------------------------


def counted(case: Case, folder: str) -> dict[str, float]:
    """Bytes of each figure, in this process."""
    import torch
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.policy import Policy
    from leeway_rl.learner.step import shared_out, train_step

    torch.set_num_threads(1)
    config = case.config(folder)
    before = living()
    policy = Policy(config)
    groups = shared_out(
        [group(number, case.tokens) for number in range(config.train.groups_per_step)], config, case.ranks
    )
    mine = groups[policy.rank]
    train_step(policy, mine, version=0, controller=ControllerState(), config=config)
    rest = living() - before
    found = figures(lambda: train_step(policy, mine, version=1, controller=ControllerState(), config=config), policy)
    return {name: size + (rest if name in ("states", "peak") else 0.0) for name, size in found.items()}


def count_all(home: Path, names: Sequence[str]) -> int:
    """Count each case on this rank. Rank 0 makes the models, and prints a line of JSON for each case."""
    import torch.distributed as dist
    from leeway_rl.learner.ranks import join_ranks

    join_ranks()
    first = dist.get_rank() == 0
    if first:
        make_models({name: CASES[name] for name in names}, home)
    dist.barrier()
    for name in names:
        found = counted(CASES[name], folder_of(home, name))
        if first:
            print(json.dumps({"name": name, "found": found}), flush=True)
    return 0


def living() -> float:
    """Bytes of all tensors that live, each storage once."""
    import torch

    gc.collect()
    found: dict[int, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of torch's modules complain when they are looked at
        for each in gc.get_objects():
            for tensor in (each, each.grad if isinstance(each, torch.Tensor) and each.is_leaf else None):
                if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()).nbytes():
                    found[storage.data_ptr()] = storage.nbytes()
    return float(sum(found.values()))


def figures(step: Any, policy: Any) -> dict[str, float]:
    """Bytes over those at rest, from torch's own account of its allocator during ``step``."""
    from torch.profiler import ProfilerActivity, profile

    language_model = policy.module.language_model
    named(getattr(language_model, policy.module.body), "forward", "BODY")
    named(language_model.get_submodule(policy.module.head), "forward", "TOKEN OP")
    named(policy, "backward", "BACKWARD")
    named(policy.engine, "allreduce_gradients", "REDUCE")
    named(policy, "step", "STEP")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as account:
        step()
    events = account.profiler.kineto_results.events()  # the raw account: tables of torch's add up what we need apart
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    times, levels = [at for at, _ in changes], [0, *accumulate(size for _, size in changes)]

    def calls(name: str) -> list[tuple[int, int]]:
        """(first, last) index of each call's levels."""
        found = sorted((event.start_ns(), event.duration_ns()) for event in events if event.name() == name)
        return [(bisect_left(times, start), bisect_left(times, start + length)) for start, length in found]

    # What ZeRO 3 gathers, it gathers before the model's first part: a micro-batch begins where the one before ends.
    backward, reduction, op = calls("BACKWARD"), calls("REDUCE"), calls("TOKEN OP")[-1]
    first, second = (levels[backward[number][1]] for number in (-3, -2))
    return {
        "states": second,
        "kept": levels[op[0]] - second,
        "token op": max(levels[op[0] : op[1] + 1]) - levels[op[0]],
        "backward": max(levels[backward[-2][0] : reduction[-2][0] + 1]) - first,
        "update": max(levels[reduction[-1][0] :]),
        "peak": max(levels),
    }


def named(owner: Any, method: str, name: str) -> None:
    """Give the calls of a method a name in the account."""
    from torch.profiler import record_function

    plain = getattr(owner, method)

    def call(*args: Any, **others: Any) -> Any:
        with record_function(name):
            return plain(*args, **others)

    setattr(owner, method, call)


def group(number: int, tokens: int) -> Any:
    """A group that fills a micro-batch of so many tokens."""
    from leeway_rl.learner.packing import ScoredGroup

    length = (tokens - PROMPT) // 2 + 1
    own = {"prompt_id": "p", "prompt_tokens_P": np.arange(PROMPT, dtype=np.uint16), "ground_truth": ("1",)}
    drawn = {"group_size": 2, "max_new_tokens": length, "temperature": 1.0, "seed": 0, "min_version": 0, "stage": 0}
    responses = Responses(
        group_id=f"{number}-0",
        tokens_T=np.arange(2 * length, dtype=np.uint32) % 61,
        logprobs_T=np.full(2 * length, -4.0, np.float32),
        lengths_S=np.full(2, length, np.uint32),
        finished_S=np.ones(2, np.uint8),
        spans=np.array([(response, 0, 0, length) for response in range(2)], np.uint32),
        worker="proof",
        seconds=1.0,
    )
    ticket = Ticket(ticket=number, incarnation=0, ability="math", **own, **drawn)
    return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1.0, 0.0]))


# --- the comparison --------------------------------------------------------------------------------------------------


def worked_out(case: Case, folder: str) -> dict[str, float]:
    """The same figures by the arithmetic."""
    shape = shape_of(folder)
    assert shape is not None
    learner = learner_of(case.config(folder), Gpu(), on_gpu=False)
    at, op = moments(learner, shape), total(token_op(learner, shape))
    always = sum(part.device + part.host for part in states(learner, shape))
    # At stage 3 the gradients are there at rest too, and at stage 1 their float32 sums over bfloat16 weights. Stage 1
    # otherwise keeps its bucket from one micro-batch to the next.
    summed = case.zero_stage == 1 and learner.width == 2
    at_rest = 4.0 * shape.parameters if summed else 0.0
    gradients = 0.0 if case.zero_stage == 3 else states(learner, shape)[1].device - at_rest
    bucket = 4 * REDUCE_BUCKET if case.zero_stage == 1 and not summed else 0.0
    return {
        "states": always + bucket,
        "kept": total(at["token op"]) - op - bucket,
        "token op": op,
        "backward": total(at["backward"]) - bucket,
        "update": gradients + max(total(at["reduction"]), total(at["update"])),
        "peak": peak(learner, shape).device + peak(learner, shape).host,
    }


def make_models(cases: Mapping[str, Case], home: Path) -> None:
    """Random weights in Hugging Face layout, for each case that has no model yet."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    for name, case in cases.items():
        if Path(folder_of(home, name)).exists():
            continue
        config = Qwen2Config(
            num_hidden_layers=case.layers,
            hidden_size=case.hidden,
            intermediate_size=case.intermediate,
            num_attention_heads=case.heads,
            num_key_value_heads=case.kv_heads,
            vocab_size=case.vocabulary,
            tie_word_embeddings=case.tied,
        )
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder_of(home, name))


def compared(cases: Mapping[str, Case], home: Path) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """The name of each case, and (counted, worked out) of each figure. Cases of one rank share a process, because to
    import DeepSpeed takes longer than to train. Those of several do not: DeepSpeed may still hold the states of the
    case before when the next one begins, and they would be taken off its own."""
    environment = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    environment |= {"OMP_NUM_THREADS": "1"}
    alone = [name for name, case in cases.items() if case.ranks == 1]
    for names in filter(None, [alone, *([name] for name in cases if name not in alone)]):
        ranks, words = cases[names[0]].ranks, [__file__, CHILD, str(home), *names]
        launcher = [sys.executable]
        if ranks > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                [*launcher, *words], env=environment, stdout=subprocess.PIPE, stderr=said, text=True
            ) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("{"):
                    name, here = json.loads(line).values()
                    own = worked_out(cases[name], folder_of(home, name))
                    yield name, {figure: (here[figure], own[figure]) for figure in FIGURES}
            if child.wait():
                said.seek(0)
                raise SystemExit(said.read()[-3000:])


def folder_of(home: Path, name: str) -> str:
    """Where a case's model lies."""
    return str(home / name.replace(" ", "-"))


def main() -> int:
    """Compare each case, and print a line for each."""
    if sys.argv[1:2] == [CHILD]:
        return count_all(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(CASES), metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--small", action="store_true", help="the small cases alone")
    given = parser.parse_args()
    chosen = {name: CASES[name] for name in given.only or (SMALL if given.small else CASES)}
    shown = Table("MB, and the page against it:<27", *(f"{figure}:>15" for figure in FIGURES))
    worst = 0.0
    with tempfile.TemporaryDirectory() as home:
        for name, found in compared(chosen, Path(home)):
            errors = [own / here - 1 for here, own in found.values()]
            worst = max(worst, *map(abs, errors))
            pairs = zip(found.values(), errors, strict=True)
            shown.line(name, *(f"{here / 1e6:,.0f} {100 * error:+.1f} %" for (here, _), error in pairs))
    print(f"worst: {100 * worst:.1f} %, allowed {100 * ALLOWED:.0f} %")
    return worst > ALLOWED


if __name__ == "__main__":
    sys.exit(main())
