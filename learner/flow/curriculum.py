"""What a ticket asks: its prompt, and how its stage samples. (Run seed, ticket) decide it, and what has been solved.

Two things depend on results, and both change at lines of the ledger alone. The online filter (report 3.1) works at the
start of a stage: it drops the prompts whose every response was correct every time the policy saw them in the stage
before. Difficulty-aware sampling (``data.drop_solved``, ``data.prefer_half``) looks every ``flow.reconsider_every``
training steps at what has been solved since. What is dropped stays dropped.

A stage goes through the prompts anew: from the ticket on at which it begins to draw, each source begins its next pass,
of which nothing was drawn before. That ticket stands in the ledger's ``stage`` line and, by the passes, in checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...common.config import Config
from ...common.errors import DataError
from ...common.fingerprint import fingerprint
from ...common.prompts import sampling_seed
from ...common.types import Ticket
from .difficulty import Difficulty
from .mixture import Mixture
from .passes import Passes
from .prompts import Prompt, PromptSource, prompts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOOK_EVERY = 10
"""Default of ``flow.reconsider_every``, in training steps."""


def load_curriculum(config: Config, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None) -> Curriculum:
    """The run's prompts, as ``load_prompts`` reads them, and its stages."""
    return Curriculum(config, *(prompts_of(config, source, tokenizer, vocabulary) for source in config.sources))


@dataclass(slots=True)
class _Plan:
    """From what the tickets of a stage draw."""

    mixture: Mixture
    passes: list[Passes]
    """Of each source."""

    def prompt(self, ticket: int) -> Prompt:
        source = self.mixture.source_of(ticket)
        return self.passes[source].prompt(self.mixture.count(source, ticket))


class Curriculum:
    """The prompts of every stage, and what has been seen of them."""

    def __init__(self, config: Config, *sources: PromptSource) -> None:
        """``sources``: the prompts of each of the configuration's, in their order."""
        assert len(sources) == len(config.sources)
        self._config, self._views, self._seed = config, config.views(), config.flow.seed
        self._filters = [False, *(stage.online_filter for stage in config.stages)]
        """For each stage, whether it drops prompts at its start."""
        passes = [
            Passes(source.prompts, self._seed, data.name) for source, data in zip(sources, config.sources, strict=True)
        ]
        self._plans = [_Plan(Mixture(self._views[0].shares, self._seed), passes)]
        """Of each open stage."""
        self._dropped: list[list[str]] = [[]]
        """Ids of the prompts that each open stage dropped at its start."""
        self._solved: dict[int, dict[str, bool]] = {}
        """By stage and prompt id, whether the prompt was solved every time it was seen. It is kept only where the next
        stage filters."""
        self._difficulty = Difficulty(config.sources, [len(source) for source in sources])
        self._looks = 0
        """How often ``flow.reconsider_every`` training steps have ended."""

    @property
    def stages_open(self) -> int:
        """How many stages have begun to draw."""
        return len(self._plans)

    def open(self, stage: int, ticket: int) -> int:
        """Let ``stage``, the next one, begin to draw, from ``ticket`` on. Returns how many prompts it drops.

        Where no prompt of a source would be left, none of it is dropped: a run whose policy solves everything should
        show that, and not stall.
        """
        assert stage == self.stages_open
        seen = self._solved.get(stage - 1, {}) if self._filters[stage] else {}
        self._plan_next(ticket, {prompt_id for prompt_id, always in seen.items() if always}, keep_one=True)
        return len(self._dropped[-1])

    def reconsider(self, version: int, ticket: int) -> dict[str, Any] | None:
        """Look at what was solved, where that is due before training step ``version``: tickets from ``ticket`` on draw
        by it. Returns what changes, for the ledger; None where nothing does."""
        looks = version // (self._config.flow.reconsider_every or LOOK_EVERY)
        if looks <= self._looks or not self._difficulty.follows:
            return None
        self._looks, before = looks, dict(self._difficulty.often)
        look = self._difficulty.look()
        if self._difficulty.often == before:
            return None
        self._go_on(ticket)
        return {
            "ticket": ticket,
            "prompts": sum(map(len, self._plans[-1].passes)),
            "dropped": look.dropped,
            "rarer": look.rarer,
            "digest": fingerprint(self._difficulty.often),
        }

    def ticket(
        self, number: int, stage: int, *, min_version: int, incarnation: int = 1, asks: str | None = None
    ) -> Ticket:
        """Ticket ``number`` of an open stage. With ``asks``, a prompt's id, it asks that prompt, and samples it as
        ``stage`` does and with its own seed."""
        prompt = self._plans[stage].prompt(number) if asks is None else self._named(asks)
        settings, source = self._views[stage], self._config.source_of(prompt.prompt_id)
        return Ticket(
            ticket=number,
            incarnation=incarnation,
            min_version=min_version,
            stage=stage,
            prompt_id=prompt.prompt_id,
            prompt_tokens_P=prompt.tokens_P,
            group_size=settings.train.group_size,
            max_new_tokens=source.longest_response(settings.train.max_response_tokens),
            temperature=settings.flow.temperature,
            seed=sampling_seed(self._seed, number),
            ability=prompt.ability,
            ground_truth=prompt.ground_truth,
            row=prompt.row,
        )

    def drawn(self, number: int, stage: int) -> str:
        """The id of the prompt that a ticket of an open stage draws."""
        return self._plans[stage].prompt(number).prompt_id

    def prompts_of(self, stage: int) -> int:
        """How many prompts an open stage draws from."""
        return sum(map(len, self._plans[stage].passes))

    def saw(self, ticket: Ticket, rewards_S: np.ndarray) -> None:
        """Note that a graded group is no longer live. A response is solved by ``verifier.solved_at``."""
        solved_S = rewards_S >= self._config.verifier.solved_at
        if ticket.stage + 1 < len(self._filters) and self._filters[ticket.stage + 1]:
            seen = self._solved.setdefault(ticket.stage, {})
            seen[ticket.prompt_id] = bool(solved_S.all()) and seen.get(ticket.prompt_id, True)
        if self._difficulty.follows:
            self._difficulty.saw(
                ticket.ticket, self._place_of(ticket.prompt_id), ticket.prompt_id, float(solved_S.mean())
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        solved = {str(stage): seen for stage, seen in self._solved.items() if stage + 1 >= self.stages_open}
        kept: dict[str, Any] = {"dropped": self._dropped[1:], "solved": solved}
        if len(self._config.sources) > 1:
            kept["mixtures"] = [[plan.mixture.since, plan.mixture.before] for plan in self._plans]
        if self._difficulty.follows:
            kept |= {"difficulty": self._difficulty.state(), "looks": self._looks}
        if self._difficulty.follows or self.stages_open > 1:
            kept["passes"] = [[[each.begun, each.place] for each in plan.passes] for plan in self._plans]
        return kept

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` gave, on a curriculum that has opened nothing yet. Where an older Leeway wrote it,
        the stages that it had opened go on in the passes of the stage before, as they began; those after them begin
        their own."""
        assert self.stages_open == 1
        for dropped in state["dropped"]:
            self._plan_next(0, dropped, keep_one=False)
        self._solved = {int(stage): dict(seen) for stage, seen in state["solved"].items()}
        for plan, (since, before) in zip(self._plans, state.get("mixtures", ()), strict=False):
            plan.mixture = Mixture(plan.mixture.shares, self._seed, since, tuple(before))
        if "difficulty" in state:
            self._difficulty.restore(state["difficulty"])
            self._looks = state["looks"]
        for plan, places in zip(self._plans, state.get("passes", ()), strict=False):
            for source, (begun, (number, position)) in enumerate(places):
                often = self._difficulty.often if source in self._difficulty.follows else {}
                plan.passes[source] = plan.passes[source].begun_at(begun, (number, position), often)

    def _plan_next(self, ticket: int, prompt_ids: Iterable[str], *, keep_one: bool) -> None:
        """Open the next stage from ``ticket`` on, without the prompts of these ids. With ``keep_one``, a source that
        would have none left keeps all."""
        before, stage = self._plans[-1], self.stages_open
        named, passes, dropped = set(prompt_ids), list[Passes](), list[str]()
        for place, each in enumerate(before.passes):
            each = each.anew(before.mixture.count(place, ticket))
            gone = [prompt.prompt_id for prompt in each.prompts if prompt.prompt_id in named]
            if place in self._difficulty.follows:  # these are dropped in the middle of a pass
                gone = self._difficulty.drop(place, gone)
            elif gone and (len(gone) < len(each.prompts) or not keep_one):
                each = each.without(gone)
            else:
                gone = []
            passes.append(each)
            dropped += gone
        self._plans.append(_Plan(before.mixture.going_on(self._views[stage].shares, ticket), passes))
        self._dropped.append(sorted(dropped))
        if keep_one and dropped:
            self._go_on(ticket)

    def _go_on(self, ticket: int) -> None:
        """Draw as often as is known now, from ``ticket`` on, in every stage that may still be issued."""
        for plan in self._plans:
            for source in self._difficulty.follows:
                draw = plan.mixture.count(source, ticket)
                plan.passes[source] = plan.passes[source].going_on(self._difficulty.often, draw)

    def _place_of(self, prompt_id: str) -> int:
        return self._config.sources.index(self._config.source_of(prompt_id))

    @cached_property
    def _by_id(self) -> dict[str, Prompt]:
        return {prompt.prompt_id: prompt for each in self._plans[0].passes for prompt in each.prompts}

    def _named(self, prompt_id: str) -> Prompt:
        if prompt_id not in self._by_id:
            raise DataError(
                f"prompt {prompt_id}, which a live or poisoned ticket asks, is not among the rows any more: the rows "
                "of a run stay as they were when it began"
            )
        return self._by_id[prompt_id]
