"""The tokens around an observation.

A conversation is never tokenised again. What was sampled stays as it was sampled, the end token included, and an
observation's own tokens come behind it, between two fixed rows of tokens: what the chat template writes between an
answer's end token and the next message, and between that message and the next answer.

That is what the template itself would make of the conversation, as long as it only ever writes behind what stands
there. A template that changes earlier turns is refused: the policy would be trained on conversations that it never
meets where the template is used. White space at the ends of a message is left out of account, since many templates cut
it off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ...common.errors import ConfigError
from ...common.preflight.folder import read_folder
from ...common.preflight.tokens import ends_of
from ...common.prompts import decoder_of, opens_reasoning

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Role: TypeAlias = Literal["tool", "user"]
Message: TypeAlias = "dict[str, str]"
Render: TypeAlias = Callable[[list[Message], bool], str]
"""The text of messages after a chat template, with or without the next generation prompt. It may raise anything."""
BARE = "\n"
"""What stands before and behind an observation where a model has no chat template: it gets a line of its own."""

_QUESTION = "What is 6 times 7?"
_ANSWERS = ("First I ask.", "I ask once more.", "So it is 42.")
_REASONED = tuple(f"thus {number}\n</think>\n\n{answer}" for number, answer in enumerate(_ANSWERS, start=1))
_OBSERVATIONS = ('It is "42",\n\\boxed{42} <b>', "Still 42.", "42")
"""Made-up turns by which a template shows what it does. The first observation has what templates may escape."""


@dataclass(frozen=True, slots=True)
class Glue:
    """How a turn becomes text, and an observation tokens."""

    before: tuple[int, ...]
    """Tokens between a turn's end token and the observation."""
    after: tuple[int, ...]
    """Tokens between the observation and the next turn: the generation prompt is their end."""
    text_of: Callable[[list[int]], str]
    """The text of a turn's tokens, without special tokens."""
    encode: Callable[[str], list[int]]
    """The tokens of a text in which no special token is read."""

    def tokens_of(self, observation: str) -> tuple[int, ...]:
        """All that stands between two turns."""
        return (*self.before, *self.encode(observation), *self.after)


def glue_of(tokenizer: PreTrainedTokenizerBase, role: Role, ends: Collection[int]) -> Glue:
    """What a tokenizer and its chat template put around an observation, which is a message of ``role``. ``ends``: the
    tokens that end a turn. ``ConfigError`` if the template rewrites earlier turns."""
    named = {str(tokenizer.convert_ids_to_tokens(end)): end for end in sorted(ends)}

    def render(messages: list[Message], generation: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation))

    def fixed(text: str) -> tuple[int, ...]:
        # Behind an end token, as it will stand: some tokenizers put a space before what begins a text.
        for end, number in named.items():
            tokens = tokenizer(end + text, add_special_tokens=False)["input_ids"]
            if tokens[:1] == [number]:
                return tuple(tokens[1:])
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(text: str) -> list[int]:
        return [*tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]]

    before, after = (BARE, BARE) if tokenizer.chat_template is None else around(render, role, [*named])
    _refuse_special_tokens_in_texts(tokenizer, encode)
    _refuse_end_tokens_in_texts(tokenizer, encode, ends)
    return Glue(fixed(before), fixed(after), decoder_of(tokenizer), encode)


def ends_of_model(path: str, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a turn of the model in the folder ``path``."""
    folder = read_folder(Path(path), weights=False)
    return ends_of(folder.keys, folder.generation, tokenizer)


def around(render: Render, role: Role, ends: Sequence[str]) -> tuple[str, str]:
    """The texts before and behind an observation. ``ends``: the texts of the tokens that end a turn. ``ConfigError`` if
    the template rewrites earlier turns. Pure, as far as ``render`` is."""
    found = _around(render, role)
    if isinstance(found, str):
        other: Role = "user" if role == "tool" else "tool"
        fits = not isinstance(_around(render, other), str)
        right = f"environment.role = {other!r} is right" if fits else "give the model a template that only adds to it"
        raise ConfigError(f"environment.role = {role!r}: the model's chat template {found}; {right}")
    before, after = found
    for end in sorted(ends, key=len, reverse=True):
        if end and before.lstrip().startswith(end):
            return before.lstrip()[len(end) :], after
    return before, after  # the template writes no end token behind an answer; the one that was sampled stays


def _around(render: Render, role: Role) -> tuple[str, str] | str:
    """The texts around an observation, the end of the turn before it included; or what the template does wrong."""
    try:
        opening = render([_said("user", _QUESTION)], True)
        joined = _only_joins(render, role, opening)
        if joined is not None:
            return joined
        if opens_reasoning(opening):
            opened = opening[opening.rindex("<think>") :]
            return _glued(render, role, opening, opened, _REASONED, "drops or rewrites the reasoning of earlier turns")
        plain = _glued(render, role, opening, "", _ANSWERS, "rewrites earlier turns")
        if isinstance(plain, str):
            return plain
        thought = tuple(f"<think>\n{answer}" for answer in _REASONED)
        reasoned = _glued(render, role, opening, "", thought, "drops or rewrites the reasoning of earlier turns")
        return reasoned if isinstance(reasoned, str) else plain
    except Exception as error:  # jinja2's errors, and whatever else a template's code meets
        return f"refuses a message of this role behind an answer: {' '.join(str(error).split())[:200]}"


def _glued(
    render: Render, role: Role, opening: str, opened: str, answers: Sequence[str], rewrites: str
) -> tuple[str, str] | str:
    """The texts around an observation, if every turn only adds to the text; or what is wrong. ``opened``: what of the
    message the generation prompt has written already."""
    messages, due, before, after = [_said("user", _QUESTION)], opening, "", ""
    for turn, (answer, observation) in enumerate(zip(answers, _OBSERVATIONS, strict=True)):
        messages += [_said("assistant", opened + answer), _said(role, observation)]
        text = render(messages, True)
        if turn == 0:
            start = text.find(answer, len(opening))
            if not text.startswith(opening) or start < 0 or text[len(opening) : start].strip():
                return f"{rewrites}: {_difference(opening + answer, text)}"
            space, rest = text[len(opening) : start], text[start + len(answer) :]
            before, found, after = rest.partition(observation)
            if not found:
                return "leaves out or changes a message of this role"
        due += space + answer + before + observation + after
        if text != due:
            return f"{rewrites}: {_difference(due, text)}"
    return before, after


def _only_joins(render: Render, role: Role, opening: str) -> tuple[str, str] | None:
    """The texts around an observation where a template does nothing but join the messages' texts, so that there are no
    turns in it that could be changed; else None."""
    contents = (_QUESTION, _ANSWERS[0], _OBSERVATIONS[0], _ANSWERS[1])
    messages = [_said(by, each) for by, each in zip(("user", "assistant", role, "assistant"), contents, strict=True)]
    try:
        joined = render(messages, False) == "".join(contents)
    except Exception:  # as in ``_around``: it is asked again there
        return None
    return ("", opening.removeprefix(_QUESTION)) if joined and opening.startswith(_QUESTION) else None


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _difference(due: str, text: str) -> str:
    """What stands in ``text`` in the place of ``due``, where they differ first."""
    at = next(i for i, (one, other) in enumerate(zip_longest(due, text)) if one != other)
    start = max(at - 10, 0)
    return f"{due[start : start + 40]!r} became {text[start : start + 40]!r}"


def _refuse_special_tokens_in_texts(tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], list[int]]) -> None:
    """``ConfigError`` if a special token that is written out in an observation would become one."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for number in sorted(special):
        token = str(tokenizer.convert_ids_to_tokens(number))
        if special & set(encode(f"a {token} b")):
            raise ConfigError(
                f"environment: the model's tokenizer reads {token!r} as a special token wherever it is written, so an "
                "observation could end a turn; only tokenizers with split_special_tokens can be used"
            )


def _refuse_end_tokens_in_texts(
    tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], list[int]], ends: Collection[int]
) -> None:
    """``ConfigError`` if an added token that ends a turn, and is not marked as special, would become one where an
    observation writes it out. An end token that is a plain text's own is left alone."""
    for number in sorted(set(ends) & set(tokenizer.added_tokens_decoder) - set(tokenizer.all_special_ids)):
        token = str(tokenizer.convert_ids_to_tokens(number))
        if number in encode(f"a {token} b"):
            raise ConfigError(
                f"environment: the model's tokenizer reads {token!r} as an end token wherever it is written, so an "
                "observation could end a turn; mark it as special in tokenizer.json and tokenizer_config.json"
            )
