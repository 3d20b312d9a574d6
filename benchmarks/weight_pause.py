"""How long does rollout stand still for a new version? Real vLLM, weights taken in flight.

::

    python benchmarks/weight_pause.py [--steps 12] [--rounds 6] [--set KEY=VALUE …]

First ``tiny``: there is one run of ``leeway up`` for each ``rollout.kv_on_update``. The pause is what the engine itself
measures (``weights/paused_s`` in ``workers.jsonl``): seconds in which no token could be sampled, for every version but
the first, before which there is nothing to pause. Everything shares the machine's cores. ``share`` is the pause as a
share of the whole time in which a version is taken in: fetched, decoded, checked and loaded. A worker that paused while
it fetched would stand still all that time.

Then one engine with a random model of about 100 million bfloat16 parameters takes the same versions in two ways, in
turns: from the node's copy, which it maps, and from a file of its own, which is written for it first (as an engine does
that gets tensors alone). ``ratio`` is mapped to written.

Must hold: for ``tiny``, a pause of at most 0.3 s, in the median and at most.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed
from leeway_rl.common.config import Rollout, expand

MOST_S = 0.3
TIMES = ("fetch_s", "load_s", "paused_s")
LARGER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


def pauses(folder: Path, run: str) -> np.ndarray:
    """Seconds of pause for every loaded version after the first, float64 [n]."""
    return times(folder, run)[:, TIMES.index("paused_s")]


def times(folder: Path, run: str) -> np.ndarray:
    """Seconds of ``TIMES`` for every loaded version after the first, float64 [n, 3]."""
    lines = [json.loads(line) for line in (folder / "runs" / run / "workers.jsonl").read_text().splitlines()]
    return np.array([[line[f"weights/{name}"] for name in TIMES] for line in lines if "weights/paused_s" in line][1:])


def in_runs(steps: int, settings: list[str]) -> bool:
    """Print a line for each mode; return whether every pause was short enough."""
    table = Table("kv_on_update", "versions:d", "fetch s:.3f", "pause s:.3f", "longest s:.3f", "share:.2f")
    held = True
    for mode in get_args(Rollout.model_fields["kv_on_update"].annotation):
        pairs = ["rollout.engine=vllm", f"rollout.kv_on_update={mode}", f"train.steps={steps}", *settings]
        words = ["up", "--preset", "tiny", "--run", mode, *(word for pair in pairs for word in ("--set", pair))]
        command = [sys.executable, "-c", "from leeway_rl.leeway.cli import main; main()", *words]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            fetch, load, pause = times(Path(folder), mode).T
        held &= bool(pause.max() <= MOST_S)
        table.line(mode, len(pause), np.median(fetch), np.median(pause), pause.max(), np.median(pause / (fetch + load)))
    return held


def in_one_engine(rounds: int) -> None:
    """Print what a version costs one engine that maps it, and one that has it written first."""
    import torch
    from leeway_rl.rollout.vllm_engine import VllmEngine
    from safetensors.torch import save_file
    from transformers import AutoConfig, Qwen2ForCausalLM

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text) / "model"
        shutil.copytree(expand("{presets}/tiny/model"), folder)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        layers = LARGER["num_hidden_layers"]
        larger = config | LARGER | {"num_key_value_heads": 12, "layer_types": ["full_attention"] * layers}
        (folder / "config.json").write_text(json.dumps(larger))
        model = Qwen2ForCausalLM(AutoConfig.from_pretrained(folder)).bfloat16()
        versions = [{name: tensor + 0.001 * number for name, tensor in model.named_parameters()} for number in (0, 1)]
        size = sum(tensor.nbytes for tensor in versions[0].values())
        shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(text)
        with tempfile.TemporaryDirectory(dir=shared) as node, torch.inference_mode():
            files = [Path(node) / f"{number}.safetensors" for number in (0, 1)]
            for file, version in zip(files, versions, strict=True):
                save_file(version, file)
            engine = VllmEngine(str(folder), dtype="bfloat16", worker="w", max_model_len=64, max_num_seqs=4)

            def load(mapped: bool) -> tuple[float, float]:
                which = (engine.version + 1) % 2
                file = files[which] if mapped else None
                return timed(engine.load, engine.version + 1, versions[which], file)

            try:
                ways = {"mapped": lambda _: load(True), "written first": lambda _: load(False)}
                found = list(in_turns(rounds, ways, warm_up=1))
            finally:
                engine.close()
        print(f"a version of {size / 1e6:.0f} MB, medians of {rounds} rounds")
        table = Table("way", "load s:.3f", "pause s:.3f")
        medians = {way: np.median([each[way] for each in found], axis=0) for way in ways}
        for way, (whole, pause) in medians.items():
            table.line(way, whole, pause)
        table.line("ratio", *(medians["mapped"] / medians["written first"]))


def main() -> None:
    """Print both tables; exit with 1 if a pause of ``tiny`` is too long."""
    given = parser_of(__doc__, steps=12, rounds=6, settings=True).parse_args()
    print(load_of_this_machine())
    held = in_runs(given.steps, given.set)
    print(f"must hold: at most {MOST_S} s")
    in_one_engine(given.rounds)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
