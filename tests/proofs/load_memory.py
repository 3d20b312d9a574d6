"""What a learner rank's memory grows by while it loads its model, and whether the weights are right.

::

    python tests/proofs/load_memory.py [--megabytes 1000] [--ranks 2 4] [--stages 3] [--dtypes bfloat16 float32]

A model of random weights is written in that many megabytes (10^6 bytes) of safetensors files. Real ranks, over gloo,
load it as the learner does. A thread of each looks at the rank's anonymous memory (RssAnon) every two milliseconds;
pages of the mapped files are not part of that, because the kernel takes them back where memory is short. A small model
is loaded first, so that what is imported and set up with the first model is there before.

Must hold, on every rank: the peak is above the memory before the load by no more than the rank's part of the weights in
float32 (below ZeRO stage 3: all of them), the largest tensor in float32, and 100 MB; and each parameter, gathered from
the ranks, is bit for bit what the file holds. Exit code 1 otherwise.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.measure import Table, parser_of
from leeway_rl.common.config import Config
from leeway_rl.common.preflight.folder import read_header

MB = 1e6
ALLOWED_MB = 100.0
RANK = "--as-rank"
LOOK_S = 0.002
VOCABULARY = 40_000


def shape_of(megabytes: float, dtype: str) -> dict[str, Any]:
    """A Qwen2's sizes, so that its weights take ``megabytes`` or a little more in ``dtype``. Its embedding, which is
    tied, is the largest tensor."""
    count = megabytes * MB / (2 if dtype == "bfloat16" else 4)
    hidden = 2048 if count > 4e8 else 1024 if count > 2e8 else 512
    layer = 2 * hidden * hidden + 2 * hidden * hidden // 2 + 3 * hidden * 3 * hidden
    vocabulary = min(VOCABULARY, int(count / 4 / hidden))
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": max(1, ceil((count - vocabulary * hidden) / layer)),
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 128,
        "tie_word_embeddings": True,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def make_model(folder: Path, megabytes: float, dtype: str) -> None:
    """Write the model, a file for each layer, so that no more than one is in memory."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(**shape_of(megabytes, dtype))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(0)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    files: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        files.setdefault(name.partition(".layers.")[2].partition(".")[0] or "rest", {})[name] = parameter
    for number, (_, held) in enumerate(files.items()):
        drawn = {name: (torch.randn(each.shape) / 8).to(getattr(torch, dtype)) for name, each in held.items()}
        save_file(drawn, folder / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
    where = {name: f"model-{number:05d}.safetensors" for number, held in enumerate(files.values()) for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def config_of(folder: str, stage: int) -> Config:
    """A learner's configuration for the model, under ZeRO ``stage``."""
    train = {"steps": 1, "groups_per_step": 1, "group_size": 2, "max_response_tokens": 8, "micro_batch_tokens": 16}
    return Config.model_validate(
        {
            "model": {"path": folder, "dtype": "float32"},
            "data": {"path": "none.jsonl", "max_prompt_tokens": 8},
            "train": {**train, "zero_stage": stage},
        }
    )


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("RssAnon:")[2].split()[0])


@contextmanager
def watched() -> Iterator[list[int]]:
    """A list with one number, the peak of anonymous memory within the context."""
    peak, over = [anonymous()], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak[0] = max(peak[0], anonymous())


def as_rank(small: str, folder: str, stage: str, out: str) -> None:
    """On one rank of torchrun: load the model as the learner does, and leave what it took in ``out``."""
    import torch
    from leeway_rl.learner.engine_settings import deepspeed_settings
    from leeway_rl.learner.model import load_on_ranks
    from leeway_rl.learner.ranks import join_ranks, rank

    torch.set_num_threads(1)
    join_ranks()
    config, cpu = config_of(folder, int(stage)), torch.device("cpu")
    share_out = deepspeed_settings(config) if stage == "3" else None
    load_on_ranks(config_of(small, int(stage)), cpu, share_out)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = anonymous()
    with watched() as peak:
        module = load_on_ranks(config, cpu, share_out)
    found = {"growth": peak[0] - before, "wrong": wrong(Path(folder), module)}
    Path(out, f"rank-{rank()}.json").write_text(json.dumps(found))


def wrong(folder: Path, module: Any) -> list[str]:
    """Names of parameters that are not what the files hold. The files' tensors are read whole, one at a time."""
    import deepspeed
    import torch
    from safetensors import safe_open

    named, seen, other = module.named_weights(), 0, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in read_header(file):
                with deepspeed.zero.GatheredParameters([named[name]]):
                    due = opened.get_tensor(name).to(torch.float32)
                    if not torch.equal(named[name].detach().view(torch.int32), due.view(torch.int32)):
                        other.append(name)
                seen += 1
    return other + ([] if seen == len(named) else [f"{len(named) - seen} parameters that are in no file"])


def on_ranks(ranks: int, small: str, folder: str, stage: int) -> list[dict[str, Any]]:
    """What each rank found."""
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    with tempfile.TemporaryDirectory() as out:
        words = [*launcher, "--", __file__, RANK, small, folder, str(stage), out]
        own = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the ranks ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return [json.loads(Path(out, f"rank-{number}.json").read_text()) for number in range(ranks)]


def main() -> int:
    """Write the models, load each on each number of ranks, and print what the ranks grew by."""
    if sys.argv[1:2] == [RANK]:
        as_rank(*sys.argv[2:])
        return 0
    parser = parser_of(__doc__)
    parser.add_argument("--megabytes", type=float, default=1000.0, help="size of the model's files")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], help="numbers of ranks")
    parser.add_argument("--dtypes", nargs="+", choices=["bfloat16", "float32"], default=["bfloat16", "float32"])
    parser.add_argument("--stages", type=int, nargs="+", choices=range(4), default=[3], help="ZeRO stages")
    words, failed = parser.parse_args(), 0
    numbers = ("part:.0f", "largest:.0f", "growth:.0f", "allowed:.0f", "parameters wrong", "MB")
    table = Table("dtype:<10", "ranks", "ZeRO", *numbers)
    with tempfile.TemporaryDirectory() as small:
        make_model(Path(small), 1.0, "float32")
        for dtype in words.dtypes:
            with tempfile.TemporaryDirectory() as folder:
                make_model(Path(folder), words.megabytes, dtype)
                for ranks, stage in product(words.ranks, words.stages):
                    line = held_to_it(on_ranks(ranks, small, folder, stage), Path(folder), stage)
                    table.line(dtype, ranks, stage, *line)
                    failed += line[2] > line[3] or line[4] > 0
    return 1 if failed else 0


def held_to_it(found: list[dict[str, Any]], folder: Path, stage: int) -> tuple[float, float, float, float, int]:
    """Part, largest tensor, growth of the rank that grew most, what it may grow by (10^6 bytes), and the number of
    parameters that were wrong on some rank."""
    held = [prod(each.shape) for file in folder.glob("*.safetensors") for each in read_header(file).values()]
    part, largest = 4 * sum(held) / (len(found) if stage == 3 else 1) / MB, 4 * max(held) / MB
    growth = max(each["growth"] for each in found) / MB
    return part, largest, growth, part + largest + ALLOWED_MB, len({name for each in found for name in each["wrong"]})


if __name__ == "__main__":
    sys.exit(main())
