"""The question to a judge, and what the answers say: a vote, the counts, and what becomes of the problem. Pure."""

import json
import re
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from ..common.wording import counted
from .dataset import Drop, Judgement

CRITERIA = {
    "clarity": "the wording can be understood in one way only, and at the first reading",
    "completeness": "everything that is needed to solve it is stated, and one definite answer is asked for",
    "formatting": "numbers, symbols and formulas are legible; nothing is garbled, cut off or left over from a web page",
    "relevance": "it is one problem, without remarks, hints, solutions, credits or other text beside it",
}
ASKING = """\
Below is a problem from a collection that is used to train and to grade solvers of mathematics. Do not solve it. Judge \
only how it is put, whatever its topic and however hard it is.

Criteria:
{criteria}

<problem>
{problem}
</problem>

Say first, in a sentence or two, what could be wrong with it. Then judge each criterion, and at last whether the \
problem is fit to be kept. End with one JSON object and nothing behind it, each value but the first true or false:
{{"reason": "...", "clarity": ..., "completeness": ..., "formatting": ..., "relevance": ..., "keep": ...}}"""
"""The prompt. If its words change, every judge is asked anew."""
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "vote",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "reason": {"type": "string", "maxLength": 400},
                **{name: {"type": "boolean"} for name in (*CRITERIA, "keep")},
            },
            "required": ["reason", *CRITERIA, "keep"],
            "additionalProperties": False,
        },
    },
}


VOTES = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("judge", pa.string()),
        ("index", pa.int64()),
        ("vote", pa.string()),  # keep, leave, nonsense, refused, missing
        *((name, pa.bool_()) for name in CRITERIA),  # met?
        ("reason", pa.string()),
    ]
)
"""The schema of ``votes.parquet``."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One judge's vote on one problem."""

    keep: bool
    met: dict[str, bool]
    """Whether each criterion is met."""
    reason: str


def vote_in(text: str) -> Vote | None:
    """The vote that an answer ends with; None if it holds no whole vote.

    Only what comes after the reasoning counts, and the last one of several JSON objects. Each criterion and ``keep``
    must be there and be true or false: a vote is not guessed at.
    """
    text = text.rpartition("</think>")[2]
    decoder = json.JSONDecoder()
    for start in reversed([found.start() for found in re.finditer(r"\{", text)]):
        try:
            said, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if not isinstance(said, dict) or not all(isinstance(said.get(name), bool) for name in (*CRITERIA, "keep")):
            continue
        reason = str(said.get("reason", ""))[:1000].encode("utf-8", "backslashreplace").decode()
        return Vote(said["keep"], {name: said[name] for name in CRITERIA}, reason)
    return None


def settled(count: Counter[str], least: int, why: str) -> Judgement:
    """What becomes of a problem by its votes, of each kind in ``VOTES``. It is of low quality only if the votes against
    it alone keep it below ``least``; those that are missing may still come."""
    said = f"{count['keep']} of {count.total()} votes for it, {count['leave']} against"
    if count["keep"] >= least:
        return None
    if count.total() - count["leave"] < least:
        return Drop("judged to be of low quality", f"{said}; {why}"[:300])
    if count["keep"] + count["missing"] >= least:
        return Drop("not judged yet: votes are missing", f"{said}, {count['missing']} missing")
    others = f"{counted(count['nonsense'], 'answer')} without a vote, {count['refused']} refused"
    return Drop("not judged: too few votes", f"{said}, {others}")
