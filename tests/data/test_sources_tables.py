from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdlora.data.sources import to_table
from mdlora.errors import DataError
from mdlora.schema import Categorical, Label

BIG = 2**53 + 1  # no float holds it
IDS = [BIG, BIG - 1]
TABLE = pa.table({"id": IDS, "name": ["a", "b"], "x": [0.5, None]})


class PandasFrame:
    """What is used of a pandas frame: `columns`, and a column of it by name."""

    iloc = None

    def __init__(self, columns: dict[Any, Any]) -> None:
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


class Exported:
    """Any object that hands out Arrow data."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


def sources(folder: Path) -> dict[str, Any]:
    pq.write_table(TABLE, folder / "x.parquet")
    (folder / "x.csv").write_text(f"id,name,x\n{BIG},a,0.5\n{BIG - 1},b,\n")
    ids, names, numbers = np.array(IDS), np.array(["a", "b"], object), np.array([0.5, np.nan])
    return {
        "table": TABLE,
        "batch": TABLE.to_batches()[0],
        "reader": TABLE.to_reader(),
        "exported": Exported(),
        "polars": pl.from_arrow(TABLE),
        "lazy": pl.from_arrow(TABLE).lazy(),
        "pandas": PandasFrame({"id": ids, "name": names, "x": numbers}),
        "arrays": {"id": ids, "name": names, "x": numbers},
        "lists": {"id": IDS, "name": ["a", "b"], "x": [0.5, None]},
        "tensors": {"id": torch.tensor(IDS), "name": pl.Series(["a", "b"]), "x": [0.5, None]},
        "parquet": folder / "x.parquet",
        "csv": str(folder / "x.csv"),
    }


KINDS = [
    "table",
    "batch",
    "reader",
    "exported",
    "polars",
    "lazy",
    "pandas",
    "arrays",
    "lists",
    "tensors",
    "parquet",
    "csv",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", [None, ["x", "id"], [Label("x"), Categorical("id")]])
def test_every_kind_of_table(kind: str, columns: Any, tmp_path: Path):
    table = to_table(sources(tmp_path)[kind], columns)
    wanted = {"id": IDS, "name": ["a", "b"], "x": [0.5, None]}
    names = list(wanted) if columns is None else ["x", "id"]
    assert table.to_pydict() == {name: wanted[name] for name in names}
    assert table.schema.field("id").type == pa.int64()


def test_real_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "id": pandas.array([BIG, None], dtype="Int64"),
            "name": pandas.Categorical(["a", "b"]),
            "x": [0.5, np.nan],
        },
        index=[7, 9],
    )
    wanted = {"id": [BIG, None], "name": ["a", "b"], "x": [0.5, None]}
    assert to_table(frame).to_pydict() == wanted


def test_vectors():
    table = to_table({"v": np.arange(6, dtype=np.float32).reshape(2, 3)})
    assert table.schema.field("v").type == pa.list_(pa.float32(), 3)
    assert table.to_pydict() == {"v": [[0, 1, 2], [3, 4, 5]]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": [1, "x"]}, "rows: Column 'a' is no array of one type"),
        ({"a": np.array([1, "x"], object)}, "Column 'a' is no array of one type"),
        ({"a": [2**64]}, "Column 'a' is no array of one type"),
        ({"a": [1], "b": [1, 2]}, "different lengths: a 1, b 2"),
        ({1: [1]}, "names of columns are texts, got 1"),
        ({"a": np.zeros((2, 2, 2))}, r"its shape is \(2, 2, 2\)"),
        (PandasFrame({0: [1]}), r"need different names, got \[0\]"),
        (5, "no table can be made of int"),
        (pa.table([[1], [2]], names=["a", "a"]), "'a' stands there 2 times"),
    ],
)
def test_data_that_is_no_table(data: Any, message: str):
    with pytest.raises(DataError, match=message):
        to_table(data, source="rows")


@pytest.mark.parametrize("kind", ["table", "lazy", "pandas", "lists", "csv", "parquet"])
def test_a_column_that_is_missing(kind: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"olumn 'nope' is missing\. Columns there: id"):
        to_table(sources(tmp_path)[kind], ["id", "nope"])
