"""Short fingerprints of inputs and of how they were judged. A command that goes on after a stop compares them first."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Config, Verifier, expand
from .files import checksum

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = 16
"""Hexadecimal digits of a fingerprint. Among a billion things, two share one with a chance of 3 %, so the thousands in
a file all differ."""
PACKAGE = Path(__file__).resolve().parent.parent
JUDGES = (
    "verifier/**/*.py",
    "common/sandbox/**/*.py",
    "common/ground_truth.py",
    "common/golds.py",
    "common/long_integers.py",
)
"""The code that a verdict depends on, in ``PACKAGE``."""
_LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy", "reasoning-gym")
NO_VERDICT = frozenset({"workers", "jobs", "on_timeout", "allow_unsandboxed"})
"""Keys of the section ``verifier`` that change how fast or by whom responses are judged, but no verdict."""


def fingerprint(*values: Any) -> str:
    """``LETTERS`` hexadecimal digits for any plain values. The order of an object's keys does not matter."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LETTERS]


def judged_by(settings: Verifier) -> str:
    """What a verdict depends on beside its row: the verifier's keys that differ from their defaults, and its code."""
    said = settings.model_dump(mode="json", exclude=set(NO_VERDICT), exclude_defaults=True)
    words = [f"{key}={value}" for key, value in sorted(said.items())]
    return " ".join([*words, f"verifier {verifier_version()}"])


@cache
def verifier_version() -> str:
    """The fingerprint of the verifier's code in this install and of the libraries that it asks."""
    files = sorted(path for pattern in JUDGES for path in PACKAGE.glob(pattern))
    return fingerprint([checksum(path) for path in files], {name: version_of(name) for name in _LIBRARIES})


def version_of(package: str) -> str:
    """The version of an installed package; ``none`` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


WHOLE_BYTES, END_BYTES = 64 << 20, 1 << 20
"""Files up to the first number of bytes are read whole. Larger ones give their size and the second number of bytes at
both ends."""


def of_run_inputs(config: Config) -> dict[str, str]:
    """The fingerprints of the rows and the model that ``data.path`` and ``model.path`` name, by key; of several sources
    by ``data.NAME.path``, of models of the KL terms by ``reference PATH``. What is not on this machine is left out."""
    rows = {key: Path(expand(path)) for key, path in data_paths(config).items()}
    found = {key: checksum(path)[:LETTERS] for key, path in rows.items() if path.is_file()}
    models = {"model.path": config.model.path}
    models |= {f"reference {path}": path for path in config.references if path != config.model.path}
    for key, path in models.items():
        folder = Path(expand(path))
        if files := sorted(each for each in folder.iterdir() if each.is_file()) if folder.is_dir() else []:
            found[key] = fingerprint({each.name: _of_file(each) for each in files})
    return found


def data_paths(config: Config) -> dict[str, str]:
    """``path`` of every source of prompts, by its key."""
    if not config.source_names:
        return {"data.path": config.source.path}
    return {f"data.{source.name}.path": source.path for source in config.sources}


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    if size <= WHOLE_BYTES:
        return checksum(path)
    with path.open("rb") as file:
        first = file.read(END_BYTES)
        file.seek(-END_BYTES, os.SEEK_END)
        return fingerprint(size, hashlib.sha256(first).hexdigest(), hashlib.sha256(file.read()).hexdigest())


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The fingerprint of what makes tokens of messages: the vocabulary, its rules and the chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = tokenizer.get_vocab() if backend is None else backend.to_str()
    return fingerprint(rules, tokenizer.chat_template, sorted(map(str, tokenizer.all_special_tokens)))
