"""The tokenizer is there, it is the model's, and it makes something of a prompt."""

import json
import shutil
import subprocess
import sys

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.preflight.model import check_model, load_tokenizer_of
from leeway_rl.common.preflight.tokens import load_tokenizer, why_other_tokenizer, why_unusable
from transformers import AutoTokenizer

from tests.model_folders import TOKENIZER, asking, change


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_a_folder_without_a_tokenizer_is_refused_before_transformers_makes_an_empty_one(folder):
    assert load_tokenizer_of(str(folder))[1] == 20
    for name in TOKENIZER:
        (folder / name).unlink()
    assert AutoTokenizer.from_pretrained(folder)("1+1")["input_ids"] == []  # what would happen
    with pytest.raises(DataError, match=r"it has no tokenizer: expected tokenizer.json and tokenizer_config.json"):
        check_model(asking(folder), "train", "sample")
    with pytest.raises(DataError, match="it has no tokenizer"):
        load_tokenizer(folder)


def test_an_empty_tokenizer_is_refused_whatever_its_files_are_called(folder):
    for name in TOKENIZER:
        (folder / name).unlink()
    (folder / "vocab.txt").touch()
    with pytest.raises(DataError, match=r"its tokenizer (is empty|cannot be loaded)"):
        load_tokenizer(folder)


def test_a_damaged_tokenizer_is_named(folder):
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=r"tokenizer.json cannot be read: not JSON"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(DataError, match="its tokenizer cannot be loaded"):
        load_tokenizer(folder)


WITHOUT_TORCH = """
import json, sys
from leeway_rl.common.preflight import tokens
tokens.hide_torch()
print(json.dumps([tokens.load_tokenizer(sys.argv[1])("12+7=")["input_ids"], sys.modules["torch"]]))
"""


def test_a_process_that_hides_torch_reads_the_same_tokens(folder):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, folder], capture_output=True, check=True)
    assert json.loads(done.stdout) == [load_tokenizer(folder)("12+7=")["input_ids"], None]
    assert done.stderr == b"", "nobody is advised to install it"


def test_a_tokenizer_of_a_larger_vocabulary_is_another_model_s(folder):
    change(folder / "config.json", vocab_size=15)
    with pytest.raises(
        DataError, match=r"its tokenizer has 4 tokens past its vocabulary \(vocab_size 15\), .*another model's"
    ):
        load_tokenizer_of(str(folder))
    change(folder / "config.json", vocab_size=32)  # more than the tokenizer has is usual
    assert load_tokenizer_of(str(folder))[1] == 32


def test_a_special_token_that_nobody_uses_may_be_past_the_vocabulary(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    tokenizer, vocabulary = load_tokenizer_of(str(folder))
    assert (len(tokenizer), vocabulary) == (21, 20)  # Gemma 3's smallest is so
    assert "token 20 of the prompt is past" in why_unusable(tokenizer("1+1<image>")["input_ids"], vocabulary)
    assert why_unusable(tokenizer("1+1")["input_ids"], vocabulary) is None


def test_a_model_that_nothing_ends_is_refused(folder):
    tokenizer = load_tokenizer(folder)
    assert why_other_tokenizer({"vocab_size": 20}, {}, tokenizer) is None  # the tokenizer alone says it
    tokenizer.eos_token = None
    assert "no token ends its responses: set eos_token_id" in why_other_tokenizer({"vocab_size": 20}, {}, tokenizer)
    assert why_other_tokenizer({"vocab_size": 20, "eos_token_id": 1}, {}, tokenizer) is None
    assert why_other_tokenizer({"vocab_size": 20}, {"eos_token_id": [1, 30]}, tokenizer) is None
    why = why_other_tokenizer({"vocab_size": 20, "eos_token_id": 20}, {"eos_token_id": [30]}, tokenizer)
    assert "eos_token_id 20, 30 is past its vocabulary (vocab_size 20)" in why


def test_a_prompt_of_no_tokens_is_none():
    assert "the prompt has 0 tokens" in why_unusable([], 20)
    assert why_unusable([3], None) is None
