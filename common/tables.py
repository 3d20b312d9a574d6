"""Tables for people: plain columns on a terminal, in a log or in a file, and Markdown on a page."""

import io
from collections.abc import Container, Iterable, Sequence

from rich.console import Console, Group
from rich.table import Table

# The width for a terminal of unknown width, and for narrower ones: a line that breaks can still be read, but a squeezed
# table cannot.
LEAST_COLUMNS = 112


def table(heads: Sequence[str], rows: Iterable[Sequence[str]] = (), *, right: Container[int] = ()) -> Table:
    """A table with its columns two spaces apart and without lines around them. Long texts go on in the next line.
    ``right``: the positions of columns that are aligned right, as numbers are. If all ``heads`` are empty, none is
    shown."""
    found = Table(box=None, pad_edge=False, header_style="dim", show_header=any(heads))
    for position, head in enumerate(heads):
        found.add_column(head, justify="right" if position in right else "left", overflow="fold")  # nothing is cut off
    for row in rows:
        found.add_row(*row)
    return found


def as_text(shown: Table) -> str:
    """The table as plain text, as wide as it needs to be."""
    console = Console(file=io.StringIO(), width=10_000, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def show(shown: Table | Group) -> None:
    """Print a table, or tables between lines of text, on standard output. A line of text stays one line: a terminal
    breaks it where it has to, and whoever searches a file for the sentence finds it."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = max(console.width, LEAST_COLUMNS)
    for part in shown.renderables if isinstance(shown, Group) else [shown]:
        console.print(part, soft_wrap=not isinstance(part, Table))


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Container[int] = ()) -> list[str]:
    """The lines of a table in Markdown."""
    rule = "".join("---:|" if position in right else "---|" for position in range(len(heads)))
    return [f"| {' | '.join(heads)} |", f"|{rule}", *(f"| {' | '.join(row)} |" for row in rows)]
