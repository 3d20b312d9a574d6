"""Makes rows of the problems of the package reasoning-gym, the same for training and for evaluation.

A row carries the package's own ``entry``, by which its scorer judges (``verifier/gym_answer.py``), and the generator's
options, because some scorers depend on them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import DataError
from .ground_truth import REASONING_GYM


def gym_rows(
    generator: str, *, seed: int, size: int, options: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) of ``size`` problems. ``DataError`` if the package is not installed, or refuses."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise DataError("problems of reasoning-gym need its package: pip install reasoning-gym") from error
    try:
        problems = reasoning_gym.create_dataset(generator, seed=seed, size=size, **_with_parts(options))
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(f"reasoning-gym generator {generator!r} with options {dict(options)}: {error}") from error
    for number, entry in enumerate(problems, start=1):
        try:
            plain = json.loads(json.dumps(entry))
        except (TypeError, ValueError) as error:
            raise DataError(f"reasoning-gym generator {generator!r}, problem {number}: no JSON: {error}") from error
        yield (
            number,
            {
                "prompt": entry["question"],
                "ability": REASONING_GYM,
                "entry": plain,
                "options": _options_of(plain, options),
            },
        )


def _with_parts(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the package takes them: the parts of a composite become its own objects."""
    if "datasets" not in options:
        return dict(options)
    from reasoning_gym.composite import DatasetSpec

    return {**options, "datasets": [DatasetSpec(**{"weight": 1, "config": {}, **part}) for part in options["datasets"]]}


def _options_of(entry: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the generator that made the entry. For a composite, those of the part that made it."""
    made_by = entry["metadata"].get("source_dataset")
    for part in options.get("datasets", ()):
        if isinstance(part, Mapping) and part.get("name") == made_by:
            return dict(part.get("config") or {})
    return {} if "datasets" in options else dict(options)
