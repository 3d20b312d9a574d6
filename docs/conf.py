"""The documentation site: `make site` builds it from the pages in this folder with Sphinx and MyST. The pages are plain
Markdown, so that they read as well where a repository shows them."""

import re
from pathlib import Path
from typing import Any

from leeway_rl import __version__

DOCS = Path(__file__).resolve().parent
project = "Leeway"
author = "the Leeway authors"
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4

html_theme = "pydata_sphinx_theme"
html_title = f"Leeway {__version__}"
html_static_path = ["_static"]
html_css_files = ["leeway.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}


LISTED = re.compile(r"^(?:[-*] |\d+\. |\| ).*?\]\(([\w./-]+)\.md\)", re.MULTILINE)
"""A page that an index lists: the first link of a list item, numbered or not, or of a table's row."""
LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+?)/?(#[\w-]+)?\)")


def contents(text: str) -> str:
    """The directives that give an index its place in the side bar: a tree for each of its headings, of the pages that
    it lists there. So an index is plain Markdown, and names each page once."""
    found = []
    first, *others = re.split(r"^## ", text, flags=re.MULTILINE)
    for caption, part in [("", first), *((part.partition("\n")[0], part) for part in others)]:
        pages = [page for page in dict.fromkeys(LISTED.findall(part)) if not page.startswith("..")]
        if pages:
            options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
            found.append("\n".join(["```{toctree}", *options, "", *pages, "```", ""]))
    return "\n" + "\n".join(found)


def read(_app: object, docname: str, source: list[str]) -> None:
    """What a page is on the site and not in the checkout: an index has contents, and what is not on the site (folders,
    pages outside of docs/) is named by its path instead of a link."""
    page = DOCS / f"{docname}.md"

    def shown(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = (page.parent / target).resolve()
        if not path.is_dir() and (path.suffix != ".md" or path.is_relative_to(DOCS)):
            return match.group()
        named = f"`{path.relative_to(DOCS.parent)}`"
        return named if text.strip("`/") in named else f"{text} ({named})"

    source[0] = LINK.sub(shown, source[0])
    if page.name in ("index.md", "README.md"):
        source[0] += contents(source[0])


def setup(app: Any) -> None:
    app.connect("source-read", read)
