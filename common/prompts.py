"""Makes prompts of rows: messages and tokens; and the seed by which a ticket is sampled.

Rows are the Skywork-OR1-RL-Data schema (``prompt`` a list of messages, ``reward_model.ground_truth``) or plain:
``{"prompt": "…", "answer": "…"}``, ``{"prompt": "…", "tests": {…}}``, ``{"entry": {…}}``. ``rows.py`` reads them;
``ground_truth.py`` says what each ability is judged by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .config import Data, Reward
from .errors import DataError
from .ground_truth import REASONING_GYM
from .json_text import parsed
from .judged import columns_of, judged_truth
from .texts import Unread, defect

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One problem as read, before tokens."""

    prompt_id: str
    messages: tuple[dict[str, str], ...]
    ability: str
    ground_truth: tuple[str, ...]
    difficulty: Any = None
    """``extra_info.model_difficulty`` as it stands in the row."""
    where: str = ""
    """File and row, for messages about it."""
    columns: str = ""
    """The row as one JSON object, where reward functions or an environment are given it."""


BOXED = "\n\nLet's think step by step and output the final answer within \\boxed{}."
"""The demand for a boxed answer, in the words of the published prompts."""


def sampling_seed(run_seed: int, ticket: int) -> int:
    """The group's sampling seed, 62 bits, from (run seed, ticket) alone."""
    return int(np.random.SeedSequence([run_seed, ticket]).generate_state(1, np.uint64)[0]) >> 2


def opens_reasoning(prompt_tail: str) -> bool:
    """Whether a prompt with this end has opened the reasoning. Some chat templates do that, and the response then
    begins in the middle of it."""
    return prompt_tail.rstrip().endswith("<think>")


def decoder_of(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """A function that makes text of tokens. It leaves out special tokens, but keeps the marks of reasoning, which some
    tokenizers count among them: without these marks, open reasoning would be graded as the answer."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    added = added() if callable(added) else added
    special = {number for number, token in added.items() if getattr(token, "special", False)}
    hidden = special | set(tokenizer.all_special_ids)
    hidden -= {number for number in hidden if str(tokenizer.convert_ids_to_tokens(number)).strip() in REASONING_MARKS}

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode([token for token in tokens if token not in hidden], skip_special_tokens=False))

    return decode


REASONING_MARKS = frozenset(["<think>", "</think>"])


def tokenize(row: Row, data: Data, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The row's tokens after the chat template, with the generation prompt. ``data`` says what is put around it."""
    messages = list(row.messages)
    suffix = data.suffix if data.suffix is not None else BOXED if row.ability == REASONING_GYM else ""
    if suffix:
        last = messages[-1]
        messages[-1] = {**last, "content": last["content"] + suffix}
    if data.examples:
        turns = [({"role": "user", "content": q}, {"role": "assistant", "content": a}) for q, a in data.examples]
        opening = 1 if messages[0]["role"] == "system" else 0
        messages[opening:opening] = [message for turn in turns for message in turn]
    if data.system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": data.system})
    if tokenizer.chat_template is None:
        return _without_ending("\n".join(message["content"] for message in messages), tokenizer)
    text = rendered(messages, tokenizer, row.where or row.prompt_id)
    return cast("list[int]", tokenizer(text, add_special_tokens=False)["input_ids"])


def _without_ending(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a text as a prompt: with the tokens that the tokenizer puts before it, without those that it puts
    after it. After an end token a model has nothing more to say."""
    tokens, bare = tokenizer(text)["input_ids"], tokenizer(text, add_special_tokens=False)["input_ids"]
    for end in range(len(tokens), len(bare) - 1, -1):
        if tokens[end - len(bare) : end] == bare:
            return cast("list[int]", tokens[:end])
    return cast("list[int]", tokens)


def rendered(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, where: str) -> str:
    """The messages after the tokenizer's chat template, with the generation prompt. ``DataError`` if the template
    leaves the system message out or refuses the messages. Some refuse a system message, or two turns of one role."""
    from jinja2 import TemplateError

    roles = ", ".join(message["role"] for message in messages)
    system = next((message["content"] for message in messages if message["role"] == "system"), "")
    without = "for a model without system messages, leave data.system empty and put its text into the prompts (a row's "
    without += "own system message too)"
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, TypeError, ValueError) as error:
        right = without if system else "give the roles that the model's tokenizer_config.json or chat_template knows"
        raise DataError(
            f"{where}: the model's chat template refuses the messages ({roles}): {error}; {right}"
        ) from error
    if system.strip() not in text:
        raise DataError(f"{where}: the model's chat template leaves out the system message {system[:40]!r}; {without}")
    return text


def row_of(
    values: Any,
    prompt_id: str,
    where: str,
    data: Data | None = None,
    rewards: Sequence[Reward] = (),
    *,
    whole: bool = False,
) -> Row:
    """The row in ``values``, from a file or a published set. Raises ``DataError``, which says what is wrong at
    ``where`` and in which of the file's columns. ``data`` says what holds for rows that say nothing themselves, and
    ``rewards`` what judges them, where it is not their ability alone. ``whole``: its columns are needed, whatever the
    rewards (an environment is given them)."""
    if isinstance(values, DataError):
        raise values
    try:
        return _row(values, prompt_id, where, data, rewards, whole)
    except DataError as error:
        theirs = in_their_words(str(error).removeprefix(where), {} if data is None else data.columns)
        raise DataError(f"{error}{theirs}") from error.__cause__


def in_their_words(said: str, columns: Mapping[Any, str]) -> str:
    """What the columns in the message ``said`` are called in the file, as an addition to the message."""
    words = {*_WORD.findall(said)}
    found = [f"{key} is column {name!r}" for key, name in columns.items() if key in words]
    return f" ({', '.join(found)} there)" if found else ""


def _row(values: Any, prompt_id: str, where: str, data: Data | None, rewards: Sequence[Reward], whole: bool) -> Row:
    if not isinstance(values, dict):
        raise DataError(f"{where}: a row is an object with prompt and answer, found {type(values).__name__}")
    for key in _NEEDED:
        if isinstance(unread := values.get(key), Unread):
            raise DataError(f"{where}: column {key}: {unread}")
    entry = values.get("entry")
    prompt = values.get("prompt")
    if prompt is None and isinstance(entry, dict):
        prompt = entry.get("question")
    if "prompt" not in values and prompt is None:
        raise DataError(
            f"{where}: key 'prompt' is missing; keys found: {', '.join(map(str, values)) or 'none'}; data.columns says "
            "which column it is"
        )
    messages, truth = _messages(prompt, where), judged_truth(values, where, data, rewards)
    said = [("prompt", text) for message in messages for text in (message["role"], message["content"])]
    judge = "answer" if values.get("answer") is not None else "reward_model.ground_truth"
    for column, text in (*said, *((judge, gold) for gold in truth.golds)):
        if (wrong := defect(text)) is not None:
            raise DataError(f"{where}: {column}: {wrong}")
    return Row(
        prompt_id=prompt_id,
        messages=messages,
        ability=truth.ability,
        ground_truth=truth.golds,
        difficulty=extra.get("model_difficulty") if isinstance(extra := values.get("extra_info"), dict) else None,
        where=where,
        columns=columns_of(values, where, data) if whole or not all(reward.judges for reward in rewards) else "",
    )


_NEEDED = ("prompt", "answer", "tests", "entry", "options", "reward_model", "ability")


def _messages(prompt: Any, where: str) -> tuple[dict[str, str], ...]:
    found = prompt if not isinstance(prompt, str) else _written_messages(prompt, where)
    if isinstance(found, str) and found.strip():
        return ({"role": "user", "content": found},)
    if not (isinstance(found, (list, tuple)) and found and all(map(_is_message, found))):
        raise DataError(
            f"{where}: prompt is a text or a list of {{role, content}} messages, found {str(prompt)[:80]!r}"
        )
    if found[-1]["role"] == "assistant":
        raise DataError(
            f"{where}: the last message is the assistant's, {found[-1]['content'][:40]!r}: a prompt ends with what is "
            "asked; an answer stands in its own column"
        )
    return tuple({"role": m["role"], "content": m["content"]} for m in found)


def _written_messages(prompt: str, where: str) -> Any:
    """The messages in a prompt that is the text of a list of messages, as in CSV. Any other prompt comes back as it
    is."""
    text = prompt.strip()
    if not text.startswith(("[", "{", "array(")):
        return prompt
    try:
        found = parsed(text)
    except ValueError as error:
        opened = _LIST_OF_MESSAGES.match(text)
        goes_on = "Extra data" in str(error) or (opened is not None and opened["quote"] == "'" and text[-1] not in "])")
        if opened is None or goes_on:  # the prompt is such a list and a question about it
            return prompt
        raise DataError(
            f"{where}: prompt is the text of a list of messages, and no JSON: {error}; write it as JSON (Python's own "
            f"way, with ', is none), or as a list; found {text[:80]!r}"
        ) from error
    listed = found if isinstance(found, list) else [found]
    return found if any(isinstance(each, dict) and "role" in each for each in listed) else prompt


_WORD = re.compile(r"\w+")
_LIST_OF_MESSAGES = re.compile(r"""(?:array\()?\[\s*\{\s*(?P<quote>["'])(?:role|content)["']\s*:""")


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
