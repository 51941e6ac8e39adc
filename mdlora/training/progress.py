"""What training tells while it runs."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

__all__ = ["BarProgress", "Progress", "SilentProgress"]


class Progress(Protocol):
    """Told of phases, steps and figures. Implementations must not change results."""

    def phase(self, name: str, epoch: int, total_rows: int, done_rows: int) -> None:
        """An epoch of a phase starts, or goes on, with `done_rows` of its `total_rows` done."""

    def advance(self, rows: int) -> None:
        """A step over `rows` rows is done."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class SilentProgress:
    """Tells nobody."""

    def phase(self, name: str, epoch: int, total_rows: int, done_rows: int) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class BarProgress:
    """A bar with rows a second and time left of the epoch, and a line for each evaluation.

    Goes to standard error; without a terminal only the lines are written. A context manager.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            """Rows a second."""

            def render(self, task: Task) -> Text:
                return Text(f"{task.speed or 0:,.0f} rows/s", style="cyan")

        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._task = self._bars.add_task("starting", total=None)

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def phase(self, name: str, epoch: int, total_rows: int, done_rows: int) -> None:
        """Start the bar of an epoch."""
        self._bars.reset(
            self._task,
            description=f"{name}, epoch {epoch}",
            total=total_rows,
            completed=done_rows,
        )

    def advance(self, rows: int) -> None:
        """Move the bar."""
        self._bars.advance(self._task, rows)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, highlight=False, markup=False)
