"""Shows the collector's progress: a bar on a terminal, and elsewhere a line from time to time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..common.wording import counted

Show = Callable[[int, Counter[str]], None]
"""Takes how many problems are done, and the verdicts that came in so far."""

QUIET_S = 30.0  # between two lines where there is no terminal


@contextmanager
def progress(what: str, problems: int) -> Iterator[Show]:
    """Show the progress of ``problems`` problems under the name ``what`` on standard error."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("problems {task.fields[words]} left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task, spoke = bar.add_task("", total=problems, words=""), time.monotonic()

        def show(done: int, verdicts: Counter[str]) -> None:
            nonlocal spoke
            graded = verdicts.total()
            words = f"{verdicts['correct'] / graded:.3f} correct of {counted(graded, 'response')}" if graded else ""
            bar.update(task, completed=done, words=words)
            if not console.is_terminal and time.monotonic() - spoke >= QUIET_S:
                spoke = time.monotonic()
                console.print(f"{what}: {done} of {counted(problems, 'problem')} {words}")

        yield show
