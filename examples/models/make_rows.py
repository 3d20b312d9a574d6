"""Writes sums.jsonl beside this file: 36 sums of two digits, asked after one turn of how an answer looks."""

import json
import random
from pathlib import Path

EXAMPLE = [{"role": "user", "content": "Calculate 2 + 3."}, {"role": "assistant", "content": "\\boxed{5}"}]
pairs = random.Random(0).sample([(a, b) for a in range(1, 10) for b in range(1, 10) if (a, b) != (2, 3)], 36)
with (Path(__file__).parent / "sums.jsonl").open("w") as rows:
    for a, b in pairs:
        row = {"prompt": [*EXAMPLE, {"role": "user", "content": f"Calculate {a} + {b}."}], "ability": "math"}
        rows.write(
            json.dumps(row | {"reward_model": {"ground_truth": json.dumps([str(a + b)]), "style": "rule"}}) + "\n"
        )
