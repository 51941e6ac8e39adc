"""Data folders with vectors beside the rows, and with splits in several files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdlora.data import Dataset, load_dataset, prepare_rows, write_dataset
from mdlora.errors import DataError
from mdlora.schema import Domain, Hashed, Label, MultiValued, Numeric, Vector

SPECS = [
    Vector("u", key="user", values=(1, 2)),
    Hashed("item", 10),
    MultiValued("tags", max_length=2),
    Numeric("age", encoding="scaled"),
    Domain("place", columns=("country", "device")),
    Label("click"),
]
TABLE = pa.table(
    {
        "user": [1, 2, 3, 1, 2, 3],
        "item": ["a", "b", "c", "a", "a", "b"],
        "tags": [["x"], ["x", "y", "y"], [], ["y"], ["z"], ["x"]],
        "age": [1.0, 3.0, None, 2.0, 2.0, None],
        "country": ["de", "fr", "de", "fr", "de", "fr"],
        "device": ["tv", "pc", "tv", "pc", "tv", "pc"],
        "click": [0, 1, 1, 0, 1, 0],
    }
)
CODES = np.array([0, 0, 0, 0, 1, 2])
VECTORS = {"u": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}


def prepared(**vectors: Any) -> Any:
    return prepare_rows(TABLE, CODES, SPECS, source="x", vectors=vectors or VECTORS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "d", prepared())
    return tmp_path / "d"


def test_vectors_and_all_kinds_come_back(folder: Path):
    data = load_dataset(folder)
    assert {name: t.tolist() for name, t in data.vectors.items()} == {
        "u": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    }
    assert data.vectors["u"].dtype == torch.float32
    assert data.schema.fields[0].width == 3
    train, test = data.split("train"), data.split("test")
    assert train.categories[:, 0].tolist() == [1, 2, 0, 1]
    assert train.domain.tolist() == [1, 2, 1, 2]
    assert data.schema.domain_names == ("de / tv", "fr / pc")
    # Trained on ages 1, 3, none, 2: mean 2, variance 2/3; what is missing is 0.
    scaled = (train.dense[:, 0] * (2 / 3) ** 0.5).tolist()
    assert scaled == pytest.approx([-1.0, 1.0, 0.0, 0.0], abs=1e-6)
    assert train.lists[0].offsets.tolist() == [0, 1, 3, 3, 4]
    assert train.lists[0].values.tolist() == [1, 1, 2, 2]  # x, then x y (y is cut), none, y
    assert (train.missing, train.cut) == ({"age": 1}, {"tags": 1})
    assert train.unseen == {"u": 1, "item": 0, "tags": 0, "place": 0}
    assert data.split("validation").unseen["tags"] == 1
    assert test.missing == {"age": 1}


def test_the_summary_counts_what_rows_lack_and_what_may_collide(folder: Path):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["fields"] == {"u": 2, "item": 10, "place": 2}
    assert summary["lists"] == {"tags": 2}
    # Three values in ten buckets: each is alone with probability 0.9^2, so 3 * 0.19 are not.
    assert summary["hashed"] == {"item": {"buckets": 10, "values": 3, "expected_collisions": 0.6}}
    train = summary["splits"]["train"]
    assert train["unseen"] == {"u": 1, "item": 0, "tags": 0, "place": 0}
    assert (train["missing"], train["cut"]) == ({"age": 1}, {"tags": 1})


def test_the_fingerprint_sees_the_vectors(tmp_path: Path, folder: Path):
    first = load_dataset(folder).fingerprint()
    assert first == load_dataset(folder).fingerprint()
    other = prepared(u=VECTORS["u"] + 1)
    write_dataset(tmp_path / "e", other)
    assert load_dataset(tmp_path / "e").fingerprint() != first
    memory = [Dataset(None, p.schema, p).fingerprint() for p in (prepared(), prepared(), other)]
    assert memory[0] == memory[1] != memory[2]


def test_the_fingerprint_of_rows_in_memory_sees_every_column(
    every_kind_table: Callable[[int, int], pa.Table],
):
    specs = [Numeric("price", encoding="scaled", mean=0.0, std=1.0), Domain("market"),
             Label("click"), MultiValued("tags", num_buckets=5)]  # fmt: skip
    table, codes = every_kind_table(60, 1), np.arange(60) % 3

    def fingerprint(changed: pa.Table) -> str:
        made = prepare_rows(changed, codes, specs, source="x")
        return Dataset(None, made.schema, made).fingerprint()

    prices = table.column("price").to_pylist()
    dearer = pa.array([*prices[:-1], prices[-1] + 1])
    tags = pa.array([*table.column("tags").to_pylist()[:-1], [1, 2, 3, 4]])
    found = {
        fingerprint(table),
        fingerprint(table.set_column(table.column_names.index("price"), "price", dearer)),
        fingerprint(table.set_column(table.column_names.index("tags"), "tags", tags)),
    }
    assert len(found) == 3


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"v": VECTORS["u"]}, "no vectors called 'u'"),
        ({**VECTORS, "v": VECTORS["u"]}, "vectors that no column with a key asks for, called 'v'"),
        ({"u": np.ones((3, 3))}, r"shape \(3, 3\); the column needs float32, one row.* 2 keys"),
        ({"u": np.array([[1.0, 2.0], [3.0, np.nan]])}, "'u' of key 2 holds NaN"),
    ],
)
def test_vectors_that_do_not_fit(vectors: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        prepare_rows(TABLE, CODES, SPECS, source="x", vectors=vectors)


def test_a_folder_without_its_vectors_or_with_damaged_ones(folder: Path):
    path = folder / "vectors.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"vectors\.safetensors is damaged.*vectors of u\. Copy"):
        _ = load_dataset(folder).vectors
    path.unlink()
    with pytest.raises(DataError, match=r"has no vectors\.safetensors.*vectors of u"):
        load_dataset(folder)


def in_parts(folder: Path, split: str, sizes: list[int]) -> None:
    table = pq.read_table(folder / f"{split}.parquet")
    (folder / f"{split}.parquet").unlink()
    (folder / split).mkdir()
    start = 0
    for i, size in enumerate(sizes):
        pq.write_table(table.slice(start, size), folder / split / f"part-{i}.parquet")
        start += size


def test_a_split_in_several_files_is_the_split_in_one(folder: Path):
    whole = load_dataset(folder)
    before = whole.split("train")
    fingerprint = whole.fingerprint()
    in_parts(folder, "train", [1, 0, 2, 1])
    data = load_dataset(folder)
    train = data.split("train")
    assert len(train) == 4
    assert torch.equal(train.categories, before.categories)
    assert torch.equal(train.label, before.label)
    assert torch.equal(train.dense, before.dense)
    assert torch.equal(train.lists[0].values, before.lists[0].values)
    assert torch.equal(train.lists[0].offsets, before.lists[0].offsets)
    assert (train.unseen, train.missing, train.cut) == (before.unseen, before.missing, before.cut)
    assert data.fingerprint() != fingerprint  # other bytes
    assert data.fingerprint() == load_dataset(folder).fingerprint()


def test_splits_in_several_files_keep_the_oracle(tmp_path: Path):
    oracle = pa.array(np.linspace(0, 1, 6))
    table = TABLE.append_column("oracle_probability", oracle)
    write_dataset(tmp_path / "d", prepare_rows(table, CODES, SPECS, source="x", vectors=VECTORS))
    in_parts(tmp_path / "d", "train", [3, 1])
    data = load_dataset(tmp_path / "d")
    assert data.oracle_available
    assert data.split("train").oracle.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])
    last = tmp_path / "d" / "train" / "part-1.parquet"
    pq.write_table(pq.read_table(last).drop_columns(["oracle_probability"]), last)
    with pytest.raises(DataError, match=r"part-1\.parquet has no column 'oracle_probability'"):
        load_dataset(tmp_path / "d").split("train")


def test_wrong_parts(folder: Path):
    table = pq.read_table(folder / "test.parquet")
    (folder / "test").mkdir()
    with pytest.raises(DataError, match=r"both test\.parquet and a folder test"):
        load_dataset(folder)
    (folder / "test.parquet").unlink()
    with pytest.raises(DataError, match="test holds no Parquet file"):
        load_dataset(folder)
    part = folder / "test" / "part-0.parquet"
    pq.write_table(table.slice(0, 0), part)
    with pytest.raises(DataError, match=r"part-0\.parquet has no rows"):
        load_dataset(folder)
    pq.write_table(table.drop_columns(["country"]), part)
    with pytest.raises(DataError, match=r"part-0\.parquet: column 'country' is missing"):
        load_dataset(folder)
    pq.write_table(table.set_column(1, "item", pa.array([7])), part)
    with pytest.raises(DataError, match=r"part-0\.parquet: Column 'item'"):
        load_dataset(folder).split("test")


def test_a_crossed_domain_without_training_rows():
    codes = np.array([0, 0, 0, 0, 1, 2])
    table = TABLE.set_column(5, "device", pa.array(["tv", "pc", "tv", "pc", "pc", "pc"]))
    with pytest.raises(DataError, match="Domain 'de / pc' has rows in validation but no training"):
        prepare_rows(table, codes, SPECS, source="x", vectors=VECTORS)
