"""How much of what ranks in lockstep could compute is work, at the sizes of the presets.

::

    python benchmarks/packing.py

Arithmetic on lengths alone, no model. In every round of passes the ranks wait for the one with the most tokens. The
efficiency is the tokens of all groups, each prompt counted once, as a share of ranks x the largest rank's tokens,
summed over the rounds: waiting is lost, and so is a prompt that is computed again in another micro-batch. Lengths of
responses are log-normal, sigma 0.6 between prompts and 0.5 within one, and cut at the context; lengths of prompts too,
sigma 0.6, and cut at 2,048. Seeds are 0, 1, 2, ... The time is the processor's, for one plan.

"Before" is the rule that Leeway had: a run of responses for each rank, which it filled into micro-batches in order.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from leeway_rl.benchmarks.measure import Table, parser_of
from leeway_rl.common.config import compose
from leeway_rl.learner.cutting import Place, Sizes, places

LEAST = 0.93
SIGMA_BETWEEN, SIGMA_WITHIN, SIGMA_PROMPTS = 0.6, 0.5, 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A stage of a preset, on so many ranks."""

    name: str
    preset: str
    stage: int
    ranks: int
    mean: int
    """Tokens of a response."""


CASES = [
    Case(name="7B@16k", preset="skywork-or1-7b", stage=0, ranks=8, mean=4000),
    Case(name="7B@32k", preset="skywork-or1-7b", stage=1, ranks=8, mean=8000),
    Case(name="32B@24k", preset="skywork-or1-32b", stage=1, ranks=32, mean=8000),
    Case(name="32B@32k", preset="skywork-or1-32b-scripts", stage=2, ranks=32, mean=8000),
]


def drawn(case: Case, prompt_tokens: int, seed: int) -> tuple[list[list[int]], int]:
    """Of each group the tokens of its prompt and of its responses, and the limit of a micro-batch."""
    train, random = compose([case.preset], []).at_stage(case.stage).train, np.random.default_rng(seed)
    groups = train.groups_per_step

    def lognormal(mean: float, sigma: float) -> np.ndarray:
        return random.lognormal(np.log(mean) - sigma**2 / 2, sigma, groups)

    prompts_G = lognormal(prompt_tokens, SIGMA_PROMPTS).clip(1, 2048).astype(int)
    medians_G = lognormal(case.mean, SIGMA_BETWEEN) * np.exp(-(SIGMA_WITHIN**2) / 2)
    within_GS = random.lognormal(0.0, SIGMA_WITHIN, (groups, train.group_size))
    lengths_GS = (medians_G[:, None] * within_GS).clip(1, train.max_response_tokens).astype(int)
    sizes = np.concatenate([prompts_G[:, None], lengths_GS - 1], axis=1)  # a response's last token is not computed
    return sizes.tolist(), train.micro_batch_tokens


def in_order(sizes: Sizes, limit: int, ranks: int) -> list[list[Place]]:
    """The rule before: runs of about as many tokens, and in each a response that does not fit opens a micro-batch."""
    each = [[size + prompt / len(own) for size in own] for prompt, *own in sizes]
    before = np.cumsum([0.0, *(cost for costs in each for cost in costs)])
    cuts = [int(np.abs(before - before[-1] * rank / ranks).argmin()) for rank in range(ranks + 1)]
    found: list[list[Place]] = []
    at = rank = room = 0
    number = -1
    for prompt, *own in sizes:
        found.append([])
        for size in own:
            while at == cuts[rank + 1]:
                rank, number, room = rank + 1, -1, 0
            shared = found[-1][-1:] == [(rank, number)]
            if (needed := size + (0 if shared else prompt)) > room:
                number, room, needed = number + 1, limit, prompt + size
            found[-1].append((rank, number))
            room, at = room - needed, at + 1
    return found


def tokens_at(sizes: Sizes, found: Sequence[Sequence[Place]], ranks: int) -> np.ndarray:
    """Tokens of each micro-batch, 0 where a rank has none. int64, shape [ranks, rounds]."""
    tokens = np.zeros((ranks, 1 + max(number for own in found for _, number in own)), dtype=np.int64)
    for (prompt, *own), where in zip(sizes, found, strict=True):
        for place in set(where):
            tokens[place] += prompt
        for place, size in zip(where, own, strict=True):
            tokens[place] += size
    return tokens


def efficiency(sizes: Sizes, tokens: np.ndarray) -> float:
    """The share of what the ranks could compute that is work."""
    return sum(map(sum, sizes)) / (len(tokens) * int(tokens.max(axis=0).sum()))


def fetched(found: Sequence[Sequence[Place]]) -> float:
    """By how many ranks a group is fetched, on average."""
    return float(np.mean([len({rank for rank, _ in own}) for own in found]))


def figures(sizes: Sizes, limit: int, ranks: int, plan: Callable[..., list[list[Place]]]) -> list[float]:
    """Efficiency, rounds, ranks that fetch a group, seconds."""
    started = time.process_time()
    found = plan(sizes, limit=limit, ranks=ranks)
    seconds = time.process_time() - started
    tokens = tokens_at(sizes, found, ranks)
    return [efficiency(sizes, tokens), tokens.shape[1], fetched(found), seconds]


def main() -> int:
    """Code 1: an efficiency is below ``LEAST``."""
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="batches that are drawn of each preset")
    parser.add_argument("--prompt-tokens", type=int, default=300, help="of a prompt, on average")
    given = parser.parse_args()
    table = Table(
        "stage:<8", "ranks:d", "way:<6", "mean:.3f", "least:.3f", "rounds:.1f", "a group's ranks:.2f", "ms:.1f"
    )
    missed = False
    for case in CASES:
        batches = [drawn(case, given.prompt_tokens, seed) for seed in range(given.seeds)]
        for way, plan in (("before", in_order), ("now", places)):
            each = np.array([figures(*batch, case.ranks, plan) for batch in batches])
            shares, rounds, ranks, seconds = each.T
            missed |= plan is places and shares.min() < LEAST
            means = (shares.mean(), shares.min(), rounds.mean(), ranks.mean(), 1000 * np.median(seconds))
            table.line(case.name, case.ranks, way, *means)
    print(f"now, least: must hold {LEAST}")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
