"""A hub name is looked up in this machine's cache first, and told in seconds where it cannot be had."""

import shutil
from dataclasses import replace

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.preflight import hub
from leeway_rl.common.preflight.model import check_model
from leeway_rl.leeway.evaluating.sampling import dtype_of
from leeway_rl.leeway.planning.arithmetic import shape_of

from tests.model_folders import asking

NAME = "somebody/a-model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's, as huggingface_hub lays it out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--somebody--a-model"


def test_a_cached_model_is_checked_as_a_folder_is(cache, tiny_model):
    assert hub.folder_of(NAME) is None
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    snapshot = cache / "snapshots" / ("0" * 40)
    shutil.copytree(tiny_model, snapshot)
    assert hub.folder_of(NAME) == snapshot
    check_model(asking(NAME), "train", "sample")
    with pytest.raises(DataError, match="is more than the context of model"):
        check_model(asking(NAME, "train.max_response_tokens=1000"), "train")
    held = shape_of(NAME)
    assert held == shape_of(str(tiny_model))
    assert dtype_of(NAME) == dtype_of(str(tiny_model)) == "float32"
    (snapshot / "model.safetensors").unlink()  # the hub has it
    check_model(asking(NAME), "train", "sample")
    assert shape_of(NAME) == replace(held, weights_here=False)


def test_without_leave_to_ask_it_is_told_at_once(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=rf"'{NAME}': .* nor a copy .*, and HF_HUB_OFFLINE forbids asking the hub"):
        check_model(asking(NAME), "train")
    assert check_model(asking(NAME), "train", dry_run=True) is None


def test_a_hub_that_cannot_be_reached_is_told(cache, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"nor a copy of that name .*, and the hub cannot be reached \(\w+\)"):
        check_model(asking(NAME), "train")


def test_a_folder_of_such_a_name_goes_before_the_hub(tmp_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, tmp_path / NAME)
    assert not hub.is_hub_name(NAME)
    check_model(asking(NAME), "train", "sample")
    assert not hub.is_hub_name("a/b/c")
    assert not hub.is_hub_name("./a")
