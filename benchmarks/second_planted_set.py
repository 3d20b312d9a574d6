"""A second planted set for near_duplicates.py, designed apart from its first one: ``--planted-by other``.

Problems are whole English sentences of contests and textbooks with formulas; copies are made by the slips of people and
of scrapers: typing errors, other words of the same kind, lost and added small words, other inflections, other names of
variables, points and functions, and every spelling of LaTeX and Unicode for the same formula. Hard negatives repeat
another problem with a number changed by little, with two numbers exchanged, with a digit more, or with a relation or a
sign turned round.
"""

import random
import re

SIBLINGS = 0.3
EVALUATION = 300

_PEOPLE = """
Alice Bruno Carmen David Elena Felix Greta Hassan Irina Jakob Keiko Lucas Maria Nadia Omar Priya
"""
_THINGS = """
apples books bricks cards chairs coins cookies cups eggs envelopes flags flowers jars keys lamps marbles notebooks
oranges pages parcels pencils plates potatoes ribbons sacks shells shirts stamps stones tickets tiles towels toys
trees wheels
"""
_PLACES = """
bakery bridge castle farm forest garden harbour hotel island library market museum office orchard palace school shop
stadium station theatre town valley village warehouse workshop
"""
_ADJECTIVES = """
ancient blue broken clean cold distant empty famous fresh golden green heavy hidden large narrow new old open plain
quiet red rough round sharp short small smooth soft strong tall thick tiny white wide wooden yellow
"""
_VERBS = """
bought carried collected counted delivered found lost made ordered packed painted received sold sorted
"""
_ADVERBS = """
again also always first now often then today usually exactly
"""
PEOPLE, THINGS, PLACES = _PEOPLE.split(), _THINGS.split(), _PLACES.split()
ADJECTIVES, VERBS, ADVERBS = _ADJECTIVES.split(), _VERBS.split(), _ADVERBS.split()
SMALL = {"the", "a", "an", "of", "that", "is", "are", "be", "for", "its", "this", "all", "and", "in", "with"}

SENTENCES = (
    "{P} {verb} {n} {adj} {things} at the {place} and {n} more at the {adj} {place}.",
    "During one week the {place} {verb} {n} {things}, of which {pct} were {adj}.",
    "A {adj} box holds {n} {things} and {n} {things}, and {P} takes out {n} of them at random without looking.",
    "The price of the {adj} {things} rose from {big} to {big} cents while the price of the {things} fell by {pct}.",
    "A train leaves the {place} at a speed of {dec} kilometers per hour, and {n} minutes later another one follows it.",
    "In triangle ${A}{B}{C}$ we have ${A}{B} = {n}$ and ${B}{C} = {n}$, and $\\angle {A}{B}{C} = {n}^\\circ$.",
    "The circle with center ${A}$ and radius $\\sqrt{{{n}}}$ is tangent to the line ${B}{C}$, where ${B}{C} = {n}$.",
    "Let ${f}({x}) = {x}^2 - {n}{x} + {n}$ for every real number ${x} \\geq {n}$.",
    "Real numbers ${x}$ and ${y}$ satisfy $\\frac{{{x}}}{{{n}}} + \\frac{{{y}}}{{{n}}} = {n}$ and ${x} \\leq {n}$.",
    "The sequence $({x}_k)$ is defined by ${x}_1 = {n}$ and ${x}_{{k+1}} = {n} {x}_k - {n}$ for all $k \\geq 1$.",
    "Consider the integers from ${n}$ to ${big}$ that are divisible by ${n}$ but not by ${n}$.",
    "A committee of ${n}$ members is chosen from ${n}$ teachers and ${n}$ students of the {adj} {place}.",
    "Suppose that ${x} \\equiv {n} \\pmod{{{n}}}$ and that $\\gcd({x}, {n}) = {n}$ holds for the integer ${x}$.",
    "The polynomial ${x}^3 - {n}{x}^2 + {n}{x} - {n}$ has three different roots, and their sum is smaller than ${n}$.",
    "A rectangle has length ${dec}$ meters and width ${dec}$ meters, and a path of ${n}$ centimeters runs around it.",
    "We write $\\binom{{{n}}}{{{n}}} \\cdot {n}$ as a product of primes and list the exponents in increasing order.",
)
QUESTIONS = (
    "How many {things} does {P} have in the end?",
    "What is the probability that at least ${n}$ of them are {adj}?",
    "Find the area of the region that is bounded by these curves.",
    "Determine the number of such integers.",
    "Compute the value of $\\frac{{{n}{x} + {n}}}{{{n}}}$.",
    "Find the largest possible value of ${x} - {n}$.",
    "After how many hours do they meet for the first time?",
    "What is the sum of the digits of the answer when it is written in base ${n}$?",
    "Find the remainder when the result is divided by ${n}$.",
)


class SecondGenerator:
    """Problems and what can be planted of them, from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"second {seed}")

    def pick(self, choices):
        """One of them."""
        return self.random.choice(choices)

    def problem(self) -> str:
        """Three to five sentences with at least six numbers."""
        text = ""
        while len(re.findall(r"\d+", text)) < 6:
            text = self._some_sentences()
        return text

    def _some_sentences(self) -> str:
        x, y = self.random.sample("abcmnpqrstuvwxyz", 2)
        points = dict(zip("ABC", self.random.sample("ABCDEFKLMNPQRSTXYZ", 3), strict=True))
        names = {"x": x, "y": y, "f": self.pick("fghF"), **points}
        sentences = [*self.random.sample(SENTENCES, self.random.randrange(2, 5)), self.pick(QUESTIONS)]
        text = re.sub(r"\{(\w+)\}", lambda hole: self._fill(hole[1], names), " ".join(sentences))
        return text.replace("{{", "{").replace("}}", "}")

    def _fill(self, hole: str, names: dict[str, str]) -> str:
        words = {"P": PEOPLE, "things": THINGS, "place": PLACES, "adj": ADJECTIVES, "verb": VERBS}
        if hole in words:
            return self.pick(words[hole])
        match hole:
            case "n":
                return str(self.random.randrange(2, self.pick((12, 100, 1000))))
            case "big":
                return f"{self.random.randrange(1, 90)},{self.random.randrange(1000):03}"
            case "dec":
                return f"{self.random.randrange(1, 200)}.{self.random.randrange(1, 10)}"
            case "pct":
                return f"{self.random.randrange(2, 99)}\\%"
            case _:
                return names.get(hole, "{" + hole + "}")

    # --- other problems that look the same ---

    def sibling(self, text: str) -> str:
        """Another problem in nearly the same words."""
        numbers = list(re.finditer(r"(?<![\d,.])\d+(?![\d,.]*\d)", text))
        match self.random.randrange(4):
            case 0:
                return self._with(text, [(self.pick(numbers), lambda n: str(int(n) + self.pick((-1, 1))))])
            case 1:
                return self._with(text, [(self.pick(numbers), lambda n: n + str(self.random.randrange(10)))])
            case 2:
                one, other = sorted(self.random.sample(numbers, 2), key=lambda found: found.start())
                if one[0] != other[0]:
                    return self._with(text, [(one, lambda _: other[0]), (other, lambda _: one[0])])
            case 3:
                turned = {"\\geq": "\\leq", "\\leq": "\\geq", " + ": " - ", " - ": " + "}
                signs = [found for sign in turned for found in re.finditer(re.escape(sign), text)]
                if signs:
                    return self._with(text, [(self.pick(signs), turned.__getitem__)])
        return self._with(text, [(self.pick(numbers), lambda n: str(int(n) + 3))])

    @staticmethod
    def _with(text: str, changes) -> str:
        for found, change in sorted(changes, key=lambda pair: pair[0].start(), reverse=True):
            text = text[: found.start()] + change(found[0]) + text[found.end() :]
        return text

    # --- the same problem otherwise ---

    def reworded(self, text: str) -> str:
        """1 to 10 % of the words changed; formulas and numbers stay."""
        words = text.split(" ")
        inside, plain = False, []
        for place, word in enumerate(words):
            if not inside and "$" not in word and word.strip(".,?").isalpha():
                plain.append(place)
            inside ^= word.count("$") % 2 == 1
        count = max(1, round(len(words) * self.random.uniform(0.01, 0.10)))
        for place in self.random.sample(plain, min(count, len(plain))):
            words[place] = self._other_word(words[place])
        return " ".join(word for word in words if word)

    def _other_word(self, word: str) -> str:
        bare = word.strip(".,?")
        end = word[len(bare) :]
        if bare in SMALL and self.random.random() < 0.5:
            return end and ""  # lost
        for kind in (PEOPLE, THINGS, PLACES, ADJECTIVES, VERBS):
            if bare in kind and self.random.random() < 0.5:
                return self.pick(kind) + end
        match self.random.randrange(5):
            case 0 if len(bare) > 3:  # two letters exchanged
                at = self.random.randrange(len(bare) - 1)
                return bare[:at] + bare[at + 1] + bare[at] + bare[at + 2 :] + end
            case 1 if len(bare) > 3:  # a letter lost
                at = self.random.randrange(1, len(bare))
                return bare[:at] + bare[at + 1 :] + end
            case 2 if len(bare) > 3:  # another ending
                return (bare[:-1] if bare.endswith("s") else bare + "s") + end
            case 3:
                return f"{self.pick(ADVERBS)} {bare}{end}"
            case _:
                return bare.upper() + end if len(bare) > 5 else bare.capitalize() + end

    def renamed(self, text: str) -> str:
        """Other names for variables, points and functions, one for one."""
        formulas = re.findall(r"\$([^$]*)\$", text)
        used = sorted(
            {letter for formula in formulas for letter in re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![a-z])", formula)}
        )
        lower = self.random.sample([*"abcdghijlmnpqrstuvwxyz", "\\alpha", "\\lambda", "\\theta"], 25)
        upper = self.random.sample("ABCDEFGHJKLMNOPQRSTUVWXYZ", 25)
        new = {letter: (lower if letter.islower() else upper).pop() for letter in used if letter.islower()}
        new |= {letter: upper.pop() for letter in used if letter.isupper()}
        point = re.compile(r"(?<![A-Za-z\\])([A-Z]{1,3})(?![A-Za-z])")

        def formula(found: re.Match[str]) -> str:
            inner = point.sub(lambda names: "".join(new.get(name, name) for name in names[1]), found[1])
            inner = re.sub(
                r"(?<![A-Za-z\\])[a-z](?![A-Za-z])",
                lambda name: new.get(name[0], name[0]) + (" " if new.get(name[0], "")[:1] == "\\" else ""),
                inner,
            )
            return f"${inner}$"

        return re.sub(r"\$([^$]*)\$", formula, text)

    def retyped(self, text: str) -> str:
        """The same formulas in other LaTeX and Unicode."""
        some = lambda share=0.6: self.random.random() < share  # noqa: E731
        for old, others in (
            (
                r"\\frac\{([^{}]*)\}\{([^{}]*)\}",
                (r"\\dfrac{\1}{\2}", r"{\1 \\over \2}", r"\\displaystyle\\frac{\1}{\2}", r"\1/\2"),
            ),
            (r"\^2\b", ("^{2}", "²", "^ 2")),
            (r"\^3\b", ("^{3}", "³")),
            (r"\\geq", ("\\\\ge", "≥", "\\\\geqslant", ">=")),
            (r"\\leq", ("\\\\le", "≤", "\\\\leqslant", "<=")),
            (r"\\sqrt\{(\d+)\}", (r"\\sqrt \1", r"√\1", r"\\sqrt{\\,\1\\,}")),
            (r"\^\\circ", ("^{\\\\circ}", "°", "^\\\\circ{}", "\\\\degree")),
            (r"\\cdot", ("\\\\times", "·", "\\\\ast", "*")),
            (r"\\pmod\{(\d+)\}", (r"\\mod \1", r"\\ (\\operatorname{mod} \1)", r"\\bmod{\1}", r" (mod \1)")),
            (r"\\equiv", ("≡",)),
            (
                r"\\binom\{(\d+)\}\{(\d+)\}",
                (r"\\dbinom{\1}{\2}", r"{\1 \\choose \2}", r"\\tbinom{\1}{\2}", r"C(\1, \2)"),
            ),
            (r"\\gcd\(", ("\\\\gcd\\\\left(", "gcd(", "\\\\operatorname{gcd}(")),
            (r"(\d),(\d{3})", (r"\1{,}\2", r"\1\\,\2", r"\1\2", r"\1 \2")),
            (r"\\%", ("%", "\\\\,\\\\%", " \\\\%", " percent")),
            (r" - ", (" − ", "-", " -")),
            (r" \+ ", ("+", " +")),
            (r" = ", ("=", "\\\\,=\\\\,", "= ")),
            (r"\\angle ", ("∠", "\\\\measuredangle ", "\\\\angle{}")),
            (r"_\{k\+1\}", ("_{k + 1}",)),
        ):
            if some():
                text = re.sub(old, self.pick(others), text)
        if some(0.5):
            left, right = self.pick((("\\(", "\\)"), ("\\( ", " \\)"), ("$$", "$$"), ("\\[", "\\]"), ("", "")))
            text = re.sub(r"\$([^$]*)\$", lambda found: left + found[1] + right, text)
        if some(0.3):
            text = text.replace(" ", "\u00a0", 3)
        if some(0.2):
            text = text.replace(". ", ".\n\n", 1)
        return text

    def everything(self, text: str) -> str:
        """All three changes at once."""
        return self.retyped(self.renamed(self.reworded(text)))

    def quoted(self, text: str) -> str:
        """The problem inside other text."""
        before = self.pick(
            ("Question 7. ", "You are a careful tutor.\n\nProblem: ", "(AIME, problem 3) ", "### Task\n")
        )
        after = self.pick(("\n\nGive only the final number.", " Explain each step of your reasoning.", "\nAnswer:", ""))
        return before + text + after


def planted_set(problems: int, seed: int, share: float) -> tuple[list[str], list[str], list[tuple[str, int, int]]]:
    """As ``near_duplicates.planted_set``: (evaluation problems, rows, (kind, row, origin))."""
    make = SecondGenerator(seed)
    evaluation = [make.problem() for _ in range(EVALUATION)]
    rows = [make.problem() for _ in range(round(problems * (1 - SIBLINGS)))]
    seen = set(rows)
    while len(rows) < problems:
        sibling = make.sibling(make.pick(rows))
        if sibling not in seen:  # two siblings of one problem may be made alike
            seen.add(sibling)
            rows.append(sibling)
    kinds = {name: getattr(make, name) for name in ("reworded", "renamed", "retyped", "everything")}
    planted = []
    for _ in range(round(problems * share)):
        kind, origin = make.pick(list(kinds)), make.random.randrange(problems)
        planted.append((kind, len(rows), origin))
        rows.append(kinds[kind](rows[origin]))
    for _ in range(round(problems * share)):
        kind, origin = make.pick(list(kinds)), make.random.randrange(EVALUATION)
        text = kinds[kind](evaluation[origin])
        planted.append((f"evaluation, {kind}", len(rows), -1 - origin))
        rows.append(make.quoted(text) if make.random.random() < 0.5 else text)
    return evaluation, rows, planted
