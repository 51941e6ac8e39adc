"""How CSV is written, and what its columns may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from mdlora.config.checks import check_choice
from mdlora.errors import ConfigError, SchemaError
from mdlora.schema import (
    Categorical,
    Column,
    Domain,
    Hashed,
    Label,
    MultiValued,
    Numeric,
    Time,
    Vector,
    Weight,
    raw_names,
)

__all__ = ["CsvOptions", "CsvType", "csv_types", "number_columns"]

CsvType: TypeAlias = Literal["integer", "number", "boolean", "date", "time", "text"]
"""What a CSV column holds: 64-bit integers, floats, true/false, dates, dates with time, or text."""

_ID: tuple[CsvType, ...] = ("integer", "text")


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """How a CSV file is written. It is UTF-8 text, and its first line names the columns.

    Raises:
        ConfigError: a separator that is not one character, or an unknown type.
    """

    separator: str | None = None
    """What stands between cells; None finds out whether it is a comma, semicolon, tab or "|"."""

    types: Mapping[str, CsvType] = field(default_factory=dict)
    """What a column holds, by name, where its first rows do not show it (codes with leading
    zeros further down: "text")."""

    nulls: tuple[str, ...] = ()
    """Cells that mean "no value", as an empty cell does: "NA", for example."""

    def __post_init__(self) -> None:
        if self.separator is not None and (
            len(self.separator) != 1 or not self.separator.isascii() or self.separator in '"\r\n'
        ):
            raise ConfigError(
                f"separator={self.separator!r} is not one ASCII character, such as ',' or ';'."
            )
        for name, kind in self.types.items():
            check_choice(f"type of column {name!r}:", kind, get_args(CsvType))


def csv_types(columns: Sequence[Column]) -> dict[str, tuple[CsvType, ...]]:
    """What each raw column of these columns may hold; the first that its first rows fit is taken.

    An id column that is fitted already holds what it was fitted on.

    Raises:
        SchemaError: a column of lists, which CSV cannot hold, or two columns that want different
            things of one raw column.
    """
    found: dict[str, tuple[CsvType, ...]] = {}
    for column in columns:
        for name in raw_names(column):
            wanted = _types(column)
            both = tuple(kind for kind in found.get(name, wanted) if kind in wanted)
            if not both:
                raise SchemaError(
                    f"Raw column {name!r} feeds two columns, of which one needs "
                    f"{' or '.join(found[name])} and {column.name!r} needs {' or '.join(wanted)}."
                )
            found[name] = both
    return found


def number_columns(columns: Sequence[Column]) -> set[str]:
    """Raw columns whose values are amounts, so that integers may become floats."""
    ids = {name for c in columns if "integer" in _ids(c) for name in raw_names(c)}
    kinds = (Numeric, Weight, Label, Vector)
    amounts = {c.name for c in columns if isinstance(c, kinds) and getattr(c, "key", None) is None}
    return amounts - ids


def _ids(column: Column) -> tuple[CsvType, ...]:
    return _types(column) if isinstance(column, Categorical | Hashed | Domain) else ()


def _types(column: Column) -> tuple[CsvType, ...]:
    if isinstance(column, Numeric | Weight):
        return ("number",)
    if isinstance(column, Label):
        return ("integer", "boolean", "number") if column.at_least is None else ("number",)
    if isinstance(column, Time):
        return ("integer", "date", "time")
    if isinstance(column, Hashed):
        return _ID if column.holds is None else _fitted(column.holds == "integers")
    if isinstance(column, Domain) and column.columns:
        return ("integer", "boolean", "date", "time", "text")
    lists = isinstance(column, MultiValued) and column.separator is None
    if lists or (isinstance(column, Vector) and column.key is None):
        raise SchemaError(
            f"Column {column.name!r} is of lists, which CSV cannot hold. "
            "Use Parquet, or give a multi_valued column its separator."
        )
    if isinstance(column, MultiValued):
        return ("text",)
    return _fitted(isinstance(column.values[0], int)) if column.values else _ID


def _fitted(integers: bool) -> tuple[CsvType, ...]:
    return ("integer",) if integers else ("text",)
