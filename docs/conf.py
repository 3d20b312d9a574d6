"""The documentation site: `make site` builds it from the pages in this folder with Sphinx and MyST. The pages are plain
Markdown, so that they read as well where a repository shows them."""

import ast
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from leeway_rl import __version__
from pygments.lexers import TextLexer, find_lexer_class_for_filename
from sphinx.addnodes import download_reference

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
project = "Leeway"
author = "the Leeway authors"
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_heading_anchors = 4
smartquotes = False  # they turn an option's "--" into a dash
highlight_language = "text"  # what a block without a language is: a command, or what it prints

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
SOURCES = "sources/"
"""The folder of the site with the files of the repository that pages link to."""
CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
BREAK = re.compile(r"(?<=[/.,_=:|])(?=\w)|(?<=\w-)(?=\w)|(?<=[\w}])(?=\\)")
LONG = re.compile(r'(?<=<span class="pre">)[^<]{12,}')


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
    """What a page is on the site and not in the checkout: an index has contents, a folder is named by its path instead
    of a link, and a Markdown file outside of docs/ is a file like any other."""
    page = DOCS / f"{docname}.md"

    def shown(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = (page.parent / target).resolve()
        if not path.is_dir():
            outside = path.suffix == ".md" and not path.is_relative_to(DOCS)
            return f"[{text}](path:{target})" if outside else match.group()
        named = f"`{path.relative_to(ROOT)}`"
        return named if text.strip("`/") in named else f"{text} ({named})"

    source[0] = LINK.sub(shown, source[0])
    if page.name in ("index.md", "README.md"):
        source[0] += contents(source[0])


def link_sources(app: Any, doctree: nodes.document) -> None:
    """A link to a file of the repository opens a page that shows the file, at the definition that the link names.
    Files beside the pages (the numbers behind a picture, say) stay downloads."""
    docname = app.env.docname
    for node in list(doctree.findall(download_reference)):
        path = (DOCS / docname).parent.joinpath(node["reftarget"]).resolve()
        if path.is_relative_to(DOCS) or not path.is_file():
            continue
        shown = SOURCES + path.relative_to(ROOT).as_posix()
        line = defined_at(path, node.astext())
        target = app.builder.get_relative_uri(docname, shown) + (f"#line-{line}" if line else "")
        app.env.metadata[docname].setdefault("sources", set()).add(shown)
        node.replace_self(nodes.reference("", "", *node[0].children, internal=True, refuri=target))


def defined_at(path: Path, name: str) -> int | None:
    """The line at which a Python file defines ``name``, a function, a class, or ``Class.method``; None without one."""
    found: ast.AST | None = ast.parse(path.read_text()) if path.suffix == ".py" else None
    for part in name.split("."):
        inner = ast.iter_child_nodes(found) if found else ()
        found = next((node for node in inner if getattr(node, "name", None) == part), None)
    return getattr(found, "lineno", None)


def source_pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file of the repository that a page links to, with its lines numbered."""
    for shown in sorted({shown for about in app.env.metadata.values() for shown in about.get("sources", ())}):
        name = shown.removeprefix(SOURCES)
        text = (ROOT / name).read_text(encoding="utf-8")
        lexer = (find_lexer_class_for_filename(name, text) or TextLexer).aliases[0]
        listing = app.builder.highlighter.highlight_block(text, lexer, linenos="inline", lineanchors="line")
        title = html.escape(name)
        body = f'<h1>{title}</h1>\n<div class="repository-file">{listing}</div>'
        yield shown, {"title": title, "body": body}, "page.html"


def breakable(_app: object, _page: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Lets long names in the cells of tables break behind their dots, dashes and the like, so that tables fit."""
    context["body"] = CELL.sub(
        lambda cell: LONG.sub(lambda long: BREAK.sub("<wbr>", long.group()), cell.group()),
        context.get("body", ""),
    )


def setup(app: Any) -> None:
    app.connect("source-read", read)
    app.connect("doctree-read", link_sources, priority=100)  # before Sphinx copies what is downloaded
    app.connect("html-collect-pages", source_pages)
    app.connect("html-page-context", breakable)
