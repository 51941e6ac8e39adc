"""One split: encoded rows, and what encoding them counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mdlora.data.layout import ORACLE_COLUMN
from mdlora.data.reading import check_parquet, read_table, split_columns
from mdlora.data.rows import Rows, concatenate
from mdlora.errors import DataError
from mdlora.schema import Schema

__all__ = ["Split", "encode_split", "join_splits", "read_split", "read_split_files"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Rows):
    """The encoded rows of one split (N rows), on the CPU, with their labels."""

    label: Tensor
    """(N,) float32, 0 or 1."""

    name: str
    """"train", "validation" or "test", or the name of a file."""

    oracle: Tensor | None
    """(N,) float64, the true click probability, or None where it is not known."""

    unseen: dict[str, int]
    """For each field, how many rows have a value that training rows did not have; for each list
    column, how many items."""

    missing: dict[str, int] = field(default_factory=dict)
    """For each numeric column, how many rows have no value."""

    cut: dict[str, int] = field(default_factory=dict)
    """For each list column, how many rows had a longer list than its maximum."""


def read_split(path: str | Path, schema: Schema) -> Split:
    """The labelled rows of one Parquet file, by an existing schema.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column or the label, or does not
            fit the schema.
    """
    file = Path(path)
    if not check_parquet(file, schema.raw_columns())[0]:
        raise DataError(f"{file} has no rows. Give a file with rows to score.")
    return read_split_files(file.name, [file], schema)


def read_split_files(name: str, files: Sequence[Path], schema: Schema) -> Split:
    """The rows of a split's Parquet files, one after another; no two are held raw at once.

    Raises:
        DataError: a file cannot be read, lacks a column, or does not fit the schema; or some
            files have the true click probability and some have not.
    """
    parts = []
    for file in files:
        columns = split_columns(schema, check_parquet(file, ())[1])
        parts.append(encode_split(name, read_table(file, columns), str(file), schema))
        if (parts[-1].oracle is None) != (parts[0].oracle is None):
            without = file if parts[-1].oracle is None else files[0]
            raise DataError(
                f"{without} has no column {ORACLE_COLUMN!r}, other files of the {name} rows have. "
                "Prepare the data again."
            )
    return join_splits(parts)


def encode_split(name: str, table: pa.Table, source: str, schema: Schema) -> Split:
    """The rows of a table that has the schema's columns and, perhaps, the oracle's."""
    encoded = schema.encode(table, source=source)
    rows = {f.name: getattr(Rows.of(encoded), f.name) for f in fields(Rows)}
    return Split(
        **rows,
        name=name,
        oracle=_oracle(table, source),
        unseen=encoded.unseen,
        missing=encoded.missing,
        cut=encoded.cut,
    )


def join_splits(parts: Sequence[Split]) -> Split:
    """Parts of one split as one."""
    if len(parts) == 1:
        return parts[0]
    whole = concatenate(parts)
    oracles = [part.oracle for part in parts if part.oracle is not None]
    return Split(
        **{f.name: getattr(whole, f.name) for f in fields(Rows)},
        name=parts[0].name,
        oracle=torch.cat(oracles) if oracles else None,
        unseen=_sum([part.unseen for part in parts]),
        missing=_sum([part.missing for part in parts]),
        cut=_sum([part.cut for part in parts]),
    )


def _sum(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter(dict.fromkeys(counts[0], 0))
    for part in counts:
        total.update(part)
    return dict(total)


def _oracle(table: pa.Table, source: str) -> Tensor | None:
    if ORACLE_COLUMN not in table.column_names:
        return None
    column = table.column(ORACLE_COLUMN)
    if not pa.types.is_floating(column.type):
        raise DataError(f"{source}: column {ORACLE_COLUMN!r} must be float, is {column.type}.")
    values = np.array(column.to_numpy(), dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        row = int(np.argmin((values >= 0) & (values <= 1)))
        raise DataError(
            f"{source}: column {ORACLE_COLUMN!r} is {values[row]} in row {row} (counted from 0); "
            "a probability lies in [0, 1]."
        )
    return torch.from_numpy(values)
