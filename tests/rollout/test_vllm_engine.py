"""The vLLM engine against transformers, on a tiny random model. Start-up costs most of a minute, so it is paid once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

pytest.importorskip("vllm")

from leeway_rl.common.errors import DataError, WeightsError
from leeway_rl.common.types import Responses, Ticket
from leeway_rl.rollout.engine import Aborted
from leeway_rl.rollout.vllm_engine import VllmEngine
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    # vLLM's and torch's own: at import, and of a ZeroMQ context that vLLM leaves to the garbage collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

VOCABULARY = 64
PROMPT = np.array([5, 6, 7, 8], dtype=np.uint16)


def model(seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 of 0.9M random parameters, wide enough in its logits that weights tell each other apart."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config).float().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    model(0).save_pretrained(path)
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t2"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t1", pad_token="t0").save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def engine(folder: str) -> Iterator[VllmEngine]:
    engine = VllmEngine(folder, dtype="float32", worker="w", max_model_len=320, max_num_seqs=64)
    with pytest.raises(WeightsError, match="before the first load"):
        engine.generate(ticket(0))
    engine.load(0, model(0).state_dict())
    yield engine
    engine.close()
    gc.collect()  # here, where the warning of the ZeroMQ context is expected


def ticket(number: int, *, G: int = 4, new: int = 24, temperature: float = 1.0) -> Ticket:
    return Ticket(
        ticket=number,
        incarnation=1,
        min_version=0,
        stage=0,
        prompt_id=f"test:{number}",
        prompt_tokens_P=PROMPT,
        group_size=G,
        max_new_tokens=new,
        temperature=temperature,
        seed=1000 * number,
        ability="math",
        ground_truth=("1",),
    )


def split(responses: Responses, flat_T: np.ndarray) -> list[np.ndarray]:
    return np.split(flat_T, np.cumsum(responses.lengths_S)[:-1])


def recompute(weights: Qwen2ForCausalLM, tokens: np.ndarray, temperature: float) -> np.ndarray:
    """log-probabilities of ``tokens`` after the prompt under logits/τ, float32 [length]."""
    ids = torch.tensor([[*PROMPT.tolist(), *tokens.tolist()]])
    with torch.inference_mode():
        logprobs = (weights(ids).logits[0] / temperature).log_softmax(-1)
    return logprobs[len(PROMPT) - 1 : -1].gather(1, ids[0, len(PROMPT) :, None])[:, 0].numpy()


def assert_spans_cover_every_token(responses: Responses) -> None:
    for j, length in enumerate(responses.lengths_S):
        rows = responses.spans[responses.spans[:, 0] == j]
        assert rows[0, 2] == 0
        assert rows[-1, 3] == length
        assert (rows[1:, 2] == rows[:-1, 3]).all()
        assert (np.diff(rows[:, 1].astype(int)) >= 0).all()


def test_generates_a_group_whose_spans_cover_its_tokens_exactly(engine: VllmEngine) -> None:
    responses = engine.generate(ticket(1, G=8))
    assert responses.group_id == "1-1"
    assert responses.worker == "w"
    assert responses.tokens_T.dtype == np.uint32
    assert responses.logprobs_T.dtype == np.float32
    assert responses.lengths_S.sum() == len(responses.tokens_T) == len(responses.logprobs_T)
    assert_spans_cover_every_token(responses)
    for tokens, finished in zip(split(responses, responses.tokens_T), responses.finished_S, strict=True):
        assert (tokens[:-1] != 1).all()
        assert finished == (tokens[-1] == 1)
        assert finished or len(tokens) == 24


def test_logprobs_are_those_of_the_loaded_weights_after_temperature(engine: VllmEngine) -> None:
    for version, seed, temperature in ((1, 1, 1.0), (2, 2, 0.7)):
        weights = model(seed)
        assert engine.load(version, weights.state_dict()) > 0
        assert engine.version == version
        responses = engine.generate(ticket(version, temperature=temperature))
        assert (responses.spans[:, 1] == version).all()
        for tokens, logprobs in zip(
            split(responses, responses.tokens_T), split(responses, responses.logprobs_T), strict=True
        ):
            np.testing.assert_allclose(logprobs, recompute(weights, tokens, temperature), atol=1e-4)


def test_nothing_of_a_mapped_file_is_used_once_it_is_loaded(engine: VllmEngine, tmp_path: Path) -> None:
    """The node's copy is written again in place: whatever still pointed into it would be other weights."""
    weights = model(5)
    state = {name: tensor for name, tensor in weights.state_dict().items() if name != "lm_head.weight"}  # it is tied
    file = tmp_path / "1.safetensors"
    save_file(state, file)
    engine.load(3, state, file)
    with file.open("r+b") as written:
        written.write(b"\xff" * file.stat().st_size)
    responses = engine.generate(ticket(30))
    for tokens, logprobs in zip(
        split(responses, responses.tokens_T), split(responses, responses.logprobs_T), strict=True
    ):
        np.testing.assert_allclose(logprobs, recompute(weights, tokens, 1.0), atol=1e-4)
    cores = [each for each in psutil.Process().children(recursive=True) if each.name().startswith("VLLM")]
    assert cores
    assert not [each for core in cores for each in core.memory_maps() if each.path == str(file)]


def test_samples_follow_the_distribution_they_report(engine: VllmEngine) -> None:
    weights = model(3)
    engine.load(3, weights.state_dict())
    with ThreadPoolExecutor(4) as pool:
        groups = list(pool.map(lambda i: engine.generate(ticket(i, G=64, new=1)), range(100, 132)))
    counts = np.bincount(np.concatenate([group.tokens_T for group in groups]), minlength=VOCABULARY)
    n = counts.sum()
    with torch.inference_mode():
        probabilities = weights(torch.tensor([PROMPT.tolist()])).logits[0, -1].softmax(-1).double().numpy()
    # Rare tokens are pooled so that chi-squared holds; 5 standard deviations, so the test does not cry wolf.
    common = probabilities * n >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(probabilities[common], probabilities[~common].sum()) * n
    chi2 = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    degrees = len(observed) - 1
    assert chi2 < degrees + 5 * (2 * degrees) ** 0.5


def test_many_groups_at_once_cut_no_prompt_in_two(engine: VllmEngine) -> None:
    """More prompt tokens than one step takes: where vLLM cut a prompt, the CPU engine would die of it."""
    long = np.arange(200, dtype=np.uint16) % 50 + 2
    tickets = [
        Ticket(**{name: getattr(ticket(i, G=8, new=4), name) for name in Ticket.__slots__} | {"prompt_tokens_P": p})
        for i, p in enumerate(np.roll(long, i) for i in range(16))
    ]
    with ThreadPoolExecutor(16) as pool:
        for responses in pool.map(engine.generate, tickets):
            assert_spans_cover_every_token(responses)


def sampled_across(engine: VllmEngine, weights: dict[int, Qwen2ForCausalLM]) -> Responses:
    """A long group, begun under the first of ``weights``; the others are loaded while it runs."""
    (first, begin), *others = [(version, its.state_dict()) for version, its in weights.items()]
    engine.load(first, begin)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.generate, ticket(40, G=16, new=200))
        # Load after load: whichever comes first, some of them fall between two tokens.
        for version, state in others:
            engine.load(version, state)
        return waiting.result()


def whole_steps(logprobs: np.ndarray) -> float:
    """The share of neighbours among ``logprobs`` that are a multiple of 2^-12 apart. Log-probabilities of one
    distribution differ as its logits do, and those of a bfloat16 head, above 1/16, are multiples of 2^-12."""
    steps = np.diff(np.unique(logprobs).astype(np.float64)) * 2**12
    assert len(steps) >= 8
    return float(np.mean(np.abs(steps - np.round(steps)) < 0.05))


@pytest.mark.timeout(900)
def test_a_head_in_float32_reaches_the_engines_processes(folder: str) -> None:
    with torch.inference_mode():
        logits = model(0)(torch.tensor([PROMPT.tolist()])).logits[0, -1]
    assert whole_steps(logits.bfloat16().float().log_softmax(-1).numpy()) > 0.9, "what a bfloat16 head would give"
    engine = VllmEngine(folder, dtype="bfloat16", worker="w", max_model_len=64, max_num_seqs=64, head_dtype="float32")
    try:
        engine.load(0, model(0).state_dict())
        responses = engine.generate(ticket(0, G=64, new=1))
    finally:
        engine.close()
        gc.collect()  # as above
    assert whole_steps(responses.logprobs_T) < 0.5


def test_loads_during_generation_give_spans_with_rising_versions(engine: VllmEngine) -> None:
    weights = {version: model(version) for version in range(4, 10)}
    responses = sampled_across(engine, weights)
    assert_spans_cover_every_token(responses)
    assert len(responses.spans) > 16
    tokens, logprobs = split(responses, responses.tokens_T), split(responses, responses.logprobs_T)
    for j, version, start, end in responses.spans.tolist():
        # The whole prefix counts as the newest version's: its keys and values are computed again after a load.
        expected = recompute(weights[version], tokens[j], 1.0)[start:end]
        np.testing.assert_allclose(logprobs[j][start:end], expected, atol=1e-4)


def test_a_fall_of_the_version_starts_running_responses_over(engine: VllmEngine) -> None:
    state = model(6).state_dict()
    engine.load(9, state)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.generate, ticket(90, G=16, new=200))
        for version in (8, 7, 6):
            engine.load(version, state)
        responses = waiting.result()
    assert_spans_cover_every_token(responses)
    assert len(responses.spans) == 16


@contextmanager
def standing_still() -> Iterator[None]:
    """vLLM's core does nothing within the block, so that what is under way stays so."""
    cores = [each for each in psutil.Process().children(recursive=True) if "EngineCore" in " ".join(each.cmdline())]
    assert cores
    for core in cores:
        core.suspend()
    try:
        yield
    finally:
        for core in cores:
            core.resume()


def test_a_group_that_nobody_wants_is_taken_back_and_its_neighbour_goes_on(engine: VllmEngine, wait_until) -> None:
    engine.abort("of-none")
    with ThreadPoolExecutor(2) as threads:
        with standing_still():
            doomed, kept = (threads.submit(engine.generate, ticket(number, new=300)) for number in (71, 72))
            wait_until(lambda: len(engine.under_way) == 2, "both are under way")
            engine.abort(ticket(71).group_id)
        with pytest.raises(Aborted):
            doomed.result(timeout=200)
        assert kept.result(timeout=200).group_id == ticket(72).group_id
    assert engine.generate(ticket(71, new=8)).group_id == ticket(71).group_id


def test_an_engine_that_hangs_does_not_let_an_aborted_group_return(engine: VllmEngine, wait_until) -> None:
    with ThreadPoolExecutor(1) as threads:
        with standing_still():
            hung = threads.submit(engine.generate, ticket(73, new=300))
            wait_until(lambda: engine.under_way, "it is under way")
            engine.abort(ticket(73).group_id)
            with pytest.raises(TimeoutError):
                hung.result(timeout=3)
        with pytest.raises(Aborted):
            hung.result(timeout=200)


def test_a_ticket_longer_than_the_engine_allows_is_refused(engine: VllmEngine) -> None:
    with pytest.raises(DataError, match="max_model_len"):
        engine.generate(ticket(2, new=320))


def test_a_missing_model_folder_is_a_data_error(tmp_path: object) -> None:
    with pytest.raises(DataError, match="no model folder"):
        VllmEngine(f"{tmp_path}/absent", dtype="float32", worker="w", max_model_len=64, max_num_seqs=4)


def test_keys_and_values_may_be_kept_across_an_update(folder: str) -> None:
    engine = VllmEngine(folder, dtype="float32", worker="w", max_model_len=320, max_num_seqs=64, recompute=False)
    weights = {version: model(version) for version in range(1, 7)}
    try:
        responses = sampled_across(engine, weights)
        again = engine.generate(ticket(41, G=4))
    finally:
        engine.close()
        gc.collect()  # as above
    assert_spans_cover_every_token(responses)
    assert len(responses.spans) > 16
    tokens, logprobs = split(responses, responses.tokens_T), split(responses, responses.logprobs_T)
    off = [
        np.abs(logprobs[j][start:end] - recompute(weights[version], tokens[j], 1.0)[start:end]).max()
        for j, version, start, end in responses.spans.tolist()
    ]
    first = [row[2] == 0 for row in responses.spans.tolist()]
    assert max(value for value, whole in zip(off, first, strict=True) if whole) < 1e-4
    assert max(off) > 1e-2  # what older weights wrote is still read
    for tokens_T, given in zip(split(again, again.tokens_T), split(again, again.logprobs_T), strict=True):
        np.testing.assert_allclose(given, recompute(weights[6], tokens_T, 1.0), atol=1e-4)


def test_incomplete_weights_are_refused_and_closing_leaves_no_process(engine: VllmEngine) -> None:
    """The last test: it uses the module's engine up."""
    part = {name: tensor for name, tensor in model(0).state_dict().items() if "layers.2" not in name}
    with pytest.raises(WeightsError, match="lack 7"):
        engine.load(20, part)
    with pytest.raises(Exception, match="unusable"):
        engine.generate(ticket(3))
    children = [child for child in psutil.Process().children(recursive=True) if child.name().startswith("VLLM")]
    assert children
    engine.close()
    engine.close()
    gc.collect()  # here, where the warning of the ZeroMQ context is expected
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
