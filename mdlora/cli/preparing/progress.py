"""The bar that preparing data shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["prepare_progress"]


@contextmanager
def prepare_progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on the terminal: call what it gives with what is being done and its share, 0 to 1."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("reading", total=1.0)
        yield lambda text, share: bars.update(task, description=text, completed=share)
