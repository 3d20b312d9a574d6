"""Problems written one by one, each with near misses, and copies made another way: for ``third_planted_set.py --by-hand``.

A line is: facts separated by ``|``, then ``?`` and the question, then ``=`` and its gold; lines beginning with ``!`` are
near misses of the line above them: a whole new text and its gold. Nothing here was looked at while the rules were made.
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable

WRITTEN = r"""
A farmer has hens and rabbits only. | Together the animals have 35 heads. | Someone counted 94 feet in the yard. ? How many rabbits does the farmer have? = 12
! A farmer has hens and rabbits only. Together the animals have 35 heads. Someone counted 94 feet in the yard. How many hens does the farmer have? = 23
! A farmer has hens and rabbits only. Together the animals have 35 heads. Someone counted 96 feet in the yard. How many rabbits does the farmer have? = 13
The numbers $a$ and $b$ are positive integers. | Their product is $a b = 84$. | We also know that $a + b = 25$. ? What is the larger of the two numbers? = 21
! The numbers $a$ and $b$ are positive integers. Their product is $a b = 84$. We also know that $a + b = 25$. What is the smaller of the two numbers? = 4
! The numbers $a$ and $b$ are positive integers. Their product is $a b = 84$. We also know that $a + b = 19$. What is the larger of the two numbers? = 12
A water tank is filled by two pipes. | The first pipe alone needs 6 hours to fill the tank. | The second pipe alone needs 9 hours to fill the tank. ? How many hours do both pipes need together? = 18/5
! A water tank is filled by two pipes. The first pipe alone needs 6 hours to fill the tank. The second pipe alone needs 12 hours to fill the tank. How many hours do both pipes need together? = 4
! A water tank is filled by two pipes. The first pipe alone needs 6 hours to fill the tank. The second pipe alone needs 9 hours to fill the tank. What part of the tank is filled by the second pipe in 2 hours? = 2/9
Point $M$ is the midpoint of side $BC$ of the square $ABCD$. | The square has side length $10$. | Let $K$ be the intersection of $AM$ and $BD$. ? Determine the area of triangle $BKM$. = \frac{25}{3}
! Point $M$ is the midpoint of side $BC$ of the square $ABCD$. The square has side length $10$. Let $K$ be the intersection of $AM$ and $BD$. Determine the perimeter of the square $ABCD$. = 40
! Point $M$ is the midpoint of side $BC$ of the square $ABCD$. The square has side length $14$. Let $K$ be the intersection of $AM$ and $BD$. Determine the area of triangle $BKM$. = \frac{49}{3}
Each of the letters in the word BANANA is written on a card of its own. | The six cards are shuffled. | Cards with the same letter cannot be told apart. ? How many different words of six letters can be laid with the cards? = 60
! Each of the letters in the word BANANA is written on a card of its own. The six cards are shuffled. Cards with the same letter cannot be told apart. In how many of the words of six letters do both letters N stand side by side? = 20
The function $g$ satisfies $g(x + 3) = g(x) + 7$ for all real $x$. | Moreover $g(1) = 4$ holds. ? Evaluate $g(31)$. = 74
! The function $g$ satisfies $g(x + 3) = g(x) + 7$ for all real $x$. Moreover $g(1) = 4$ holds. Evaluate $g(34)$. = 81
! The function $g$ satisfies $g(x + 3) = g(x) + 9$ for all real $x$. Moreover $g(1) = 4$ holds. Evaluate $g(31)$. = 94
In a school of 400 pupils, 230 pupils learn French. | The number of pupils who learn Spanish is 190. | Exactly 60 pupils learn neither of these two languages. ? How many pupils learn both languages? = 80
! In a school of 400 pupils, 230 pupils learn French. The number of pupils who learn Spanish is 190. Exactly 60 pupils learn neither of these two languages. How many pupils learn only French? = 150
! In a school of 400 pupils, 230 pupils learn French. The number of pupils who learn Spanish is 180. Exactly 60 pupils learn neither of these two languages. How many pupils learn both languages? = 70
A cone and a cylinder have the same base radius of $6$ cm. | The height of the cylinder is $5$ cm. | The height of the cone is $9$ cm. ? By how many cubic centimeters is the cylinder's volume greater, as a multiple of $\pi$? = 72
! A cone and a cylinder have the same base radius of $6$ cm. The height of the cylinder is $5$ cm. The height of the cone is $8$ cm. By how many cubic centimeters is the cylinder's volume greater, as a multiple of $\pi$? = 84
Let $p$ be a prime number greater than $3$. | Let $r$ be the remainder of $p^2$ on division by $24$. ? Find $r$. = 1
! Let $p$ be a prime number greater than $3$. Let $r$ be the remainder of $p^2$ on division by $12$. Find $r + 4$. = 5
A list of seven integers has the median 12 and the mean 15. | The smallest number in the list is 9. | The only mode of the list is 10. ? What is the largest number that the list can contain? = 39
! A list of seven integers has the median 12 and the mean 15. The smallest number in the list is 9. The only mode of the list is 10. What is the sum of all numbers in the list? = 105
! A list of seven integers has the median 12 and the mean 16. The smallest number in the list is 9. The only mode of the list is 10. What is the largest number that the list can contain? = 46
A merchant buys 40 lamps for 12 euros each. | He pays 60 euros for their transport. | He sells all the lamps at 18 euros each. ? How large is his profit in euros? = 180
! A merchant buys 40 lamps for 12 euros each. He pays 60 euros for their transport. He sells half the lamps at 18 euros each. How large is his loss in euros? = 180 euros of loss
! A merchant buys 40 lamps for 12 euros each. He pays 60 euros for their transport. He sells all the lamps at 19 euros each. How large is his profit in euros? = 220
The complex number $z$ satisfies $|z| = 5$. | Its real part is $3$. | Its imaginary part is positive. ? Find $z^2$. = -7+24i
! The complex number $z$ satisfies $|z| = 5$. Its real part is $3$. Its imaginary part is negative. Find $z^2$. = -7-24i
! The complex number $z$ satisfies $|z| = 5$. Its real part is $4$. Its imaginary part is positive. Find $z^2$. = 7+24i
A clock shows the time 4:20 in the afternoon. | Its hands move evenly. ? What is the measure in degrees of the acute angle between the hour hand and the minute hand? = 10
! A clock shows the time 4:40 in the afternoon. Its hands move evenly. What is the measure in degrees of the acute angle between the hour hand and the minute hand? = 100
Two fair coins and one fair die are thrown. | A player wins if both coins show heads. | The player also wins if the die shows a six. ? What is the probability that the player wins? = \frac{3}{8}
! Two fair coins and one fair die are thrown. A player wins if both coins show heads. The player also wins if the die shows a six. What is the probability that the player does not win? = \frac{5}{8}
The first term of a geometric sequence is $\frac{1}{4}$. | The ratio of consecutive terms is $-2$. | We look at the first nine terms of the sequence. ? What is their sum? = \frac{171}{4}
! The first term of a geometric sequence is $\frac{1}{4}$. The ratio of consecutive terms is $-2$. We look at the first nine terms of the sequence. What is their product? = 4^9
! The first term of a geometric sequence is $\frac{1}{4}$. The ratio of consecutive terms is $2$. We look at the first nine terms of the sequence. What is their sum? = \frac{511}{4}
A rectangular garden is surrounded by a path of width 2 meters. | The garden itself is 20 meters long. | Its width is 15 meters. ? What is the area of the path in square meters? = 156
! A rectangular garden is surrounded by a path of width 2 meters. The garden itself is 20 meters long. Its width is 15 meters. What is the area of the garden in square meters? = 300
! A rectangular garden is surrounded by a path of width 3 meters. The garden itself is 20 meters long. Its width is 15 meters. What is the area of the path in square meters? = 246
Let $T$ be the set of all subsets of $\{1, 2, 3, 4, 5, 6, 7, 8\}$. | A subset is called calm if it contains no two consecutive integers. ? How many elements of $T$ are calm? = 55
! Let $T$ be the set of all subsets of $\{1, 2, 3, 4, 5, 6, 7, 8\}$. A subset is called calm if it contains no two consecutive integers. How many elements of $T$ are not calm? = 201
Solve the system $2x + 3y = 31$ and $x - y = 3$ in real numbers. | The pair $(x, y)$ is its only solution. ? Write down the value of $x y$. = 40
! Solve the system $2x + 3y = 31$ and $x - y = 3$ in real numbers. The pair $(x, y)$ is its only solution. Write down the value of $x + y$. = 13
! Solve the system $2x + 3y = 31$ and $x + y = 13$ in real numbers. The pair $(x, y)$ is its only solution. Write down the value of $x - y$. = 3
A bus leaves the harbour every 12 minutes. | A tram leaves the harbour every 18 minutes. | At noon both of them left at the same moment. ? After how many minutes does that happen again? = 36
! A bus leaves the harbour every 12 minutes. A tram leaves the harbour every 20 minutes. At noon both of them left at the same moment. After how many minutes does that happen again? = 60
The base-$b$ number $34_b$ is twice the base-$b$ number $15_b$. | Here $b$ is a positive integer greater than $5$. ? What is $b$? = 6
! The base-$b$ number $36_b$ is twice the base-$b$ number $17_b$. Here $b$ is a positive integer greater than $7$. What is $b$? = 8
A ladder of length $13$ feet leans against a vertical wall. | Its foot is $5$ feet away from the wall. | The foot slides outward by $7$ feet. ? By how many feet does the top of the ladder slide down? = 7
! A ladder of length $13$ feet leans against a vertical wall. Its foot is $5$ feet away from the wall. The foot slides outward by $4$ feet. By how many feet does the top of the ladder slide down? = 12 - 2\sqrt{22}
Six friends sit around a round table. | Arrangements that differ by a rotation count as the same. | Anton and Berta want to sit side by side. ? In how many ways can they be seated? = 48
! Six friends sit around a round table. Arrangements that differ by a rotation count as the same. Anton and Berta do not want to sit side by side. In how many ways can they be seated? = 72
! Seven friends sit around a round table. Arrangements that differ by a rotation count as the same. Anton and Berta want to sit side by side. In how many ways can they be seated? = 240
The graph of $y = x^2 - 6x + 5$ meets the $x$-axis in two points. | The vertex of the parabola is $V$. ? Find the distance between the two points on the $x$-axis. = 4
! The graph of $y = x^2 - 6x + 5$ meets the $x$-axis in two points. The vertex of the parabola is $V$. Find the distance of $V$ from the $x$-axis, squared. = 16
In a bag there are 5 sweets with lemon and 7 sweets with mint. | Olga takes two sweets at random. | She puts none of them back. ? What is the probability that both taste of lemon? = \frac{5}{33}
! In a bag there are 5 sweets with lemon and 7 sweets with mint. Olga takes two sweets at random. She puts none of them back. What is the probability that both taste of mint? = \frac{7}{22}
The sides of a triangle measure $7$, $8$ and $9$. | A circle touches all three of its sides from within. ? What is the radius of the circle? = \sqrt{5}
! The sides of a triangle measure $7$, $8$ and $9$. A circle touches all three of its sides from within. What is the diameter of the circle? = 2\sqrt{5}
! The sides of a triangle measure $7$, $8$ and $9$. A circle passes through all three of its corners. What is the radius of the circle? = \frac{21\sqrt{5}}{10}
A certain virus doubles its number every 20 minutes. | At 8 o'clock there are 50 of them in a dish. ? How many are there at 10 o'clock? = 3200
! A certain virus triples its number every 20 minutes. At 8 o'clock there are 50 of them in a dish. How many are there at 10 o'clock? = 36450
! A certain virus doubles its number every 20 minutes. At 8 o'clock there are 50 of them in a dish. How many are there at 11 o'clock? = 25600
The equation $x^2 + kx + 36 = 0$ has two equal real roots. | The parameter $k$ is positive. ? Find $k$. = 12
! The equation $x^2 + kx + 36 = 0$ has two equal real roots. The parameter $k$ is negative. Find $k$. = -12
Ten chairs stand in a row. | Three people take seats at random. | No two of them may sit on neighbouring chairs. ? In how many ways can the chairs be picked? = 56
! Ten chairs stand in a row. Three people take seats at random. All of them must sit on neighbouring chairs. In how many ways can the chairs be picked? = 8
The price of a coat was raised by 25 percent in autumn. | In winter the new price was lowered by 20 percent. | The coat cost 160 euros at first. ? What does the coat cost in the end? = 160
! The price of a coat was raised by 25 percent in autumn. In winter the new price was lowered by 10 percent. The coat cost 160 euros at first. What does the coat cost in the end? = 180
A palindrome is a number that reads the same forwards and backwards. | We look at palindromes with four digits only. ? How many of them are divisible by $9$? = 10
! A palindrome is a number that reads the same forwards and backwards. We look at palindromes with four digits only. How many of them are even? = 40
"""


def near_misses() -> list[tuple[list[str], str, str, list[tuple[str, str]]]]:
    """(facts, question, gold, near misses) of each problem."""
    found: list[tuple[list[str], str, str, list[tuple[str, str]]]] = []
    for line in WRITTEN.strip().splitlines():
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
    """As a content system stores it."""
    text = _FORMULA.sub(lambda f: f'<span class="math-tex">{f[0]}</span>' if r.random() < 0.7 else f[0], " ".join(facts))
    text = re.sub(r"\^(\d)", r"<sup>\1</sup>", text).replace("<sup>2</sup>", "<sup>2</sup>")
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
