"""The Parquet files that streaming is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["COLUMNS", "DOMAIN_SHARES", "NUM_FILES", "write_stream_files"]

NUM_FILES = 20

DOMAIN_SHARES = (0.25, 0.18, 0.14, 0.11, 0.09, 0.08, 0.06, 0.04, 0.03, 0.02)

# How many values each column has, beside the domain.
_VALUES = {
    "label": 2,
    "user": 1_000_000,
    "item": 100_000,
    "category": 50,
    "brand": 5000,
    "hour": 24,
    "weekday": 7,
    "device": 3,
    "city": 300,
    "age": 100,
    "page": 20_000,
    "position": 12,
    "campaign": 1000,
}

COLUMNS = ("domain", *_VALUES)
"""14 columns of int64."""


def write_stream_files(folder: Path, rows: int, group_rows: int) -> None:
    """Write `NUM_FILES` zstd Parquet files, each sorted by domain and with the same shares.

    Args:
        folder: is there already.
        rows: of all files together, a multiple of `NUM_FILES`.
        group_rows: rows of a row group; memory is needed for one.
    """
    in_file = rows // NUM_FILES
    ends = np.round(np.cumsum(DOMAIN_SHARES) * in_file).astype(np.int64)
    schema = pa.schema([(name, pa.int64()) for name in COLUMNS])
    for number in range(NUM_FILES):
        rng = np.random.default_rng((1, number))
        path = folder / f"part-{number:05d}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for start in range(0, in_file, group_rows):
                place = np.arange(start, min(start + group_rows, in_file))
                columns = {"domain": np.searchsorted(ends, place, side="right")}
                for name, values in _VALUES.items():
                    # A few values have most of the rows, as in a real log.
                    columns[name] = (values * rng.random(len(place)) ** 2).astype(np.int64)
                writer.write_table(pa.table(columns, schema=schema), row_group_size=group_rows)
