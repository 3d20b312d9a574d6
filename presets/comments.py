"""Writes into the presets of released models, and into docs/presets.md, what ``leeway up --dry-run`` says of them.

    .venv/bin/python presets/comments.py

A test holds that they agree; run this after the arithmetic has changed.
"""

import re
from pathlib import Path

from leeway_rl.common.config import compose
from leeway_rl.leeway.running.dry_run import arithmetic

PRESETS = Path(__file__).resolve().parent
DOCS = PRESETS.parent / "docs/presets.md"
SHOWN = "skywork-or1-32b"
"""The preset whose learner memory docs/presets.md shows."""


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


def with_memory(text: str) -> str:
    """The text of docs/presets.md with the shown memory brought up to date."""
    parts = re.split(r"^#\n", arithmetic(compose([SHOWN], [])) + "\n", flags=re.MULTILINE)
    memory = next(part for part in parts if part.startswith("# memory of a learner rank"))
    return re.sub(r"```\n# memory of a learner rank.*?```", f"```\n{memory}```", text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    for preset in released():
        preset.write_text(with_comment(preset))
    DOCS.write_text(with_memory(DOCS.read_text()))
