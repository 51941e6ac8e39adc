"""Write a prepared data folder: Parquet files, schema, vectors and summary, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.config.checks import counted
from mdlora.data.layout import (
    ORACLE_COLUMN,
    SCHEMA_FILE,
    SPLIT_NAMES,
    SUMMARY_FILE,
    VECTORS_FILE,
    split_file,
)
from mdlora.data.summary import summarise
from mdlora.data.vectors import VectorTables, check_vectors, with_widths, write_vectors
from mdlora.errors import DataError
from mdlora.files import atomic_directory
from mdlora.schema import Column, EncodedRows, Schema, raw_names

__all__ = ["PreparedRows", "prepare_rows", "write_dataset", "write_description"]


@dataclass(frozen=True)
class PreparedRows:
    """Rows in their splits with the schema fitted on the training rows, still in memory."""

    schema: Schema
    tables: dict[str, pa.Table]
    summary: dict[str, Any]
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """The side table (n, width) of each vector column with a key."""


def prepare_rows(
    table: Any,
    codes: npt.NDArray[np.integer],
    columns: Sequence[Column],
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
    vectors: VectorTables | None = None,
) -> PreparedRows:
    """Split a table, fit the schema on its training rows, and sum it up.

    Args:
        table: raw rows, a `pyarrow.Table` or a `polars.DataFrame` (N rows). Its columns are those
            that the schema reads and, if the click probability is known, "oracle_probability".
        codes: (N,) 0 for train, 1 for validation, 2 for test.
        columns: the specs of the schema's columns.
        source: where the rows come from, for the summary.
        options: what was chosen when preparing them (seed, thresholds, ...), for the summary.
        vectors: (n, width) numbers for each vector column with a key, by its name: row i is the
            vector of the column's value i. They are kept as float32.

    Raises:
        DataError: a split is empty, a domain has no training rows, a code is not 0, 1 or 2, a
            column is missing or wrong, or vectors do not fit their column.
    """
    rows: pa.Table = table if isinstance(table, pa.Table) else table.to_arrow()
    if codes.shape != (rows.num_rows,):
        needed = counted(rows.num_rows, "row needs one split code", "rows need as many split codes")
        raise DataError(f"{needed}, got {codes.shape}.")
    if codes.size and (codes.min() < 0 or codes.max() >= len(SPLIT_NAMES)):
        raise DataError(f"Split codes are 0, 1 and 2, got {codes.min()} to {codes.max()}.")
    given = {name: np.asarray(v, dtype=np.float32) for name, v in (vectors or {}).items()}
    columns = with_widths(columns, given)
    check_vectors(columns, given, source)
    wanted = list(dict.fromkeys(name for column in columns for name in raw_names(column)))
    if ORACLE_COLUMN in rows.column_names:
        wanted.append(ORACLE_COLUMN)
    tables: dict[str, pa.Table] = {}
    for code, name in enumerate(SPLIT_NAMES):
        part = rows.filter(pa.array(codes == code))
        if not part.num_rows:
            raise DataError(
                f"The {name} split is empty ({counted(rows.num_rows, 'row')} in all). "
                "Each split needs rows: use more data or another ratio."
            )
        tables[name] = part.select([n for n in wanted if n in part.column_names])
    schema = Schema.fit(tables["train"], columns, source="train rows")
    encoded = {n: schema.encode(part, source=f"{n} rows") for n, part in tables.items()}
    for split, ids in encoded.items():
        _check_domains(schema, split, tables[split], ids)
    summary = {
        "source": source,
        "options": dict(options or {}),
        **summarise(schema, {name: (tables[name], encoded[name]) for name in SPLIT_NAMES}),
    }
    return PreparedRows(schema, tables, summary, given)


def _check_domains(schema: Schema, split: str, table: pa.Table, ids: EncodedRows) -> None:
    """Refuse rows of a domain that training rows do not have."""
    unseen = ids.unseen[schema.domain.name]
    if unseen:
        row = int(np.argmax(ids.domain == 0))
        values = [table.column(name)[row].as_py() for name in raw_names(schema.domain)]
        value = values[0] if len(values) == 1 else " / ".join(map(str, values))
        more = f"{split} rows are of such domains"
        raise DataError(
            f"Domain {value!r} has rows in {split} but no training rows "
            f"({counted(unseen, f'{split} row is of such a domain', more)}). "
            "Drop these rows, or split again so that each domain has training rows."
        )


def write_dataset(out: str | Path, prepared: PreparedRows) -> dict[str, Any]:
    """Write the data folder `out` and return its summary; after an error there is no folder.

    Raises:
        RunError: `out` is there already, or cannot be written.
    """
    with atomic_directory(out) as folder:
        for name, table in prepared.tables.items():
            pq.write_table(table, folder / split_file(name), compression="zstd")
        write_description(folder, prepared.schema, prepared.summary, prepared.vectors)
    return prepared.summary


def write_description(
    folder: Path, schema: Schema, summary: Mapping[str, Any], vectors: VectorTables
) -> None:
    """Write what stands beside the rows of a data folder: schema, summary and side tables."""
    schema.save(folder / SCHEMA_FILE)
    if vectors:
        write_vectors(folder / VECTORS_FILE, vectors)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
