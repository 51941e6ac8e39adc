"""The kinds of columns that a schema is made of.

Each class has a `kind`, its name in schema.json; `COLUMN_KINDS` maps these names to the classes.
A column with a vocabulary gives id i + 1 to `values[i]`; id 0 is "out of vocabulary".
A column whose `values` are empty is a *spec*: `Schema.fit` fills in the values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from mdlora.errors import SchemaError

__all__ = [
    "COLUMN_KINDS",
    "Categorical",
    "Column",
    "Domain",
    "Label",
    "Role",
    "Values",
    "column_from_json",
    "column_to_json",
]

Values: TypeAlias = tuple[int, ...] | tuple[str, ...]
Role: TypeAlias = Literal["user", "item"]


@dataclass(frozen=True)
class Categorical:
    """A column of ids or names, each with its own row in an embedding table."""

    kind: ClassVar[str] = "categorical"

    name: str
    """The Parquet column."""

    values: Values = field(default=(), repr=False)
    """The vocabulary: all integers or all strings, each once. Empty in a spec."""

    role: Role | None = None
    """"user" or "item" where rows of one user or item belong together (bootstrap, summaries)."""

    min_count: int = 1
    """A value seen in fewer training rows is left out of the vocabulary."""

    def __post_init__(self) -> None:
        _check_name(self)
        object.__setattr__(self, "values", _checked_values(self.name, self.values))
        if self.role not in (None, "user", "item"):
            raise SchemaError(
                f"Column {self.name!r}: role is {self.role!r}; choose 'user', 'item' or none."
            )
        if type(self.min_count) is not int or self.min_count < 1:
            raise SchemaError(
                f"Column {self.name!r}: min_count is {self.min_count!r}; "
                "it must be a whole number, at least 1 (keep every value)."
            )


@dataclass(frozen=True)
class Domain:
    """The column that says which domain a row belongs to; also the last categorical field."""

    kind: ClassVar[str] = "domain"

    name: str
    """The Parquet column."""

    values: Values = field(default=(), repr=False)
    """The domains, in id order. Empty in a spec, or given there to fix the order."""

    def __post_init__(self) -> None:
        _check_name(self)
        object.__setattr__(self, "values", _checked_values(self.name, self.values))


@dataclass(frozen=True)
class Label:
    """The column that a model learns to predict: 0 or 1 (or false or true)."""

    kind: ClassVar[str] = "label"

    name: str
    """The Parquet column."""

    def __post_init__(self) -> None:
        _check_name(self)


Column: TypeAlias = Categorical | Domain | Label

COLUMN_KINDS: dict[str, type[Categorical] | type[Domain] | type[Label]] = {
    cls.kind: cls for cls in (Categorical, Domain, Label)
}


def column_to_json(column: Column) -> dict[str, Any]:
    """The column as plain JSON values, `kind` first and `values` last."""
    plain: dict[str, Any] = {"kind": column.kind, "name": column.name}
    plain |= {f.name: getattr(column, f.name) for f in fields(column) if f.name != "values"}
    if not isinstance(column, Label):
        plain["values"] = list(column.values)
    return plain


def column_from_json(plain: Any) -> Column:
    """The column that `column_to_json` wrote.

    Raises:
        SchemaError: not an object, an unknown kind or key, a missing key, or bad values.
    """
    if not isinstance(plain, dict):
        raise SchemaError(f"A column must be a JSON object, got {plain!r:.80}.")
    kind, name = plain.get("kind"), plain.get("name")
    if not isinstance(kind, str) or kind not in COLUMN_KINDS:
        raise SchemaError(
            f"Column {name!r} is of unknown kind {kind!r}. Known kinds: {', '.join(COLUMN_KINDS)}. "
            "A newer version of mdlora may know it."
        )
    cls = COLUMN_KINDS[kind]
    given = {key: value for key, value in plain.items() if key != "kind"}
    known = [f.name for f in fields(cls)]
    wrong = sorted(given.keys() - set(known))
    missing = sorted(set(known) - given.keys() - {"role", "min_count"})
    if wrong or missing:
        problem = f"unknown key {wrong[0]!r}" if wrong else f"no key {missing[0]!r}"
        raise SchemaError(
            f"Column {name!r} has {problem}; a {kind} column has: {', '.join(known)}."
        )
    if not isinstance(given.get("values", []), list):
        raise SchemaError(f"Column {name!r}: values must be a JSON list.")
    return cls(**given)


def _check_name(column: Column) -> None:
    if not isinstance(column.name, str) or not column.name:
        raise SchemaError(f"A {column.kind} column needs a name, got {column.name!r}.")


def _checked_values(name: str, values: Any) -> Values:
    """`values` as a tuple of one type without repeats."""
    given = tuple(values)
    types = {type(value) for value in given}
    if not (types <= {int} or types <= {str}):
        names = ", ".join(sorted(t.__name__ for t in types))
        raise SchemaError(
            f"Column {name!r}: the values of a vocabulary are all integers or all strings, "
            f"got: {names}."
        )
    if types == {int} and not (min(given) >= -(2**63) and max(given) < 2**63):
        raise SchemaError(f"Column {name!r}: a value does not fit into a 64-bit integer.")
    if len(set(given)) != len(given):
        double = Counter(given).most_common(1)[0][0]
        raise SchemaError(f"Column {name!r}: the value {double!r} stands twice in its vocabulary.")
    return given
