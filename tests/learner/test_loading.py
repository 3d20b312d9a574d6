"""The learner's own reading of a model folder: the same model as transformers loads, and no more of it than is kept."""

import json
import random

import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner import alike, loading
from leeway_rl.learner.loading import Stored, open_language_model
from leeway_rl.learner.model import load_module
from odd_policy import odd_model
from safetensors.torch import load_file, save_file
from tiny_policy import make_model
from two_ranks import on_two_ranks

from tests.model_folders import FAMILIES, asking, make_folder
from tests.programs import said_by
from tests.test_proofs import PROOFS


def plain(folder, dtype=torch.float32):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def assert_same(model, expected):
    """Parameters, their names and their order, and buffers, bit for bit."""
    for own, due in (
        (model.named_parameters, expected.named_parameters),
        (model.named_buffers, expected.named_buffers),
    ):
        own, due = dict(own()), dict(due())
        assert list(own) == list(due)
        for name, tensor in due.items():
            assert own[name].dtype == tensor.dtype, name
            assert torch.equal(own[name], tensor), name
            assert own[name].device.type == "cpu"


@pytest.mark.parametrize("shards", ["1GB", "20KB"])
@pytest.mark.parametrize("kind", [*FAMILIES, "gpt2", "qwen3_moe"])
def test_a_model_is_what_transformers_loads_with_its_buffers(tmp_path, kind, shards):
    folder = make_folder(tmp_path / "model", kind, shards=shards)
    assert len(list(folder.glob("*.safetensors"))) == 1 if shards == "1GB" else len(loading.weight_files(folder)) > 1
    assert_same(load_module(asking(folder)).language_model, plain(folder))


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_files_of_any_dtype_are_cast_to_the_one_of_training(tmp_path, held, wanted):
    folder = make_folder(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    random_ones = {name: torch.randn(tensor.shape, dtype=torch.float64).to(held) for name, tensor in weights.items()}
    save_file(random_ones, folder / "model.safetensors", metadata={"format": "pt"})
    model, unread = open_language_model(asking(folder), wanted)
    unread.make_room(torch.device("cpu"))
    unread.read()
    assert_same(model, plain(folder, wanted))


def test_a_model_that_is_still_unread_takes_no_memory(tmp_path):
    model, _ = open_language_model(asking(make_folder(tmp_path / "model")))
    assert all(parameter.untyped_storage().nbytes() == 4 for parameter in model.parameters())


def change_weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_a_base_models_names_are_those_of_the_language_model(tmp_path):
    folder = make_folder(tmp_path / "model", tie_word_embeddings=True)
    expected = plain(folder)

    def without_prefix(weights):
        for name in list(weights):
            weights[name.removeprefix("model.")] = weights.pop(name)

    change_weights(folder, without_prefix)
    assert_same(load_module(asking(folder)).language_model, expected)


def test_a_tied_head_may_be_there_twice_if_it_is_the_same(tmp_path):
    folder = make_folder(tmp_path / "model", tie_word_embeddings=True)
    expected = plain(folder)
    embedding = "model.embed_tokens.weight"
    change_weights(folder, lambda weights: weights.update({"lm_head.weight": weights[embedding].clone()}))
    model = load_module(asking(folder)).language_model
    assert_same(model, expected)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    change_weights(folder, lambda weights: weights["lm_head.weight"][-1, -1].mul_(1.5))
    with pytest.raises(
        DataError, match=r"model.safetensors: lm_head.weight is not the same as model.embed_tokens.weight"
    ):
        load_module(asking(folder))


def test_a_head_that_is_there_in_the_embeddings_place_is_tied(tmp_path):
    folder = make_folder(tmp_path / "model", tie_word_embeddings=True)
    change_weights(folder, lambda weights: weights.update({"lm_head.weight": weights.pop("model.embed_tokens.weight")}))
    assert_same(load_module(asking(folder)).language_model, plain(folder))


def test_a_missing_tensor_is_named_with_the_file(tmp_path):
    folder = make_folder(tmp_path / "model")
    change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(DataError, match=r"the weights lack model.layers.1.mlp.up_proj.weight \(model.safetensors\)"):
        load_module(asking(folder))


def test_a_surplus_tensor_is_named_with_its_file(tmp_path):
    folder = make_folder(tmp_path / "model", shards="20KB")
    file = loading.weight_files(folder)[-1]
    save_file(load_file(file) | {"model.layers.0.mlp.gate.weight": torch.zeros(4)}, file, metadata={"format": "pt"})
    with pytest.raises(
        DataError, match=rf"{file.name} holds model.layers.0.mlp.gate.weight, which a qwen2 of its config"
    ):
        load_module(asking(folder))


def test_buffers_of_old_checkpoints_are_no_surplus(tmp_path):
    folder = make_folder(tmp_path / "model", "llama")
    expected = plain(folder)
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.full((16,), 7.0)}
    change_weights(folder, lambda weights: weights.update(old))
    assert_same(load_module(asking(folder)).language_model, expected)


def test_a_tensor_of_another_shape_is_refused(tmp_path):
    folder = make_folder(tmp_path / "model")
    change_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(65)}))
    with pytest.raises(DataError, match=r"norm.weight is \[65\], and its config.json makes it \[64\] \(model.s"):
        load_module(asking(folder))


def test_weights_of_pytorchs_own_are_refused(tmp_path):
    folder = make_folder(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"its weights are PyTorch's \*.bin alone, but \*.safetensors are needed"):
        load_module(asking(folder))


def test_a_hub_name_is_read_from_this_machines_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    home = tmp_path / "models--somebody--small"
    folder = make_folder(home / "snapshots/0123", shards="20KB")
    (home / "refs").mkdir()
    (home / "refs/main").write_text("0123")
    assert_same(load_module(asking("somebody/small")).language_model, plain(folder))


@pytest.mark.parametrize("shape", [(), (1,), (17,), (5, 7), (3, 4, 5), (1, 9), (9, 1), (0, 3)])
def test_every_slice_of_a_flattened_tensor_is_read(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(loading, "PIECE", 8)
    tensor = torch.randn(shape)
    save_file({"x": tensor}, tmp_path / "file")
    stored, flat = Stored(tmp_path / "file", "x", shape, True), tensor.reshape(-1)
    random.seed(0)
    ends = [sorted(random.choices(range(flat.numel() + 1), k=2)) for _ in range(60)]
    with loading.Reader() as reader:
        for start, end in [*ends, (0, flat.numel())]:
            found = torch.full((end - start,), float("nan"))
            for place, piece in reader.pieces(stored, start, end):
                assert piece.numel() <= max(8, 20)
                found[place] = piece
            assert torch.equal(found, flat[start:end]), (start, end)


def test_the_digests_of_a_copy_are_the_same_for_any_number_of_ranks_that_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(alike, "PIECE_BYTES", 100)
    files = [tmp_path / "a", tmp_path / "b"]
    for number, file in enumerate(files):
        file.write_bytes(random.Random(number).randbytes(1234))
    whole = alike.digests(files, 0, 1)
    assert len(whole) == 26
    shared = [alike.digests(files, share, 3) for share in range(3)]
    assert {piece: digest for each in shared for piece, digest in each.items()} == whole
    assert sum(map(len, shared)) == len(whole)
    body = bytearray(files[1].read_bytes())
    body[700] ^= 1
    files[1].write_bytes(body)
    assert [piece for piece, digest in alike.digests(files, 0, 1).items() if whole[piece] != digest] == [
        "b 000000000000700"
    ]


# --- on two ranks ----------------------------------------------------------------------------------------------------

STAGES = ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory):
    """What each of two ranks says of its policy and its reference, by ZeRO stage; one launch."""
    home = tmp_path_factory.mktemp("loading")
    wide = {"hidden_size": 512, "intermediate_size": 512, "tie_word_embeddings": True}
    models = odd_model(home / "odd"), make_model(home / "wide", **wide)
    on_two_ranks("load_on_ranks.py", *models, home, *STAGES)
    return lambda stage: [json.loads((home / f"zero{stage}-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_ranks_have_the_weights_that_transformers_loads(on_ranks, stage):
    for said in on_ranks(stage):
        assert said["other_weights"] == []
        assert said["shared_out"] == (stage == "3")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", STAGES)
def test_the_reference_is_half_on_each_rank_and_gives_the_log_probabilities_of_a_whole_one(on_ranks, stage):
    for said in on_ranks(stage):
        names = "float32", "bfloat16", "odd", "wide, in a later stage"
        assert said["same_logprobs"] == dict.fromkeys(names, True)
        assert said["reference_part"] == pytest.approx(0.5, abs=1e-3)
        assert said["gathered_after_a_pass"] == []
        assert said["linear_is_torchs"] == (stage != "3")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_ranks_memory_grows_by_its_part_and_one_tensor():
    said = said_by(PROOFS / "load_memory.py", "--megabytes 300 --ranks 2 --dtypes bfloat16 --stages 3 0")
    for stage, part in ((3, 300), (0, 600)):
        line = next(
            line.split() for line in said.splitlines() if line.startswith("bfloat16") and line.split()[2] == f"{stage}"
        )
        own, largest, growth, allowed, wrong = map(float, line[3:])
        assert own == pytest.approx(part, rel=0.1)
        assert own + largest < allowed < 1.8 * 600
        assert 0.9 * own < growth <= allowed
        assert wrong == 0
        if stage == 3:
            assert allowed < 0.9 * 600, "a whole model would fit in what is allowed"
