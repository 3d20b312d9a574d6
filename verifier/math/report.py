"""Grades by the report's own four steps (7.1), with plain Math-Verify and nothing of ours around it.

1. The answer is what follows the reasoning: the last ``</think>`` where there is one. A truncated response has none.
2. Math-Verify parses it; of what it finds, the text is the answer's string form.
3. If that equals a gold, it is correct.
4. Otherwise Math-Verify's ``verify`` decides, against the gold wrapped in ``\\boxed{}``.

Several golds are alternatives. This measures what our rules change. It grades prose and may never end, so it runs only
in a process that can be killed.
"""

from ...common.types import VerdictKind
from ..boxes import behind_reasoning
from .symbolic import math_verify_functions


def grade_report(
    response_text: str, golds: tuple[str, ...], finished: bool, *, reasoning_open: bool = False
) -> tuple[VerdictKind, str]:
    """(kind, reason): the verdict on a response against any one of ``golds``.

    ``reasoning_open`` says that the prompt itself ended inside ``<think>``. The caller keeps the clock: Math-Verify's
    own clocks stay off, because they look like "wrong". Raises ``ValueError`` if there is no gold.
    """
    if not any(gold.strip() for gold in golds):
        raise ValueError("there is no gold to compare with")
    answer, why_not = behind_reasoning(response_text, finished=finished, reasoning_open=reasoning_open)
    if answer is None:
        return VerdictKind.NO_ANSWER, why_not
    parse, verify = math_verify_functions()
    parsed = parse(answer, parsing_timeout=None)
    if not parsed:
        return VerdictKind.NO_ANSWER, "Math-Verify finds no answer"
    texts = [found for found in parsed if isinstance(found, str)]
    if any(text in golds for text in texts):
        return VerdictKind.CORRECT, "equal as Math-Verify reads it"
    for gold in filter(str.strip, golds):
        if verify(parse(f"\\boxed{{{gold}}}", parsing_timeout=None), parsed, timeout_seconds=None):
            return VerdictKind.CORRECT, "equal to Math-Verify"
    return VerdictKind.WRONG, f"answered {(texts or [''])[-1][:80]}"
