"""Tables for people: plain columns on a terminal, in a log or in a file, and Markdown on a page."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable, Sequence

from rich.console import Console
from rich.table import Table

# Of a terminal whose width nobody knows, and of one that is narrower: a line that is broken there can still be read,
# a table that was squeezed cannot.
LEAST_COLUMNS = 112


def table(heads: Sequence[str], rows: Iterable[Sequence[str]] = (), *, right: Container[int] = ()) -> Table:
    """Columns two spaces apart, without lines around them; what is too long goes on below itself. ``right``: the
    positions of columns that stand to the right, as numbers do. No ``heads`` are shown where all are empty."""
    found = Table(box=None, pad_edge=False, header_style="dim", show_header=any(heads))
    for position, head in enumerate(heads):
        found.add_column(head, justify="right" if position in right else "left", overflow="fold")  # nothing is cut off
    for row in rows:
        found.add_row(*row)
    return found


def as_text(shown: Table) -> str:
    """As plain text, as wide as it is."""
    console = Console(file=io.StringIO(), width=10_000, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def show(shown: Table) -> None:
    """Print it on standard output."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = max(console.width, LEAST_COLUMNS)
    console.print(shown)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Container[int] = ()) -> list[str]:
    """Its lines in Markdown."""
    rule = "".join("---:|" if position in right else "---|" for position in range(len(heads)))
    return [f"| {' | '.join(heads)} |", f"|{rule}", *(f"| {' | '.join(row)} |" for row in rows)]
