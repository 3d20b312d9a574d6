"""What ``make models`` measured (docs/reference/models.csv), and the tables that docs/reference/models.md has of it."""

from __future__ import annotations

import csv
import re
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from leeway_rl.tests.architectures import ARCHITECTURES

FOLDER = Path(__file__).resolve().parent.parent / "docs/reference"
CSV, PAGE = "models.csv", "models.md"
MOST, MEAN = 1e-4, 1e-5
"""The largest and the mean |log π - log μ| that a row may have, nats a token."""
ROUNDED_BY_VLLM = {"apertus": 200.0}
"""How many times the bounds a kind may be off under vLLM: it keeps the parameters of Apertus' activation in
bfloat16."""
MOVED = 0.01
"""How far the step must have moved the log-probability of some sampled token at least, so that an engine which kept the
old weights would be seen."""
UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One architecture. Gaps are in nats a token, the worse of before and after the new weights; NaN where the engine
    was not asked."""

    kind: str
    words: str = ""
    """By which it was refused, or what failed."""
    parameters: int = 0
    torch_most: float = UNKNOWN
    torch_mean: float = UNKNOWN
    vllm_most: float = UNKNOWN
    vllm_mean: float = UNKNOWN
    """|log π by the learner, packed - log μ by the engine|."""
    alone_most: float = UNKNOWN
    alone_mean: float = UNKNOWN
    """|log π by the learner, packed - log π by transformers' own model, a response at a time|."""
    moved: float = UNKNOWN
    """The largest |log π before the step - log μ after it|, of the engine where it is less."""
    changed: int = 0
    tensors: int = 0
    """How many of its parameters the step changed, and how many there are."""
    grad_norm: float = UNKNOWN
    delta_share: float = UNKNOWN
    """Bytes of the new version's delta as a share of the whole version."""

    @property
    def trained(self) -> bool:
        return self.tensors > 0

    def why_wrong(self) -> list[str]:
        """What does not hold of a row that was trained."""
        wrong = []
        for name in ("torch", "vllm", "alone"):
            for which, bound in (("most", MOST), ("mean", MEAN)):
                most = bound * ROUNDED_BY_VLLM.get(self.kind, 1.0) if name == "vllm" else bound
                if getattr(self, f"{name}_{which}") > most:
                    wrong.append(f"{name} {which} {getattr(self, f'{name}_{which}'):.2g} > {most:g}")
        if self.changed != self.tensors:
            wrong.append(f"the step changed {self.changed} of {self.tensors} parameters")
        if not self.moved >= MOVED:
            wrong.append(f"the step moved no log-probability by {MOVED:g}: {self.moved:.2g}")
        if not 0 < self.grad_norm < float("inf"):
            wrong.append(f"the gradient's norm is {self.grad_norm}")
        return wrong


def read(folder: Path = FOLDER) -> dict[str, Row]:
    """The recorded rows by kind."""
    if not (folder / CSV).exists():
        return {}
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Row)}
    with (folder / CSV).open(newline="") as file:
        return {
            line["kind"]: Row(**{name: kinds[name](value) for name, value in line.items()})
            for line in csv.DictReader(file)
        }


def record(row: Row, folder: Path = FOLDER) -> None:
    """Put ``row`` in the place of the one of its kind, in the order of the catalogue."""
    rows = read(folder) | {row.kind: row}
    with (folder / CSV).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        for each in ARCHITECTURES:
            if each.kind in rows:
                writer.writerow(f"{cell:.3g}" if isinstance(cell, float) else cell for cell in astuple(rows[each.kind]))


def page(text: str, rows: dict[str, Row]) -> str:
    """``text`` of the page with its tables anew."""
    for name, lines in (("trained", _trained(rows)), ("refused", _refused(rows))):
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        assert block.search(text), name
        text = block.sub(lambda found, lines=lines: found[1] + "\n".join(lines) + "\n" + found[2], text)
    return text


def _trained(rows: dict[str, Row]) -> list[str]:
    lines = ["| `model_type` | models | torch engine | vLLM | packed beside alone | moved by the step |"]
    lines.append("|---|---|---|---|---|---|")
    for each in ARCHITECTURES:
        if each.kind in rows and (row := rows[each.kind]).trained:
            gaps = [
                _gap(getattr(row, f"{name}_most"), getattr(row, f"{name}_mean"))
                if name in (*each.engines, "alone")
                else "refused"
                for name in ("torch", "vllm", "alone")
            ]
            lines.append(f"| `{each.kind}` | {each.models} | {' | '.join(gaps)} | {row.moved:.2g} |")
    return lines


def _refused(rows: dict[str, Row]) -> list[str]:
    lines = ["| `model_type` | models | it is refused, because it … |", "|---|---|---|"]
    for each in ARCHITECTURES:
        if each.kind in rows and not (row := rows[each.kind]).trained:
            why = row.words.partition("it ")[2].partition(". ")[0]
            lines.append(f"| `{each.kind}` | {each.models} | {why} |")
    return lines


def _gap(most: float, mean: float) -> str:
    return f"{most:.0e} ({mean:.0e})" if most == most else "not tried"
