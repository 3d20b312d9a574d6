"""The wheel works outside the checkout, in an environment of its own; and the constraints fit what is asked for."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.integration.running import environment

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The ``leeway`` of an environment that has the wheel and, from this one, what it needs; and an empty folder."""
    home = tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source = home / "source"  # a build leaves files in its source
    # Byte code comes and goes meanwhile: other tests import the checkout.
    others = (".*", "runs", "build", "tests", "docs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*others))
    wheels = home / "wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)], check=True
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    python = home / "venv" / "bin" / "python"
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((home / "venv" / "lib").glob("python*/site-packages"))
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # its own .pth files are not read there
    (home / "empty").mkdir()
    return home / "venv" / "bin" / "leeway", home / "empty"


def leeway(installed, *words: str) -> str:
    program, folder = installed
    done = subprocess.run(
        [program, *words], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wheel_trains_in_an_empty_folder_and_has_its_presets_studies_and_templates(installed):
    program, folder = installed
    python = program.with_name("python")
    where = [python, "-c", "import leeway_rl; print(leeway_rl.__file__)"]
    assert str(program.parent.parent) in subprocess.run(where, cwd=folder, capture_output=True, text=True).stdout
    assert re.fullmatch(r"leeway \d+\.\d+\.\d+\n", leeway(installed, "--version"))
    assert "staleness" in leeway(installed, "study", "--list")
    leeway(installed, "init", "my-task")
    leeway(installed, "up", "--preset", "tiny", "--run", "first", "--set", "train.steps=2")
    assert "the bound held" in leeway(installed, "audit", "first")


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints-cpu.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def test_the_constraints_fit_every_requirement():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional, versions = project["optional-dependencies"], pinned()
    on_a_cpu = re.fullmatch(r"leeway-rl\[(.*)\]", optional["cpu"][0])[1].split(",")
    for text in [*project["dependencies"], *(each for extra in on_a_cpu for each in optional[extra])]:
        asked = Requirement(text)
        if asked.marker is None or asked.marker.evaluate():
            name = canonicalize_name(asked.name)
            assert name in versions, f"constraints-cpu.txt lacks {name}"
            assert asked.specifier.contains(versions[name]), f"{name} {versions[name]} is not {asked.specifier}"
