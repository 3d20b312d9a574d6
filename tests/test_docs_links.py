"""What the documentation links to is in the repository."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "tests/proofs/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def links(page):
    """Targets of a page's relative links and pictures, without their anchors."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file(page):
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only in a checkout")
def test_what_is_linked_is_not_ignored_by_git():
    linked = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    command = ["git", "check-ignore", "--no-index", *map(str, linked)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout == ""
