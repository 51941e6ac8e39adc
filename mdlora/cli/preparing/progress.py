"""The bar that preparing data shows, and a Ctrl-C that cannot get lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["prepare_progress"]


@contextmanager
def prepare_progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on the terminal: call what it gives with what is being done and its share, 0 to 1.

    Ctrl-C raises KeyboardInterrupt as always. Where libraries swallow that, as in a callback or a
    destructor, the next call raises it again.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with (
        _interrupts() as asked,
        Progress(console=console, transient=True, disable=not console.is_terminal) as bars,
    ):
        task = bars.add_task("reading", total=1.0)

        def show(text: str, share: float) -> None:
            if asked():
                raise KeyboardInterrupt
            bars.update(task, description=text, completed=share)

        yield show


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; only the main thread can tell."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
