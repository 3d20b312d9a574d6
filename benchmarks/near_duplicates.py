"""Planted near-duplicates and contaminations: how many are found, how many falsely; and how fast, beside datasketch.

    python benchmarks/near_duplicates.py --problems 100000
    python benchmarks/near_duplicates.py --problems 100000 --planted-by other
    python benchmarks/near_duplicates.py --problems 20000 --against-datasketch

Problems are generated: each is a story or a statement, with numbers and formulas. There are hard negatives among them:
a share SIBLINGS of the problems repeats another one with one or more of its numbers changed, and these are problems of
their own. A fifth as many planted rows follow: copies with 1 to 10 % of the words replaced, dropped, doubled or
exchanged, with renamed variables, in another LaTeX spelling, or all of these. As many again repeat one of 300
evaluation problems, half of them inside instructions. A planted row counts as found where it is dropped for the problem
it was made from; any other dropped row is a false one.
"""

import random
import re
import resource

import numpy as np
from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed
from leeway_rl.data.near import EvaluationSet, near_duplicates
from leeway_rl.data.normalise import normalise

SIBLINGS = 0.3
PLANTED = 0.2
EVALUATION = 300

_NAMES = "Ada Boris Chen Dana Emil Fatou Goran Hana Ivo Jun Kofi Lena Mara Nils Olga Pavel Qi Rosa Sven Tara"
_SYLLABLES = "ba ce di fo gu ha ki lo me nu pa ri so te vu wa xe yo zi bra cle dri fro glu ste tri plo que"
NAMES, SYLLABLES = _NAMES.split(), _SYLLABLES.split()
OPENINGS = (
    "{name} keeps {n} {w} and {n} {w} in a {w} near the {w}.",
    "In a {w} of {n} {w}, every {w} meets exactly {n} other {w}.",
    "Let ${v}$ and ${u}$ be positive integers such that ${v}^{{2}} + {n}{u} \\leq {n}$.",
    "Triangle $ABC$ has sides $AB = {n}$ and $BC = {n}$, and a point $P$ lies on the {w} side.",
    "Let $x_1, x_2, \\ldots$ satisfy $x_{{{v}+1}} = \\frac{{x_{{{v}}}}}{{{n}}} + {n}$ for all ${v} \\geq {n}$.",
    "The {w} {w} costs {n} coins on {w} days and {n} coins otherwise, says {name}.",
    "A {w} walks {n} kilometers to the {w} {w} while {name} drives {n} kilometers through the {w}.",
    "Real numbers satisfy $\\sqrt{{{v} + {n}}} \\cdot {u} = {n}$ and ${v} \\neq {u}$.",
)
MIDDLES = (
    "After {n} {w} the {w} is {w} and {n} of the {w} {w} are left.",
    "Each {w} {w} is worth ${n}\\times {n}$ points, but a {w} {w} only $\\frac{{{n}}}{{{n}}}$ of that.",
    "Suppose that ${u} = {n}{v} - {n}$ holds for every {w} {w} of the {w}.",
    "The {w} of {name} is {w} than the {w}, and {n} {w} later it becomes {w} again.",
    "None of the {w} may stand beside a {w} {w} unless $ {v} \\ge {n} $.",
)
ENDINGS = (
    "Find the number of {w} that {name} can {w} in {n} {w}.",
    "What is the remainder when the total is divided by {n}?",
    "Determine the largest value of ${v} + {u}$.",
    "The answer is $\\frac{{m}}{{n}}$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$.",
    "How many {w} {w} are there before the {w} is {w}?",
)


class Generator:
    """Problems and what can be planted of them, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.words = ["".join(self.random.choices(SYLLABLES, k=self.random.randrange(2, 5))) for _ in range(4000)]

    def pick(self, choices):
        """One of them."""
        return self.random.choice(choices)

    def problem(self) -> str:
        """A new problem of about 400 characters."""
        v, u = self.random.sample("abcdkpqrstxyz", 2)
        parts = [
            self.pick(OPENINGS),
            *(self.pick(MIDDLES) for _ in range(self.random.randrange(2, 5))),
            self.pick(ENDINGS),
        ]

        def fill(hole: re.Match[str]) -> str:
            match hole[1]:
                case "n":
                    return str(self.random.randrange(2, self.pick((20, 200, 30000))))
                case "w":
                    return self.pick(self.words)
                case "name":
                    return self.pick(NAMES)
                case letter:
                    return v if letter == "v" else u

        text = re.sub(r"\{(n|w|name|v|u)\}", fill, " ".join(parts))
        return text.replace("{{", "{").replace("}}", "}")

    def sibling(self, text: str) -> str:
        """The same text with other numbers, which is another problem."""
        numbers = list(re.finditer(r"\d+", text))
        chosen = self.random.sample(numbers, self.random.randrange(1, len(numbers) + 1))
        for found in sorted(chosen, key=lambda number: number.start(), reverse=True):
            text = text[: found.start()] + str(int(found[0]) + self.random.randrange(1, 50)) + text[found.end() :]
        return text

    def edited(self, text: str) -> str:
        """1 to 10 % of the words replaced, dropped, doubled or exchanged; what holds a number stays a number."""
        words = text.split()
        for _ in range(max(1, round(len(words) * self.random.uniform(0.01, 0.10)))):
            place = self.random.randrange(len(words) - 1)
            match self.random.randrange(4):
                case 0:
                    words[place] = self.pick(self.words)
                case 1:
                    del words[place]
                case 2:
                    words.insert(place, self.pick(self.words))
                case 3 if not re.search(r"\d", words[place] + words[place + 1]):
                    words[place], words[place + 1] = words[place + 1], words[place]
        return " ".join(words)

    def renamed(self, text: str) -> str:
        """Other letters for the variables in formulas."""
        new = dict(zip("abcdkpqrstxyz", self.random.sample("efghjlmnuvwzc", 13), strict=True))

        def formula(found: re.Match[str]) -> str:
            return re.sub(r"(?<![A-Za-z\\])[a-z](?![A-Za-z])", lambda letter: new.get(letter[0], letter[0]), found[0])

        return re.sub(r"\$[^$]*\$", formula, text)

    def respelled(self, text: str) -> str:
        """The same formulas in other LaTeX."""
        for old, others in (
            ("\\frac", ("\\dfrac", "\\tfrac")),
            ("\\leq", ("\\le", "≤")),
            ("\\ge ", ("\\geq ", "≥ ")),
            ("\\times", ("\\cdot", "×", "*")),
            ("\\cdot", ("\\times",)),
            ("\\neq", ("\\ne", "≠")),
            ("^{2}", ("^2",)),
            ("\\ldots", ("\\dots", "…")),
            (" + ", ("+",)),
            ("Triangle", ("$\\triangle$",)),
        ):
            text = text.replace(old, self.pick(others)) if self.random.random() < 0.8 else text
        text = re.sub(r"(\d)(\d{3})\b", r"\1{,}\2", text) if self.random.random() < 0.5 else text
        if self.random.random() < 0.5:
            text = re.sub(r"\$([^$]*)\$", lambda found: f"\\( {found[1]} \\)", text)
        return text

    def everything(self, text: str) -> str:
        """All three changes at once."""
        return self.respelled(self.renamed(self.edited(text)))

    def instructed(self, text: str) -> str:
        """The problem inside instructions."""
        return f"Solve the following problem step by step.\n\n{text}\n\nPut the final answer within \\boxed{{}}."


def planted_set(
    problems: int, seed: int, share: float = PLANTED
) -> tuple[list[str], list[str], list[tuple[str, int, int]]]:
    """(evaluation problems, rows, (kind, row, origin)): origin is a row, or -1 - an evaluation problem."""
    make = Generator(seed)
    evaluation = [make.problem() for _ in range(EVALUATION)]
    rows = [make.problem() for _ in range(round(problems * (1 - SIBLINGS)))]
    rows += [make.sibling(make.pick(rows)) for _ in range(problems - len(rows))]
    planted = []
    kinds = {"edited": make.edited, "renamed": make.renamed, "respelled": make.respelled, "everything": make.everything}
    for _ in range(round(problems * share)):
        kind = make.pick(list(kinds))
        origin = make.random.randrange(problems)
        planted.append((kind, len(rows), origin))
        rows.append(kinds[kind](rows[origin]))
    for _ in range(round(problems * share)):
        kind = make.pick(list(kinds))
        origin = make.random.randrange(EVALUATION)
        text = kinds[kind](evaluation[origin])
        planted.append((f"evaluation, {kind}", len(rows), -1 - origin))
        rows.append(make.instructed(text) if make.random.random() < 0.5 else text)
    return evaluation, rows, planted


def found_in(evaluation: list[str], rows: list[str]) -> list[int | None]:
    """What each row was dropped for, as an origin of ``planted_set``."""
    texts = [normalise(row) for row in rows]
    alike = EvaluationSet([normalise(problem) for problem in evaluation]).alike(texts)
    dirty = [matches[0] if matches else None for matches in alike]
    clean = [index for index, match in enumerate(dirty) if match is None]
    origins: list[int | None] = [None if match is None else -1 - match.of for match in dirty]
    for index, match in zip(clean, near_duplicates([texts[i] for i in clean], [0] * len(clean)), strict=True):
        if match is not None:
            origins[index] = clean[match.of]
    return origins


def quality(problems: int, seed: int, share: float, planted_by: str) -> None:
    """Print recall by kind, and precision."""
    if planted_by == "other":
        from leeway_rl.benchmarks.second_planted_set import planted_set as plant
    else:
        plant = planted_set
    evaluation, rows, planted = plant(problems, seed, share)
    seconds, origins = timed(found_in, evaluation, rows)
    of = {row: origin for _, row, origin in planted}
    # Renaming and respelling may make two planted rows equal; either is then dropped for the same origin.
    right = {row for row, origin in of.items() if origins[row] is not None and origins[row] == origin}
    dropped = [row for row, origin in enumerate(origins) if origin is not None]
    characters = sum(map(len, rows)) / len(rows)
    print(
        f"{len(rows)} rows of {characters:.0f} characters, {len(planted)} of them planted, seed {seed}: {seconds:.1f} s"
    )
    table = Table("kind:<24", "planted:d", "recall:.4f")
    for kind in sorted({kind for kind, _, _ in planted}):
        mine = [row for name, row, _ in planted if name == kind]
        table.line(kind, len(mine), sum(row in right for row in mine) / len(mine))
    print(f"recall {len(right) / max(1, len(planted)):.4f} (must hold: 0.98)")
    print(f"precision {sum(row in right for row in dropped) / max(1, len(dropped)):.4f} (must hold: 0.98)")


def by_datasketch(rows: list[str]) -> int:
    """Rows that plain datasketch drops: word triples, 128 permutations, threshold 0.5."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.5, num_perm=128)
    dropped = 0
    for number, row in enumerate(rows):
        words = row.lower().split()
        triples = {" ".join(words[at : at + 3]).encode() for at in range(max(1, len(words) - 2))}
        sketch = MinHash(num_perm=128)
        sketch.update_batch(triples)
        if index.query(sketch):
            dropped += 1
        else:
            index.insert(number, sketch)
    return dropped


def speed(problems: int, seed: int, rounds: int) -> None:
    """Print the seconds that ours and datasketch take on the same texts, in turns, and their ratio."""
    evaluation, rows, _ = planted_set(problems, seed)
    print(f"{len(rows)} rows of {sum(map(len, rows)) / len(rows):.0f} characters")
    ratios = []
    ways = {"ours": lambda _: timed(found_in, evaluation, rows), "datasketch": lambda _: timed(by_datasketch, rows)}
    table = Table("ours s, decontamination too:.1f", "dropped:d", "datasketch s:.1f", "dropped:d")
    for found in in_turns(rounds, ways):
        (ours_s, origins), (theirs_s, dropped) = found["ours"], found["datasketch"]
        ratios.append(theirs_s / ours_s)
        table.line(ours_s, sum(origin is not None for origin in origins), theirs_s, dropped)
    print(f"ratio {np.median(ratios):.2f} (must hold: 2)")


def main() -> None:
    """Parse the arguments and run."""
    parser = parser_of(__doc__, rounds=1, seed=0)
    parser.add_argument("--problems", type=int, default=100_000, help="before the planted rows are added")
    parser.add_argument(
        "--planted", type=float, default=PLANTED, help="of the problems, near-duplicates and as many again"
    )
    parser.add_argument("--planted-by", choices=("this", "other"), default="this", help="other: second_planted_set.py")
    parser.add_argument("--against-datasketch", action="store_true")
    given = parser.parse_args()
    print(load_of_this_machine())
    if given.against_datasketch:
        speed(given.problems, given.seed, given.rounds)
    else:
        quality(given.problems, given.seed, given.planted, given.planted_by)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
