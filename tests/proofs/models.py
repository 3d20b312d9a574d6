"""Load, sample, train and publish a small model of each architecture, through the learner and both engines.

::

    python tests/proofs/models.py [--kinds qwen3_moe ...] [--engines torch vllm] [--record]

An architecture has random weights in float32. The learner loads the folder and publishes version 0; each engine loads
that and samples two groups. The learner trains one step on all groups, publishes version 1 as a delta, and each engine
loads that and samples again. Whatever starts vLLM runs in a process of its own.

Must hold, for an architecture that is not refused: the learner's log-probabilities of packed responses are those of the
engine that sampled them, before the step and after it, and those of transformers' own model for each response alone,
within the bounds of ``tests/model_table.py``; the step changes every weight but the biases that decide between experts;
and it moves log-probabilities by far more than those bounds, so that an engine which kept the old weights would be
seen. For one that is refused: it is refused before it loads, by its words. Exit code 1 otherwise.

``--record`` writes the rows into docs/reference/models.csv and the tables of docs/reference/models.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from leeway_rl.benchmarks.measure import home_and_server, parser_of
from leeway_rl.common.errors import LeewayError
from leeway_rl.tests import model_table
from leeway_rl.tests.architectures import ARCHITECTURES, NOISE, SIZES, Architecture
from leeway_rl.tests.model_folders import asking, make_folder
from leeway_rl.tests.model_table import Row

if TYPE_CHECKING:
    import torch
    from leeway_rl.common.config import Config
    from leeway_rl.common.types import Manifest
    from leeway_rl.learner.packing import MicroBatch, ScoredGroup
    from leeway_rl.learner.policy import Policy
    from leeway_rl.rollout.engine import Engine

TOKENS, SIZE, GROUPS, VOCABULARY = 24, 4, 2, 20
"""Of a response at most; responses of a group; groups of each engine and version; of the tiny preset's tokenizer."""
PROMPTS = (5, 14)
"""Tokens of the prompts."""
LIMIT_S = 600
"""For one architecture. vLLM starts within half a minute on two cores that do nothing else."""
CHILD = "--as-child"
Gap = tuple[float, float]
"""The largest and the mean |difference| of log-probabilities, nats a token."""


def config_of(path: Path, engines: int) -> Config:
    """The configuration of the learner and of both engines."""
    groups, settings = engines * GROUPS, {"group_size": SIZE, "learning_rate": 1e-3, "max_response_tokens": TOKENS}
    train = [f"train.{name}={value}" for name, value in settings.items()]
    return asking(path, f"train.groups_per_step={groups}", *train)


def sampled(engine: Engine, first: int, version: int) -> list[ScoredGroup]:
    """Groups that ``engine`` samples, with rewards that differ within each."""
    from leeway_rl.common.types import Ticket
    from leeway_rl.learner.packing import ScoredGroup

    found = []
    for number in range(first, first + GROUPS):
        prompt_P = np.random.default_rng(number).integers(2, VOCABULARY, PROMPTS[number % 2])
        ticket = Ticket(
            ticket=number,
            incarnation=1,
            min_version=version,
            stage=0,
            prompt_id=f"random:{number}",
            prompt_tokens_P=prompt_P.astype(np.uint16),
            group_size=SIZE,
            max_new_tokens=TOKENS,
            temperature=1.0,
            seed=1000 * number,
            ability="math",
            ground_truth=("1",),
        )
        rewards_S = np.array([1.0, *[0.0] * (SIZE - 2), 1.0])
        found.append(ScoredGroup(ticket=ticket, responses=engine.generate(ticket), rewards_S=rewards_S))
    return found


def alone(model: Any, groups: Sequence[ScoredGroup]) -> torch.Tensor:
    """Log-probabilities of the groups' tokens by transformers' own ``model``, a response at a time."""
    import torch

    parts = []
    for group in groups:
        prompt_P = torch.from_numpy(group.ticket.prompt_tokens_P.astype(np.int64))
        tokens_T = torch.from_numpy(group.responses.tokens_T.astype(np.int64))
        for response_T in tokens_T.split(group.responses.lengths_S.tolist()):
            logits_LV = model(input_ids=torch.cat([prompt_P, response_T])[None]).logits[0].float()
            log_softmax_TV = logits_LV.log_softmax(-1)[len(prompt_P) - 1 : -1]
            parts.append(log_softmax_TV.gather(-1, response_T[:, None])[:, 0])
    return torch.cat(parts)


def gap(ours_T: torch.Tensor, theirs_T: torch.Tensor) -> Gap:
    differences_T = (ours_T - theirs_T).abs().double()
    return float(differences_T.max()), float(differences_T.mean())


@contextmanager
def started(name: str, path: Path) -> Iterator[Engine]:
    """The engine of that name."""
    from leeway_rl.rollout.torch_engine import TorchEngine
    from leeway_rl.rollout.vllm_engine import VllmEngine

    how: dict[str, Any] = {"dtype": "float32", "worker": name}
    longest = max(PROMPTS) + TOKENS
    engine: Engine = (
        TorchEngine(path, **how)
        if name == "torch"
        else VllmEngine(str(path), max_model_len=longest, max_num_seqs=SIZE, **how)
    )
    try:
        yield engine
    finally:
        engine.close()


@dataclass
class Trial:
    """One architecture on its way through the learner, the published weights, and the engines."""

    config: Config
    policy: Policy
    plain: Any
    """The model as transformers loads it, with the initial weights."""
    url: str
    gaps: dict[str, list[Gap]] = field(default_factory=dict)
    """|log π - log μ| of each engine by version, and under ``moved`` those of the initial weights to version 1."""
    manifests: list[Manifest] = field(default_factory=list)

    def __post_init__(self) -> None:
        from leeway_rl.common.queue.connection import Connection
        from leeway_rl.common.queue.learner import LearnerQueue
        from leeway_rl.common.weights import WeightPublisher, WeightReader

        stream = LearnerQueue(Connection(self.url, "models", worker="learner")).weights
        self.publisher = WeightPublisher(stream, incarnation=1, transport="redis")
        self.reader = WeightReader(stream, worker="rollout")

    def publish(self, version: int) -> None:
        from leeway_rl.common.tensors import flatten

        weights = flatten(self.policy.named_weights(), self.config.weights.dtype)
        self.manifests.append(self.publisher.publish(version, weights))

    def load(self, engine: Engine) -> None:
        """Have ``engine`` take the newest version as it was published."""
        from leeway_rl.common.tensors import tensors_of

        version, weights = self.reader.fetch()
        engine.load(version, tensors_of(weights))

    def packed(self, groups: Sequence[ScoredGroup], version: int) -> tuple[MicroBatch, torch.Tensor]:
        """All groups in one row, and the learner's log-probabilities."""
        import torch
        from leeway_rl.learner.step import cut

        (batch,) = cut(groups, version=version, config=self.config)
        with torch.no_grad():
            return batch, self.policy(batch).logprobs_T

    def sample(self, name: str, engine: Engine, first: int, version: int) -> list[ScoredGroup]:
        """Load the newest version into ``engine``, sample, and compare."""
        import torch

        self.load(engine)
        assert engine.version == version, f"{name} has version {engine.version} for {version}"
        groups = sampled(engine, first, version)
        batch, logprobs_T = self.packed(groups, version)
        self.gaps.setdefault(name, []).append(gap(logprobs_T, batch.behaviour_logprobs_T))
        if version:
            with torch.no_grad():
                before_T = alone(self.plain, groups)
            self.gaps.setdefault("moved", []).append(gap(before_T, batch.behaviour_logprobs_T))
        return groups


def measured(kind: Architecture, names: Sequence[str], home: Path, url: str) -> Row:
    """The row of an architecture."""
    import torch
    from leeway_rl.common.preflight.model import check_model
    from leeway_rl.learner.policy import Policy
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    path = make_folder(home / "model", kind.kind, noise=NOISE, **{**SIZES, **kind.keys})
    config = config_of(path, len(names))
    try:
        check_model(config, "train", "sample")
    except LeewayError as error:
        return Row(kind=kind.kind, words=str(error).replace(f"model {path}: ", ""))
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    return run(kind.kind, Trial(config, Policy(config), plain, url), names, path)


def run(kind: str, trial: Trial, names: Sequence[str], path: Path) -> Row:
    """Sample, train a step, and sample again."""
    from contextlib import ExitStack

    import torch
    from leeway_rl.learner.objective.entropy import ControllerState
    from leeway_rl.learner.step import train_step

    with ExitStack() as running:
        trial.publish(0)
        engines = {name: running.enter_context(started(name, path)) for name in names}
        groups = [
            group
            for number, (name, engine) in enumerate(engines.items())
            for group in trial.sample(name, engine, 10 * number, 0)
        ]
        with torch.no_grad():
            by_itself = gap(trial.packed(groups, 0)[1], alone(trial.plain, groups))
        before = trial.policy.named_weights()
        step = train_step(trial.policy, groups, version=0, controller=ControllerState(), config=trial.config)
        after = trial.policy.named_weights()
        trial.publish(1)
        for number, (name, engine) in enumerate(engines.items()):
            trial.sample(name, engine, 100 + 10 * number, 1)
    assert trial.manifests[1].delta is not None
    trained = [name for name, _ in trial.policy.module.language_model.named_parameters()]
    worst = {name: [max(each) for each in zip(*found, strict=True)] for name, found in trial.gaps.items()}
    told = {f"{name}_{which}": worst[name][place] for name in names for place, which in enumerate(("most", "mean"))}
    return Row(
        kind=kind,
        parameters=sum(each.numel() for each in after.values()),
        alone_most=by_itself[0],
        alone_mean=by_itself[1],
        moved=min(most for most, _ in trial.gaps["moved"]),
        changed=sum(not torch.equal(before[name], after[name]) for name in trained),
        tensors=len(trained),
        grad_norm=step.metrics["grad_norm"],
        delta_share=trial.manifests[1].payload_bytes / trial.manifests[1].full_bytes,
        **told,
    )


def tried(kinds: Sequence[Architecture], names: Sequence[str]) -> Iterator[tuple[Architecture, Row]]:
    """``measured`` in a process of its own, or with vLLM, which may take it down, in one for each."""
    for part in [[each] for each in kinds] if "vllm" in names else [kinds]:
        command = [sys.executable, __file__, "--kinds", *(each.kind for each in part), "--engines", *names, CHILD]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"kind"')]
        found = {each["kind"]: Row(**each) for each in told}
        said = [line for line in done.stderr.splitlines() if "Error" in line] or [done.stderr[-300:]]
        yield from ((each, found.get(each.kind, Row(kind=each.kind, words=f"failed: {said[-1]}"))) for each in part)


def wrong(kind: Architecture, row: Row) -> list[str]:
    """What does not hold of ``row``."""
    if kind.refused or not row.trained:
        return [] if kind.refused and kind.refused in row.words else [row.words or "it was not refused"]
    return row.why_wrong()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=[each.kind for each in ARCHITECTURES], metavar="KIND")
    parser.add_argument("--engines", nargs="+", choices=["torch", "vllm"], default=["torch", "vllm"])
    parser.add_argument("--record", action="store_true", help="into docs/reference")
    parser.add_argument(CHILD, action="store_true", help="measure here, and print the rows")
    given = parser.parse_args()
    if given.record and len(given.engines) < 2:
        parser.error("--record takes both engines: a row has the figures of both")
    chosen = [each for each in ARCHITECTURES if given.kinds is None or each.kind in given.kinds]
    if given.as_child:
        for kind in chosen:
            with home_and_server() as (home, url):
                names = [name for name in given.engines if name in kind.engines]
                print(json.dumps(asdict(measured(kind, names, home, url))), flush=True)
        return
    missed = 0
    for kind, row in tried(chosen, given.engines):
        misses = wrong(kind, row)
        missed += bool(misses)
        told = f"torch {row.torch_most:.1e} vllm {row.vllm_most:.1e} alone {row.alone_most:.1e} moved {row.moved:.1e}"
        print(f"{kind.kind}: {'; '.join(misses) or (told if row.trained else row.words)}", flush=True)
        if given.record and not misses:
            model_table.record(row)
    if given.record:
        page = model_table.FOLDER / model_table.PAGE
        page.write_text(model_table.page(page.read_text(), model_table.read()))
    print(f"{len(chosen) - missed} of {len(chosen)} architectures are as they must be")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
