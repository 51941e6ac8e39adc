"""Make things ahead in a background thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Generic, TypeVar

__all__ = ["Stopped", "prefetched"]

I = TypeVar("I")  # noqa: E741
T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - not an error
    """The consumer has left; raised in the background thread only."""


def prefetched(
    make: Callable[[I, Callable[[], None]], T], items: Sequence[I], depth: int
) -> Generator[T, None, None]:
    """`make(item, check)` for each item, in order, up to `depth` of them ahead.

    `make` runs in one background thread (in this one if depth is 0) and calls `check()` every few
    milliseconds, which ends it when the consumer has left: by `close()`, `break` or an error.
    What `make` raises is raised at the next item that is asked for, before those made already.
    """
    if depth == 0:
        for item in items:
            yield make(item, _nothing)
        return
    with closing(_Worker(make, items, depth)) as worker:
        for _ in items:
            yield worker.take()


class _Worker(Generic[I, T]):
    def __init__(
        self, make: Callable[[I, Callable[[], None]], T], items: Sequence[I], depth: int
    ) -> None:
        self._make = make
        self._items = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._stopped = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mdlora-stream", daemon=True)
        self._thread.start()

    def take(self) -> T:
        with self._change:
            self._change.wait_for(lambda: self._error is not None or self._ready)
            if self._error is not None:
                raise self._error
            made = self._ready.popleft()
            self._change.notify_all()
        return made

    def close(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        self._thread.join()
        self._ready.clear()

    def _run(self) -> None:
        try:
            for item in self._items:
                with self._change:
                    self._change.wait_for(lambda: self._stopped or len(self._ready) < self._depth)
                self._check()
                made = self._make(item, self._check)
                with self._change:
                    self._ready.append(made)
                    self._change.notify_all()
                del made
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            with self._change:
                self._error = error
                self._change.notify_all()

    def _check(self) -> None:
        if self._stopped:
            raise Stopped


def _nothing() -> None:
    """Whoever makes things in the consumer's own thread cannot be left."""
