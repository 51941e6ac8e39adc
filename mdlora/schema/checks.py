"""Small checks that the column classes share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

from mdlora.config.checks import did_you_mean
from mdlora.errors import SchemaError

__all__ = [
    "Named",
    "Values",
    "check_choice",
    "check_name",
    "check_number",
    "check_switch",
    "check_text",
    "check_whole",
    "checked_values",
    "is_number",
]

Values: TypeAlias = tuple[int, ...] | tuple[str, ...]


class Named(Protocol):
    """Any column: all that the checks need to know of it."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102


def check_name(column: Named) -> None:
    """Raise SchemaError unless the column's name is a text that is not empty."""
    if not isinstance(column.name, str) or not column.name:
        raise SchemaError(f"A {column.kind} column needs a name, got {column.name!r}.")


def check_text(column: Named, key: str) -> None:
    """Raise SchemaError unless the setting `key` is None or a text that is not empty."""
    value = getattr(column, key)
    if value is not None and (not isinstance(value, str) or not value):
        raise SchemaError(f"Column {column.name!r}: {key} is {value!r}; give a text, or leave it.")


def check_choice(column: Named, key: str, choices: Iterable[str | None]) -> None:
    """Raise SchemaError, with the nearest choice, unless the setting `key` is one of `choices`."""
    value, known = getattr(column, key), list(choices)
    if value not in known:
        texts = [choice for choice in known if choice is not None]
        near = did_you_mean(value, texts) if isinstance(value, str) else ""
        named = ", ".join("none" if choice is None else repr(choice) for choice in known)
        raise SchemaError(
            f"Column {column.name!r}: {key} is {value!r}; choose one of: {named}.{near}"
        )


def check_whole(
    column: Named, key: str, *, least: int = 1, optional: bool = False, hint: str = ""
) -> None:
    """Raise SchemaError unless the setting `key` is a whole number from `least` on (or None)."""
    value = getattr(column, key)
    if value is None and optional:
        return
    if type(value) is not int or value < least:
        raise SchemaError(
            f"Column {column.name!r}: {key} is {value!r}; "
            f"it must be a whole number, at least {least}{hint}."
        )


def check_number(column: Named, key: str) -> None:
    """Raise SchemaError unless the setting `key` is a finite number or None."""
    value = getattr(column, key)
    if value is not None and not is_number(value):
        raise SchemaError(f"Column {column.name!r}: {key} is {value!r}; it must be a number.")


def check_switch(column: Named, key: str) -> None:
    """Raise SchemaError unless the setting `key` is true or false."""
    value = getattr(column, key)
    if type(value) is not bool:
        raise SchemaError(f"Column {column.name!r}: {key} is {value!r}; choose true or false.")


def is_number(value: Any) -> bool:
    """Whether `value` is a finite integer or float (a bool is neither)."""
    return type(value) in (int, float) and math.isfinite(value)


def checked_values(name: str, values: Any) -> Values:
    """`values` as a tuple of one type without repeats.

    Raises:
        SchemaError: mixed types, a value of another type, beyond 64 bits, or there twice.
    """
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
