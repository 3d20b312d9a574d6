"""Writes what ``leeway up --dry-run`` says of the presets of released models into them, and into pages that show it.

    .venv/bin/python presets/comments.py

A test holds that they agree; run this after the arithmetic has changed.
"""

import re
from pathlib import Path

from leeway_rl.common.config import compose
from leeway_rl.common.wording import byte_size
from leeway_rl.leeway.planning.arithmetic import Gpu, shape_of
from leeway_rl.leeway.planning.arithmetic.asked import learner_of
from leeway_rl.leeway.planning.arithmetic.fitting import longest_context
from leeway_rl.leeway.planning.arithmetic.learner import kept
from leeway_rl.leeway.running.dry_run import arithmetic

PRESETS = Path(__file__).resolve().parent
DOCS = PRESETS.parent / "docs"
SHOWN = "skywork-or1-32b"
"""The preset of which docs/reference/dry-run.md shows the learner's memory, and docs/how-to/large-models.md the
layout."""
PLANNED = "skywork-or1-7b"
"""The preset of which docs/how-to/planning.md shows the speed."""

LAYOUTS = [("1.5b", 1, 1), ("1.5b", 8, 3), ("7b", 4, 3), ("7b", 8, 3), ("32b", 16, 3), ("32b", 32, 3)]
"""Presets, ranks and ZeRO stages of which docs/reference/gpus.md shows the longest context."""
LONGEST = 2048 + 32_768
"""Tokens of the longest prompt and response of the presets."""


def released() -> list[Path]:
    """The presets that have such a comment."""
    return sorted(PRESETS.glob("skywork-or1-*.toml"))


def with_comment(path: Path) -> str:
    """The text of a preset with its leading comment brought up to date: what stands above the command in it stays, and
    what follows is what the command prints."""
    comment, body = re.fullmatch(r"((?:#[^\n]*\n)+)(.*)", path.read_text(), re.DOTALL).groups()
    command = f"# leeway up --preset {path.stem} --dry-run\n"
    own = comment.partition(f"#\n{command}")[0]
    return f"{own}#\n{command}#\n{arithmetic(compose([str(path)], []))}\n{body}"


def pages() -> dict[Path, str]:
    """The pages that show a part of it, and their texts brought up to date."""
    shown = [
        (DOCS / "reference" / "dry-run.md", part("a GPU of the learner", SHOWN)),
        (DOCS / "how-to" / "large-models.md", part("processes, and the GPUs of each", SHOWN, to_the_end=True)),
        (DOCS / "how-to" / "planning.md", part("speed, estimated", PLANNED)),
    ]
    gpus = DOCS / "reference" / "gpus.md"
    found = {
        page: re.sub(
            rf"```\n{text[:12]}.*?```", lambda _, text=text: f"```\n{text}```", page.read_text(), flags=re.DOTALL
        )
        for page, text in shown
    }
    found[gpus] = re.sub(r"(?<=\n)\| layout \| `autocast`.*?\n(?=\n)", contexts(), gpus.read_text(), flags=re.DOTALL)
    return found


def contexts() -> str:
    """The table of the longest context that a layout holds, from what the dry run works out."""
    lines = [
        "| layout | `autocast` | `weights` | `weights`, `train.offload_activations` "
        f"| host memory for that, at {LONGEST:,} tokens |",
        "|---|---|---|---|---|",
    ]
    for size, ranks, stage in LAYOUTS:
        cells = [f"{size.upper()}, {ranks} {'rank' if ranks == 1 else 'ranks'}, ZeRO {stage}"]
        for bfloat16, on_host in (("autocast", False), ("weights", False), ("weights", True)):
            keys = {
                "ranks": ranks,
                "zero_stage": stage,
                "offload": "none",
                "gradient_checkpointing": True,
                "bfloat16": bfloat16,
                "offload_activations": on_host,
                "micro_batch_tokens": LONGEST,
            }
            settings = [f"train.{key}={str(value).lower()}" for key, value in keys.items()]
            config = compose([f"skywork-or1-{size}"], settings)
            shape = shape_of(config.model.path)
            cells.append(f"{longest_context(config, shape, Gpu()):,}")
        cells.append(f"{byte_size(sum(part.host for part in kept(learner_of(config, Gpu()), shape)))} a rank")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def part(head: str, preset: str, *, to_the_end: bool = False) -> str:
    """The lines of one table of a preset's page, from ``head`` on."""
    whole = arithmetic(compose([preset], [])) + "\n#\n"
    end = r"\Z" if to_the_end else r"^#\n"
    return re.search(rf"^# {head}.*?(?={end})", whole, re.DOTALL | re.MULTILINE)[0].removesuffix("#\n")


if __name__ == "__main__":
    for preset in released():
        preset.write_text(with_comment(preset))
    for page, text in pages().items():
        page.write_text(text)
