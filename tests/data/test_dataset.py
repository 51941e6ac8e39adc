from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdlora.data import (
    ORACLE_COLUMN,
    domain_rows,
    load_dataset,
    prepare_rows,
    read_rows,
    split_rows,
    write_dataset,
)
from mdlora.errors import DataError, RunError, SchemaError
from mdlora.schema import Categorical, Domain, Label

SPECS = [
    Categorical("user", role="user"),
    Categorical("item", role="item"),
    Domain("theme"),
    Label("click"),
]
TABLE = pa.table(
    {
        "user": [1, 2, 3, 1, 2, 3, 4, 1],
        "item": ["a", "b", "a", "b", "a", "b", "c", "d"],
        "theme": ["x", "y", "x", "y", "x", "x", "y", "x"],
        "click": [0, 1, 1, 0, 1, 0, 1, 0],
        ORACLE_COLUMN: [0.1, 0.9, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4],
        "note": ["left out"] * 8,
    }
)
CODES = np.array([0, 0, 0, 0, 1, 1, 2, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "d", prepare_rows(TABLE, CODES, SPECS, source="by hand"))
    return tmp_path / "d"


def rewrite(folder: Path, name: str, table: pa.Table) -> None:
    pq.write_table(table, folder / f"{name}.parquet")


def test_the_rows_come_back_as_tensors(folder: Path):
    data = load_dataset(folder)
    test = data.split("test")
    assert len(test) == 2
    # Trained on users 1 to 3 and items a, b: user 4 and items c, d are unseen.
    assert test.categories.tolist() == [[0, 0, 2], [1, 0, 1]]
    assert test.categories.dtype == test.domain.dtype == torch.int64
    assert test.domain.tolist() == [2, 1]
    assert test.label.tolist() == [1.0, 0.0]
    assert test.label.dtype == torch.float32
    assert test.oracle is not None
    assert test.oracle.tolist() == [0.6, 0.4]
    assert test.unseen == {"user": 1, "item": 2, "theme": 0}
    assert data.split("test") is test
    assert data.oracle_available
    assert data.path == folder
    names = ["schema.json", "summary.json", "test.parquet", "train.parquet", "validation.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert ORACLE_COLUMN not in data.schema.to_json()


def test_summary_by_hand(folder: Path):
    summary = load_dataset(folder).summary
    assert summary["source"] == "by hand"
    assert summary["domains"] == ["x", "y"]
    assert summary["total"] == {"rows": 8, "users": 4, "items": 4}
    train = summary["splits"]["train"]
    assert (train["rows"], train["users"], train["items"]) == (4, 3, 2)
    assert train["click_rate"] == 0.5
    assert train["domains"]["x"] == {"rows": 2, "click_rate": 0.5}
    assert summary["splits"]["validation"]["domains"]["y"] == {"rows": 0, "click_rate": None}
    assert split_rows(summary) == [
        ("split", "rows", "users", "items", "click rate"),
        ("train", "4", "3", "2", "50.00 %"),
        ("validation", "2", "2", "2", "50.00 %"),
        ("test", "2", "2", "2", "50.00 %"),
    ]
    assert domain_rows(summary) == [
        ("domain", "train", "validation", "test", "click rate"),
        ("x", "2", "2", "1", "40.00 %"),
        ("y", "2", "0", "1", "66.67 %"),
    ]


@pytest.mark.parametrize("encoded", [False, True])
def test_rows_of_two_splits_are_in_the_summary(encoded: bool):
    # The one test row is a training row; of the two validation rows, one is another click of user
    # 1 on item b in theme x. A 64-bit neighbour of a user, and another theme, are no leaks.
    big = 2**53
    table = pa.table(
        {
            "user": [1, 1, big, 1, big + 1, 1],
            "item": ["a", "b", "a", "b", "a", "a"],
            "theme": ["x", "x", "y", "x", "y", "x"],
            "click": [0, 1, 0, 1, 1, 0],
        }
    )
    if encoded:
        table = table.set_column(1, "item", table["item"].dictionary_encode())
    codes = np.array([0, 0, 0, 1, 1, 2])
    summary = prepare_rows(table, codes, SPECS, source="by hand").summary
    assert summary["leakage"] == {
        "keys": ["user", "item", "theme"],
        "repeated": {"train": 0, "validation": 0, "test": 0},
        "train_validation": {"keys": 1, "rows": 1},
        "train_test": {"keys": 1, "rows": 1},
        "validation_test": {"keys": 0, "rows": 0},
    }
    without = [Categorical("user", role="user"), *SPECS[1:]]
    without[1] = Categorical("item")
    assert prepare_rows(table, codes, without, source="by hand").summary["leakage"] is None


def test_polars_frames_are_taken_too(tmp_path: Path, folder: Path):
    import polars as pl

    frame = pl.DataFrame({name: TABLE.column(name).to_pylist() for name in TABLE.column_names})
    write_dataset(tmp_path / "p", prepare_rows(frame, CODES, SPECS, source="by hand"))
    ours, theirs = load_dataset(tmp_path / "p"), load_dataset(folder)
    assert ours.schema == theirs.schema
    assert torch.equal(ours.split("train").categories, theirs.split("train").categories)


def test_the_fingerprint_sees_rows_and_schema(tmp_path: Path, folder: Path):
    first = load_dataset(folder).fingerprint()
    assert first == load_dataset(folder).fingerprint()
    assert len(first) == 64
    rewrite(folder, "test", pq.read_table(folder / "test.parquet").slice(0, 1))
    second = load_dataset(folder).fingerprint()
    specs = [Categorical("user"), *SPECS[1:]]
    write_dataset(tmp_path / "e", prepare_rows(TABLE, CODES, specs, source="by hand"))
    assert len({first, second, load_dataset(tmp_path / "e").fingerprint()}) == 3


def test_no_oracle(tmp_path: Path):
    table = TABLE.drop_columns([ORACLE_COLUMN])
    write_dataset(tmp_path / "d", prepare_rows(table, CODES, SPECS, source="x"))
    data = load_dataset(tmp_path / "d")
    assert not data.oracle_available
    assert data.split("train").oracle is None


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_an_oracle_out_of_range(folder: Path, value: float):
    table = pq.read_table(folder / "test.parquet")
    rewrite(folder, "test", table.set_column(4, ORACLE_COLUMN, pa.array([0.5, value])))
    with pytest.raises(DataError, match=f"test.parquet: .*{ORACLE_COLUMN}' is {value} in row 1"):
        load_dataset(folder).split("test")


def test_what_is_missing_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"none is not there.*mdlora prepare"):
        load_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="is a file"):
        load_dataset(folder / "train.parquet")
    with pytest.raises(DataError, match="no split 'dev'"):
        load_dataset(folder).split("dev")
    (folder / "validation.parquet").unlink()
    with pytest.raises(DataError, match=r"has no validation\.parquet"):
        load_dataset(folder)
    (folder / "schema.json").unlink()
    with pytest.raises(DataError, match=r"has no schema\.json"):
        load_dataset(folder)


def test_damaged_files(folder: Path):
    whole = (folder / "test.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"test\.parquet: .*cut short"):
        load_dataset(folder)
    (folder / "test.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"test\.parquet: the file is empty"):
        load_dataset(folder)
    (folder / "test.parquet").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match=r"test\.parquet: not a Parquet file"):
        load_dataset(folder)
    (folder / "test.parquet").write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])
    with pytest.raises(DataError, match=r"test\.parquet: the rows cannot be read"):
        load_dataset(folder).split("test")


def test_rows_that_do_not_fit(folder: Path):
    table = pq.read_table(folder / "train.parquet")
    rewrite(folder, "train", table.slice(0, 0))
    with pytest.raises(DataError, match=r"train\.parquet has no rows"):
        load_dataset(folder)
    rewrite(folder, "train", table.drop_columns(["item"]))
    with pytest.raises(DataError, match=r"'item' is missing\. Columns there: user, theme, c"):
        load_dataset(folder)
    rewrite(folder, "train", table.set_column(3, "click", pa.array([0, 1, 2, 1])))
    with pytest.raises(DataError, match=r"train\.parquet: .*'click' is 2 in row 2"):
        load_dataset(folder).split("train")
    rewrite(folder, "train", table.set_column(3, "click", pa.array([0, 1, None, 1])))
    with pytest.raises(DataError, match="'click' is null in row 2"):
        load_dataset(folder).split("train")
    rewrite(folder, "train", table.filter(pa.array([True, False, True, False])))
    with pytest.raises(DataError, match="domain 'y' of the schema has no training rows"):
        load_dataset(folder).split("train")


def test_summary_file(folder: Path):
    (folder / "summary.json").write_text("[1]")
    with pytest.raises(DataError, match="must hold a JSON object"):
        _ = load_dataset(folder).summary
    (folder / "summary.json").write_text("{")
    with pytest.raises(DataError, match="not readable JSON"):
        _ = load_dataset(folder).summary
    (folder / "summary.json").unlink()
    assert load_dataset(folder).summary == {}


def test_preparing_refuses(tmp_path: Path):
    for codes, words in [
        (np.where(CODES == 1, 0, CODES), "validation split is empty"),
        (np.array([0, 1, 0, 1, 0, 0, 2, 2]), "'y' has rows in validation but no training rows"),
        (np.array([0, 1, 0, 1, 0, 0, 2, 2]), r"rows \(2 validation rows are of such domains\)"),
        (np.array([0, 1, 0, 2, 0, 0, 2, 2]), r"rows \(1 validation row is of such a domain\)"),
        (CODES + 1, "codes are 0, 1 and 2, got 1 to 3"),
        (CODES[:4], "8 rows need as many split codes"),
    ]:
        with pytest.raises(DataError, match=words):
            prepare_rows(TABLE, codes, SPECS, source="x")
    for codes, words in [
        (CODES[:1], r"validation split is empty \(1 row in all\)"),
        (CODES, r"1 row needs one split code, got \(8,\)"),
    ]:
        with pytest.raises(DataError, match=words):
            prepare_rows(TABLE[:1], codes, SPECS, source="x")
    with pytest.raises(SchemaError, match="'item' is missing"):
        prepare_rows(TABLE.drop_columns(["item"]), CODES, SPECS, source="x")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    prepared = prepare_rows(TABLE, CODES, SPECS, source="x")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_dataset(tmp_path / "d", prepared)
    assert list(tmp_path.iterdir()) == []


def test_new_rows_to_score(folder: Path, tmp_path: Path):
    schema = load_dataset(folder).schema
    new = pa.table({"theme": ["y", "z"], "n": [1.5, 2.5], "item": ["b", "q"], "user": [3, 9]})
    pq.write_table(new, tmp_path / "new.parquet")
    table, rows = read_rows(tmp_path / "new.parquet", schema)
    assert table.equals(new)
    assert rows.categories.tolist() == [[3, 2, 2], [0, 0, 0]]
    assert rows.label is None
    for labels in (pa.array([1, 0]), pa.array([None, 7]), pa.array(["yes", None])):
        labelled = new.append_column("click", labels)  # carried along, whatever it holds
        pq.write_table(labelled, tmp_path / "new.parquet")
        table, rows = read_rows(tmp_path / "new.parquet", schema)
        assert table.equals(labelled)
        assert rows.label is None
    pq.write_table(new.drop_columns(["user"]), tmp_path / "new.parquet")
    with pytest.raises(DataError, match=r"new\.parquet: .*'user' is missing"):
        read_rows(tmp_path / "new.parquet", schema)
    with pytest.raises(DataError, match=r"no file .*nothing\.parquet"):
        read_rows(tmp_path / "nothing.parquet", schema)
    (tmp_path / "new.csv").write_text("theme,n,item,user\ny,1.5,b,3\n\nz,2.5,q,9\n")
    with pytest.raises(DataError, match=r"new\.csv: Column 'theme' is 'z' in line 4, a dom"):
        read_rows(tmp_path / "new.csv", schema, unknown_domain="error")


def test_the_built_in_log():
    data = load_dataset("synthetic")
    assert data.path is None
    assert data.oracle_available
    assert data.schema.num_domains == 8
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == pytest.approx(
        [72_000, 24_000, 24_000], abs=16
    )
    assert load_dataset("synthetic").fingerprint() == data.fingerprint()
    assert data.summary["source"] == "synthetic"
    json.dumps(data.summary)


def test_reading_needs_no_polars():
    import subprocess

    code = "import sys, mdlora.data; assert not {'polars', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
