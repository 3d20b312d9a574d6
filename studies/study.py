"""What a study is, and what all studies have in common.

The report's ablations start from (N_SGD, D_R, D_T, N_reuse) = (1, 64, 64, 1), G 16, T 16K, no entropy control, no KL
(report 4.1). Here D_R is a quarter, G a half, the model is preset ``tiny``, and 50 steps with a learning rate of 1e-4
take the place of 2,700 with 1e-6.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.config import compose, dump
from ..common.fingerprint import of_run_inputs
from .runner import Run
from .tail import Tail
from .verdict import Claim

PRESET = "tiny"
STEPS = 50
EVALUATIONS = 6
"""In a run; the steps between them follow."""
TARGET = 0.15
BASE = (
    "train.groups_per_step=16",
    "train.group_size=8",
    "train.max_response_tokens=40",
    "train.learning_rate=1e-4",
    "flow.max_staleness=0",
    "entropy.control=none",
    f"entropy.target={TARGET}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One of the things that a study compares."""

    name: str
    sets: tuple[str, ...] = ()
    """``section.key=value`` on top of ``BASE``."""
    tail: Tail | None = None
    times: int = 1
    """How many times the study's steps it makes."""
    line: str = ""
    x: float | None = None
    """Its place in a figure over something other than steps, and the line it is on."""

    @property
    def keys(self) -> str:
        """The setting's keys, for the table."""
        words = [f"`{each}`" for each in self.sets]
        if self.tail:
            words.append(self.tail.words)
        if self.times > 1:
            words.append(f"{self.times} times the steps")
        return " ".join(words) or "as the base"


SEEDS = (11, 12, 13)
MORE_SEEDS = (*SEEDS, 14, 15)
"""The seeds of studies that three seeds had left with undecided claims about entropy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A question and how it is answered."""

    name: str
    title: str
    question: str
    source: str
    """The place in the report."""
    finding: str
    """What the report found."""
    here: str
    """How the study is scaled here, and what of it cannot be."""
    settings: tuple[Setting, ...]
    claims: tuple[Claim, ...]
    metrics: tuple[str, ...] = ("accuracy", "accuracy halfway", "entropy", "batch entropy")
    seeds: tuple[int, ...] = SEEDS
    panels: tuple[str, ...] = ("entropy/policy", "evaluation/entropy", "evaluation/reward")
    """The columns that are drawn."""
    x_label: str = ""
    target: float | None = None
    """The controller's target, where it has a line in the figure."""

    def runs(self, seeds: Sequence[int], steps: int, folder: Path) -> dict[Setting, list[Run]]:
        """The runs of every setting, one for each seed. The same configuration has the same file, whichever study it is
        part of."""
        return {setting: [_run(setting, seed, steps, folder) for seed in seeds] for setting in self.settings}


def _run(setting: Setting, seed: int, steps: int, folder: Path) -> Run:
    config = compose([PRESET], [*BASE, *setting.sets, f"flow.seed={seed}"])
    every = max(1, steps // EVALUATIONS) * setting.times
    inputs = repr(sorted(of_run_inputs(config).items()))  # the same configuration of other rows is another run
    words = "\n".join([dump(config), repr(setting.tail), str(steps * setting.times), str(every), inputs])
    name = hashlib.sha256(words.encode()).hexdigest()[:16]
    return Run(
        config=config,
        steps=steps * setting.times,
        path=folder / f"{name}.csv",
        tail=setting.tail,
        evaluate_every=every,
    )


# --- settings that several studies share -----------------------------------------------------------------------------


def quadruple(updates: int, rollout: int, minibatch: int, reuse: int, *, times: int = 1) -> Setting:
    """The setting (N_SGD, D_R, D_T, N_reuse), in the report's notation (4.1)."""
    assert updates == rollout // minibatch * reuse
    sets = [
        *([f"train.groups_per_step={rollout}"] if rollout != 16 else []),
        *([f"train.minibatch_groups={minibatch}"] if minibatch != rollout else []),
        *([f"train.reuse={reuse}"] if reuse != 1 else []),
    ]
    name = f"({updates},{rollout},{minibatch},{reuse})" + (f" × {times}" if times > 1 else "")
    return Setting(name=name, sets=tuple(sets), times=times)


FOUR = ("train.minibatch_groups=4",)
"""(4,16,4,1): the report's (4,64,16,1)."""
ADAPTIVE = "entropy.control=adaptive"
HELD = (0.8 * TARGET, 1.2 * TARGET)
"""The range in which a controlled entropy lies."""
KEPT = 0.4
"""A policy that has kept less of the initial entropy has collapsed. Chosen on pilots of seed 0, where one update a step
kept 0.49 and four kept 0.34."""
FIRST_KEPT = 0.5
"""The same threshold before the pilots. The pages say what the verdicts would be by it."""
ALIKE = 0.02
"""Entropies, in nats, and accuracies that are no further apart count as alike."""
