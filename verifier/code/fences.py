"""Takes a Python solution out of a response: the last fenced block of Python after the reasoning. Pure.

A fence is three or more backticks or tildes at the start of a line, after blanks or the marker of a list. A block of
Python opens with the word ``python``, ``python3`` or ``py`` after its fence, whatever else stands there. It ends at the
next fence of its kind that is not part of the program, so not inside a string or a comment. A fence after code ends the
block too, because no program holds backticks elsewhere.

This runs in a process that nobody kills, so each line is looked at a bounded number of times.
"""

import re
from dataclasses import dataclass

from ..boxes import behind_reasoning

MAX_SOURCE_CHARS = 1_000_000

_BLANK = " \t\ufeff"
_FENCE = re.compile(r"`{3,}|~{3,}")
_BEHIND_WORDS = re.compile(r"(?<=[^\s`])[ \t]?(```(?:python3?|py))(?=[ \t]?\r?\n)", re.IGNORECASE)
_MARKER = re.compile(r"(?:[-*+]|[0-9]{1,9}[.)])[ \t]+")
_LANGUAGE = re.compile(r"[ \t]*\{?\.?(?:python(?:3(?:\.[0-9]{1,3})?)?|py3?)(?![\w.+#-])", re.IGNORECASE)
_IN_CODE = re.compile(r"#|'''|\"\"\"|'|\"|`{3,}")
_IN_STRING = {
    "'''": re.compile(r"\\.|'''", re.DOTALL),
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'": re.compile(r"\\.|'", re.DOTALL),
    '"': re.compile(r'\\.|"', re.DOTALL),
}
_MOST_LOOKS = 3
"""How often a line may be looked at on average, in search of the ends of blocks that are not whole programs."""
_LOST_TRACK = 4
"""So many blocks of one response may have strings that seem never to end; after that strings are ignored."""


def extract_solution(response: str, *, finished: bool, reasoning_open: bool = False) -> tuple[str | None, str]:
    """(source of the last Python block after the reasoning, "") or (None, why there is none)."""
    answer, why_not = behind_reasoning(response, finished=finished, reasoning_open=reasoning_open)
    if answer is None:
        return None, why_not
    source = _last_block(answer)
    if source is None and (found := _BEHIND_WORDS.search(answer)) is not None:  # Here it is: ```python
        source = _last_block(_BEHIND_WORDS.sub(r"\n\1", answer[found.start() :]))
    if source is None or not source.strip():
        return None, "no ```python block"
    if len(source) > MAX_SOURCE_CHARS:
        return None, f"a block of more than {MAX_SOURCE_CHARS} characters"
    return source, ""


@dataclass(frozen=True, slots=True)
class _Opening:
    """A line that opens a block of Python."""

    char: str
    length: int
    indent: int
    """Number of characters before the fence."""


@dataclass(frozen=True, slots=True)
class _End:
    """Where a block ends, and which of its lines begin inside a string."""

    line: int
    column: int
    """Column of the closing fence. What stands before it in its line belongs to the block."""
    in_string: frozenset[int]


def _last_block(text: str) -> str | None:
    lines = text.split("\n")
    found, at, lost = None, 0, 0
    left = _MOST_LOOKS * len(lines) + 1000
    while at < len(lines) and left > 0:
        opening = _opening(lines[at])
        if opening is None:
            at += 1
            continue
        end = _end_by_program(lines, at + 1, opening) if lost < _LOST_TRACK else None
        if end is None:
            lost += 1
            end = _end_by_line(lines, at + 1, opening)
            left -= (len(lines) if end is None else end.line) - at
        if end is None:
            at += 1  # it never closes, so it is not a block
            continue
        found = (at + 1, opening, end)
        # A line that closes one block may open the next, where a closing fence was forgotten.
        at = end.line if _opening(lines[end.line]) else end.line + 1
    return None if found is None else _body(lines, *found)


def _opening(line: str) -> _Opening | None:
    if "```" not in line and "~~~" not in line:
        return None
    start = len(line) - len(line.lstrip(_BLANK))
    while marker := _MARKER.match(line, start):
        start = marker.end()
    fence = _FENCE.match(line, start)
    if fence is None or not _LANGUAGE.match(line, fence.end()) or (fence[0][0] == "`" and "`" in line[fence.end() :]):
        return None
    return _Opening(fence[0][0], len(fence[0]), start)


def _end_by_program(lines: list[str], first: int, opening: _Opening) -> _End | None:
    """The first closing fence outside strings and comments."""
    string, in_string = "", set()
    for number in range(first, len(lines)):
        if string:
            in_string.add(number)
        elif (column := _tildes(lines[number], opening)) is not None:
            return _End(number, column, frozenset(in_string))
        column, string = _read_line(lines[number], string, opening)
        if column is not None:
            return _End(number, column, frozenset(in_string))
    return None


def _tildes(line: str, opening: _Opening) -> int | None:
    """The column of a fence of tildes, which must be a whole line: in code three tildes are operators."""
    bare = line.strip()
    whole = opening.char == "~" and len(bare) >= opening.length and not bare.strip("~")
    return line.index("~") if whole else None


def _read_line(line: str, string: str, opening: _Opening) -> tuple[int | None, str]:
    """(column of a closing fence of backticks, the string that is open at the end) of a line of Python, which begins
    inside ``string``, a quotation mark or nothing."""
    at = 0
    while True:
        token = (_IN_STRING[string] if string else _IN_CODE).search(line, at)
        if token is None or token[0] == "#":
            break
        at = token.end()
        if token[0][0] == "`":
            if opening.char == "`" and len(token[0]) >= opening.length:
                return token.start(), ""
        elif not string:
            string = token[0]
        elif token[0] == string:
            string = ""
    goes_on = len(string) == 3 or (string and line.rstrip("\r").endswith("\\"))
    return None, string if goes_on else ""


def _end_by_line(lines: list[str], first: int, opening: _Opening) -> _End | None:
    """The end of a block that is not a whole program: the first line that starts with a fence, or else the first that
    ends with one. A fence that is too short counts only if there is no other."""
    starts: dict[bool, _End] = {}
    ends: dict[bool, _End] = {}
    for number in range(first, len(lines)):
        line = lines[number]
        if opening.char * 3 not in line:
            continue
        bare = line.strip()
        run = len(bare) - len(bare.lstrip(opening.char))
        if run >= 3:
            starts.setdefault(run >= opening.length, _End(number, line.index(opening.char), frozenset()))
        run = len(bare) - len(bare.rstrip(opening.char))
        if run >= 3:
            column = len(line.rstrip()) - run
            ends.setdefault(run >= opening.length, _End(number, column, frozenset()))
        if True in starts:
            break
    return starts.get(True) or ends.get(True) or starts.get(False) or ends.get(False)


def _body(lines: list[str], first: int, opening: _Opening, end: _End) -> str:
    """The block's lines without the indentation that its fence has."""
    numbers = range(first, end.line)
    tail = lines[end.line][: end.column]
    kept = [lines[number] for number in numbers] + ([tail] if tail.strip() else [])
    code = [n for n, line in enumerate(kept) if line.strip() and first + n not in end.in_string]
    strings = [n for n, line in enumerate(kept) if line.strip() and first + n in end.in_string]
    cut = min([opening.indent, *(_indent(kept[n]) for n in code)])
    # Strings were indented with the block if all their lines are indented; else they stay as they are.
    within = all(_indent(kept[n]) >= cut for n in strings)
    for number, line in enumerate(kept):
        if first + number not in end.in_string or within:
            kept[number] = line[min(cut, _indent(line)) :]
    source = "\n".join(kept).lstrip("\ufeff")
    return source if tail.strip() else source + "\n" * bool(numbers)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
