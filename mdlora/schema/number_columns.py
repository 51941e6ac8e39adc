"""Columns of numbers that a model sees: one number in each row, or a whole vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal

from mdlora.errors import SchemaError
from mdlora.schema.checks import (
    Values,
    check_choice,
    check_name,
    check_number,
    check_switch,
    check_text,
    check_whole,
    checked_values,
    is_number,
)
from mdlora.schema.id_columns import Role

__all__ = ["Numeric", "Vector"]


@dataclass(frozen=True)
class Numeric:
    """A column of numbers, cut into buckets that are embedded like ids, or scaled.

    Buckets: id 1 is missing (null or NaN), id 2 is below `edges[0]`, id 2 + i is from
    `edges[i - 1]` up to but not including `edges[i]`; id 0 is never given.
    Scaled: `(value - mean) / std`, and 0 where the value is missing.
    """

    kind: ClassVar[str] = "numeric"

    name: str
    """The raw column: integers, floats, decimals or booleans."""

    encoding: Literal["buckets", "scaled"] = "buckets"
    """What the model sees."""

    num_buckets: int = 32
    """How many buckets to make from quantiles of the training rows; fewer where these repeat."""

    edges: tuple[float, ...] = field(default=(), repr=False)
    """Ascending. Empty in a spec whose edges are to be quantiles."""

    mean: float | None = None
    """Of the training rows. None in a spec and with buckets."""

    std: float | None = None
    """Of the training rows (1 where they hold one value only). None in a spec, and with buckets."""

    def __post_init__(self) -> None:
        check_name(self)
        check_choice(self, "encoding", ("buckets", "scaled"))
        check_whole(self, "num_buckets", least=2)
        check_number(self, "mean")
        check_number(self, "std")
        edges = tuple(self.edges)
        good = all(is_number(edge) for edge in edges)
        if not good or any(low >= high for low, high in pairwise(edges)):
            raise SchemaError(
                f"Column {self.name!r}: edges must be finite numbers, each above the one before, "
                f"got {list(edges)!r:.80}."
            )
        object.__setattr__(self, "edges", tuple(float(edge) for edge in edges))
        scaled = self.encoding == "scaled"
        if (scaled and edges) or (not scaled and (self.mean is not None or self.std is not None)):
            raise SchemaError(
                f"Column {self.name!r}: edges belong to encoding 'buckets', mean and std to "
                f"'scaled'; its encoding is {self.encoding!r}."
            )
        if (self.mean is None) != (self.std is None) or (self.std is not None and self.std <= 0):
            raise SchemaError(
                f"Column {self.name!r}: mean is {self.mean} and std is {self.std}; "
                "give both, the std above 0, or neither."
            )


@dataclass(frozen=True)
class Vector:
    """A given vector in each row, from a side table joined by a key, or in the row itself."""

    kind: ClassVar[str] = "vector"

    name: str
    """The side table's name where `key` is given; else the raw column of lists of numbers."""

    width: int | None = None
    """Numbers in a vector. In a spec without key it may be left to the training rows."""

    key: str | None = None
    """The raw column whose value selects the vector; it may feed another column too."""

    values: Values = field(default=(), repr=False)
    """With `key`: the keys that have a vector. `values[i]` has id i + 1 and row i of the table;
    id 0 has no vector and gets zeros."""

    trained: bool = False
    """With `key`: whether training changes the vectors."""

    linear: bool = False
    """With `key`: whether a backbone's linear part has a weight for each key."""

    role: Role | None = None
    """With `key`: as in `Categorical`."""

    def __post_init__(self) -> None:
        check_name(self)
        check_whole(self, "width", optional=True)
        check_text(self, "key")
        check_switch(self, "trained")
        check_switch(self, "linear")
        check_choice(self, "role", ("user", "item", None))
        object.__setattr__(self, "values", checked_values(self.name, self.values))
        if self.key is None and (self.values or self.trained or self.linear or self.role):
            raise SchemaError(
                f"Column {self.name!r}: values, trained, linear and role need a key, the raw "
                "column that selects the vector; without one each row brings its own vector."
            )
