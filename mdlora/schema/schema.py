"""The fitted schema: which columns there are, and which id each raw value has."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mdlora.errors import SchemaError
from mdlora.files import atomic_write_text
from mdlora.schema.columns import (
    Categorical,
    Column,
    Domain,
    Label,
    Role,
    column_from_json,
    column_to_json,
)
from mdlora.schema.vocabulary import Vocabulary, fit_values, get_column, read_label

__all__ = ["EncodedRows", "Schema"]

_FORMAT = "mdlora-schema"
_VERSION = 1


class EncodedRows(NamedTuple):
    """Rows as ids (N rows, F categorical fields).

    `categories` (N, F) int64, the domain's field last; `domain` (N,) int64, 0 for an unknown one;
    `label` (N,) float32 or None; `unseen`: for each field, how many rows had an unseen value.
    """

    categories: npt.NDArray[np.int64]
    domain: npt.NDArray[np.int64]
    label: npt.NDArray[np.float32] | None
    unseen: dict[str, int]


@dataclass(frozen=True)
class Schema:
    """Columns with their vocabularies, fitted once on training rows and saved as JSON.

    Raises:
        SchemaError: two columns of one name or role, or not exactly one domain and one label.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        for name, count in Counter(column.name for column in self.columns).items():
            if count > 1:
                raise SchemaError(f"{count} columns are called {name!r}; names must differ.")
        for cls in (Domain, Label):
            found = [c.name for c in self.columns if isinstance(c, cls)]
            if len(found) != 1:
                raise SchemaError(
                    f"A schema has exactly one {cls.kind} column, "
                    f"got {', '.join(map(repr, found)) or 'none'}."
                )
        roles = Counter(c.role for c in self.columns if isinstance(c, Categorical) and c.role)
        for role, count in roles.items():
            if count > 1:
                raise SchemaError(f"{count} columns have the role {role!r}; only one may.")

    @classmethod
    def fit(cls, table: pa.Table, columns: Sequence[Column], *, source: str = "") -> Schema:
        """A schema whose vocabularies are the values in `table`, the training rows.

        A column that already has values keeps them in their order (so a domain column can fix
        the order of its domains); every value given for the domain must have a training row.

        Args:
            table: training rows only; values of other rows would leak into the vocabulary.
            columns: specs: `Categorical`, one `Domain` and one `Label`.
            source: what to call the table in error messages.

        Raises:
            SchemaError: a column is missing, null, of a wrong type, or a domain has no rows.
            DataError: a label is not 0 or 1.
        """
        specs, where = cls(tuple(columns)), _where(source)
        fitted: list[Column] = []
        for spec in specs.columns:
            raw = get_column(table, spec.name, where)
            if isinstance(spec, Label):
                read_label(raw, spec.name, where)
                fitted.append(spec)
            elif not spec.values:
                least = spec.min_count if isinstance(spec, Categorical) else 1
                fitted.append(replace(spec, values=fit_values(raw, spec.name, least, where)))
            else:
                ids = Vocabulary(spec.name, spec.values).encode(raw, where)
                rows = np.bincount(ids, minlength=len(spec.values) + 1)
                if isinstance(spec, Domain) and (rows[1:] == 0).any():
                    empty = spec.values[int(np.argmax(rows[1:] == 0))]
                    raise SchemaError(f"{where}Domain {empty!r} has no training rows.")
                fitted.append(spec)
        schema = cls(tuple(fitted))
        if not schema.num_domains:
            raise SchemaError(f"{where}No rows to fit on: the domain column is empty.")
        return schema

    @cached_property
    def fields(self) -> tuple[Categorical | Domain, ...]:
        """The categorical fields in column order, the domain moved to the end."""
        return (*(c for c in self.columns if isinstance(c, Categorical)), self.domain)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of `fields`."""
        return tuple(column.name for column in self.fields)

    @property
    def num_ids(self) -> tuple[int, ...]:
        """For each field, the number of ids: its values and id 0."""
        return tuple(len(column.values) + 1 for column in self.fields)

    @cached_property
    def domain(self) -> Domain:
        """The domain column."""
        return next(column for column in self.columns if isinstance(column, Domain))

    @cached_property
    def label(self) -> Label:
        """The label column."""
        return next(column for column in self.columns if isinstance(column, Label))

    @cached_property
    def domain_names(self) -> tuple[str, ...]:
        """The domains' names; the domain with id i is at index i - 1."""
        return tuple(str(value) for value in self.domain.values)

    @property
    def num_domains(self) -> int:
        """How many known domains there are."""
        return len(self.domain.values)

    def field_of(self, role: Role) -> str | None:
        """The name of the field with this role, or None."""
        found = (c.name for c in self.columns if isinstance(c, Categorical) and c.role == role)
        return next(found, None)

    def encode(self, table: pa.Table, *, with_label: bool = True, source: str = "") -> EncodedRows:
        """The ids of all rows of `table`; its other columns are ignored.

        Args:
            table: raw rows with every field, and the label if `with_label`.
            with_label: read the label column too.
            source: what to call the table in error messages, for example its file.

        Raises:
            SchemaError: a column is missing, null, or of a type that was not fitted.
            DataError: a label is not 0 or 1.
        """
        where = _where(source)
        categories = np.empty((table.num_rows, len(self.fields)), dtype=np.int64)
        unseen: dict[str, int] = {}
        for index, vocabulary in enumerate(self._vocabularies):
            ids = vocabulary.encode(get_column(table, vocabulary.name, where), where)
            categories[:, index] = ids
            unseen[vocabulary.name] = int(ids.size - np.count_nonzero(ids))
        label = None
        if with_label:
            name = self.label.name
            label = read_label(get_column(table, name, where), name, where)
        return EncodedRows(categories, categories[:, -1].copy(), label, unseen)

    @cached_property
    def _vocabularies(self) -> tuple[Vocabulary, ...]:
        return tuple(Vocabulary(column.name, column.values) for column in self.fields)

    @cached_property
    def _fingerprint(self) -> str:
        plain = [column_to_json(column) for column in self.columns]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal for equal schemas only."""
        return self._fingerprint

    def to_json(self) -> str:
        """The schema as JSON text, one line for each column."""
        lines = [json.dumps(column_to_json(c), ensure_ascii=False) for c in self.columns]
        body = ",\n    ".join(lines)
        return (
            f'{{\n  "format": "{_FORMAT}",\n  "version": {_VERSION},\n'
            f'  "columns": [\n    {body}\n  ]\n}}\n'
        )

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The schema that `to_json` wrote.

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
        return cls(tuple(column_from_json(column) for column in columns))

    def save(self, path: str | Path) -> None:
        """Write the JSON to `path`, atomically.

        Raises:
            RunError: the file cannot be written.
        """
        atomic_write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Read the JSON file at `path`.

        Raises:
            SchemaError: the file cannot be read or is no schema; the message names it.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or error
            raise SchemaError(f"Cannot read the schema {path}: {cause}.") from error
        try:
            return cls.from_json(text)
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from error


def _where(source: str) -> str:
    return f"{source}: " if source else ""
