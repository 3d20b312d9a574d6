"""What the ledger may say of the responses of one trained group. Pure."""

from math import isfinite
from typing import Any

from ...common.wording import counted


def wrong_rewards(line: dict[str, Any], size: int) -> str | None:
    """What is wrong with the verdicts and rewards of a trained group of ``size`` responses. Where no verdict is
    ``scored``, the verdicts say the rewards."""
    if "error" in line["verdicts"]:
        return f"ticket {line['ticket']} is trained with a verdict 'error'"
    rewards = line.get("rewards")
    if rewards is None:
        return f"ticket {line['ticket']} has scored responses and no rewards" if "scored" in line["verdicts"] else None
    if len(rewards) != size or not all(type(reward) in (int, float) and isfinite(reward) for reward in rewards):
        return f"ticket {line['ticket']} has rewards that are not {size} finite numbers"
    for verdict, reward in zip(line["verdicts"], rewards, strict=True):
        if verdict != "scored" and reward != (verdict == "correct"):
            return f"ticket {line['ticket']} has a reward of {reward} where the verdict is {verdict!r}"
    return None


def wrong_spans(line: dict[str, Any], oldest: int, newest: int) -> str | None:
    """What is wrong with the spans, whose versions must lie within ``oldest`` … ``newest``. Together with the observed
    tokens they cover every token once."""
    by_response = line.get("observed", [[]] * len(line["spans"]))
    if len(by_response) != len(line["spans"]):
        return f"observed tokens of {counted(len(by_response), 'response')} in a group of {len(line['spans'])}"
    for response, (spans, length) in enumerate(zip(line["spans"], line["lengths"], strict=True)):
        position, observed = 0, dict(by_response[response])
        for version, start, end in spans:
            position = observed.pop(position, position)
            if start != position or end <= start:
                return f"spans of response {response} leave a gap at token {position}"
            if not oldest <= version <= newest:
                return f"version {version} of response {response} outside {oldest}..{newest}"
            position = end
        if position != length:
            return f"spans of response {response} cover {position} of {length} tokens"
        if observed:
            return f"observed tokens of response {response} lie among sampled ones, or outside of it: {observed}"
    return None
