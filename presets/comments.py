"""Writes what ``leeway up --dry-run`` says of the presets of released models into them, and into pages that show it.

    .venv/bin/python presets/comments.py

A test holds that they agree; run this after the arithmetic has changed.
"""

import re
from pathlib import Path

from leeway_rl.common.config import compose
from leeway_rl.leeway.running.dry_run import arithmetic

PRESETS = Path(__file__).resolve().parent
DOCS = PRESETS.parent / "docs"
SHOWN = "skywork-or1-32b"
"""The preset of which docs/presets.md shows the learner's memory, and docs/cluster.md the layout."""


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
    whole = arithmetic(compose([SHOWN], [])) + "\n"
    layout = whole[whole.index("# processes, and the GPUs") :]
    memory = re.search(r"^# memory of a learner rank.*?(?=^#\n)", whole, re.DOTALL | re.MULTILINE)[0]
    return {
        page: re.sub(
            rf"```\n{shown[:20]}.*?```", lambda _, shown=shown: f"```\n{shown}```", page.read_text(), flags=re.DOTALL
        )
        for page, shown in ((DOCS / "presets.md", memory), (DOCS / "cluster.md", layout))
    }


if __name__ == "__main__":
    for preset in released():
        preset.write_text(with_comment(preset))
    for page, text in pages().items():
        page.write_text(text)
