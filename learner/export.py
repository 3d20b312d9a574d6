"""``leeway export``: write a checkpoint as a Hugging Face folder, which ``from_pretrained`` and ``vllm serve`` load.

One process does it, whatever ZeRO stage and number of ranks wrote the checkpoint. Tokenizer, generation config and
config.json are the base model's own files, so that whatever reads the base model reads the folder; Leeway writes the
weights and the model card. The folder is whole or not there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.config import Config, config_in, expand
from ..common.errors import ConfigError, DataError, told
from ..common.files import path_of
from ..common.ledger import read, refuse_other_format
from ..common.metrics import read_steps
from ..common.stopping import stoppable

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("bfloat16", "float32")
_BESIDE_WEIGHTS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "*.model",
    "generation_config.json",
)
"""Files of the base model that are copied as they are."""


def export(run_folder: Path, out: Path, *, step: int | None = None, dtype: str | None = None) -> Path:
    """Write the checkpoint of training step ``step`` (default: the newest) of the run in ``run_folder`` to ``out``.

    ``dtype``: ``bfloat16`` or ``float32``. The default is the base model's own, or bfloat16 where that is neither.
    Where the run has its ledger, the weights must have the sha256 that the ledger gives for their version. Returns
    ``out``. Raises ``DataError`` for a missing run or base model, a missing or torn checkpoint, weights that are not
    the ledger's, and an ``out`` that is not empty.
    """
    config = config_of(run_folder)
    path = checkpoint_of(run_folder / "checkpoints", step)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out} is not empty; name a folder that is empty or does not exist")
    unfinished = out.absolute().parent / f".{out.absolute().name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise DataError(f"--out {out} cannot be made: {error.strerror}") from error
    try:
        _write(config, run_folder, path, unfinished, dtype)
        os.rename(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return out


def _write(config: Config, run_folder: Path, path: Path, folder: Path, dtype: str | None) -> None:
    from . import checkpoint
    from .files import saved_weights
    from .model_card import Origin, model_card
    from .packages import packages

    base = _base_folder(config)
    shape = json.loads((base / "config.json").read_text())
    named = shape.get("dtype", shape.get("torch_dtype"))
    dtype = dtype or (named if named in DTYPES else DTYPES[0])
    state = json.loads((path / checkpoint.STATE).read_text())
    made = json.loads((path / checkpoint.COMPLETE).read_text())
    published = _published(run_folder / "ledger.jsonl", state)
    if published is None and (names := checkpoint.changed(path, made)):  # with a ledger, weights are compared
        raise checkpoint.Damaged(path, names)

    _write_weights(config, base, saved_weights(path, made["layout"]["zero_stage"]), folder, dtype, published)
    for name in {file.name for pattern in _BESIDE_WEIGHTS for file in base.glob(pattern) if file.is_file()}:
        shutil.copyfile(base / name, folder / name)
    shape["dtype" if "dtype" in shape else "torch_dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(shape, indent=2) + "\n")
    origin = Origin(
        run=run_folder.name,
        version=state["version"],
        incarnation=state["incarnation"],
        ledger_line=state["ledger_line"],
        checksum=published,
        dtype=dtype,
        layout=made["layout"],
        trained_with=made.get("packages"),
        exported_with=packages(),
    )
    steps = [line for line in read_steps(run_folder) if line["version"] <= state["version"]]
    (folder / "README.md").write_text(model_card(config, origin, steps), encoding="utf-8")
    # They are written for their owner alone, but a server is often another user.
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json").stat().st_mode)
    checkpoint.all_to_disk(folder)


def _write_weights(
    config: Config, base: Path, weights: dict[str, Tensor], folder: Path, dtype: str, published: str | None
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    from ..common.tensors import FLOAT32, flatten
    from ..common.weights import checksum
    from .gathering import weights_of

    logging.disable_progress_bar()
    with torch.device("meta"):  # the checkpoint's tensors are put in place, so there is no second copy
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base), dtype=torch.float32)
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise DataError(f"model {config.model.path} is not what this run trained: {error}") from error
    model.tie_weights()
    found = checksum(flatten(weights_of(model), config.weights.dtype).buffer) if published else None
    if found != published:
        raise DataError(
            f"the checkpoint's weights have the checksum {found}; the ledger has {published} for the version that was "
            "published: checkpoint and ledger are not of one run"
        )
    exact = {name: buffer for name, buffer in weights_of(model).items() if name.endswith(FLOAT32)}
    model.to(getattr(torch, dtype)).load_state_dict(exact, strict=False, assign=True)
    model.save_pretrained(folder, max_shard_size="5GB")


def config_of(run_folder: Path) -> Config:
    """The configuration of the run in ``run_folder``. ``DataError`` where there is none, or where the run is of another
    format."""
    path = run_folder / "config.toml"
    if not path.is_file():
        raise DataError(f"{path}: no such run; runs are under --runs-dir")
    refuse_other_format(run_folder)
    return config_in(path)


def checkpoint_of(folder: Path, step: int | None) -> Path:
    """The checkpoint of ``step`` in ``folder``; by default the newest. ``DataError`` says which are there."""
    from . import checkpoint

    if step is None:
        path = checkpoint.newest(folder)
        if path is None:
            raise DataError(f"{folder} has no complete checkpoint; the first comes after train.checkpoint_every steps")
        return path
    path = checkpoint.path_of(folder, step)
    if not path.is_dir():
        there = ", ".join(str(checkpoint.step_of(found)) for found in reversed(checkpoint.complete(folder))) or "none"
        raise DataError(f"{folder} has no checkpoint of step {step}; there is {there}")
    if not checkpoint.is_complete(path):
        raise DataError(f"checkpoint {path} is not complete: files are missing or cut short")
    return path


def _base_folder(config: Config) -> Path:
    """The folder with the base model's config and tokenizer. They are downloaded where the model is a hub name."""
    path = Path(expand(config.model.path))
    if (path / "config.json").is_file():
        return path
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(str(path), allow_patterns=["config.json", *_BESIDE_WEIGHTS]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"model.path = {config.model.path!r}: the base model's config and tokenizer are needed: {reason}"
        ) from error


def _published(ledger: Path, state: dict[str, Any]) -> str | None:
    """The checksum of the checkpoint's version as it was published. ``None`` without a ledger and for the initial
    model. ``DataError`` where an older Leeway wrote the ledger."""
    if not ledger.exists():
        return None
    found = None
    for line in itertools.takewhile(lambda line: line["line"] <= state["ledger_line"], read(ledger)):
        if line["event"] == "step" and "checksum" in line:
            raise DataError(
                f"{ledger}: line {line['line']} is an older Leeway's, which sums weights in another way: export the "
                "run with the Leeway that trained it"
            )
        if line["event"] == "published" and line["version"] == state["version"]:
            found = line["checksum"]
    return found


def main() -> int:
    """Parse the arguments and export."""
    parser = argparse.ArgumentParser(prog="leeway export", description=__doc__)
    parser.add_argument("run", help="the run's id")
    parser.add_argument("--out", type=path_of, help="folder to write; it must be empty or not exist yet")
    parser.add_argument("--step", type=int, help="the checkpoint's training steps; the newest checkpoint by default")
    parser.add_argument("--dtype", choices=DTYPES, help="dtype of the exported weights; the base model's by default")
    parser.add_argument("--runs-dir", type=path_of, default=Path("runs"), help="where runs/ID/ folders are")
    parser.add_argument("--push", metavar="ORG/NAME", help="push it to the hub, into this repository")
    parser.add_argument("--public", action="store_true", help="with --push: the repository may be public")
    arguments = parser.parse_args()
    return told("leeway export", lambda: _exported(arguments))


def _exported(arguments: argparse.Namespace) -> None:
    """Export, push where that is asked, and print where the model is now."""
    if arguments.out is None and arguments.push is None:
        raise ConfigError("name a folder with --out, or a repository of the hub with --push, or both")
    if arguments.public and arguments.push is None:
        raise ConfigError("--public says what a repository of the hub may be: it goes with --push ORG/NAME")
    folder, hub = arguments.runs_dir / arguments.run, None
    if arguments.push is not None:
        from .hub import Hub

        hub = Hub(arguments.push, public=arguments.public)
        config_of(folder)  # a run that is not there is no reason for a repository
        hub.make_ready()
    with ExitStack() as holding:
        out = arguments.out or Path(holding.enter_context(tempfile.TemporaryDirectory(prefix=".export-", dir=folder)))
        export(folder, out, step=arguments.step, dtype=arguments.dtype)
        if arguments.out is not None:  # the other folder is gone before anybody could look
            print(out)
        if hub is not None:
            print(hub.push(out, f"Run {arguments.run}, exported by leeway export"))


if __name__ == "__main__":
    sys.exit(stoppable(main))
