"""The last Python block of a response is found however it is fenced, and taken as it was meant."""

from textwrap import indent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.common.sandbox import sandbox
from leeway_rl.verifier.code import compare, tests
from leeway_rl.verifier.code.fences import extract_solution

from tests.speed import seconds, units

DOCSTRING = '''def f(x):
    """
    ```python
    f(1)
    ```
    """
    return x
'''


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("```python\na\n```\nand\n```python\nb\n```", "b\n"),
        ("<think>```python\na\n```</think>\n```python\nb\n```", "b\n"),
        ("```python\na\n```\n```\noutput\n```", "a\n"),
        ("```python\ns = '''```'''\n```", "s = '''```'''\n"),
        ("```python\na\n```python\nb\n```", "b\n"),
        ("```python\na\n```\n```python\nb", "a\n"),
        ("````markdown\n```python\na\n```\n````", "a\n"),
    ],
)
def test_the_answer_is_the_last_python_block_after_the_reasoning(text: str, source: str) -> None:
    assert extract_solution(text, finished=True) == (source, "")


@pytest.mark.parametrize(
    "text",
    [
        "no code",
        "```\nprint(1)\n```",
        "```pycon\n>>> 1\n```",
        "```python-repl\n>>> 1\n```",
        "```python2\nprint 1\n```",
        "<think>```python\na\n```",
        "```python\nprint(1)",
        "~~~python\nprint(1)\n```",
        "```python\n\n```",
        "```python print(1)```",
    ],
)
def test_without_a_python_block_there_is_no_answer(text: str) -> None:
    assert extract_solution(text, finished=True)[0] is None


@pytest.mark.parametrize(
    "head",
    [
        *(
            "```python",
            "```Python3",
            "```py",
            "```PY3",
            "```python3.11",
            "``` python",
            "```python   ",
            "\ufeff```python",
        ),
        *(
            "```python title='a.py'",
            "```python:main.py",
            "```python {.numberLines}",
            "```{.python .x}",
            "```python,ignore",
        ),
        *("````python", "~~~python", "~~~~ py", "   ```python", "\t```python"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_fence_opens_a_block_whatever_stands_behind_the_language(head: str, newline: str) -> None:
    fence = head.strip("\ufeff \t").rstrip("{").split("p")[0].split("P")[0].rstrip("{. ")
    text = f"Here:{newline}{head}{newline}x = ~~~1{newline}{fence}{newline}Done."
    assert extract_solution(text, finished=True) == (f"x = ~~~1{newline}", "")


@pytest.mark.parametrize(
    "text", ["\ufeff```python\na\n```", "```python\n\ufeffa\n```", "\ufeff\n```python\n\ufeffa\n```"]
)
def test_a_byte_order_mark_is_no_part_of_anything(text: str) -> None:
    assert extract_solution(text, finished=True) == ("a\n", "")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("```python\nprint(input())```", "print(input())"),
        ("```python\nprint(1)```\nIt prints:\n```\n1\n```", "print(1)"),
        ("```python\nprint(1)\n```text", "print(1)\n"),
        ("```python\nprint(1)  # done```\n", "print(1)  # done"),
        ("~~~python\nprint(1)~~~\n", "print(1)"),
        ("```python\r\nprint(1)```\r\n", "print(1)"),
        ("```python\nx = 1  # not ``` yet\ny\n```", "x = 1  # not ``` yet\ny\n"),
        ("````python\nprint(1)\n```", "print(1)\n"),
        ("```python\nprint(1)\n`````", "print(1)\n"),
    ],
)
def test_a_fence_may_close_behind_code(text: str, source: str) -> None:
    assert extract_solution(text, finished=True) == (source, "")


@pytest.mark.parametrize(
    "source",
    [
        DOCSTRING,
        DOCSTRING.replace('"""', "'''"),
        '"""\n```\nusage\n```\n"""\nx = 1\n',
        's = "it\'s \\""\nt = """\\"""\n```\n"""\n',
        "s = 'a\\\n```\\\nb'\n",
        "# don't\ns = '''\n```\n'''  # it's \"\n",
        "print('```')\nprint(f'''{1}\n```''')\n",
    ],
)
def test_a_fence_inside_a_string_closes_nothing(source: str) -> None:
    for text in (f"```python\n{source}```\nIt's '''done.\n", f"````python\n{source}````", f"~~~python\n{source}~~~"):
        assert extract_solution(text, finished=True) == (source, "")
    compile(source, "", "exec")


def test_a_string_that_never_ends_costs_only_its_own_block() -> None:
    text = "```python\nbroken = '''\n```\nAgain:\n```python\nprint(2)\n```\n"
    assert extract_solution(text, finished=True) == ("print(2)\n", "")


@pytest.mark.parametrize("marker", ["1. ", "- ", "* ", "10) ", "  - ", "- 1. "])
def test_a_block_in_a_list_loses_the_indentation_of_its_fence(marker: str) -> None:
    source = "if x:\n\n    y = '''\n  a\n'''\n"
    inside = indent(source, " " * len(marker))
    for head in (f"Steps:\n\n{marker}Code:\n{' ' * len(marker)}", f"Steps:\n\n{marker}"):
        text = f"{head}```python\n{inside}{' ' * len(marker)}```\n"
        assert extract_solution(text, finished=True) == (source, "")


def test_strings_that_are_not_indented_with_their_block_stay_as_they_are() -> None:
    text = "   ```python\n   s = '''\nabc\n     d'''\n   ```"
    assert extract_solution(text, finished=True) == ("s = '''\nabc\n     d'''\n", "")
    flat = "1. Code:\n   ```python\nif x:\n    y\n   ```"
    assert extract_solution(flat, finished=True) == ("if x:\n    y\n", "")


def test_sources_of_this_package_come_out_as_they_went_in() -> None:
    for module in (compare, tests, sandbox):
        with open(module.__file__, encoding="utf-8") as file:
            source = file.read()
        for text in (f"```python\n{source}```", f"~~~py\n{source}~~~", f"- ```python\n{indent(source, '  ')}  ```\n"):
            assert extract_solution(f"It's '''so.\n{text}\nDone.", finished=True) == (source, "")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["```", "````", "~~~", "python", "\n", " ", "'''", '"""', "'", "#", "\\", "x", "- "])))
def test_anything_at_all_is_read(parts: list[str]) -> None:
    source, why_not = extract_solution("".join(parts), finished=True)
    assert (source is None) == bool(why_not)


@pytest.mark.parametrize(
    "text",
    [
        "```python\n'''\n```\n'''\n" * 30_000,
        "```python\n" * 100_000,
        "~~~python\n```python\n" * 50_000,
        "".join(f"{'`' * n}python\n" for n in range(1000, 3, -1)),
        "`" * 1_000_000,
        "```python\n" + "'" * 500_000,
        "```python\n" + "'\\\n" * 200_000,
        "- " * 400_000 + "```python",
        " " * 1_000_000 + "```python\n",
    ],
    ids=range(9),
)
def test_reading_takes_time_in_proportion(text: str) -> None:
    assert units(lambda: extract_solution(text, finished=True)) < 200


@pytest.mark.parametrize("before", ["Here is the code: ", "<answer>", "So:"])
def test_a_fence_behind_words_opens_a_block_where_no_line_of_its_own_does(before: str) -> None:
    assert extract_solution(f"{before}```python\nprint(1)\n```\n", finished=True) == ("print(1)\n", "")
    assert extract_solution(f"{before}```python\nno\n```\n```python\nyes\n```", finished=True)[0] == "yes\n"


@pytest.mark.parametrize("char", ["~", "`"])
def test_openings_that_close_nowhere_cost_time_in_proportion_to_the_text(char: str) -> None:
    def least(lines: int) -> float:
        openings = "\n".join(char * (303 - number) + "python" for number in range(300))
        text = openings + "\n" * lines
        return min(seconds(lambda: extract_solution(text, finished=True)) for _ in range(3))

    assert least(200_000) < 12 * least(50_000)
