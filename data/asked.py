"""What a problem asks for: a proof, several things at once, a choice without its choices. Pure.

Problems are read a sentence at a time, and only what is commanded or asked counts: ``show your work`` is no proof.
"""

import re

MOST_CHARS = 20_000
"""How many characters of a problem are read. What comes after them is seldom part of the problem."""

_SENTENCE = re.compile(r"(?<=[.?!;])\s+|(?<=[.?!]\$)\s+|\n+|(?<=:)\s+")
_LABEL = r"(?:\W*(?:\((?:[a-z]|[ivx]{1,4}|\d{1,2})\)|(?:[a-z]|[ivx]{1,4}|\d{1,2})[.)]))?"
_SO = r"(?:(?:hence|then|now|thus|also|next|first|finally|please|therefore|so|and|or|otherwise|conversely)\b,?\s*)*"
_AT_HEAD = rf"^{_LABEL}\W*{_SO}"
_AFTER = (
    r"(?:[,;:]\s*(?:and\s+|then\s+|hence\s+|also\s+|please\s+)*"
    r"|\b(?:and|then|hence)\s+(?:then\s+|hence\s+|also\s+|to\s+)?)"
)
_TO_PROVE = (
    r"(?:prove\b(?!\s+(?:nothing|useful|helpful|to\s+be)\b)|disprove\b|show\s*:(?!\s*(?:your|all))"
    r"|(?:show|demonstrate|verify|establish|deduce|conclude|check|justify)\b[^.?!;]{0,90}?\sthat\b"
    r"|(?:show|verify|justify|check|establish)\s+(?:the\s+(?:identity|equation|equality|inequality|claim|formula)\b"
    r"|\$[^$]*[=<>\\])"
    r"|(?:explain|show|justify)\s+why\b|give\s+a\s+(?:\w+\s+)?proof\b|write\s+(?:down\s+)?a\s+(?:\w+\s+)?proof\b)"
)
_PROOF = re.compile(
    rf"{_AT_HEAD}{_TO_PROVE}|{_AFTER}{_TO_PROVE}|\b(?:asked|required|have|has)\s+to\s+(?:prove|show\s+that)\b"
    r"|\bto\s+prove\s+that\b|\b(?:must|should)\s+be\s+(?:shown|proved|proven)\s+that\b|\blet\s+us\s+(?:prove|show\s+that)\b"
    r"|\bto\s+be\s+(?:proved|proven)\b|^(?:proof|claim|lemma)\s*:",
    re.IGNORECASE,
)
_COMMAND = (
    r"(?:find|determine|compute|evaluate|calculate|solve|express|simplify|count|give\s+(?:the|your|all)|name\s+the"
    r"|state\s+the|factor|estimate)\b"
)
_QUESTION = r"(?:what|how\s+(?:many|much|long|far|old|large|often|fast)|which|who|where|when|is|are|does|do|can|will)\b"
_PREPOSITION = r"(?:(?:in|for|at|by|of|to|on|from|with|under|after)\s+)?"
_COMMANDS = re.compile(rf"{_AT_HEAD}{_COMMAND}|{_AFTER}{_COMMAND}", re.IGNORECASE)
_QUESTIONS = re.compile(
    rf"{_AT_HEAD}{_PREPOSITION}{_QUESTION}|{_AFTER}{_PREPOSITION}(?:what|how\s+(?:many|much)|which)\b", re.IGNORECASE
)
_WHOSE_TRUTH = re.compile(
    r"\b(?:is|are|does|do|can|will|must)\b[^.!?]{0,400}\?|\bwhether\b|\bprove\s+or\s+disprove\b", re.IGNORECASE
)


def sentences(problem: str) -> list[str]:
    """The problem's sentences, and its parts before a colon, in order."""
    return [part for part in _SENTENCE.split(problem[:MOST_CHARS].strip()) if part.strip()]


def asks_for_a_proof(problem: str) -> str | None:
    """The sentence that asks for a proof where nothing else is asked, or None. ``Prove that ..., and find ...`` has an
    answer, and so has a question whether something holds."""
    parts = sentences(problem)
    proof = next((part for part in parts if _PROOF.search(part)), None)
    if proof is None:
        return None
    if any(
        _asks_value(parts[place:]) or ("?" in part and _WHOSE_TRUTH.search(part)) for place, part in enumerate(parts)
    ):
        return None
    return proof


def _asks_value(parts: list[str]) -> bool:
    """Whether the first of these sentences demands an answer other than a proof, or is a question."""
    if _COMMANDS.search(parts[0]):
        return True
    return _QUESTIONS.search(parts[0]) is not None and any("?" in part for part in parts[:3])


_PART = re.compile(
    r"(?:^|(?<=[\s.;:?!]))(?:\(([a-h]|i{1,3}|iv|v|[1-6])\)|([a-h])\)|([1-6])\)|[Pp]art\s+\(?([A-Ha-h1-6])[).:]+)\s+"
    r"|^[^\S\n]*([1-6])\.\s+",
    re.MULTILINE,
)


def asks_several(problem: str) -> str | None:
    """The second of several parts that each ask something, or None."""
    starts = list(_PART.finditer(problem[:MOST_CHARS]))
    ends = [*(found.start() for found in starts[1:]), MOST_CHARS]
    parts = [problem[found.end() : end] for found, end in zip(starts, ends, strict=False)]
    asking = [part for part in parts if _asks(part)]
    labels = {found.group(found.lastindex or 0) for found in starts}
    return asking[1].strip() if len(asking) > 1 and len(labels) > 1 else None


def _asks(part: str) -> bool:
    parts = sentences(part)
    return any(_PROOF.search(text) or _asks_value(parts[place:]) for place, text in enumerate(parts))


_OF_THE_FOLLOWING = re.compile(
    r"\b(?:which|what|any|none|how many)\b(?:\s+\w+){0,2}?\s+of\s+(?:these\b|the\s+following\b)|\bwhich\s+of\s+these\b"
    r"|\b(?:which|what)\b(?:\s+\w+){0,2}?\s+the\s+following\b|\bwhich\s+(?:option|choice)\b"
    r"|\b(?:choose|select|pick)\s+the\s+(?:correct|right|best)\s+(?:answer|option|choice|one)\b",
    re.IGNORECASE,
)
_OPTIONS = re.compile(
    r"(?<![A-Za-z])\(?([A-E])\s*[).:]|\\(?:text|mathrm|textbf|mathbf)\s*\{\s*\(?([A-E])\W|\(([a-e])\)|(?<!\w)([a-e1-5])\)\s"
    r"|^[^\S\n]*(?:[-*•]|\d[.)]|(?:I{1,3}|IV|V)[.)])\s",
    re.MULTILINE,
)
_LETTER = re.compile(r"\(?(?:\\(?:text|mathrm|textbf)\{)?\(?([A-E])\)?\}?\)?\.?")
_BETWEEN = re.compile(r"[,;]")
_ALONE = re.compile(r"(?<![a-z])[A-E](?![a-z])")


def lacks_choices(problem: str, golds: list[str]) -> str | None:
    """The words that ask for a choice in a problem that lists no choices; else None."""
    text = problem[:MOST_CHARS]
    if len(_OPTIONS.findall(text)) > 1:
        return None
    asked = _OF_THE_FOLLOWING.search(text)
    if asked is not None and not _listed(text[asked.end() :]) and not _listed_before(text[: asked.start()], asked[0]):
        return " ".join(asked[0].split())
    letters = [found[1] for gold in golds if (found := _LETTER.fullmatch(gold.strip().strip("$")))]
    if letters and len(letters) == len(golds) and not {*letters} & {*_ALONE.findall(text)}:
        return f"the gold is {letters[0]}"
    return None


def _listed(rest: str) -> bool:
    """Whether a list follows: behind a colon, between commas, or line by line."""
    lines = [line for line in rest.splitlines()[1:] if line.strip()]
    behind_colon = rest.partition(":")[2].lstrip()[1:]
    behind_comma = _BETWEEN.split(rest, maxsplit=1)[1:]
    return (
        len(lines) > 1
        or re.search(r"[,;]|\bor\b", behind_colon) is not None
        or any(re.search(r"\bor\b", text) for text in behind_comma)
        or len(re.findall(r"\\q?quad", rest)) > 1
    )


def _listed_before(before: str, asked: str) -> bool:
    """Whether ``which of these`` points back at a list."""
    return "following" not in asked and (before.count(",") > 1 or before.count("$") > 3 or len(before) > 80)
