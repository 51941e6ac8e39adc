"""Columns that say something of a row and that no model sees: label, weight and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mdlora.schema.checks import check_name, check_number

__all__ = ["Label", "Time", "Weight"]


@dataclass(frozen=True)
class Label:
    """The column that a model learns to predict: 0 or 1 (or false or true)."""

    kind: ClassVar[str] = "label"

    name: str
    """The raw column."""

    at_least: float | None = None
    """Take the column for a rating: the label is 1 from this value on, else 0."""

    def __post_init__(self) -> None:
        check_name(self)
        check_number(self, "at_least")


@dataclass(frozen=True)
class Weight:
    """How much a row counts in the loss: a finite number, at least 0."""

    kind: ClassVar[str] = "weight"

    name: str
    """The raw column."""

    def __post_init__(self) -> None:
        check_name(self)


@dataclass(frozen=True)
class Time:
    """When a row happened, for splits and for choosing recent rows."""

    kind: ClassVar[str] = "time"

    name: str
    """The raw column: integers (seconds since 1970), dates or timestamps."""

    def __post_init__(self) -> None:
        check_name(self)
