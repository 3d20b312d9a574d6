"""What of a row its judges need: the ground truth that judges of answers compare with, and the row itself for reward
functions. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .config import Data, Reward, ability_of
from .errors import DataError
from .ground_truth import OWN, GroundTruth, ground_truth_of
from .texts import flaw


def judged_truth(values: Mapping[str, Any], where: str, data: Data | None, rewards: Sequence[Reward]) -> GroundTruth:
    """The ability and golds of a row under ``rewards``. Without any, or where one of them judges by the row's ability,
    they are the row's own. A row that only functions judge needs no answer. Raises ``DataError``."""
    if not rewards or any(reward.use == "row" for reward in rewards):
        return ground_truth_of(values, where, data)
    ability = ability_of(rewards)
    if ability is not None:
        return ground_truth_of({**values, "ability": ability}, where, data)
    answer = values.get("answer")
    shown = answer if isinstance(answer, (list, tuple)) else () if answer is None else (answer,)
    return GroundTruth(OWN, tuple(str(each) for each in shown))


def columns_of(values: Mapping[str, Any], where: str, data: Data | None) -> str:
    """The row as one JSON object, with the columns that ``data`` chooses. ``DataError`` names a column that is not
    there, one that JSON cannot hold, and the largest one of a row that is too large."""
    chosen = None if data is None else data.row_columns
    most = Data.model_fields["max_row_bytes"].default if data is None else data.max_row_bytes
    missing = [column for column in chosen or () if column not in values]
    if missing:
        raise DataError(f"{where}: no column {missing[0]!r}, which data.row_columns names; there: {', '.join(values)}")
    names = list(values) if chosen is None else list(dict.fromkeys(["prompt", *chosen]))
    row = {name: values[name] for name in names if name in values}
    sizes = {name: len(_json(name, value, where)) for name, value in row.items()}
    text = json.dumps(row, ensure_ascii=False)
    if (size := len(text.encode())) > most:
        largest = max(sizes, key=lambda name: sizes[name])
        raise DataError(
            f"{where}: column {largest!r}: the row has {size:,} bytes as JSON, {sizes[largest]:,} of them in this "
            f"column, and data.max_row_bytes is {most:,}: it travels with each ticket; choose the columns that the "
            "rewards or the environment need by data.row_columns, or raise the limit"
        )
    return text


def _json(name: str, value: Any, where: str) -> str:
    wrong = flaw(value)
    try:
        if wrong is None:
            return json.dumps(value, allow_nan=False)
    except ValueError as error:
        wrong = "", str(error)
    raise DataError(
        f"{where}: column {name}{wrong[0]}: {wrong[1]}; rewards and environments get rows as JSON: leave the column "
        "out by data.row_columns"
    )
