"""Reads answers in sentences: the one formula that is said, whether a text is prose, whether its last claim hedges.

Pure and linear.
"""

import re
from collections.abc import Callable

_OUTSIDE = re.compile(r"\\(?:text|mbox|mathrm|textbf|operatorname)\s*+\{[^{}]*+\}|\\[a-zA-Z]++|\$[^$]*+\$|\{[^{}]*+\}")
_WHOLE_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*+\{([^{}]*+)\}")
_FORMULA = re.compile(
    r"(?<!\\)\$\$((?:[^$\\]|\\.)++)\$\$|(?<!\\)\$((?:[^$\\\n]|\\.)++)\$"
    r"|(?<!\\)\\\(((?:[^\n\\]|\\[^()\n])++)\\\)|(?<!\\)\\\[((?:[^\\]|\\[^\[\]])++)\\\]",
    re.DOTALL,
)
_VALUE = re.compile(r"\$[^$]++\$|\((?=[^()\d]*+\d)[^()]*+\)|\\frac\{[^{}]*+\}\{[^{}]*+\}|\d[\d.,/]*+(?:\^\{?\d++\}?)?")
_DOUBT = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|could|might|not|than|least|most|between|about)\b", re.IGNORECASE
)
_LEAD = re.compile(r"[A-Za-z ,:]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\$*+\s")
_CLAIM = re.compile(r"\bis\b|\bare\b|\bit's\b|=|:")


def said(text: str) -> str:
    """The one formula of a short sentence that only says that this is the answer; else the text as it is."""
    if len(text) > 300 or not ("$" in text or "\\(" in text or "\\[" in text):
        return text
    formulas = list(_FORMULA.finditer(text))
    if len(formulas) != 1:
        return text
    before, after = text[: formulas[0].start()].strip(), text[formulas[0].end() :].strip(" .\n")
    if not _LEAD.fullmatch(before) or _DOUBT.search(before) or len(after.split()) > 1:
        return text
    return f"{next(filter(None, formulas[0].groups()))} {after}".strip()


def without(prose: str, unwanted: Callable[[str], bool]) -> str:
    """The prose without the formulas that ``unwanted`` names."""
    return _FORMULA.sub(lambda formula: "" if unwanted(formula[0]) else formula[0], prose)


def is_prose(text: str) -> bool:
    """Whether a text is sentences rather than an answer: it has three words outside of formulas, and something to
    compute with."""
    whole = _WHOLE_TEXT.fullmatch(text.strip())
    words = _WORD.findall(whole[1] if whole else _OUTSIDE.sub(" ", text))
    return len(words) - words.count("and") - words.count("or") >= 3 and ("$" in text or any(map(str.isdigit, text)))


def hedges(prose: str) -> bool:
    """Whether the last sentence that holds a value holds several, or says that it may be another one."""
    said = _FORMULA.sub(lambda formula: formula[0] if any(map(str.isdigit, formula[0])) else "", prose)
    for sentence in reversed(_SENTENCE_END.split(said)):
        if _VALUE.search(sentence):
            last = next((claim for claim in reversed(_CLAIM.split(sentence)) if _VALUE.search(claim)), sentence)
            values = {value.strip(".,") for value in _VALUE.findall(last)}
            return len(values) > 1 or _DOUBT.search(last) is not None
    return False
