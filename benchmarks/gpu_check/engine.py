"""vLLM on the device: its start, a version in flight, how near log-probabilities are, and what kill -9 gives back.

It needs vLLM and Leeway as an installed package (vLLM finds Leeway's weight transfer by its entry point), as the image
has them.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import torch
from leeway_rl.benchmarks.gpu_check.device import device, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.benchmarks.gpu_check.learner import QWEN_1_5B, TINY, random_model, ticket_of

SIZES: dict[str, tuple[dict[str, int], int, int, int]] = {
    "full": (QWEN_1_5B, 512, 2048, 16),
    "small": (TINY, 16, 240, 4),
}
"""The model, tokens of the prompt, tokens of a response at most, and responses of the group."""
HELD = "held: "
TRIES = 5
"""How often a version is sent into responses: they are over before it comes where those before took much longer."""
FREED_S = 60
"""How long the memory of killed processes may take to come back."""


def measured(size: str) -> list[Figure]:
    """Figures of one engine, then of a second one that is killed."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _write(folder, size)
        return [*_in_flight(folder, size), *_killed(folder, size)]


def _write(folder: Path, size: str) -> None:
    """A model folder with a tokenizer, as vLLM asks for one. The words do not matter: nothing is turned into text."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    keys, prompt, response, _ = SIZES[size]
    random_model(keys, prompt + response).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(keys["vocab_size"])}, unk_token="t2"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="t1", pad_token="t0").save_pretrained(folder)


def _engine(folder: Path, size: str) -> Any:
    from leeway_rl.rollout.vllm_engine import VllmEngine

    _, prompt, response, responses = SIZES[size]
    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    return VllmEngine(
        str(folder),
        dtype=dtype,
        worker="check",
        max_model_len=prompt + response,
        max_num_seqs=responses,
        gpu_memory_utilization=0.5,
    )


def _tensors(folder: Path, scale: float) -> dict[str, torch.Tensor]:
    """The model's weights, times ``scale``: another version that is as good as the first."""
    from safetensors.torch import load_file

    return {name: tensor * scale for name, tensor in load_file(folder / "model.safetensors").items()}


def _in_flight(folder: Path, size: str) -> list[Figure]:
    keys, prompt, response, responses = SIZES[size]
    starting, engine = synchronised(lambda: _engine(folder, size))
    try:
        engine.load(0, _tensors(folder, 1.0))
        ticket = ticket_of(keys["vocab_size"], prompt, response, responses)
        whole = before = engine.generate(ticket)  # vLLM compiles and captures at the first use
        with ThreadPoolExecutor(1) as pool:
            for version in range(1, TRIES + 1):
                sampling = pool.submit(engine.generate, ticket)
                time.sleep(before.seconds / 4)  # into the middle of the responses, as long as those before took
                pause = engine.load(version, _tensors(folder, 1.001))
                before = sampling.result()
                versions = {int(sampled_by) for sampled_by in before.spans[:, 1]}
                if len(versions) > 1:
                    break
    finally:
        engine.close()
    return [
        Figure(what="start", value=starting, unit="s"),
        Figure(what="tokens a second, one group", value=len(whole.tokens_T) / whole.seconds),
        Figure(what="pause for a version in flight", value=pause, unit="s"),
        Figure(what="versions in the responses under way", value=len(versions), at_least=2),
        Figure(what="gap of log-probabilities, mean", value=_gap(folder, ticket, whole), unit="nats", at_most=0.05),
    ]


@torch.no_grad()
def _gap(folder: Path, ticket: Any, responses: Any) -> float:
    """Mean distance of vLLM's log-probabilities from transformers' own in float32, over the first response."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device())
    prompt, length = ticket.prompt_tokens_P.astype(np.int64), int(responses.lengths_S[0])
    tokens_L = np.concatenate([prompt, responses.tokens_T[:length].astype(np.int64)])
    ids_1L = torch.from_numpy(tokens_L).to(device())[None]
    logits_LV = model(ids_1L).logits[0, len(prompt) - 1 : -1].float()
    expected_T = logits_LV.log_softmax(-1).gather(-1, ids_1L[0, len(prompt) :, None]).squeeze(-1).cpu().numpy()
    return float(np.abs(expected_T - responses.logprobs_T[:length]).mean())


def held_bytes(files: Iterable[str]) -> int:
    """Memory in use that a killed engine has to give back: the device's, or where there is no GPU that of its ``files``
    in shared memory, in which other processes have theirs."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return total - free
    found = 0
    for file in files:
        with suppress(FileNotFoundError):
            found += os.stat(file).st_blocks * 512
    return found


def shared_files() -> list[str]:
    """The files in shared memory that this process and those that it has started have mapped."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    maps = "".join(Path(f"/proc/{each.pid}/maps").read_text() for each in family)
    return sorted(set(re.findall(r"(/dev/shm/.*)$", maps, re.MULTILINE)))


def _killed(folder: Path, size: str) -> list[Figure]:
    """Start an engine in a process of its own, kill that process, and see whether all that it held comes back."""
    before = held_bytes(())
    words = [sys.executable, "-m", "leeway_rl.benchmarks.gpu_check.engine", str(folder), size]
    victim = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    try:
        now, files = _said_by(victim.stdout)
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    started, held = time.monotonic(), now - before
    while held_bytes(files) - before > 0.02 * held and time.monotonic() - started < FREED_S:
        time.sleep(0.1)
    left = max(0, held_bytes(files) - before)
    return [
        Figure(what="held by an engine", value=held / 1e9, unit="GB"),
        Figure(what="left after kill -9, of what it held", value=left / max(held, 1), at_most=0.02),
        Figure(what="until it was back", value=time.monotonic() - started, unit="s", at_most=FREED_S),
    ]


def _said_by(lines: IO[str]) -> tuple[int, list[str]]:
    """The bytes that the victim holds, and its files. vLLM logs to the same place."""
    for line in lines:
        if line.startswith(HELD):
            held, files = json.loads(line.removeprefix(HELD))
            return held, files
    raise RuntimeError("the engine that was to be killed ended by itself")


def main() -> None:
    """The victim: start, load, say what is held, and wait to be killed."""
    folder, size = Path(sys.argv[1]), sys.argv[2]
    engine = _engine(folder, size)
    engine.load(0, _tensors(folder, 1.0))
    files = shared_files()
    print(f"{HELD}{json.dumps([held_bytes(files), files])}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
