"""What a ticket asks: its prompt, and how its stage samples. (Run seed, ticket) and the online filter decide it.

The online filter (report 3.1) works at the start of a stage: it drops the prompts whose every response was correct
every time the policy saw them in the stage before. What is dropped stays dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...common.config import Config
from ...common.prompts import sampling_seed
from ...common.types import Ticket
from .prompts import PromptSource, load_prompts
from .retries import Draw

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_curriculum(config: Config, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None) -> Curriculum:
    """The run's prompts, as ``load_prompts`` reads them, and its stages."""
    source = load_prompts(
        config.data,
        tokenizer,
        seed=config.flow.seed,
        vocabulary=vocabulary,
        rewards=config.rewards,
        whole=config.environment is not None,
    )
    return Curriculum(config, source)


class Curriculum:
    """The prompts of every stage, and what has been seen of them."""

    def __init__(self, config: Config, source: PromptSource) -> None:
        self._stages = config.views()
        self._seed = config.flow.seed
        self._filters = [False, *(stage.online_filter for stage in config.stages)]
        """For each stage, whether it drops prompts at its start."""
        self._sources = [source]
        """The prompts that each open stage draws from."""
        self._dropped: list[list[str]] = [[]]
        """Ids of the prompts that each open stage dropped at its start."""
        self._solved: dict[int, dict[str, bool]] = {}
        """By stage and prompt id, whether the prompt was solved every time it was seen. It is kept only where the next
        stage filters."""

    @property
    def stages_open(self) -> int:
        """How many stages have begun to draw."""
        return len(self._sources)

    def open(self, stage: int) -> int:
        """Let ``stage``, the next one, begin to draw. Returns how many prompts it drops.

        Where no prompt would be left, none is dropped: a run whose policy solves everything should show that, and not
        stall.
        """
        assert stage == self.stages_open
        seen = self._solved.get(stage - 1, {}) if self._filters[stage] else {}
        solved = {prompt_id for prompt_id, always in seen.items() if always}
        self._drop(solved if len(solved) < len(self._sources[-1]) else ())
        return len(self._dropped[-1])

    def ticket(
        self, number: int, stage: int, *, min_version: int, incarnation: int = 1, draw: Draw | None = None
    ) -> Ticket:
        """Ticket ``number`` of an open stage. Each pass over the stage's prompts is its own permutation. With ``draw``,
        the ticket asks what that ticket asked, and samples it as ``stage`` does and with its own seed."""
        drawn = draw or Draw(number, stage)
        prompt, settings = self._sources[drawn.stage].prompt(drawn.ticket), self._stages[stage]
        return Ticket(
            ticket=number,
            incarnation=incarnation,
            min_version=min_version,
            stage=stage,
            prompt_id=prompt.prompt_id,
            prompt_tokens_P=prompt.tokens_P,
            group_size=settings.train.group_size,
            max_new_tokens=settings.train.max_response_tokens,
            temperature=settings.flow.temperature,
            seed=sampling_seed(self._seed, number),
            ability=prompt.ability,
            ground_truth=prompt.ground_truth,
            row=prompt.row,
        )

    def prompts_of(self, stage: int) -> int:
        """How many prompts an open stage draws from."""
        return len(self._sources[stage])

    def saw(self, prompt_id: str, stage: int, *, solved: bool) -> None:
        """Note that a graded group of ``stage`` is no longer live. ``solved``: every response was solved, by
        ``verifier.solved_at``."""
        if stage + 1 < len(self._filters) and self._filters[stage + 1]:
            seen = self._solved.setdefault(stage, {})
            seen[prompt_id] = solved and seen.get(prompt_id, True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON."""
        solved = {str(stage): seen for stage, seen in self._solved.items() if stage + 1 >= self.stages_open}
        return {"dropped": self._dropped[1:], "solved": solved}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what ``state`` gave, on a curriculum that has opened nothing yet."""
        assert self.stages_open == 1
        for dropped in state["dropped"]:
            self._drop(dropped)
        self._solved = {int(stage): dict(seen) for stage, seen in state["solved"].items()}

    def _drop(self, prompt_ids: Iterable[str]) -> None:
        dropped, before = set(prompt_ids), self._sources[-1]
        kept = [prompt for prompt in before.prompts if prompt.prompt_id not in dropped] if dropped else before.prompts
        self._sources.append(PromptSource(kept, seed=before.seed))
        self._dropped.append(sorted(dropped))
