"""Finds what points at a figure, a graph or a table that is not in the text. Pure.

Not every such word does: who won the drawing needs no picture, the table shown at the fair is furniture, and a table
may stand right below the words that point at it.
"""

import re

from .asked import MOST_CHARS

_DRAWN = re.compile(
    r"!\[|<img\b|<svg\b|\\includegraphics|\[asy\]|\\begin\{(?:tikzpicture|asy|figure|picture)\}|\[/?img\]"
    r"|\[(?:image|figure|diagram|picture|graph)\]",
    re.IGNORECASE,
)
_POINTING = (
    r"(?:below|above|at\s+(?:the\s+)?(?:right|left)|(?:on|to)\s+the\s+(?:right|left)|here|opposite|alongside|overleaf)"
)
_NOT_THERE = r"(?!\s+(?:the|a|an|his|her|their|its|this|that|average|zero|sea|\$|\d))"
_SHOWN = (
    r"(?:(?:is|are|as|was|were)\s+)?(?:also\s+)?"
    r"(?:shown|given|drawn|displayed|pictured|depicted|illustrated|represented|provided)"
)
_SEEN = r"(?:figures?|diagrams?|illustrations?|pictures?|drawings?|images?|sketch(?:es)?|photo(?:graph)?s?)"
_DATA = r"(?:tables?|graphs?|charts?|grids?|histograms?|plots?|maps?|number\s+lines?|spinners?|nets?|shapes?)"
_ANY = rf"(?:{_SEEN}|{_DATA})"
_NO_PICTURE = r"(?!\s*(?:skat|of\s+speech|eight|out\b|frames?\b|books?\b|cards?\b|of\s+lots|prize|board|class|show\b))"
_KINDS = r"(?:(?:adjoining|accompanying|attached|adjacent|enclosed|following|above|below|given|\w+)\s+)?"
_FIGURE = re.compile(
    rf"\b(?:adjoining|accompanying|attached|enclosed)\s+(?:\w+\s+)?{_ANY}\b"
    rf"|\bfollowing\s+(?:\w+\s+)?{_SEEN}\b"
    rf"|\b{_SEEN}\s+{_POINTING}\b{_NOT_THERE}"
    rf"|\b{_SEEN}\s+{_SHOWN}\b(?!\s+(?:at|in|to|by|on|for|during|away)\s+(?!the\s+(?:right|left)\b|right\b|left\b))"
    rf"|\b(?:in|from|see|as\s+in|refer\s+to|according\s+to|consider|using|by)\s+(?:the|this)\s+{_KINDS}(?:figures?|diagrams?|illustrations?)\b"
    rf"{_NO_PICTURE}(?!\s+(?:of|bounded|formed|obtained|whose|with|that|consisting))"
    rf"|\b(?:in|as\s+in|see|from)\s+the\s+{_KINDS}(?:picture|drawing|image|sketch|photo)\b{_NO_PICTURE}"
    r"(?=\s*(?:[),.;:?]\s*)?(?:$|\)|(?-i:[A-Z]{1,5}\b)|\$|the\s+(?:angle|side|line|point|circle|square|triangle|area|length)))"
    rf"|\bthe\s+{_KINDS}(?:figure|diagram|picture|illustration|drawing|sketch|image|photo)\s+(?:shows|depicts|illustrates|represents)\b"
    r"|(?<!a\s)\bthe\s+figure\s+(?:is|was)\s+(?:composed|made\s+up|formed)\b|\bthe\s+figure\s+consists\b"
    r"|\b(?:triangle|square|circle|rectangle|polygon|hexagon|pentagon|region|solid|prism)\s+shown\s*[.?]"
    r"|(?<!\ba )(?<!\ban )\b(?:figure|fig\.|fig|diagram|illustration)\s*\(?\d+\b"
    rf"|\b(?:pictured|depicted|illustrated)\s+(?:{_POINTING}|in\b)|\bas\s+(?:pictured|depicted|illustrated|sketched)\b",
    re.IGNORECASE | re.MULTILINE,
)
_GIVEN = re.compile(
    rf"\b{_DATA}\s+{_POINTING}\b{_NOT_THERE}"
    rf"|\b{_DATA}\s+{_SHOWN}\b(?!\s+(?:at|in|to|by|on|for|during|away)\s+(?!the\s+(?:right|left)\b|right\b|left\b|the\s+{_ANY}\b))(?!\s+(?:that|by|as)\b)"
    rf"|\bfollowing\s+(?:\w+\s+)?(?:table|graph|chart|grid|histogram|plot|map)s?\b"
    rf"|\bthe\s+{_KINDS}(?:table|graph|chart|histogram|map|plot)\s+(?:shows|gives|lists|displays|represents|summarizes)\b"
    rf"|\b(?:as|is|are)\s+(?:\w+\s+)?(?:shown|drawn|displayed|given|listed)\s+{_POINTING}\b|\bas\s+shown\b(?!\s+(?:by|to)\b)"
    rf"|\b(?:shown|drawn|displayed)\s+{_POINTING}\b{_NOT_THERE}|\b(?:in|from|see)\s+Table\s+\d"
    r"|\b(?:according\s+to|based\s+on)\s+the\s+(?:table|graph|chart|histogram)\b(?!\s+of)"
    r"|\bfrom\s+the\s+(?:table|graph|chart|grid|histogram)\s*,|\b(?:complete|fill\s+in)\s+(?:the|this)\s+(?:table|grid|chart)\b",
    re.IGNORECASE,
)
_IN_TEXT = re.compile(
    r"\\begin\{(?:array|tabular|[bpvBV]?matrix|aligned?\*?|cases|gather\*?|equation\*?|verbatim|center)\}|<t(?:able|r|d)\b|\$\$|\\\[|```|^[^\S\n]*\|.*\|",
    re.MULTILINE,
)
_ROWS = re.compile(r"(?:^[^\n\d]*+\d++[^\n\d]++\d[^\n]*+\n?){2}|(?:^[^a-z\n]{4,}+\n){3}", re.MULTILINE)
"""Two lines of numbers, or three of signs."""
_SHADED = re.compile(
    r"\bthe\s+shaded\s+(?:regions?|areas?|parts?|portions?|figures?|triangles?|squares?)\b", re.IGNORECASE
)
_SHADING = re.compile(r"\b(?:is|are|be|been|was|were|then)\s+(?:\w+\s+)?shaded\b|\bshad(?:es?|ing)\b", re.IGNORECASE)


def needs_a_figure(problem: str) -> re.Match[str] | None:
    """The words that point at a figure, a graph or a table that is not in the text; None if there are none."""
    text = problem[:MOST_CHARS]
    found = _DRAWN.search(text) or _FIGURE.search(text)
    if found is not None:
        return found
    for found in _GIVEN.finditer(text):
        if not _there(text, found):
            return found
    shaded = _SHADED.search(text)
    return shaded if shaded is not None and _SHADING.search(text) is None else None


def _there(text: str, found: re.Match[str]) -> bool:
    """Whether what is pointed at stands in the text."""
    if _IN_TEXT.search(text) or _ROWS.search(text):
        return True
    if "above" in found[0].lower():
        return text[: found.start()].strip().count("\n") > 1
    rest = text[found.end() :]
    colon = re.match(r"[^.?!\n]{0,60}:\s+(\S.*)", rest, re.DOTALL)
    return colon is not None and re.search(r"\d|\$|,", colon[1]) is not None
