"""The metrics that the pages list: in the first column of a table, by their full names."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOT_MEASURED = {"role", "step", "version", "stage", "at"}
"""What a training step's record says beside its metrics."""
ANY = {"N": r"\d+", "K": r"\d+", "NAME": r"[\w-]+", "REASON": r"\w+"}


def documented() -> re.Pattern[str]:
    """Matches every name that ``metrics.md`` or ``hardware-metrics.md`` lists."""
    text = "\n".join((DOCS / "reference" / page).read_text() for page in ("metrics.md", "hardware-metrics.md"))
    cells = re.findall(r"^\| (`[^|]*?`) \|", text, re.M)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    plain = [re.sub(r"\b[A-Z]+\b|(?<=_)[NK]\b", lambda found: f"<{found[0]}>", name) for name in names]
    return re.compile("|".join(re.sub(r"<([A-Z]+)>", lambda found: ANY[found[1]], name) for name in plain))


def undocumented(names: set[str]) -> set[str]:
    """Those of ``names`` that no page lists."""
    known = documented()
    return {name for name in names - NOT_MEASURED if known.fullmatch(name) is None}
