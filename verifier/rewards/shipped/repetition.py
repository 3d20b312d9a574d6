"""A penalty for saying the same again."""

from typing import Any

from ....common.rewards import scores_truncated


@scores_truncated
def repetition(response: str, row: dict[str, Any], *, words: int = 3) -> float:
    """Minus the share of n-grams of ``words`` words that stood in the response before: 0 where none repeats, near -1
    where everything does. Words are what blanks separate, in small letters. Truncated responses are judged too, since
    they are where loops end.

    Source: the n-gram repetition penalty of Yeo et al. (arXiv 2502.03373), which gives it to single tokens; here the
    response gets its mean.
    """
    if words < 1:
        raise ValueError(f"words = {words}: at least 1")
    said = response.lower().split()
    grams = [tuple(said[start : start + words]) for start in range(len(said) - words + 1)]
    return len(set(grams)) / len(grams) - 1 if grams else 0.0
