"""vLLM on the device: its start, a version in flight, how near log-probabilities are, and what kill -9 gives back.

It needs vLLM and Leeway as an installed package (vLLM finds Leeway's weight transfer by its entry point), as the image
has them.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from leeway_rl.benchmarks.gpu_check.device import device, synchronised
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.benchmarks.gpu_check.learner import QWEN_1_5B, TINY, random_model, ticket_of

SIZES: dict[str, tuple[dict[str, int], int, int, int]] = {
    "full": (QWEN_1_5B, 512, 2048, 16),
    "small": (TINY, 16, 240, 4),
}
"""The model, tokens of the prompt, tokens of a response at most, and responses of the group."""
HELD = "bytes held: "
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
        whole = engine.generate(ticket)  # vLLM compiles and captures at the first use
        with ThreadPoolExecutor(1) as pool:
            sampling = pool.submit(engine.generate, ticket)
            time.sleep(whole.seconds / 4)  # into the middle of the responses, as long as the first took
            pause = engine.load(1, _tensors(folder, 1.001))
            mixed = sampling.result()
    finally:
        engine.close()
    versions = {int(version) for version in mixed.spans[:, 1]}
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


def held_bytes() -> int:
    """Memory in use that a killed engine has to give back: the device's, or shared memory where there is no GPU."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return total - free
    return sum(file.stat().st_blocks * 512 for file in Path("/dev/shm").iterdir() if file.is_file())


def _killed(folder: Path, size: str) -> list[Figure]:
    """Start an engine in a process of its own, kill that process, and see whether all that it held comes back."""
    before = held_bytes()
    words = [sys.executable, "-m", "leeway_rl.benchmarks.gpu_check.engine", str(folder), size]
    victim = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    try:
        held = _said_by(victim.stdout) - before
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    started = time.monotonic()
    while held_bytes() - before > 0.02 * held and time.monotonic() - started < FREED_S:
        time.sleep(0.1)
    left = max(0, held_bytes() - before)
    return [
        Figure(what="held by an engine", value=held / 1e9, unit="GB"),
        Figure(what="left after kill -9, of what it held", value=left / max(held, 1), at_most=0.02),
        Figure(what="until it was back", value=time.monotonic() - started, unit="s", at_most=FREED_S),
    ]


def _said_by(lines: IO[str]) -> int:
    """What the victim holds. vLLM logs to the same place."""
    for line in lines:
        if line.startswith(HELD):
            return int(line.removeprefix(HELD))
    raise RuntimeError("the engine that was to be killed ended by itself")


def main() -> None:
    """The victim: start, load, say what is held, and wait to be killed."""
    folder, size = Path(sys.argv[1]), sys.argv[2]
    engine = _engine(folder, size)
    engine.load(0, _tensors(folder, 1.0))
    print(f"{HELD}{held_bytes()}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
