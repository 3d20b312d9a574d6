"""What an export pushes to the hub, and to whom. The hub is a double on the loopback: the real one was never asked."""

import sys

import pytest
from hub_double import HubDouble
from huggingface_hub import constants
from leeway_rl.learner.export import main

from tests.releases.freeze import RUN, unpacked
from tests.test_releases import RELEASES

TOKEN = "hf_of_the_tests"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a finished run."""
    newest = max(RELEASES.glob("*.tar.xz"))
    return unpacked(newest, tmp_path_factory.mktemp("left")) / "finished"


@pytest.fixture
def hub():
    with HubDouble(TOKEN) as double:
        yield double


@pytest.fixture
def export(hub, runs, monkeypatch, capsys):
    """A function that is ``leeway export`` of the run, with these words: (exit code, output, errors)."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # HF_ENDPOINT, which is read once when it is imported
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(runs / "no-token"))

    def exported(*words, token=TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(sys, "argv", ["leeway export", RUN, "--runs-dir", str(runs), *words])
        code = main()
        return code, *capsys.readouterr()

    return exported


def test_a_push_makes_a_private_repository_with_the_model_and_its_card_and_nothing_else(hub, export, tmp_path):
    code, said, errors = export("--push", "me/my-model", "--out", str(tmp_path / "model"))
    assert code == 0, errors
    assert f"{hub.url}/me/my-model/commit/abc" in said
    assert hub.private == {"me/my-model": True}
    files = hub.files["me/my-model"]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert not [name for name in files if name.endswith((".pt", ".json")) and "state" in name]
    assert b"equal, bit for bit, to what the run published" in files["README.md"]
    assert TOKEN not in said + errors


def test_without_a_folder_nothing_is_left_here_and_a_public_one_is_asked_for_by_word(hub, export, runs):
    code, _, errors = export("--push", "me/open", "--public")
    assert code == 0, errors
    assert hub.private == {"me/open": False}
    assert list((runs / RUN).glob(".export-*")) == []
    code, _, errors = export("--push", "me/open")
    assert code == 3
    assert "that repository is public; --public says that these weights may be" in errors


def test_what_cannot_be_pushed_is_said_before_anything_is_exported(hub, export, tmp_path):
    out = tmp_path / "model"
    for words, token, due, said in (
        (["--push", "me/my-model"], "", 2, "there is no token for the hub: set HF_TOKEN"),
        (["--push", "me/my-model"], "hf_of_another", 3, "401"),
        (["--push", "my-model"], TOKEN, 2, "expected ORG/NAME"),
        (["--public"], TOKEN, 2, "it goes with --push"),
    ):
        code, _, errors = export(*words, "--out", str(out), token=token)
        assert (code, said in errors) == (due, True), errors
    code, _, errors = export()
    assert (code, "name a folder with --out, or a repository" in errors) == (2, True)
    assert (hub.private, out.exists()) == ({}, False)
