"""The section ``[data]``: where the prompts come from. As ``[[data]]`` it names several sources, each with a share."""

import difflib
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..errors import ConfigError
from ..texts import defect
from .rewards import Reward, refuse_different_rows
from .section import Section


def _refuse_defect(text: str) -> str:
    if (wrong := defect(text)) is not None:
        raise ValueError(f"{wrong}, or put the text in single quotes")
    return text


Said = Annotated[str, AfterValidator(_refuse_defect)]
"""A text that goes into prompts."""


Column = Literal[
    "id",
    "prompt",
    "messages",
    "answer",
    "tests",
    "entry",
    "options",
    "reward_model",
    "ability",
    "extra_info",
    "responses",
]
"""The names of columns that Leeway knows."""


def _refuse_strange_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z][\w-]{0,39}", name, re.ASCII):
        raise ValueError("a name is a letter, then up to 39 letters, digits, '_' or '-'")
    return name


class Data(Section):
    name: Annotated[str | None, AfterValidator(_refuse_strange_name)] = None
    """What a source of ``[[data]]`` is called in prompt ids, metrics and reports."""
    share: float | None = Field(default=None, ge=0)
    """A source's part of the tickets, in proportion to the shares of the others. By default 1. ``stages.shares`` may
    change it."""
    source: Literal["file", "hub", "reasoning_gym"] = "file"
    """``file``: JSONL, JSON, CSV or Parquet; ``hub``: a Hugging Face dataset; ``reasoning_gym``: generated problems."""
    path: str
    """The file, the dataset's hub name, or the reasoning-gym generator's name. ``{presets}`` and ``~`` mean the same as
    in ``model.path``."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """What the columns are called in the file or hub dataset, if not by our names: ``{prompt = "question", answer =
    "solution"}``. ``a.b`` is b in the object a. If one of the columns that rows are judged by is named, the row is
    judged by that column alone."""
    split: str = "train"
    """Split of a hub dataset."""
    size: int = Field(default=10_000, ge=1)
    """Rows to generate (reasoning_gym only)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reasoning-gym generator, under its own names."""
    system: Said | None = None
    """System message to put before prompts that have none. By default none."""
    examples: tuple[tuple[Said, Said], ...] = ()
    """Worked examples (question, answer) to put before every prompt as earlier turns of the conversation."""
    suffix: Said | None = None
    """Text to put after every prompt, for instance the demand for a boxed answer. By default that demand follows
    problems of reasoning-gym, and nothing follows others. ``""`` puts nothing after any."""
    ability: Literal["math", "exact"] | None = None
    """How rows are judged that have an answer and name no ability: ``math`` compares values, ``exact`` texts. By
    default ``math``, but a row whose answer is words or a bare sum is refused, because mathematics would take ``abc``
    for ``cba``."""
    comparison: Literal["livecodebench", "exact"] | None = None
    """How outputs of programs and values of calls are compared in rows of code that name no rule of their own. By
    default ``livecodebench``, as the harness of that benchmark does; ``exact`` is stricter
    (docs/reference/code-tests.md)."""
    row_columns: tuple[str, ...] | None = None
    """Columns of a row that reward functions are given, beside the prompt. By default all that the row has."""
    max_row_bytes: int = Field(default=65536, ge=256)
    """Largest row that reward functions are given, in bytes as JSON: it travels with each of its tickets."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """Longest prompt in tokens. Longer ones are dropped and counted (report 3.2: 2048)."""
    difficulty_model: str | None = None
    """Offline filter (report 3.1): drop the prompts that this model never or always solved, by the row's
    ``extra_info.model_difficulty``, which has each model's failures out of ``difficulty_tries``. Off by default."""
    difficulty_tries: int = Field(default=16, ge=1)
    """Responses to each prompt when the difficulty was measured (Skywork-OR1-RL-Data: 16)."""
    max_response_tokens: int | None = Field(default=None, ge=1)
    """Longest response to prompts of this source, in tokens, where that is less than ``train.max_response_tokens``."""
    rewards: tuple[str, ...] | None = None
    """Names of those of the run's ``[[rewards]]`` that judge rows of this source. By default all; ``[]`` leaves each
    row to its ability."""
    drop_solved: int | None = Field(default=None, ge=1)
    """Drop a prompt for the rest of the run once all responses to it were solved in so many groups in a row. Off by
    default. ``flow.reconsider_every`` says when that is looked at."""
    prefer_half: float | None = Field(default=None, ge=0.01, lt=1)
    """Prefer prompts that are solved about half of the time: where p is the share of a prompt's responses that were
    solved of late, the prompt is drawn in a share 4p(1-p) of the passes over its source, and never in fewer than this
    share. Off by default."""

    @property
    def reconsidered(self) -> bool:
        """Whether results change which prompts are drawn."""
        return self.drop_solved is not None or self.prefer_half is not None

    def longest_response(self, most: int) -> int:
        """Most tokens of a response to prompts of this source, in a run or a stage that allows ``most``."""
        return min(most, self.max_response_tokens or most)


def source_named(prompt_id: str) -> str:
    """The name of a prompt's source, of several."""
    return prompt_id.rpartition(":")[0]


def named(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: what may be meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def refuse_impossible_sources(data: Data | tuple[Data, ...], rewards: Sequence[Reward], longest_response: int) -> None:
    """``ConfigError`` if sources contradict one another, the run's rewards, or its longest response."""
    if isinstance(data, Data):
        for key in ("name", "share"):
            if (value := getattr(data, key)) is not None:
                raise ConfigError(f"data.{key} = {value!r}: one source has none; of several, each is a table [[data]]")
    sources = (data,) if isinstance(data, Data) else data
    if not sources:
        raise ConfigError("data = []: no source; give each a table [[data]]")
    names: set[str] = set()
    for number, source in enumerate(sources):
        where = "data" if isinstance(data, Data) else f"data.{number}"
        if not isinstance(data, Data):
            if source.name is None:
                raise ConfigError(f'{where}: a source without a name; give each of [[data]] its own, name = "…"')
            if source.name in names:
                raise ConfigError(f"{where}.name = {source.name!r}: a second source of that name; give each its own")
            names.add(source.name)
        _refuse_rewards(source, rewards, where)
        if (limit := source.max_response_tokens) is not None and limit > longest_response:
            raise ConfigError(
                f"{where}.max_response_tokens = {limit} is above train.max_response_tokens = {longest_response}, which "
                "bounds every response; at most that is right"
            )


def _refuse_rewards(source: Data, rewards: Sequence[Reward], where: str) -> None:
    known = [reward.called for reward in rewards]
    for name in source.rewards or ():
        if name not in known:
            raise ConfigError(f"{where}.rewards: no reward is called {name!r}; {named(name, known)}")
    refuse_different_rows(judging(source, rewards))


def judging(source: Data, rewards: Sequence[Reward]) -> tuple[Reward, ...]:
    """Those of the run's rewards that judge rows of ``source``."""
    return tuple(reward for reward in rewards if source.rewards is None or reward.called in source.rewards)


def refuse_impossible_shares(shares: Mapping[str, float]) -> None:
    """``ConfigError`` if no source would be drawn from. ``shares``: by name, in the order of the sources."""
    total, said = sum(shares.values()), ", ".join(f"{name} {share:g}" for name, share in shares.items())
    if not total > 0:
        raise ConfigError(f"data.share: the shares come to 0 ({said}); at least one source needs a share above 0")
    if not isfinite(total):
        raise ConfigError(f"data.share: the shares come to inf ({said}); smaller ones in the same proportion are right")
