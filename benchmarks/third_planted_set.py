"""A third planted set: copies as other sites publish a problem, and other problems that are one step away.

    python benchmarks/third_planted_set.py --problems 2000
    python benchmarks/third_planted_set.py --problems 2000 --seed 7 --without-golds

Copies: in capitals (all of it, the prose, the question, words that are stressed), in HTML, with entities, with the
sentences of the context in another order, and several of these at once. Other problems: one number changed, a word that
turns the question, another question about the same context, the same template with other numbers. Golds are computed,
so the rows go through the steps ``decontaminate`` and ``duplicates`` as a recipe's rows do. ``by_hand.py`` has problems
written one by one; ``--by-hand`` takes those instead of the templates.
"""

import html
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from leeway_rl.benchmarks.measure import Table, parser_of
from leeway_rl.benchmarks.planted_templates import FAMILIES, GOODS, NAMES, SITES, Problem
from leeway_rl.data import recipe
from leeway_rl.data.dataset import Dataset, Drop

EVALUATION = 120
INSTRUCTED = 0.5

# --- the same problem as others publish it ---

_FORMULA = re.compile(r"(\$[^$]*\$)")


def _prose(text: str, change: Callable[[str], str]) -> str:
    """The text with ``change`` applied to what stands outside of formulas."""
    return "".join(part if part.startswith("$") else change(part) for part in _FORMULA.split(text))


def capitals(problem: Problem, r: random.Random) -> str:
    match r.randrange(4):
        case 0:
            return _prose(problem.text, str.upper)
        case 1:
            return re.sub(r"\\?[a-zA-Z]+", lambda w: w[0] if w[0][0] == "\\" else w[0].upper(), problem.text)
        case 2:
            return " ".join([*problem.facts, _prose(problem.question, str.upper)])
        case _:
            stress = lambda w: w[0].upper() if len(w[0]) > 2 and r.random() < 0.3 else w[0]  # noqa: E731
            return _prose(problem.text, lambda part: re.sub(r"[a-zA-Z]+", stress, part))


def in_html(problem: Problem, r: random.Random) -> str:
    sentences = [html.escape(part, quote=False) for part in (*problem.facts, problem.question)]
    if r.random() < 0.5:
        sentences = [re.sub(r"\$([^$]*)\$", r'<span class="math">\\(\1\\)</span>', part) for part in sentences]
    word = r.choice(problem.question.split()[:-1])
    sentences[-1] = sentences[-1].replace(word, f"<{'strong' if r.random() < 0.5 else 'b'}>{word}</x>", 1)
    sentences[-1] = re.sub(r"<(strong|b)>(.*?)</x>", r"<\1>\2</\1>", sentences[-1])
    match r.randrange(3):
        case 0:
            return "".join(f"<p>{part}</p>\n" for part in sentences)
        case 1:
            return '<div class="problem" id="q1">' + "<br/>".join(sentences) + "</div>"
        case _:
            facts = "".join(f"<li>{part}</li>" for part in sentences[:-1])
            return f"<ul style='margin: 4px'>{facts}</ul><p>{sentences[-1]}</p>"


def entities(problem: Problem, r: random.Random) -> str:
    text = html.escape(problem.text, quote=True)
    named = {"\\leq": "&le;", "\\ge ": "&ge; ", "\\cdot": "&middot;", "\\pi": "&pi;", " - ": " &minus; "}
    for old, new in named.items():
        text = text.replace(old, new)
    text = text.replace("$", r.choice(("&#36;", "&dollar;", "&#x24;", "")))
    for old, new in ((" ", "&nbsp;"), ("=", "&#61;"), ("(", "&#40;"), (")", "&#41;"), ("+", "&#43;")):
        if r.random() < 0.5:
            text = "".join(new if sign == old and r.random() < 0.4 else sign for sign in text)
    return html.escape(text, quote=False) if r.random() < 0.2 else text


def reordered(problem: Problem, r: random.Random) -> str:
    facts = problem.facts
    while facts == problem.facts:
        facts = r.sample(problem.facts, len(problem.facts))
    return " ".join([*facts, problem.question])


def together(problem: Problem, r: random.Random) -> str:
    shuffled = Problem(r.sample(problem.facts, len(problem.facts)), problem.question, problem.gold)
    if r.random() < 0.5:
        return in_html(shuffled, r)
    stressed = Problem([_prose(f, str.upper) for f in shuffled.facts], _prose(shuffled.question, str.upper), "")
    return r.choice((entities, in_html))(stressed, r)


COPIES = {
    "capitals": capitals,
    "HTML": in_html,
    "entities": entities,
    "reordered": reordered,
    "together": together,
}

# --- other problems ---


def other_number(problem: Problem, r: random.Random, make: Callable[[random.Random], Problem]) -> tuple[str, str]:
    """The problem with one number changed, and a gold that no other problem has."""
    found = r.choice(list(re.finditer(r"(?<![\d.])\d+(?![\d.]*\d)", problem.text)))
    number = str(int(found[0]) + r.choice((-1, 1, 2, 10)))
    return problem.text[: found.start()] + number + problem.text[found.end() :], problem.gold + " + 1"


def turned(problem: Problem, r: random.Random, make: Callable[[random.Random], Problem]) -> tuple[str, str] | None:
    if not problem.turned:
        return None
    question, gold = r.choice(problem.turned)
    return " ".join([*problem.facts, question]), gold


def other_question(problem: Problem, r: random.Random, make: Callable[[random.Random], Problem]) -> tuple[str, str]:
    question, gold = r.choice(problem.others)
    return " ".join([*problem.facts, question]), gold


def other_filling(problem: Problem, r: random.Random, make: Callable[[random.Random], Problem]) -> tuple[str, str]:
    other = make(r)
    return other.text, other.gold


OTHERS = {
    "other number": other_number,
    "turned": turned,
    "other question": other_question,
    "same template": other_filling,
}

BEFORE = ("Solve the problem below and explain each step.\n\n", "Problem 4. ", "You are a tutor.\n\nQuestion: ", "")
AFTER = ("\n\nPut the final answer in \\boxed{}.", "\nGive only the number.", " Think carefully before you answer.", "")


@dataclass
class Planted:
    """Rows with their golds, and what is the matter with each."""

    evaluation: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)
    copies: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Row → (kind, the row it repeats, or -1 - the evaluation problem)."""
    others: dict[int, str] = field(default_factory=dict)
    """Row → kind."""

    def add_copy(self, kind: str, place: int, text: str, gold: str, r: random.Random) -> None:
        """A copy of an evaluation problem stands inside instructions half of the time."""
        if place < 0 and r.random() < INSTRUCTED:
            text = r.choice(BEFORE) + text + r.choice(AFTER)
        self.copies[len(self.rows)] = (kind, place)
        self.rows.append((text, gold))


def alike(text: str) -> str:
    """A text without who acts and where: equal for problems that differ in nothing else."""
    return re.sub("|".join((*NAMES, *GOODS, *SITES, r"\b[A-Z]{1,3}\b")), "", text)


def template_problems(r: random.Random) -> Callable[[], tuple[Problem, Callable[[random.Random], Problem]]]:
    """A function that makes problems of all templates, no two alike."""
    seen: set[str] = set()

    def fresh() -> tuple[Problem, Callable[[random.Random], Problem]]:
        while True:
            make = r.choice(FAMILIES)
            problem = make(r)
            said = alike(problem.text)
            if said not in seen:
                seen.add(said)
                return problem, make

    return fresh


def planted_set(problems: int, seed: int) -> Planted:
    """A third of the rows are problems, a third copies, a third other problems close to one."""
    r = random.Random(f"third {seed}")
    fresh = template_problems(r)
    held = [fresh() for _ in range(EVALUATION)]
    known = [fresh() for _ in range(problems // 3)]
    planted = Planted([(p.text, p.gold) for p, _ in held], [(p.text, p.gold) for p, _ in known])
    seen = {alike(text) for text, _ in planted.rows + planted.evaluation}
    origins = [(place, *found) for place, found in enumerate(known)]
    origins += [(-1 - place, *found) for place, found in enumerate(held)]
    while len(planted.rows) < problems:
        kind, (_, problem, make) = r.choice(list(OTHERS)), r.choice(origins)
        other = OTHERS[kind](problem, r, make)
        if other is not None and alike(other[0]) not in seen:
            seen.add(alike(other[0]))
            planted.others[len(planted.rows)] = kind
            planted.rows.append(other)
        kind, (place, problem, _) = r.choice(list(COPIES)), r.choice(origins)
        planted.add_copy(kind, place, COPIES[kind](problem, r), problem.gold, r)
    return planted


def planted_by_hand(seed: int) -> Planted:
    """The problems of ``by_hand.py``, all their near misses, and every kind of copy of each; a third is held out."""
    from leeway_rl.benchmarks.by_hand import COPIES as COPIES_BY_HAND
    from leeway_rl.benchmarks.by_hand import near_misses

    r = random.Random(f"by hand {seed}")
    written = near_misses()
    r.shuffle(written)
    planted, held = Planted(), len(written) // 3
    planted.evaluation = [(" ".join([*facts, question]), gold) for facts, question, gold, _ in written[:held]]
    planted.rows = [(" ".join([*facts, question]), gold) for facts, question, gold, _ in written[held:]]
    for number, (facts, question, gold, misses) in enumerate(written):
        for kind, copy in COPIES_BY_HAND.items():
            place = number - held if number >= held else -1 - number
            planted.add_copy(kind, place, copy(facts, question, r), gold, r)
        for miss in misses:
            planted.others[len(planted.rows)] = "near miss"
            planted.rows.append(miss)
    return planted


# --- through the steps ---


def _lines(path: Path, rows: list[tuple[str, str]], golds: bool) -> None:
    values = ({"problem": text, "answer": gold if golds else "1", "ability": "math"} for text, gold in rows)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def _judged(folder: Path, step: str, rows: list[tuple[str, str]], golds: bool, **options: object) -> list[Drop | None]:
    _lines(folder / "rows.jsonl", rows, golds)
    recipe.load_alone(recipe.Source(name="rows", path=str(folder / "rows.jsonl")), folder / "dataset")
    chosen = recipe.STEPS[step]
    context = recipe.Context(folder, folder / f"work-{step}", folder / "asked", 1)
    judge = chosen.judge(Dataset(folder / "dataset"), chosen.options(**options), context)
    return [judgement for batch in judge for judgement in batch]  # type: ignore[misc]


def origins_found(planted: Planted, folder: Path, golds: bool) -> list[int | None]:
    """What each row was dropped for: a row, or -1 - an evaluation problem."""
    _lines(folder / "evaluation.jsonl", planted.evaluation, golds)
    held = _judged(folder, "decontaminate", planted.rows, golds, against=("evaluation.jsonl",))
    found = [None if drop is None else -int(re.search(r"evaluation\.jsonl:(\d+):", drop.detail)[1]) for drop in held]  # type: ignore[index]
    clean = [row for row, origin in enumerate(found) if origin is None]
    drops = _judged(folder, "duplicates", [planted.rows[row] for row in clean], golds)
    for row, drop in zip(clean, drops, strict=True):
        if drop is not None:
            found[row] = clean[int(re.search(r"rows\.jsonl:(\d+):", drop.detail)[1]) - 1]  # type: ignore[index]
    return found


def main() -> None:
    """Parse the arguments, plant, and print recall by kind and precision."""
    parser = parser_of(__doc__, seed=0)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--by-hand", action="store_true", help="problems of by_hand.py")
    parser.add_argument("--without-golds", action="store_true", help="every gold is the same")
    parser.add_argument("--show", type=int, default=0, help="so many rows that are judged wrong")
    given = parser.parse_args()
    planted = planted_by_hand(given.seed) if given.by_hand else planted_set(given.problems, given.seed)
    with tempfile.TemporaryDirectory() as folder:
        found = origins_found(planted, Path(folder), not given.without_golds)
    right = {row for row, (_, origin) in planted.copies.items() if found[row] == origin}
    dropped = {row for row, origin in enumerate(found) if origin is not None}
    # Where a problem also stands among the others, a copy of it may be dropped for that one.
    wrong = sorted(dropped - set(planted.copies))
    missed = sorted(row for row in planted.copies if found[row] is None)
    print(f"{len(planted.rows)} rows, {len(planted.copies)} copies, {len(planted.others)} other problems")
    table = Table("copies:<16", "rows:5d", "found:.4f")
    for kind in sorted({kind for kind, _ in planted.copies.values()}):
        rows = [row for row, (name, _) in planted.copies.items() if name == kind]
        table.line(kind, len(rows), sum(row in right for row in rows) / len(rows))
    falsely = Counter(planted.others.get(row, "known") for row in wrong)
    others = Counter(planted.others.values()) | {"known": len(planted.rows) - len(planted.copies) - len(planted.others)}
    table = Table("other problems:<16", "rows:5d", "dropped:d")
    for kind in (*sorted(set(planted.others.values())), "known"):
        table.line(kind, others[kind], falsely[kind])
    print(f"recall {len(right) / len(planted.copies):.4f} (must hold: 0.95)")
    print(f"precision {len(right) / max(1, len(dropped)):.4f} (must hold: 0.99)")
    for row in (missed + wrong)[: given.show]:
        origin = planted.copies.get(row, ("", found[row]))[1]
        other = planted.rows[origin][0] if origin >= 0 else planted.evaluation[-1 - origin][0]
        print(
            f"\n{planted.copies.get(row) or planted.others.get(row)}, found {found[row]}:\n{planted.rows[row]}\n{other}"
        )


if __name__ == "__main__":
    main()
