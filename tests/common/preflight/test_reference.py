"""A model of the KL term that is not the policy's own is looked at before anything loads."""

import json

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.preflight.model import check_reference, load_tokenizer_of, refuse_other_tokens
from leeway_rl.leeway.running.preflight import preflight

from tests.model_folders import TOKENIZER, asking, make_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("policy") / "model")


def referring(model, reference, *, from_step=3):
    return asking(model, f'stages=[{{from_step={from_step},kl_beta=0.1,reference="{reference}"}}]')


def test_a_reference_of_another_kind_and_size_without_a_tokenizer_passes(model, tmp_path):
    other = make_folder(tmp_path / "other", "llama", num_hidden_layers=1)
    for name in TOKENIZER:
        (other / name).unlink()
    config = referring(model, other)
    check_reference(config, str(other))
    refuse_other_tokens(config, load_tokenizer_of(str(model))[0])
    assert preflight(config, dry_run=True)[-1].startswith("checked: all")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llama", {"vocab_size": 24}, r"has 24 tokens \(vocab_size\), and model\.path = '.*' has 20"),
        ("gemma2", {}, "gemma2 cannot be trained here: it needs softcap"),
        ("llama", {"max_position_embeddings": 64}, "= 96 is more than the context of model"),
    ],
)
def test_a_model_that_cannot_be_the_reference_is_refused_by_its_key(model, tmp_path, kind, changes, words):
    other = make_folder(tmp_path / "other", kind, **changes)
    with pytest.raises(DataError, match=rf"objective\.reference = '{other}'.*{words}"):
        preflight(referring(model, other), dry_run=True)


def test_a_reference_that_is_not_there_is_refused_and_a_dry_run_says_that_it_was_not_checked(model, tmp_path):
    config = referring(model, tmp_path / "gone")
    with pytest.raises(DataError, match=r"objective\.reference = '.*gone': .* there is no such folder"):
        preflight(config, dry_run=False)
    assert f"not checked: the reference {tmp_path / 'gone'}, which" in preflight(config, dry_run=True)[0]
    weightless = make_folder(tmp_path / "weightless")
    (weightless / "model.safetensors").unlink()
    config = referring(model, weightless)
    with pytest.raises(DataError, match=r"objective\.reference = '.*weightless': .* its weights are not there"):
        preflight(config, dry_run=False)
    assert f"not checked: the weights of the reference {weightless}, which" in preflight(config, dry_run=True)[0]


def test_a_reference_with_other_tokens_of_the_same_number_is_refused(model, tmp_path):
    other = make_folder(tmp_path / "other")
    found = json.loads((other / "tokenizer.json").read_text())
    vocabulary = found["model"]["vocab"]
    (one, first), (two, second) = list(vocabulary.items())[-2:]
    vocabulary |= {one: second, two: first}
    (other / "tokenizer.json").write_text(json.dumps(found))
    config = referring(model, other)
    check_reference(config, str(other))
    with pytest.raises(DataError, match="its tokenizer has other tokens than"):
        refuse_other_tokens(config, load_tokenizer_of(str(model))[0])
