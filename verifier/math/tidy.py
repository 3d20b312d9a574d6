"""Gives an answer one spelling: signs, spaces, delimiters, digit groups, words between answers.

Pure and linear. "or" and "and" between answers come out as one sign each (``OR``, ``AND``), which ``reading``
takes for a comma, except between relations; ``tex`` makes LaTeX of our signs again.
"""

import re

from . import shapes, units

OR, AND = "\ue000", "\ue001"
"""Private characters, which no answer holds by itself."""

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",
        "°": r"^\circ ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "，": ",",
        "（": "(", "）": ")", "：": ":", "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "％": "%", "\t": " ", "\n": " ",
    }
)  # fmt: skip
_TEX = str.maketrans(
    {"≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ",
     "…": r"\ldots ", "≈": r"\approx ", OR: ", ", AND: ", "}
)  # fmt: skip
_SIGNS = {
    "≤": ("le", "leq", "leqslant", "leqq"), "≥": ("ge", "geq", "geqslant", "geqq"), "≠": ("ne", "neq"), "∪": ("cup",),
    "∈": ("in",), "∅": ("emptyset", "varnothing"), "±": ("pm",), "…": ("ldots", "dots", "cdots", "dotsc"),
    "≈": ("approx",), "<": ("lt",), ">": ("gt",), "(": ("langle", "lparen"), ")": ("rangle", "rparen"),
    ":": ("colon",),
    r"\{": ("lbrace",), r"\}": ("rbrace",), "[": ("lbrack",), "]": ("rbrack",), r"\frac": ("dfrac", "tfrac", "cfrac"),
    "|": ("vert", "lvert", "rvert", "mid"), " ": ("quad", "qquad", "displaystyle", "limits", "thinspace", "space"),
    r"\text": ("mbox", "textbf", "textit", "textrm", "textnormal", "textup", "textsf", "mathrm", "mathbf", "mathit",
               "operatorname", "mathsf", "hbox", "textsc", "texttt"),
    "": ("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "Bigg", "boldsymbol", "bm", "middle"),
}  # fmt: skip
_BY_COMMAND = {f"\\{name}": sign for sign, names in _SIGNS.items() for name in names}
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z])")
_DIGIT_GROUP = re.compile(r"(?<=\d)(?:\\[,;:! ]|~|\{,\}(?:\\!)?|,\\!\s*+)(?=\d{3}(?!\d))")
_SPACE = re.compile(r"\\[,;:! ]|~|\s+")
_AND_OR = re.compile(
    r"(?:[,;]\s*+|(?<!\s)\s++|(?<!\s))(?:\\text\s*+\{[\s,]*+(and|or)[\s,]*+\}|(?<![a-zA-Z\\{])(and|or)(?![a-zA-Z}])"
    r"|(?<=[\d)\]])(or)(?=[A-Z]))(?:\s*+,)?"
)
_CHOOSE = re.compile(r"\{((?:[^{}\\]|\\(?!choose\b))*+)\\choose\b([^{}]*+)\}")
_DOLLARS = re.compile(r"(?<=[\d}])\s*+\\\$(?!\d)")
_ASCII = re.compile(r"<=|>=|!=|=<|\.\.\.+|\*\*")
_ASCII_SIGNS = {"<=": "≤", "=<": "≤", ">=": "≥", "!=": "≠", "**": "^"}
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_WHOLE_TEXT = re.compile(r"\\text\s*+\{([^{}]*+)\}(\^\{?\d\}?)?")
_NUMBER_AND_REST = re.compile(r"\s*+([-+]?\d[\d.,/:]*+)\s*+(%?)\s*+([A-Za-z][A-Za-z/ ^\d.]*+)?")
_LETTER = re.compile("[A-Za-z]")
_LONG_WORD = re.compile(r"[A-Za-z]{2,}")


def tex(text: str) -> str:
    """Tidied text as LaTeX again, for a reader that does not know our signs."""
    return text.translate(_TEX)


def tidy(text: str) -> str:
    """The text in one spelling, without spaces, delimiters and a final full stop."""
    text = _unwrapped(text.replace(OR, "").replace(AND, "").translate(_UNICODE).strip())
    table = "matrix" in text or "array" in text
    if not table:
        text = _DOUBLED.sub(r"\\", text)
    if "\\" in text or "~" in text or "{" in text:
        text = _DIGIT_GROUP.sub("", text)
        text = _COMMAND.sub(lambda command: _BY_COMMAND.get(command[0], command[0]), text)
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
        text = _DOLLARS.sub(r"\\text{dollar}", text).replace(r"\$", "").replace(r"\#", "").replace(r"\%", "%")
        text = _number_in_text(text)
    text = text.replace("$", "")
    text = _ASCII.sub(lambda sign: _ASCII_SIGNS.get(sign[0], "…"), text)
    text = text if table else _SPACE.sub(" ", text)
    if "and" in text or "or" in text:
        text = _AND_OR.sub(lambda word: OR if "or" in word.groups() else AND, text)
    return text.strip(_AROUND).removesuffix(".").strip(_AROUND)


_AROUND = f" ,;{OR}{AND}"


def _number_in_text(text: str) -> str:
    """\\text{5 cm} becomes 5\\text{cm}; a \\text without any word loses it."""
    whole = _WHOLE_TEXT.fullmatch(text.strip())
    if whole is None or not any(map(str.isdigit, whole[1])):
        return text
    said = _SPACE.sub(" ", whole[1]) + (whole[2] or "")
    plain = said.replace(r"^\circ", "")
    if "\\" in plain:
        return text
    words = set(_LONG_WORD.findall(plain))
    if all(word in ("and", "or") or units.unit(word) for word in words) and (words or not _LETTER.search(plain)):
        return said
    number = _NUMBER_AND_REST.fullmatch(said.rstrip(". "))
    if number is not None:
        return number[1] + number[2] + (rf"\text{{ {number[3]}}}" if number[3] else "")
    return text


def _unwrapped(text: str) -> str:
    """The text without math delimiters and boxes around the whole."""
    for _ in range(4):
        before = text
        for opening, closing in _DELIMITERS:
            if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
                inside = text[len(opening) : len(text) - len(closing)]
                if opening not in inside and closing not in inside:
                    text = inside.strip()
        if text.startswith(r"\boxed{") and shapes.closing(text, len(r"\boxed")) == len(text) - 1:
            text = text[len(r"\boxed{") : -1].strip()
        if text == before:
            break
    return text.rstrip(".").rstrip() if text.endswith("$.") else text
