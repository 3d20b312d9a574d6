"""Problems written one by one, each with near misses, and copies made another way: for
``third_planted_set.py --by-hand``.

A line of ``by_hand.txt`` is: facts separated by ``|``, then ``?`` and the question, then ``=`` and its gold. Lines that
begin with ``!`` are near misses of the line above them: a whole new text and its gold. The rules were not made with it.
"""

import html
import random
import re
from collections.abc import Callable
from pathlib import Path

WRITTEN = Path(__file__).with_suffix(".txt")


def near_misses() -> list[tuple[list[str], str, str, list[tuple[str, str]]]]:
    """(facts, question, gold, near misses) of each problem."""
    found: list[tuple[list[str], str, str, list[tuple[str, str]]]] = []
    for line in WRITTEN.read_text().splitlines():
        text, _, gold = line.rpartition(" = ")
        if line.startswith("! "):
            found[-1][3].append((text[2:], gold))
        else:
            facts, _, question = text.partition(" ? ")
            found.append(([fact.strip() for fact in facts.split(" | ")], question, gold, []))
    return found


# --- copies, made another way ---

_FORMULA = re.compile(r"(\$[^$]*\$)")


def shouted(facts: list[str], question: str, r: random.Random) -> str:
    """Every second sentence, or all of them, in capitals."""
    parts = [*facts, question]
    every = r.randrange(2)
    return " ".join(part.upper() if every or number % 2 else part for number, part in enumerate(parts))


def from_a_page(facts: list[str], question: str, r: random.Random) -> str:
    """HTML as a content system stores it."""
    text = _FORMULA.sub(
        lambda f: f'<span class="math-tex">{f[0]}</span>' if r.random() < 0.7 else f[0], " ".join(facts)
    )
    text = re.sub(r"\^(\d)", r"<sup>\1</sup>", text)
    words = question.split(" ")
    at = r.randrange(len(words))
    words[at] = f"<em>{words[at]}</em>" if "$" not in words[at] else words[at]
    head = r.choice(("<h2>Exercise</h2>\n", "<!-- exported -->", '<a name="top"></a>', ""))
    return f'{head}<div style="font-size: 12px">{text}<br><br>{" ".join(words)}</div>'


def by_number(facts: list[str], question: str, r: random.Random) -> str:
    """Signs as numbered entities, in decimal or hexadecimal."""
    form = r.choice(("&#{};", "&#x{:x};", "&#x{:X};"))
    text = " ".join([*facts, question])
    some = set(r.sample("$=+-(),.?'{}^_|", 6))
    return "".join(form.format(ord(sign)) if sign in some else sign for sign in text)


def stirred(facts: list[str], question: str, r: random.Random) -> str:
    """The facts from the last to the first, or one of them moved."""
    if r.random() < 0.5:
        return " ".join([*facts[::-1], question])
    return " ".join([facts[-1], *facts[:-1], question])


def all_of_it(facts: list[str], question: str, r: random.Random) -> str:
    """Stirred, escaped, and in paragraphs."""
    parts = [html.escape(part) for part in (*facts[::-1], question)]
    return "\n".join(f"<p>{part.upper() if r.random() < 0.3 and '&' not in part else part}&nbsp;</p>" for part in parts)


COPIES: dict[str, Callable[[list[str], str, random.Random], str]] = {
    "shouted": shouted,
    "from a page": from_a_page,
    "by number": by_number,
    "stirred": stirred,
    "all of it": all_of_it,
}
