"""What a GPU has to show before a run is trusted to it: exactness, memory beside the dry run's figure, and speed.

::

    make gpu-check
    python -m leeway_rl.benchmarks.gpu_check [--small] [--only PART …] [--out FILE]

It takes at most six minutes on one H100, and needs torch 2.11 or later, transformers, and the wheels that
``make gpu-wheels`` has put beside it. Each part runs in a process of its own; one that fails is reported, and the
others go on. It prints one table, writes JSON, and exits with 1 where something does not hold or a part failed.
``--small`` takes sizes that a CPU can compute: it says that the check itself works, and nothing about a GPU.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.benchmarks.measure import Table

BUDGET_S = 360
"""All parts together have this long."""
_WORDS = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")
"""How the last line of a trace begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the check."""

    name: str
    module: str
    values: tuple[Any, ...] = ()
    """What its ``measured`` takes after the size."""
    needs: str | None = None
    """A package without which the part is left out, and said to be."""


PARTS = (
    Part("token-op", "token_op"),
    Part("attention", "attention"),
    Part("learner-zero-0", "learner", (0,)),
    Part("learner-zero-3", "learner", (3,)),
    Part("weights", "weights"),
    Part("engine", "engine", needs="vllm"),
)


def child(name: str, size: str) -> None:
    """Measure one part in this process, and print its figures as the last line."""
    part = next(part for part in PARTS if part.name == name)
    module = importlib.import_module(f"leeway_rl.benchmarks.gpu_check.{part.module}")
    print(json.dumps([figure.as_json() for figure in module.measured(size, *part.values)]))


def run(part: Part, size: str, seconds: float) -> dict[str, Any]:
    """Run one part in a process of its own, for at most ``seconds``."""
    if part.needs and importlib.util.find_spec(part.needs) is None:
        return {"part": part.name, "left_out": f"{part.needs} is not installed here"}
    started = time.monotonic()
    command = [sys.executable, "-m", "leeway_rl.benchmarks.gpu_check", "--child", part.name]
    try:
        done = subprocess.run(
            [*command, *(["--small"] if size == "small" else [])],
            capture_output=True,
            text=True,
            timeout=max(seconds, 1),
        )
    except subprocess.TimeoutExpired:
        return {"part": part.name, "failed": f"not finished after {seconds:.0f} s, when the check's time was over"}
    took = {"part": part.name, "seconds": time.monotonic() - started}
    if done.returncode == 0:
        return {**took, "figures": json.loads(done.stdout.splitlines()[-1])}
    words = [line for line in done.stderr.splitlines() if _WORDS.match(line)]
    return {**took, "failed": words[-1] if words else f"exit status {done.returncode}", "stderr": done.stderr[-4000:]}


def main() -> int:
    """Run the parts, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes for a CPU: is the check itself in order?")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", action="append", choices=names, help="this part alone; may be given several times")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the figures go, as JSON")
    parser.add_argument("--child", choices=names, help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = "small" if given.small else "full"
    if given.child:
        child(given.child, size)
        return 0
    from leeway_rl.benchmarks.gpu_check.device import described, device

    machine = described()
    if device().type == "cpu" and not given.small:
        sys.exit("there is no GPU here (torch sees none): --small tries the check itself on the CPU")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    table = Table("part:<16", "what:<52", "seen:>12", "unit:<5", "must hold:<22", ":<3")
    ends, results = time.monotonic() + BUDGET_S, []
    for part in PARTS:
        if given.only and part.name not in given.only:
            continue
        results.append(run(part, size, ends - time.monotonic()))
        _print(table, results[-1])
    held = all(_holds(result) for result in results)
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, "size": size, "held": held, "parts": results}, indent=1))
    print("everything holds" if held else "not everything holds")
    return 0 if held else 1


def _print(table: Table, result: dict[str, Any]) -> None:
    if "failed" in result:
        table.line(result["part"], f"failed: {result['failed']}")
        return
    if "left_out" in result:
        table.line(result["part"], f"left out: {result['left_out']}")
        return
    for found in result["figures"]:
        figure = Figure.from_json(found)
        word = {True: "yes", False: "NO", None: ""}[figure.holds]
        table.line(result["part"], figure.what, f"{figure.value:.4g}", figure.unit, figure.bounds, word)


def _holds(result: dict[str, Any]) -> bool:
    return "failed" not in result and all(figure["holds"] is not False for figure in result.get("figures", ()))


if __name__ == "__main__":
    sys.exit(main())
