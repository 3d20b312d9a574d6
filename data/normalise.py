"""Makes a token string of a problem's text: one character a token, the same for every spelling of the problem. Pure.

Spellings that say the same come out the same: ``\\dfrac{1}{2}``, ``\\frac12`` and ``1/2``; ``\\leq`` and ``≤``;
``10,000`` and ``10000``; ``$x$`` and ``\\(x\\)``. A variable is a variable whatever its name: single letters, Greek
ones, ``x_i`` and labels such as ``ABC`` are all ``VARIABLE``; a number in an index is a number, since the tenth member
of a sequence is another one than the hundredth. Numbers, signs and relations are kept apart from words, because two
problems that differ there are two problems (``signature``). Sentences end in a ``STOP``, so that the same sentences
in another order can be seen to be the same. Markup and passages in capitals are undone first.
"""

import re
import unicodedata
import zlib

from .capitals import COMMON_WORDS, without_capitals
from .markup import without_markup

STOP = "."
"""The token between two sentences. It never stands at an end of the text, and never twice in a row."""
VARIABLE = "\U00010000"
_WORDS, _NUMBERS = 0x10001, 0xA0001
_SLOTS = 458_741
"""How many characters words and numbers share, by CRC: two given ones have the same with a chance of 1 in 458,741."""
SIGNS = "+-<>≤≥≠"
FIRST_NUMBER = chr(_NUMBERS)
_STOPS = re.compile(rf"{re.escape(STOP)}+")
_UNSIGNED = re.compile(f"[^{re.escape(SIGNS)}{FIRST_NUMBER}-{chr(0x10FFFF)}]+")

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff"
"""Characters of scripts that are written without spaces. Each counts as a word."""
_RAW_TOKEN = (
    r"\\[a-zA-Z]+"  # a command
    r"|(?<![a-zA-Z])[a-zA-Z]_(?:\{[a-zA-Z]+\}|[a-zA-Z])(?!\w)"  # a variable with its index
    r"|\d+(?:,\d{3})+(?!\d)|\d*\.\d+|\d+"  # a number
    r"|%s"  # a word
    r"|[.?!:](?:[\"')\]$*]|\\[)\]])*\s+|\n\s*\n|。"  # a sentence's end
    r"|[^\s\w]"  # a sign
)
_TOKEN = re.compile(_RAW_TOKEN % rf"[{_IDEOGRAPHS}]|[^\W\d_{_IDEOGRAPHS}]+")
_ASCII_TOKEN = re.compile(_RAW_TOKEN % r"[a-zA-Z]+", re.ASCII)
"""The same pattern for ASCII texts, which takes half the time."""
_LEAD = re.compile(
    r"\s*(?:(?:example|problem|question|exercise)\s*\d+[.:)]?|\d+[.:)])\s+(?:\(\d+ points?\)\s*)?", re.IGNORECASE
)
"""The number that a problem had in its book."""
_SPELLED = (
    ("frac", re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1 \2"),
    ("\\begin", re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}"), " "),
    ("{,}", re.compile(r"\{,\}(?<=\d\{,\})(?=\d{3})"), ","),
    ("\\", re.compile(r"\\(?<=\d\\)[,;: ](?=\d{3}(?!\d))"), ","),
    (" ", re.compile(r"\d(?<![\d.,]\d)\d{0,2}(?: \d{3})+(?!\d)"), lambda groups: groups[0].replace(" ", ",")),
    ("\\\\", re.compile(r"\\\\(?=[a-z])"), " "),
    ("-", re.compile(r"-(?:(?<=\w-)(?=[a-zA-Z]{2})|(?<=[a-zA-Z]{2}-)(?=\w))"), " "),  # a hyphen
    ("<=", re.compile("<="), "≤"),
    (">=", re.compile(">="), "≥"),
)
"""(text without which there is nothing to do, pattern, replacement). Each pattern begins with a character and looks at
what stands before it last, because such patterns are found several times as fast."""
_SAME = {
    **dict.fromkeys((r"\le", r"\leq", r"\leqslant", "≤", "⩽"), "≤"),
    **dict.fromkeys((r"\ge", r"\geq", r"\geqslant", "≥", "⩾"), "≥"),
    **dict.fromkeys((r"\ne", r"\neq", "≠"), "≠"),
    **dict.fromkeys((r"\lt", "<"), "<"),
    **dict.fromkeys((r"\gt", ">"), ">"),
    **dict.fromkeys(("−", "–", "-"), "-"),
    **dict.fromkeys((r"\pi", "π", "pi"), "pi"),
    **dict.fromkeys((r"\circ", r"\degree", "°", "degree", "degrees"), "degree"),
    **dict.fromkeys(("%", "percent"), "percent"),
    **dict.fromkeys((r"\triangle", "△", "triangle"), "triangle"),
    **dict.fromkeys((r"\angle", r"\measuredangle", "∠", "∡", "angle"), "angle"),
    **dict.fromkeys((r"\sqrt", "√", "sqrt"), "sqrt"),
    **dict.fromkeys((r"\infty", "∞", "infinity"), "infinity"),
    **dict.fromkeys((r"\in", "∈"), "in"),
    **dict.fromkeys((r"\sum", "∑"), "sum"),
    **dict.fromkeys((r"\binom", r"\dbinom", r"\tbinom", r"\choose"), "binom"),
    **dict.fromkeys((r"\equiv", "≡"), "equiv"),
    **dict.fromkeys((r"\mod", r"\bmod", r"\pmod", "mod"), "mod"),
    **dict.fromkeys((r"\emptyset", r"\varnothing", "∅"), "emptyset"),
    "=": "=",
    "+": "+",
}
_LAYOUT = r"""
\frac \dfrac \tfrac \cfrac \over \left \right \big \Big \bigg \Bigg \bigl \bigr \text \textbf \textit \mathrm 
\mathbf \mathbb \mathcal \operatorname \mbox \cdot \times \ast \div \dots \ldots \cdots \vdots \displaystyle 
\overline \limits \boldsymbol \mathit \textrm \emph \rm \bf \it \lvert \rvert \vert \mid \lfloor \rfloor \quad \qquad
"""
_DROPPED_COMMANDS = frozenset(_LAYOUT.split())
_GREEK = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau 
upsilon phi varphi chi psi omega ell
"""
_GREEK_LETTERS = frozenset(_GREEK.split())
_SHORT_ENGLISH = """
am an as at be by do go he if in is it me my no of on or so to up us we pi ln lg
"""
_UNITS = frozenset({"cm", "mm", "km", "kg", "ft", "ml"})
"""Units, in small letters only: CM may be a side."""
_SHORT_WORDS = frozenset(_SHORT_ENGLISH.split())


def normalise(text: str) -> str:
    """The token string of a text; empty if the text holds no token."""
    tokens = "".join(map(_TOKENS.__getitem__, written(text))).strip(STOP)
    return _STOPS.sub(STOP, tokens) if STOP * 2 in tokens else tokens


def pieces(text: str) -> list[tuple[str, str]]:
    """(raw token, its characters in the token string) of every raw token that has some, ends of sentences included."""
    return [(raw, _TOKENS[raw]) for raw in written(text) if _TOKENS[raw]]


def written(text: str) -> list[str]:
    """All raw tokens of the text after markup and passages in capitals are undone, also those that mean nothing."""
    text = without_markup(text)
    text = without_capitals(unicodedata.normalize("NFKC", text) if not text.isascii() else text)
    lead = _LEAD.match(text)
    text = text[lead.end() :] if lead else text
    for needed, pattern, plain in _SPELLED:
        if needed in text:
            text = pattern.sub(plain, text)
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


def signature(tokens: str) -> str:
    """The numbers, signs and relations of a token string, in order."""
    return _UNSIGNED.sub("", tokens)


def _token(raw: str) -> str:
    """The characters that stand for one raw token; empty if it means nothing."""
    if raw[-1].isspace() or raw == "。":
        return STOP
    if raw[0].isdecimal() or (raw[0] == "." and len(raw) > 1):
        return _number(raw)
    if raw in _SAME:
        same = _SAME[raw]
        return same if same in SIGNS else _word(same)
    if raw[0] == "\\":
        if raw in _DROPPED_COMMANDS or raw == "\\":
            return ""
        return VARIABLE if raw[1:].lower() in _GREEK_LETTERS else _word(raw[1:].lower())
    if not raw[0].isalpha():
        return ""
    word = raw.lower()
    if (
        (len(raw) == 1 and raw < "\u0500")
        or "_" in raw
        or (raw.isupper() and len(raw) <= 5 and word not in _SHORT_WORDS and word not in COMMON_WORDS)
    ):
        return VARIABLE
    if word in _SAME:
        return _word(_SAME[word])
    if len(word) == 2 and word.isascii() and word not in _SHORT_WORDS and word not in _UNITS:
        return VARIABLE * 2  # a product
    return _word(word)


class _Tokens(dict[str, str]):
    """Caches ``_token``. An ``lru_cache`` would take twice as long to look up."""

    MOST = 1 << 18

    def __missing__(self, raw: str) -> str:
        if len(self) >= self.MOST:
            self.clear()
        return self.setdefault(raw, _token(raw))


_TOKENS = _Tokens()


def _word(word: str) -> str:
    return chr(_WORDS + zlib.crc32(word.encode()) % _SLOTS)


def _number(raw: str) -> str:
    whole, _, part = raw.replace(",", "").partition(".")
    plain = (whole.lstrip("0") or "0") + ("." + part if part.strip("0") else "")
    return chr(_NUMBERS + zlib.crc32(plain.encode()) % _SLOTS)
