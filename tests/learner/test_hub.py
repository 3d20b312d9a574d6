"""What an export pushes to the hub, and to whom. The hub is a double on the loopback: the real one was never asked."""

import shlex
import sys

import pytest
from hub_double import HubDouble
from huggingface_hub import constants
from leeway_rl.common.errors import DataError
from leeway_rl.learner.export import main
from leeway_rl.learner.hub import Hub
from safetensors.torch import load

from tests.releases.freeze import RUN, unpacked
from tests.test_releases import RELEASES

PUSH = "leeway export my-run --push my-org/my-model"
"""As documented in docs/how-to/checkpoints-elsewhere.md, of another run."""
TOKEN = "hf_of_the_tests"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


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

    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def exported(*words, token=TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(sys, "argv", ["leeway export", RUN, "--runs-dir", str(runs), *words])
        code = main()
        return code, *capsys.readouterr()

    return exported


def test_a_push_makes_a_private_repository_with_the_model_and_its_card_and_nothing_else(hub, runs, export):
    code, said, errors = export(*shlex.split(PUSH)[3:])
    assert code == 0, errors
    assert f"{hub.url}/my-org/my-model/commit/abc" in said
    assert hub.private == {"my-org/my-model": True}
    files = hub.files["my-org/my-model"]
    weights = {"model.safetensors", "config.json", "generation_config.json"}
    assert files.keys() == weights | {"README.md", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert len(load(files["model.safetensors"])) == 15
    assert b"equal, bit for bit, to what the run published" in files["README.md"]
    assert TOKEN not in said + errors
    assert ".export-" not in said, "that folder is gone"
    assert list((runs / RUN).glob(".export-*")) == []


@pytest.mark.usefixtures("export")
def test_a_repository_is_public_where_that_is_asked_for_and_none_that_is_gets_weights_otherwise(hub):
    Hub("me/open", public=True).make_ready()
    assert hub.private == {"me/open": False}
    with pytest.raises(DataError, match="that repository is public; --public says that these weights may be"):
        Hub("me/open", public=False).make_ready()


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
