"""Columns as YAML that a person writes or edits: a list `columns`, one mapping for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from mdlora.config.checks import did_you_mean
from mdlora.errors import SchemaError
from mdlora.schema.columns import Column, column_from_plain

__all__ = ["columns_from_yaml", "columns_to_yaml"]


def columns_to_yaml(columns: Sequence[Column]) -> str:
    """The columns as YAML text; settings at their defaults are left out."""
    import yaml

    plain = {"columns": [_plain(column) for column in columns]}
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def columns_from_yaml(text: str, where: str = "") -> tuple[Column, ...]:
    """The columns that `columns_to_yaml` wrote, or a person.

    Args:
        text: a mapping with the list `columns`; each has its `kind`, `name` and settings.
        where: what to call the text in error messages, for example its file.

    Raises:
        SchemaError: not YAML, an unknown kind or key (the nearest is suggested), a missing key,
            or a setting that the column refuses.
    """
    import yaml

    opening = f"{where}: " if where else ""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SchemaError(f"{opening}not YAML: {error}") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("columns"), list):
        keys = [str(key) for key in plain] if isinstance(plain, dict) else []
        hint = did_you_mean("columns", keys).replace("Did you mean", "Is it called")
        raise SchemaError(
            f"{opening}a schema is a mapping with the list 'columns', "
            f"each with its kind and name.{hint}"
        )
    others = [str(key) for key in plain if key != "columns"]
    if others:
        raise SchemaError(f"{opening}unknown key {others[0]!r} beside 'columns'.")
    found: list[Column] = []
    for place, column in enumerate(plain["columns"]):
        if not isinstance(column, dict):
            raise SchemaError(
                f"{opening}column {place} (counted from 0) is {column!r:.80}; "
                "give a mapping such as {kind: categorical, name: user}."
            )
        try:
            found.append(column_from_plain(column, fitted=False))
        except SchemaError as error:
            raise SchemaError(f"{opening}{error}") from error
    return tuple(found)


def _plain(column: Column) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": column.kind}
    for each in fields(column):
        value = getattr(column, each.name)
        if each.default is MISSING or value != each.default:
            plain[each.name] = list(value) if isinstance(value, tuple) else value
    return plain
