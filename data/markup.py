"""Takes HTML off a problem: tags, comments and entities. Pure.

Problems that were copied from a page hold what a browser does not show. A tag is removed only if its name is one of
HTML's, and a tag of one letter only if it is closed somewhere, since ``a<b`` and ``0<p`` are inequalities.
"""

import html
import re

_INLINE = """
a abbr b big cite code dd del dfn dt em font i ins kbd label mark q s samp small span strike strong tt u var wbr
math mi mn mo mrow msup msub mfrac msqrt mtext mstyle semantics annotation
"""
_BLOCK = """
article blockquote body br center div dl fieldset footer form h1 h2 h3 h4 h5 h6 head header hr html li main nav ol p pre
section table tbody td tfoot th thead tr ul img figure figcaption caption sup sub input button
"""
_ONE_LETTER = frozenset("abiqsu")
_ATTRIBUTES = r"""(?:\s+[\w:.-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))?)*"""
_NAMES = "|".join(sorted({*_INLINE.split(), *_BLOCK.split()}, key=len, reverse=True))
_TAG = re.compile(rf"<(/?)({_NAMES})({_ATTRIBUTES})\s*/?>", re.IGNORECASE)
_NOT_SHOWN = re.compile(r"<!--.*?(-->|\Z)|<(script|style)\b[^<>]*>.*?(</\2\s*>|\Z)", re.IGNORECASE | re.DOTALL)
"""A comment, a script or a style, up to its end or to the end of the text."""
_FORMULA_IN_IMAGE = re.compile(r"""\balt\s*=\s*(?:"([^"]*\$[^"]*)"|'([^']*\$[^']*)')""", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}\d{0,2});")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_BLOCKS = frozenset(_BLOCK.split())


def without_markup(text: str) -> str:
    """The text as a browser shows it, with a blank line where a block begins or ends, and with ``^{}`` and ``_{}`` for
    superscripts and subscripts. A text without markup comes back as it is."""
    if "<" in text:
        text = _without_tags(text)
    if "&" in text and _ENTITY.search(text):
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)  # escaped twice
        if "<" in text:
            text = _without_tags(text)
    return text if text.isascii() else _UNSEEN.sub("", text)


def _without_tags(text: str) -> str:
    text = (
        _NOT_SHOWN.sub(lambda found: " " if found[1] or found[3] else found[0], text)
        if "<!--" in text or "</" in text
        else text
    )
    if _TAG.search(text) is None:
        return text
    closed = {found[2].lower() for found in _TAG.finditer(text) if found[1]}

    def plain(tag: re.Match[str]) -> str:
        name = tag[2].lower()
        if (name in _ONE_LETTER and name not in closed) or ("=" not in tag[3] and tag[3].strip()):
            return tag[0]  # x <b and b> y
        if name == "img":
            formula = _FORMULA_IN_IMAGE.search(tag[3])
            return f" {formula[1] or formula[2]} " if formula else " "
        if name in ("sup", "sub"):
            return "}" if tag[1] else "^{" if name == "sup" else "_{"
        if name in ("br", "td", "th"):
            return "\n"
        return "\n\n" if name in _BLOCKS else ""

    return _TAG.sub(plain, text)
