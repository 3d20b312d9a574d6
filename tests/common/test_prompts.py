"""Rows that cannot be read are named, and the marks of reasoning stay in the text that is graded."""

import gzip
import json

import pytest
from leeway_rl.common.config import Data, compose
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.prompts import BOXED, decoder_of, opens_reasoning, row_of, tokenize
from leeway_rl.common.rows import file_rows
from leeway_rl.verifier.math.answer import grade_math
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["<pad>", "<end>", "<think>", "</think>", "<|user|>", "So", "\\boxed{5}", "\\boxed{6}", " "]


def tokenizer_with(special: list[str], added: list[str]) -> PreTrainedTokenizerFast:
    """One token a word; ``special`` ones are what ``skip_special_tokens`` leaves out."""
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", behavior="isolated")
    inner.decoder = decoders.Fuse()
    inner.add_tokens(added)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")
    made.add_special_tokens({"additional_special_tokens": special})
    return made


def tokens(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


@pytest.mark.parametrize("special", [True, False])
def test_the_marks_of_reasoning_stay_whether_they_are_special_or_not(special) -> None:
    marks = ["<think>", "</think>"]
    tokenizer = tokenizer_with(["<|user|>", *(marks if special else [])], [] if special else marks)
    decode = decoder_of(tokenizer)
    unclosed = tokens("<think>", "So", "\\boxed{5}", "<end>")
    closed = tokens("<think>", "\\boxed{6}", "</think>", "\\boxed{5}", "<|user|>", "<end>", "<pad>")
    assert decode(unclosed) == "<think>So\\boxed{5}"
    assert decode(closed) == "<think>\\boxed{6}</think>\\boxed{5}"
    assert opens_reasoning(decode(tokens("<|user|>", "So", "<think>")))
    assert grade_math(decode(unclosed), ("5",), True)[1] == "the reasoning never closes"
    assert grade_math(decode(closed), ("5",), True)[0] == "correct"


def test_a_text_is_decoded_as_before_where_no_mark_is_special() -> None:
    tokenizer = tokenizer_with(["<|user|>"], ["<think>", "</think>"])
    row = list(range(len(WORDS)))
    assert decoder_of(tokenizer)(row) == tokenizer.decode(row, skip_special_tokens=True)


def rows(path) -> list[object]:
    return [values for _, values in file_rows(path)]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode() + b"\n")
    assert rows(path) == [{"a": 1}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"prompt": "\xe9"}', r"rows.jsonl:2: not UTF-8: byte 0xe9 at position 13 of the line"),
        (b"[" * 100_000, "rows.jsonl:2: not JSON"),
        (b"{", "rows.jsonl:2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_the_others_are_read(tmp_path, line, why) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    first, bad, last = rows(path)
    assert (first, last) == ({"a": 1}, {"a": 2})
    with pytest.raises(DataError, match=why):
        row_of(bad, "id", "where")


def test_a_compressed_file_that_breaks_off_is_named(tmp_path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({"n": number}) + "\n" for number in range(5000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"rows.jsonl.gz:\d+: the file breaks off here"):
        rows(path)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(DataError, match=r"rows.jsonl.gz:1: the file breaks off here"):
        rows(path)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a half", "answer": "\frac{1}{2}"}, r"the control character '\\x0c' in '\\x0crac"),
        ({"prompt": "put it in \boxed{}", "answer": "5"}, r"the control character '\\x08'"),
        ({"prompt": [{"role": "user", "content": "\x00"}], "answer": "5"}, r"the control character '\\x00'"),
        ({"prompt": "half \ud800", "answer": "5"}, "half a character"),
    ],
)
def test_characters_that_nobody_writes_on_purpose_are_refused(row, why) -> None:
    with pytest.raises(DataError, match=rf"f:1: (prompt|answer): {why}"):
        row_of(row, "id", "f:1")


def test_tabs_line_ends_and_every_letter_are_written_on_purpose() -> None:
    row_of({"prompt": "a\tb\r\nc é 北 😀 \u2028", "answer": "5"}, "id", "f:1")


@pytest.mark.parametrize("key", ["suffix", "system"])
def test_the_same_is_refused_in_what_is_put_around_prompts(tmp_path, key) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(f'[data]\n{key} = "put it in \\boxed{{}}."\n')
    with pytest.raises(ConfigError, match=rf"mine.toml:2: data.{key} = .*'\\x08'.* in single quotes"):
        compose(["tiny", str(preset)], [])


class Echo:
    """A tokenizer that keeps the text."""

    chat_template = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, str]:
        return {"input_ids": text}


def test_problems_of_reasoning_gym_are_asked_for_a_box_unless_the_configuration_says_otherwise() -> None:
    entry = {"question": "q", "answer": "a", "metadata": {"source_dataset": "chain_sum"}}
    gym, plain = row_of({"entry": entry}, "id", "f:1"), row_of({"prompt": "q", "answer": "5"}, "id", "f:2")
    assert tokenize(gym, Data(path=""), Echo()) == "q" + BOXED
    assert tokenize(plain, Data(path=""), Echo()) == "q"
    assert tokenize(gym, Data(path="", suffix=""), Echo()) == "q"
    assert tokenize(gym, Data(path="", suffix=" Box it."), Echo()) == "q Box it."


CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1?"}]


def messages(prompt) -> tuple[dict[str, str], ...]:
    return row_of({"prompt": prompt, "answer": "2"}, "id", "f:1").messages


@pytest.mark.parametrize("text", [json.dumps(CHAT), json.dumps(CHAT, indent=1), f" {json.dumps(CHAT)}\n"])
def test_a_prompt_that_is_the_text_of_a_list_of_messages_is_that_list(text) -> None:
    assert messages(text) == messages(CHAT) == tuple(CHAT)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2, 3] sorted?",
        "[1, 2, 3]",
        '["role", "content"]',
        "[[1, 2], [3, 4]]",
        '{"a": 1}',
        '[{"name": "x"}]',
        "[x] is what?",
        f"What is the second role in {json.dumps(CHAT)}?",
        f"{json.dumps(CHAT)} has how many messages?",
        f"{CHAT} holds how many messages?",
        "{'role': 'admin'} is a dict; write its JSON.",
        "{role} of {content}",
        "array([1, 2])",
    ],
)
def test_any_other_text_is_a_prompt_as_it_stands(text) -> None:
    assert messages(text) == ({"role": "user", "content": text},)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (str(CHAT), r"prompt is the text of a list of messages, and no JSON: .* write it as JSON"),
        (f"array([{CHAT[1]!r}], dtype=object)", ".* no JSON"),
        (f"[{CHAT[0]!r} {CHAT[1]!r}]", ".* no JSON"),
        (json.dumps(CHAT)[:-3], ".* no JSON"),
        (json.dumps(CHAT[1]), r"prompt is a text or a list of \{role, content\} messages"),
        ('[{"role": "user"}]', r"prompt is a text or a list of"),
        ('[{"role": "user", "content": 7}]', r"prompt is a text or a list of"),
        (" \n", r"prompt is a text or a list of"),
        ([*CHAT, {"role": "assistant", "content": "2"}], r"the last message is the assistant's, '2'"),
        (json.dumps([*CHAT, {"role": "assistant", "content": "2"}]), r"the last message is the assistant's, '2'"),
    ],
)
def test_messages_that_are_not_as_they_should_be_are_refused(prompt, why) -> None:
    with pytest.raises(DataError, match=f"f:1: {why}"):
        messages(prompt)


def ending(single: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer that puts what ``single`` says around a text."""
    made = tokenizer_with([], [])
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<end>", 1), ("<pad>", 0)]
    )
    made.chat_template = template
    return made


@pytest.mark.parametrize(
    ("single", "content", "expected"),
    [
        ("$A <end>", "So", ["So"]),
        ("<pad> $A <end>", "So", ["<pad>", "So"]),  # what begins a text stays
        ("<end> $A <end> <end>", "So", ["<end>", "So"]),
        ("$A", "So", ["So"]),
        ("$A <end>", "So <end>", ["So", " ", "<end>"]),  # written by the user
        ("<pad> $A", "So <end>", ["<pad>", "So", " ", "<end>"]),
    ],
)
def test_without_a_chat_template_nothing_that_the_tokenizer_appends_ends_the_prompt(single, content, expected) -> None:
    row = row_of({"prompt": content, "answer": "2"}, "id", "f:1")
    assert tokenize(row, Data(path=""), ending(single)) == tokens(*expected)


NO_SYSTEM = """
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate') }}{% endif %}{{ message['content'] }}{% endfor %}"""
USER_ALONE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "prompt", "data", "why"),
    [
        (
            NO_SYSTEM,
            CHAT,
            {},
            r"refuses the messages \(system, user\): System role not supported; .* leave data.system",
        ),
        (NO_SYSTEM, "So", {"system": "brief"}, r"System role not supported; .* leave data.system empty"),
        (NO_SYSTEM, [CHAT[1], CHAT[1]], {}, r"\(user, user\): Conversation roles must alternate; give the roles"),
        ("{{ messages[0]['content'] + nothing }}", "So", {}, "'nothing' is undefined; give the roles"),
        (USER_ALONE, "So", {"system": "be brief"}, "leaves out the system message 'be brief'; .* data.system empty"),
    ],
)
def test_a_chat_template_that_refuses_the_messages_is_told_with_the_row(template, prompt, data, why) -> None:
    row = row_of({"prompt": prompt, "answer": "2"}, "id", "there/f:1")
    with pytest.raises(DataError, match=rf"there/f:1: the model's chat template .*{why}"):
        tokenize(row, Data(path="", **data), ending("$A <end>", template))


def test_a_chat_template_that_takes_them_gives_their_tokens_and_nothing_behind() -> None:
    row = row_of({"prompt": "So", "answer": "2"}, "id", "f:1")
    assert tokenize(row, Data(path=""), ending("$A <end>", NO_SYSTEM)) == tokens("So")
