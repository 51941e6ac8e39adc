"""Write a prepared data folder: three Parquet files, the schema and a summary, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.data.layout import (
    ORACLE_COLUMN,
    SCHEMA_FILE,
    SPLIT_NAMES,
    SUMMARY_FILE,
    split_file,
)
from mdlora.data.summary import summarise
from mdlora.errors import DataError
from mdlora.files import atomic_directory
from mdlora.schema import Column, Schema

__all__ = ["PreparedRows", "prepare_rows", "write_dataset"]


@dataclass(frozen=True)
class PreparedRows:
    """Rows in their splits with the schema fitted on the training rows, still in memory."""

    schema: Schema
    tables: dict[str, pa.Table]
    summary: dict[str, Any]


def prepare_rows(
    table: Any,
    codes: npt.NDArray[np.integer],
    columns: Sequence[Column],
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
) -> PreparedRows:
    """Split a table, fit the schema on its training rows, and sum it up.

    Args:
        table: raw rows, a `pyarrow.Table` or a `polars.DataFrame` (N rows). Its columns are those
            of the schema and, if the click probability is known, "oracle_probability".
        codes: (N,) 0 for train, 1 for validation, 2 for test.
        columns: the specs of the schema's columns.
        source: where the rows come from, for the summary.
        options: what was chosen when preparing them (seed, thresholds, ...), for the summary.

    Raises:
        DataError: a split is empty, a domain has no training rows, a code is not 0, 1 or 2, or
            a column is missing or wrong.
    """
    rows: pa.Table = table if isinstance(table, pa.Table) else table.to_arrow()
    if codes.shape != (rows.num_rows,):
        raise DataError(f"{rows.num_rows} rows need as many split codes, got {codes.shape}.")
    if codes.size and (codes.min() < 0 or codes.max() >= len(SPLIT_NAMES)):
        raise DataError(f"Split codes are 0, 1 and 2, got {codes.min()} to {codes.max()}.")
    wanted = [column.name for column in columns]
    if ORACLE_COLUMN in rows.column_names:
        wanted.append(ORACLE_COLUMN)
    tables: dict[str, pa.Table] = {}
    for code, name in enumerate(SPLIT_NAMES):
        part = rows.filter(pa.array(codes == code))
        if not part.num_rows:
            raise DataError(
                f"The {name} split is empty ({rows.num_rows} rows in all). "
                "Each split needs rows: use more data or another ratio."
            )
        tables[name] = part.select([n for n in wanted if n in part.column_names])
    schema = Schema.fit(tables["train"], columns, source="train rows")
    encoded = {n: schema.encode(part, source=f"{n} rows") for n, part in tables.items()}
    domain = schema.domain.name
    for split, ids in encoded.items():
        if ids.unseen[domain]:
            row = int(np.argmax(ids.domain == 0))
            value = tables[split].column(domain)[row].as_py()
            raise DataError(
                f"Domain {value!r} has rows in {split} but no training rows "
                f"({ids.unseen[domain]} {split} rows are of such domains). "
                "Drop these rows, or split again so that each domain has training rows."
            )
    summary = {
        "source": source,
        "options": dict(options or {}),
        **summarise(schema, {name: (tables[name], encoded[name]) for name in SPLIT_NAMES}),
    }
    return PreparedRows(schema, tables, summary)


def write_dataset(out: str | Path, prepared: PreparedRows) -> dict[str, Any]:
    """Write the data folder `out` and return its summary; after an error there is no folder.

    Raises:
        RunError: `out` is there already, or cannot be written.
    """
    with atomic_directory(out) as folder:
        for name, table in prepared.tables.items():
            pq.write_table(table, folder / split_file(name), compression="zstd")
        prepared.schema.save(folder / SCHEMA_FILE)
        text = json.dumps(prepared.summary, indent=2, ensure_ascii=False)
        (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
    return prepared.summary
