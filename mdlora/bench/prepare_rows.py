"""A CSV file to measure `mdlora prepare table` with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from mdlora.schema import Categorical, Column, Domain, Label, Numeric, Time

__all__ = ["COLUMNS", "write_clicks"]

COLUMNS: tuple[Column, ...] = (
    Categorical("user_id", role="user"),
    Categorical("item_id", role="item"),
    Categorical("device"),
    Categorical("city"),
    Categorical("category"),
    Categorical("brand"),
    Categorical("hour"),
    Numeric("age"),
    Numeric("price"),
    Time("time"),
    Domain("market"),
    Label("click"),
)
"""What the twelve columns are."""

_CHUNK = 500_000
_MOST_USERS = 1_000_000
_ROWS_A_USER = 10
_MARKETS = np.array(["br", "cn", "de", "es", "fr", "gb", "id", "in", "it", "jp",
                     "kr", "mx", "nl", "pl", "se", "th", "tr", "us", "vn", "za"])  # fmt: skip
_DEVICES = np.array(["phone", "tablet", "desktop", "tv"])


def write_clicks(path: Path, rows: int, *, seed: int = 1) -> int:
    """Write `rows` random clicks of `COLUMNS`; returns how many users there are.

    A tenth as many users as rows, a million at most, each with at least one row; their ids are
    64-bit integers. Markets, items and cities have sizes far apart, as in a log.
    """
    rng = np.random.default_rng(seed)
    num_users = min(_MOST_USERS, max(1, rows // _ROWS_A_USER))
    everyone = rng.permutation(num_users)
    writer = None
    for start in range(0, rows, _CHUNK):
        table = _chunk(rng, start, min(_CHUNK, rows - start), everyone)
        if writer is None:
            writer = pa_csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return num_users


def _chunk(
    rng: np.random.Generator, start: int, rows: int, everyone: npt.NDArray[np.int64]
) -> pa.Table:
    user = rng.integers(0, everyone.size, rows)
    each = np.flatnonzero((start + np.arange(rows)) % _ROWS_A_USER == 0)
    named = (start + each) // _ROWS_A_USER
    user[each[named < everyone.size]] = everyone[named[named < everyone.size]]
    item = (200_000 * rng.random(rows) ** 2.5).astype(np.int64)
    city = (5_000 * rng.random(rows) ** 2).astype(np.int64)
    return pa.table(
        {
            "user_id": 10**15 + 7919 * user,
            "item_id": 10**9 + 31 * item,
            "device": _DEVICES[rng.integers(0, _DEVICES.size, rows)],
            "city": np.char.add("city-", city.astype(str)),
            "category": item % 400,
            "brand": item % 9_000,
            "hour": rng.integers(0, 24, rows),
            "age": 18 + rng.integers(0, 60, rows),
            "price": np.round(rng.lognormal(3, 1, rows), 2),
            "time": 1_700_000_000 + rng.integers(0, 30 * 86_400, rows),
            "market": _MARKETS[(_MARKETS.size * rng.random(rows) ** 2).astype(np.int64)],
            "click": (rng.random(rows) < 0.2).astype(np.int64),
        }
    )
