"""The releases that pyproject.toml lets in are those that these tests run on."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from leeway_rl.common.preflight.vllm_cpu import MEASURED
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PINNED = {"torch": "torch", "deepspeed": "deepspeed", "vllm-cpu": "vllm-cpu", "vllm": "vllm-cpu"}
"""By the name in pyproject.toml, the installed package that stands for it: vLLM's build for GPUs has the CPU build's
release."""


def allowed(name):
    """What every extra that names the package lets in."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = [Requirement(text) for words in extras.values() for text in words]
    return [requirement.specifier for requirement in found if requirement.name == name]


@pytest.mark.parametrize("name", PINNED)
def test_a_newer_release_is_let_in_only_where_these_tests_run_on_it(name):
    """Leeway leans on what these packages do inside (docs/reference/dependencies.md), which a next release may
    change."""
    tested = version(PINNED[name]).partition("+")[0]
    major, minor = map(int, tested.split(".")[:2])
    newer = [f"{major}.{minor + 1}.0", f"{major}.{minor + 1}.0.dev1", f"{major + 1}.0.0"]
    for specifier in allowed(name):
        assert tested in specifier, f"{name}{specifier} shuts out {tested}, on which these tests run"
        let_in = [release for release in newer if specifier.contains(release, prereleases=True)]
        assert not let_in, f"{name}{specifier} lets in {let_in}: run the tests on it first, and raise the pin with them"
    assert allowed(name)


def test_the_widths_of_attention_heads_were_measured_for_the_installed_vllm():
    assert version("vllm-cpu") in MEASURED


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_what_installs_torch_beforehand_takes_the_release_that_the_tests_run_on(file):
    (named,) = set(re.findall(r"torch==([\d.]+)", (ROOT / file).read_text()))
    assert named == version("torch").partition("+")[0]
