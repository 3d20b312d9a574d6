"""The torch engine against a random model small enough to build in the test."""

import threading
from functools import partial

import numpy as np
import pytest
import torch
from leeway_rl.common.errors import DataError, WeightsError
from leeway_rl.common.types import Responses, Ticket
from leeway_rl.rollout import torch_engine
from leeway_rl.rollout.engine import Aborted
from leeway_rl.rollout.torch_engine import TorchEngine, end_tokens, nucleus, sample_group
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

VOCABULARY = 12
END, OTHER_END = 1, 2


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,  # far from uniform, or a wrong logit would hardly show
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = [END, OTHER_END]
    model.save_pretrained(path)
    words = {f"t{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=f"t{END}", unk_token="t0").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(model_path):
    # Weights read from a file lie where the file has them, and some processors' matrix products round differently
    # where memory is not aligned: copied, they lie as the engine's do.
    read = AutoModelForCausalLM.from_pretrained(model_path, attn_implementation="sdpa")
    model = AutoModelForCausalLM.from_config(read.config, attn_implementation="sdpa").eval()
    model.load_state_dict(read.state_dict())
    return model


@pytest.fixture
def engine(model_path, model):
    engine = TorchEngine(model_path, worker="test")
    engine.load(3, model.state_dict())
    return engine


def ticket(seed: int = 7, *, group_size: int = 8, max_new_tokens: int = 20, temperature: float = 1.0) -> Ticket:
    return Ticket(
        ticket=5,
        incarnation=2,
        min_version=0,
        stage=0,
        prompt_id="test:0",
        prompt_tokens_P=np.array([3, 4, 5], dtype=np.uint16),
        group_size=group_size,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        ability="math",
        ground_truth=("1",),
    )


def split(responses: Responses) -> list[np.ndarray]:
    return np.split(responses.tokens_T, np.cumsum(responses.lengths_S)[:-1])


def same(a: Responses, b: Responses) -> bool:
    fields = ("tokens_T", "logprobs_T", "lengths_S", "finished_S", "spans")
    return all(getattr(a, f).tobytes() == getattr(b, f).tobytes() for f in fields)


def test_the_same_ticket_gives_the_same_bits_whatever_ran_before(engine, model_path, model):
    first = engine.generate(ticket())
    engine.generate(ticket(seed=8))
    torch.manual_seed(99)
    assert same(first, engine.generate(ticket()))
    other = TorchEngine(model_path, worker="other")
    other.load(3, model.state_dict())
    assert same(first, other.generate(ticket()))


def test_another_seed_gives_other_responses(engine):
    assert not same(engine.generate(ticket(seed=7)), engine.generate(ticket(seed=8)))


def test_spans_cover_every_token_and_name_the_version(engine):
    responses = engine.generate(ticket())
    assert responses.group_id == "5-2"
    assert responses.lengths_S.sum() == len(responses.tokens_T) == len(responses.logprobs_T)
    assert responses.spans.tolist() == [[j, 3, 0, n] for j, n in enumerate(responses.lengths_S)]


def test_arrays_have_the_dtypes_of_the_wire(engine):
    responses = engine.generate(ticket())
    assert responses.tokens_T.dtype == np.uint32
    assert responses.logprobs_T.dtype == np.float32
    assert responses.lengths_S.dtype == responses.spans.dtype == np.uint32
    assert responses.finished_S.dtype == np.uint8


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_a_full_forward_under_the_temperature(engine, model, temperature):
    responses = engine.generate(ticket(temperature=temperature))
    logprobs = np.split(responses.logprobs_T, np.cumsum(responses.lengths_S)[:-1])
    for tokens, given in zip(split(responses), logprobs, strict=True):
        row = torch.tensor([[3, 4, 5, *tokens.tolist()]])
        with torch.no_grad():
            full = torch.log_softmax(model(input_ids=row).logits[0, 2:-1] / temperature, dim=-1)
        expected = full.gather(-1, row[0, 3:, None])[:, 0].numpy()
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


def test_a_finished_response_holds_its_end_token_once_and_last(engine):
    responses = engine.generate(ticket(group_size=32))
    ended = [tokens for tokens, done in zip(split(responses), responses.finished_S, strict=True) if done]
    assert {int(tokens[-1]) for tokens in ended} == {END, OTHER_END}
    assert all(not np.isin(tokens[:-1], [END, OTHER_END]).any() for tokens in split(responses))


def test_a_response_without_end_token_is_cut_at_max_new_tokens(engine):
    responses = engine.generate(ticket(group_size=32, max_new_tokens=3))
    cut = responses.finished_S == 0
    assert cut.any()
    assert (responses.lengths_S[cut] == 3).all()
    assert (responses.lengths_S <= 3).all()


def test_a_longer_limit_only_appends(engine):
    short, long = engine.generate(ticket(max_new_tokens=3)), engine.generate(ticket(max_new_tokens=20))
    for a, b in zip(split(short), split(long), strict=True):
        assert a.tolist() == b[: len(a)].tolist()


def test_samples_follow_the_models_distribution(model):
    (tokens, _, _) = sample_group(model, ticket(group_size=4000, max_new_tokens=1), {END})
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1].softmax(-1).numpy()
    drawn = np.bincount(np.concatenate(tokens), minlength=VOCABULARY) / 4000
    np.testing.assert_allclose(drawn, expected, atol=4 * np.sqrt(0.25 / 4000))


def test_the_pure_function_samples_what_the_engine_samples(engine, model, model_path):
    tokens, logprobs, finished = sample_group(model, ticket(), end_tokens(model_path))
    responses = engine.generate(ticket())
    assert np.concatenate(tokens).tolist() == responses.tokens_T.tolist()
    assert np.concatenate(logprobs).tobytes() == responses.logprobs_T.tobytes()
    assert finished == responses.finished_S.astype(bool).tolist()


def test_end_tokens_are_gathered_from_the_whole_folder(model_path):
    assert end_tokens(model_path) == {END, OTHER_END}


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        TorchEngine(tmp_path, worker="test")


def test_either_name_of_tied_weights_is_enough(engine, model):
    first = engine.generate(ticket())
    tensors = model.state_dict()
    for tied in ("lm_head.weight", "model.embed_tokens.weight"):
        engine.load(3, {name: t for name, t in tensors.items() if name != tied})
        assert same(first, engine.generate(ticket()))


def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(engine, model):
    first = engine.generate(ticket())
    zeros = {name: torch.zeros_like(t) for name, t in model.state_dict().items()}
    norm = "model.norm.weight"
    with pytest.raises(WeightsError, match=r"lack 1 tensors.*model.norm.weight"):
        engine.load(4, {name: t for name, t in zeros.items() if name != norm})
    with pytest.raises(WeightsError, match=r"does not have: model.nrom.weight"):
        engine.load(4, {**zeros, "model.nrom.weight": torch.zeros(32)})
    with pytest.raises(WeightsError, match=r"model.norm.weight has shape \(1,\), the model wants \(32,\)"):
        engine.load(4, {**zeros, norm: torch.zeros(1)})
    assert engine.version == 3
    assert same(first, engine.generate(ticket()))


def test_new_weights_change_version_and_samples(engine, model):
    first = engine.generate(ticket())
    engine.load(4, {name: 0.5 * t for name, t in model.state_dict().items()})
    second = engine.generate(ticket())
    assert set(second.spans[:, 1]) == {4}
    assert not same(first, second)


@pytest.fixture
def before_tokens(monkeypatch):
    """A function that has another called with each token of a group before the engine asks for new weights there."""

    def have(called):
        def sample(model, ticket, ends, weights_changed, **options):
            def changed(token):
                called(token)
                return weights_changed(token)

            return sample_group(model, ticket, ends, changed, **options)

        monkeypatch.setattr(torch_engine, "sample_group", sample)

    return have


@pytest.fixture
def change_before_token(before_tokens, wait_until):
    return partial(_change_before_token, before_tokens, wait_until)


def _change_before_token(before_tokens, wait_until, engine, weights, at, version=4):
    """Have ``load`` called from its own thread while token ``at`` - 1 is being sampled; gives the group."""
    done = threading.Event()

    def load():
        engine.load(version, weights)
        done.set()

    loader = threading.Thread(target=load)

    def load_at(token):
        if token == at:
            loader.start()
            wait_until(lambda: engine.waiting is not None, "the load", 100)

    before_tokens(load_at)
    responses = engine.generate(ticket())
    loader.join()
    assert done.is_set()
    return responses


@pytest.fixture
def half(model):
    """Other weights."""
    return {name: 0.5 * tensor for name, tensor in model.state_dict().items()}


def logprobs_of(model, tokens, weights):
    """Of every token of one response, by a full forward under ``weights``."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    row = torch.tensor([[3, 4, 5, *tokens.tolist()]])
    with torch.no_grad():
        full = torch.log_softmax(model(input_ids=row).logits[0, 2:-1], dim=-1)
    model.load_state_dict(state)
    return full.gather(-1, row[0, 3:, None])[:, 0].numpy()


def test_new_weights_are_taken_within_a_group_and_its_spans_say_where(engine, model, half, change_before_token):
    before = engine.generate(ticket())
    responses = change_before_token(engine, half, at=4)
    assert engine.version == 4
    expected = [
        row
        for j, n in enumerate(responses.lengths_S.tolist())
        for row in ([[j, 3, 0, n]] if n <= 4 else [[j, 3, 0, 4], [j, 4, 4, n]])
    ]
    assert responses.spans.tolist() == expected
    assert max(responses.lengths_S) > 4
    logprobs = np.split(responses.logprobs_T, np.cumsum(responses.lengths_S)[:-1])
    for old, tokens, given in zip(split(before), split(responses), logprobs, strict=True):
        assert old[:4].tolist() == tokens[:4].tolist()
        # Recomputed: as if the whole response so far had been read by the weights that sample each token.
        np.testing.assert_allclose(given[:4], logprobs_of(model, tokens, model.state_dict())[:4], atol=1e-5)
        np.testing.assert_allclose(given[4:], logprobs_of(model, tokens, half)[4:], atol=1e-5)


def test_keys_and_values_may_be_kept_across_an_update(model_path, model, half, change_before_token):
    keeping = TorchEngine(model_path, worker="keeps", recompute=False)
    keeping.load(3, model.state_dict())
    responses = change_before_token(keeping, half, at=4)
    logprobs = np.split(responses.logprobs_T, np.cumsum(responses.lengths_S)[:-1])
    assert {int(version) for version in responses.spans[:, 1]} == {3, 4}
    fresh = [logprobs_of(model, tokens, half)[4:] for tokens in split(responses)]
    assert any(np.abs(given[4:] - new).max(initial=0) > 1e-4 for given, new in zip(logprobs, fresh, strict=True))


def test_a_lower_version_waits_for_the_end_of_the_group(engine, half, change_before_token):
    responses = change_before_token(engine, half, at=4, version=1)
    assert {int(version) for version in responses.spans[:, 1]} == {3}
    assert engine.version == 1


def test_the_nucleus_is_the_fewest_likeliest_tokens_that_have_the_share():
    logprobs = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    cut = nucleus(logprobs, 0.6)  # 0.4 alone is too little, with 0.3 it is enough
    torch.testing.assert_close(cut.exp(), torch.tensor([[0.0, 4 / 7, 0.0, 3 / 7]]))
    torch.testing.assert_close(nucleus(logprobs, 1e-6).exp(), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(nucleus(logprobs, 0.95).exp(), logprobs.exp())


def test_a_group_that_nobody_wants_is_stopped_between_two_tokens_and_the_next_is_as_ever(engine, before_tokens):
    before, seen = engine.generate(ticket()), []

    def abort_at_the_third(token):
        seen.append(token)
        if seen == [1, 2, 3]:
            engine.abort("some-other")
            engine.abort(ticket().group_id)

    before_tokens(abort_at_the_third)
    with pytest.raises(Aborted):
        engine.generate(ticket())
    assert seen == [1, 2, 3]
    engine.abort(ticket().group_id)  # none is under way: the next is not meant
    assert same(engine.generate(ticket()), before)
