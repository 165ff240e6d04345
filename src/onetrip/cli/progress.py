"""Progress of long work: a bar on a terminal, nothing where nobody looks."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class Progress:
    """Shows how far work has come, on standard error.

    Args:
        title: of the work.
        is_quiet: show nothing, whatever standard error is.
    """

    def __init__(self, title: str, *, is_quiet: bool = False) -> None:
        self._title = title
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._is_quiet = is_quiet or not sys.stderr.isatty()

    def __enter__(self) -> Progress:
        if not self._is_quiet:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:g}/{task.total:g} {task.fields[state]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=1, state="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: float, total: float, state: str = "") -> None:
        """Show that `done` of `total` is over."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=max(total, 1), state=state)
