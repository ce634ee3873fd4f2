"""What people see: results go to standard output, progress and messages to standard error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from time import perf_counter
from typing import IO, Any, cast

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lpgnet.pipeline.common.streams import MESSAGES, OUTPUT

# A file or a pipe has no width of its own; a table there is as wide as it needs to be.
results = Console(file=cast(IO[str], OUTPUT), highlight=False, soft_wrap=True, width=None if OUTPUT.isatty() else 160)
messages = Console(file=cast(IO[str], MESSAGES), highlight=False, soft_wrap=True)

# A log file gets no more lines of progress than one in the first number of seconds, and one after the second.
LINE_SECONDS, LINE_PERCENT = (2.0, 30.0), 4.999

# Text of a corpus is data: escape sequences in it must not reach the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _plain(value: object) -> Text:
    return Text(_CONTROLS.sub("", str(value)))


def say(line: str) -> None:
    """Print one line on standard error, shown as it is: text of a corpus is no markup."""
    messages.print(_plain(line))


@cache
def say_once(line: str) -> None:
    """Print a line on standard error, unless this process has: many runs may be computed alike."""
    say(line)


def show(line: str) -> None:
    """Print one line on standard output."""
    results.print(_plain(line))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on standard output; the columns after the first are numbers, set to the right."""
    table = Table(title=_plain(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for index, column in enumerate(columns):
        table.add_column(_plain(column), justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    results.print(table)


class Lines(Progress):
    """Progress for a log file: a line as soon as 5 % more is done or half a minute has passed, at most one in 2 s."""

    def __init__(self, field: str, unit: str | None) -> None:
        super().__init__(disable=True)
        self._field, self._unit = field, unit
        self._told: dict[TaskID, tuple[float, float]] = {}

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """Add a task as `Progress` does."""
        task = super().add_task(*args, **kwargs)
        self._told[task] = (0.0, perf_counter())
        return task

    def update(self, task_id: TaskID, **kwargs: Any) -> None:
        """Update a task as `Progress` does, and say how far it is."""
        super().update(task_id, **kwargs)
        task, now = self._tasks[task_id], perf_counter()
        share, before = self._told[task_id]
        seconds = now - before
        if (
            task.percentage > share
            and seconds >= LINE_SECONDS[0]
            and (task.percentage >= share + LINE_PERCENT or seconds >= LINE_SECONDS[1])
        ):
            self._told[task_id] = (task.percentage, now)
            beside, unit = str(task.fields[self._field]), self._unit or task.fields["unit"]
            say(f"{task.description}: {task.completed:.0f} of {task.total:.0f} {unit}  {beside}".rstrip())


def progress_bar(field: str, *, unit: str | None, shown: bool = True) -> Progress:
    """Make a progress bar on standard error, or lines where that is no terminal.

    Args:
        field: name of the tasks' field that is shown beside the bar.
        unit: what the bar counts, such as `epochs`; None where each task has a field `unit`.
        shown: False in all processes of a launch but one.
    """
    if shown and not messages.is_terminal:
        return Lines(field, unit)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}} of {{task.total:.0f}} {unit or '{task.fields[unit]}'}"),
        TimeRemainingColumn(),
        TextColumn(f"{{task.fields[{field}]}}"),
        console=messages,
        disable=not shown,
    )


def quiet_transformers() -> None:
    """Hide transformers' own progress bars when a model is loaded; a download keeps the hub's."""
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()
