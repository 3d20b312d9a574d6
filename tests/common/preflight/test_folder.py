"""What is no model folder, or not a whole one, is told from its files alone."""

import json
import os
import shutil

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.preflight.folder import INDEX, LFS_POINTER, WEIGHTS, read_folder, read_header
from leeway_rl.common.preflight.model import check_model
from safetensors.torch import load_file, save_file

from tests.model_folders import asking, make_folder

POINTER = LFS_POINTER + b"/v1\noid sha256:0123\nsize 269060552\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("sharded") / "model", shards="30KB")


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture
def copied_shards(sharded, tmp_path):
    return shutil.copytree(sharded, tmp_path / "model")


def test_headers_tell_what_the_files_hold(whole, sharded):
    held = {name: (str(t.dtype), tuple(t.shape)) for name, t in load_file(whole / WEIGHTS).items()}
    read = read_folder(whole, weights=True).tensors
    assert {name: ("torch.float32", header.shape) for name, header in read.items()} == held
    assert {header.dtype for header in read.values()} == {"F32"}
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert read_folder(sharded, weights=True).tensors == read


def refused(folder, message):
    with pytest.raises(DataError, match=message):
        check_model(asking(folder), "train", "sample")


def test_a_folder_that_is_something_else_says_what_it_is(copy, tmp_path):
    refused(tmp_path / "nowhere", "there is no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "it has no config.json")
    (tmp_path / "model.gguf").touch()
    refused(tmp_path / "model.gguf", "it is a GGUF file, no model folder")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf/m.gguf").touch()
    refused(tmp_path / "gguf", "it has GGUF files and no config.json")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    refused(tmp_path / "adapter", r"it is a LoRA adapter without its model: merge it .*merge_and_unload")
    (tmp_path / "runs/mine/checkpoints/20").mkdir(parents=True)
    refused(tmp_path / "runs/mine", "it is a run's folder: leeway export mine --out MODEL")
    refused(tmp_path / "runs/mine/checkpoints/20", "it is a checkpoint of a run: leeway export mine --out MODEL")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", r"its weights are PyTorch's \*.bin alone, but \*.safetensors are needed"),
        ("model-q4.gguf", "its weights are GGUF alone"),
        ("adapter_model.safetensors", "it is a LoRA adapter without its model"),
        ("model-00001-of-00002.safetensors", f"neither model.safetensors nor {INDEX}"),
        (None, r"it has no \*.safetensors: its weights are not there"),
    ],
)
def test_weights_of_another_kind_are_named(copy, name, message):
    (copy / WEIGHTS).unlink()
    if name is not None:
        (copy / name).touch()
    refused(copy, message)
    read_folder(copy, weights=False)  # a rollout worker gets them by Redis


def test_a_pointer_of_git_lfs_is_no_file(copy):
    for name in ("tokenizer.json", WEIGHTS, "config.json"):
        (copy / name).write_bytes(POINTER)
        refused(copy, rf"{name}.* is a pointer of git-lfs .*git lfs pull")


def test_a_file_that_breaks_off_is_told_from_its_length(copy):
    size = (copy / WEIGHTS).stat().st_size
    os.truncate(copy / WEIGHTS, size - 1)
    refused(copy, rf"{WEIGHTS} is not whole: {size - 1} bytes, and its header says {size}")
    os.truncate(copy / WEIGHTS, 100)
    refused(copy, rf"{WEIGHTS} is no safetensors file, or breaks off in its header \(100 bytes\)")
    os.truncate(copy / WEIGHTS, 0)
    refused(copy, r"breaks off in its header \(0 bytes\)")
    (copy / WEIGHTS).write_bytes((5).to_bytes(8, "little") + b"[1,2]")
    refused(copy, "its header cannot be read")


def test_a_shard_that_is_missing_or_holds_other_tensors_is_named(copied_shards):
    first, second, *_ = sorted(copied_shards.glob("*.safetensors"))
    tensors = load_file(first)
    save_file(dict(list(tensors.items())[1:]), first, metadata={"format": "pt"})
    refused(copied_shards, rf"{INDEX} says that {first.name} holds {next(iter(tensors))}, and it does not")
    second.unlink()
    save_file(tensors, first, metadata={"format": "pt"})
    refused(copied_shards, rf"{INDEX} names {second.name}, which is not there")
    (copied_shards / INDEX).write_text(json.dumps({"metadata": {}}))
    refused(copied_shards, "has no weight_map")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not JSON"), ("[]", "holds list; expected an object"), ("{}", "no model_type")]
)
def test_a_config_that_says_nothing_is_refused(copy, text, message):
    (copy / "config.json").write_text(text)
    refused(copy, message)


def test_a_header_with_sizes_that_do_not_meet_is_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(DataError, match=r"w is F32 \[2, 2\], but has 8 bytes"):
        read_header(tmp_path / "w.safetensors")
