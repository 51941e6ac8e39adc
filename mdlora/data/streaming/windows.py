"""What turns the slices of a window into rows, and rows into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor

from mdlora.data.streaming.plan import Slice

__all__ = ["Counts", "Loader", "Read"]

T = TypeVar("T")

Read = Callable[[Slice], Iterator[Any]]
"""Gives the rows of a slice as record batches."""


@dataclass
class Counts:
    """What was unseen, missing or cut, by column, as in `EncodedRows`."""

    unseen: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)

    def add(self, more: Counts) -> None:
        """Add the counts of other rows."""
        _add(self.unseen, more.unseen)
        _add(self.missing, more.missing)
        _add(self.cut, more.cut)


class Loader(Protocol[T]):
    """Makes windows and batches of one type, T."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns that are read."""

    def load(self, slices: Sequence[Slice], read: Read) -> tuple[T, Counts]:
        """The rows of a window, one slice after the other; called in the background thread.

        Raises:
            DataError: a slice cannot be read, or holds what the loader cannot take.
        """

    def pick(self, window: T, index: Tensor) -> T:
        """A batch: copies of the rows at these places (B,)."""

    def join(self, parts: Sequence[T]) -> T:
        """One batch of the parts that stood in different windows."""

    def release(self, window: T) -> None:
        """This window is empty, its memory may be used again."""


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count
