"""The schema file: columns as JSON text, there and back, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from mdlora.errors import SchemaError
from mdlora.schema.columns import Column, column_from_json, column_to_json

__all__ = ["columns_from_text", "columns_to_text", "fingerprint"]

_FORMAT = "mdlora-schema"
_VERSION = 1


def columns_to_text(columns: Sequence[Column]) -> str:
    """The columns as JSON text, one line for each."""
    lines = [json.dumps(column_to_json(c), ensure_ascii=False) for c in columns]
    body = ",\n    ".join(lines)
    return (
        f'{{\n  "format": "{_FORMAT}",\n  "version": {_VERSION},\n'
        f'  "columns": [\n    {body}\n  ]\n}}\n'
    )


def columns_from_text(text: str) -> tuple[Column, ...]:
    """The columns that `columns_to_text` wrote.

    Raises:
        SchemaError: not JSON, not a schema, or a column in it is wrong.
    """
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise SchemaError(f"The schema is not valid JSON: {error}.") from error
    if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
        raise SchemaError(f'The schema must be a JSON object with "format": "{_FORMAT}".')
    if plain.get("version") != _VERSION:
        raise SchemaError(
            f"The schema has version {plain.get('version')!r}; this mdlora reads {_VERSION}."
        )
    columns = plain.get("columns")
    if not isinstance(columns, list):
        raise SchemaError('The schema has no list "columns".')
    return tuple(column_from_json(column) for column in columns)


def fingerprint(columns: Sequence[Column]) -> str:
    """SHA-256 (hex) of the canonical JSON: equal for equal columns only."""
    plain = [column_to_json(column) for column in columns]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
